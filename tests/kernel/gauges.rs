//! Absolute and relative values by slot and by ring, in any order of reading -> the value that a single
//! reader would have had.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;

use ingest_ebpf::layout::{Bucket, IdentityEntry, LastValue, Slot};
use proptest::prelude::*;
use rotameter::clock::{Timestamp, WallClock};
use rotameter::exposition::{Cursor, Format};
use rotameter::kernel::identities::{IdentityTable, identity_of};
use rotameter::kernel::memory_map::{MemoryMap, page_bytes};
use rotameter::kernel::promotion::{Candidate, Growth, Promotion, PromotionOptions};
use rotameter::registry::{
    FamilyKind, HistogramOptions, Registry, RegistryConfig, SeriesId, SeriesRequest, SummaryOptions,
};

use super::generate;

/// Fewer slots than lines, so that they are used again and again.
const SLOTS: u32 = 3;
/// Two lines feed each gauge.
const GAUGES: usize = 3;
const LINES: usize = 2 * GAUGES;
const BUCKETS: u32 = 64;

#[derive(Clone, Copy, Debug)]
enum Change {
    Set(u32),
    /// Absolute, but not for a slot: in a datagram with something cold, or too long.
    SetByRing(u32),
    Add(i32),
}

#[derive(Clone, Debug)]
enum Step {
    Send { line: usize, change: Change },
    DrainRing,
    DrainSlots,
    Tick { wanted: Vec<usize>, during: Vec<(usize, Change)> },
    DemoteAll,
}

/// Doors, rings and daemon around a registry, with a clock that ticks once for each datagram.
struct World {
    registry: Registry,
    series: Vec<SeriesId>,
    promotion: Promotion,
    identities: IdentityTable,
    slots: Vec<(Slot, LastValue)>,
    /// Lines whose identity is in the table, or was when a program that still runs looked it up.
    hot: Vec<Option<u32>>,
    ring: VecDeque<(u64, usize, Change)>,
    now: u64,
    /// What each gauge must be in the end.
    expected: Vec<f64>,
}

fn table(bytes: usize) -> MemoryMap {
    let bytes = bytes.next_multiple_of(page_bytes());
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(bytes as u64).expect("a file can be made longer");
    MemoryMap::new(file.as_fd(), 0, bytes, true).expect("a file can be mapped")
}

fn gauge(registry: &mut Registry, family: &str) -> SeriesId {
    let request = SeriesRequest {
        family,
        kind: FamilyKind::Gauge,
        labels: &[],
        help: "",
        ttl: None,
        max_series: None,
        label_budget: None,
        sender_gauge: None,
        summary: &SummaryOptions::default(),
        histogram: &HistogramOptions::default(),
    };
    registry.resolve(&request, Timestamp(0)).expect("a gauge has room").id
}

impl World {
    fn new() -> Self {
        let options = PromotionOptions {
            promote_lines_per_second: 0.0,
            demote_lines_per_second: 1.0,
            demote_after_looks: 1,
            promotions_per_tick: 2,
        };
        let mut registry = Registry::new(RegistryConfig::default());
        let series = (0..GAUGES).map(|n| gauge(&mut registry, &format!("gauge_{n}"))).collect();
        let buckets = table(BUCKETS as usize * size_of::<Bucket>());
        let entries = table(SLOTS as usize * size_of::<IdentityEntry>());
        Self {
            registry,
            series,
            promotion: Promotion::new(SLOTS, options),
            identities: IdentityTable::new(buckets, entries, BUCKETS),
            slots: vec![<(Slot, LastValue)>::default(); SLOTS as usize],
            hot: vec![None; LINES],
            ring: VecDeque::new(),
            now: 0,
            expected: vec![0.0; GAUGES],
        }
    }

    /// A datagram arrives.
    fn send(&mut self, line: usize, change: Change) {
        self.now += 1;
        let expected = &mut self.expected[line / 2];
        match change {
            Change::Set(value) | Change::SetByRing(value) => *expected = f64::from(value),
            Change::Add(delta) => *expected += f64::from(delta),
        }
        if let (Some(slot), Change::Set(value)) = (self.hot[line], change) {
            let (total, last) = &mut self.slots[slot as usize];
            total.lines = total.lines.wrapping_add(1);
            *last = LastValue { number: LastValue::pack(value.into(), 0), received_ns: self.now };
        } else {
            self.ring.push_back((self.now, line, change));
        }
    }

    fn drain_ring(&mut self) {
        while let Some((received, line, change)) = self.ring.pop_front() {
            let (received, id) = (Timestamp(received), self.series[line / 2]);
            match change {
                Change::Set(value) | Change::SetByRing(value) => {
                    self.registry.set(id, value.into(), received, received).expect("it never expires");
                }
                Change::Add(delta) => {
                    let Self { registry, promotion, slots, series, .. } = self;
                    promotion.settle_gauge(slots, id, |growth| grow(registry, series, growth));
                    registry.adjust_in_time(id, delta.into(), received, received).expect("it never expires");
                }
            }
        }
    }

    fn drain_slots(&mut self) {
        let Self { registry, promotion, slots, series, .. } = self;
        promotion.drain(slots, |growth| grow(registry, series, growth));
    }

    fn candidates(&self, wanted: &[usize]) -> Vec<Candidate> {
        let wanted = wanted.iter().filter(|line| self.hot[**line].is_none());
        wanted
            .filter(|line| self.registry.is_absolute_gauge(self.series[**line / 2]))
            .map(|line| Candidate {
                entry: u32::try_from(*line).expect("few lines"),
                identity: identity_of(format!("line.{line}:0|g").as_bytes(), 1).expect("it has one"),
                lines_per_second: 100.0,
                gauge: Some(self.series[*line / 2]),
            })
            .collect()
    }

    /// While this lasts, datagrams come, for programs that had looked up what is leaving as well.
    fn grace_period_and_release(&mut self, during: &[(usize, Change)]) {
        for (line, change) in during {
            self.send(*line, *change);
        }
        if during.len() % 2 == 1 {
            self.drain_ring();
        }
        let Self { registry, promotion, slots, series, hot, .. } = self;
        let left = |entry: u32| hot[entry as usize] = None;
        promotion.release(slots, |growth| grow(registry, series, growth), left);
    }

    fn tick(&mut self, wanted: &[usize], during: &[(usize, Change)]) {
        self.drain_slots();
        let candidates = self.candidates(wanted);
        self.promotion.demote(&self.identities, &candidates, 1.0);
        if self.promotion.has_leaving() {
            self.grace_period_and_release(during);
        }
        let candidates = self.candidates(wanted);
        let mut entered = Vec::new();
        self.promotion.promote(&self.slots, &self.identities, &candidates, |entry, result| {
            result.expect("there is room");
            entered.push(entry);
        });
        for promoted in self.promotion.promoted() {
            if entered.contains(&promoted.entry) {
                self.hot[promoted.entry as usize] = Some(promoted.slot);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Send { line, change } => self.send(*line, *change),
            Step::DrainRing => self.drain_ring(),
            Step::DrainSlots => self.drain_slots(),
            Step::Tick { wanted, during } => self.tick(wanted, during),
            Step::DemoteAll => {
                self.promotion.demote_all(&self.identities);
                self.grace_period_and_release(&[]);
            }
        }
    }

    /// As a scrape does: rings, slots, text.
    fn scrape(&mut self) -> String {
        self.drain_ring();
        self.drain_slots();
        let mut out = Vec::new();
        let mut cursor = Cursor::new(Vec::new(), Format::Text, WallClock::at(Timestamp(self.now), 0));
        cursor.write_slice(&mut self.registry, &mut out, usize::MAX, Timestamp(self.now));
        let text = String::from_utf8(out).expect("an exposition is text");
        text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect()
    }
}

fn grow(registry: &mut Registry, series: &[SeriesId], growth: Growth) {
    let (value, decimals) = growth.last.expect("a gauge's growth has a value").unpack();
    assert_eq!(decimals, 0);
    let (id, received) = (series[growth.entry as usize / 2], growth.last.expect("it has").received_ns);
    let value = f64::from(u32::try_from(value).expect("it was one"));
    registry.set(id, value, Timestamp(received), Timestamp(received)).expect("it never expires");
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => (0..100_u32).prop_map(Change::Set),
        2 => (0..100_u32).prop_map(Change::SetByRing),
        1 => (-9..9_i32).prop_map(Change::Add),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let all: Vec<usize> = (0..LINES).collect();
    let wanted = prop::sample::subsequence(all, 0..=LINES).prop_shuffle();
    let during = prop::collection::vec((0..LINES, change()), 0..4);
    prop_oneof![
        16 => (0..LINES, change()).prop_map(|(line, change)| Step::Send { line, change }),
        2 => Just(Step::DrainRing),
        2 => Just(Step::DrainSlots),
        4 => (wanted, during).prop_map(|(wanted, during)| Step::Tick { wanted, during }),
        1 => Just(Step::DemoteAll),
    ]
}

proptest! {
    #![proptest_config(generate::config(2_000))]

    #[test]
    fn a_gauge_is_what_was_received_last_whichever_way_it_came(
        steps in prop::collection::vec(step(), 0..100),
        scrape_each in 1..50_usize,
    ) {
        let mut world = World::new();
        for (n, step) in steps.iter().enumerate() {
            world.step(step);
            if n % scrape_each == 0 || n + 1 == steps.len() {
                let expected = world.expected.clone();
                let expected: String =
                    expected.iter().enumerate().map(|(n, value)| format!("gauge_{n} {value}\n")).collect();
                prop_assert_eq!(world.scrape(), expected);
            }
        }
    }
}
