//! Any order of drains, promotions and demotions -> every line that a slot counted is recorded once.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use ingest_ebpf::layout::{Bucket, IdentityEntry, LastValue, Slot};
use proptest::prelude::*;
use rotameter::kernel::identities::{IdentityTable, identity_of};
use rotameter::kernel::memory_map::{MemoryMap, page_bytes};
use rotameter::kernel::promotion::{Candidate, Growth, Promotion, PromotionOptions};

use super::generate;

/// Fewer slots than entries, so that they are used again and again.
const SLOTS: u32 = 4;
const ENTRIES: u32 = 9;
/// Few, so that some identities find their bucket full.
const BUCKETS: u32 = 2;

/// One step of daemon or kernel.
#[derive(Clone, Debug)]
enum Step {
    /// A program counts a line of this entry, if it is hot.
    Count {
        entry: u32,
        value: u64,
    },
    /// A program that looked up the identity before it was taken out counts only now.
    CountLate {
        value: u64,
    },
    Drain,
    DrainBusy,
    /// Drain of those that are looked at, demotion by rate, a grace period (in which programs may still count), release and
    /// promotion, as at the end of a window.
    Tick {
        wanted: Vec<u32>,
        late: Vec<u64>,
    },
    DemoteAll {
        late: Vec<u64>,
    },
}

/// The daemon's promotion over tables that no kernel has, and the books about them.
struct World {
    promotion: Promotion,
    identities: IdentityTable,
    slots: Vec<(Slot, LastValue)>,
    /// Slots whose identity is out, but whose programs may still run: entry by slot.
    leaving: BTreeMap<u32, u32>,
    added: BTreeMap<u32, (u64, u64)>,
    recorded: BTreeMap<u32, (u64, u64)>,
}

/// A zeroed memory map like that of a kernel's array.
fn table(bytes: usize) -> MemoryMap {
    let bytes = bytes.next_multiple_of(page_bytes());
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(bytes as u64).expect("a file can be made longer");
    MemoryMap::new(file.as_fd(), 0, bytes, true).expect("a file can be mapped")
}

fn book(to: &mut BTreeMap<u32, (u64, u64)>, entry: u32, lines: u64, sum: u64) {
    let total = to.entry(entry).or_default();
    *total = (total.0 + lines, total.1 + sum);
}

impl World {
    /// Slots start anywhere, also shortly before their end: nobody resets them, and they wrap.
    fn new(start: u64) -> Self {
        let options = PromotionOptions {
            promote_lines_per_second: 0.0,
            demote_lines_per_second: 2.0,
            demote_after_looks: 1,
            promotions_per_tick: 3,
        };
        let buckets = table(BUCKETS as usize * size_of::<Bucket>());
        let entries = table(SLOTS as usize * size_of::<IdentityEntry>());
        Self {
            promotion: Promotion::new(SLOTS, options),
            identities: IdentityTable::new(buckets, entries, BUCKETS),
            slots: vec![(Slot { lines: start, sum: start }, LastValue::default()); SLOTS as usize],
            leaving: BTreeMap::new(),
            added: BTreeMap::new(),
            recorded: BTreeMap::new(),
        }
    }

    fn add(&mut self, slot: u32, entry: u32, value: u64) {
        let (cell, _) = &mut self.slots[slot as usize];
        cell.lines = cell.lines.wrapping_add(1);
        cell.sum = cell.sum.wrapping_add(value);
        book(&mut self.added, entry, 1, value);
    }

    fn count_late(&mut self, value: u64) {
        if let Some((&slot, &entry)) = self.leaving.first_key_value() {
            self.add(slot, entry, value);
        }
    }

    fn drain(&mut self) {
        let Self { promotion, slots, recorded, .. } = self;
        promotion.drain(slots, |Growth { entry, lines, sum, .. }| book(recorded, entry, lines, sum));
    }

    fn grace_period_and_release(&mut self, late: &[u64]) {
        for value in late {
            self.count_late(*value);
        }
        // A scrape may drain between demotion and release.
        if late.len() % 2 == 1 {
            self.drain();
            self.count_late(1);
        }
        let Self { promotion, slots, recorded, leaving, .. } = self;
        promotion.release(
            slots,
            |Growth { entry, lines, sum, .. }| book(recorded, entry, lines, sum),
            |entry| leaving.retain(|_, left| *left != entry),
        );
        assert!(self.leaving.is_empty(), "all that was demoted has left");
    }

    fn tick(&mut self, wanted: &[u32], late: &[u64]) {
        let Self { promotion, slots, recorded, .. } = self;
        promotion.drain_round(slots, |Growth { entry, lines, sum, .. }| book(recorded, entry, lines, sum));
        let before: Vec<(u32, u32)> = self.promotion.promoted().iter().map(|p| (p.slot, p.entry)).collect();
        let candidates: Vec<Candidate> = wanted
            .iter()
            .filter(|entry| before.iter().all(|(_, promoted)| promoted != *entry))
            .map(|entry| Candidate {
                entry: *entry,
                identity: identity_of(format!("name.{entry}:0|c").as_bytes(), 1).expect("it has one"),
                lines_per_second: 100.0,
                gauge: None,
            })
            .collect();
        let gone = self.promotion.demote(&self.identities, &candidates, 1.0);
        let kept: Vec<u32> = self.promotion.promoted().iter().map(|p| p.slot).collect();
        self.leaving = before.into_iter().filter(|(slot, _)| !kept.contains(slot)).collect();
        assert_eq!(self.leaving.len(), gone);
        if gone > 0 {
            self.grace_period_and_release(late);
        }
        self.promotion.promote(&self.slots, &self.identities, &candidates, |_, _| {});
    }

    fn demote_all(&mut self, late: &[u64]) {
        self.leaving = self.promotion.promoted().iter().map(|p| (p.slot, p.entry)).collect();
        self.promotion.demote_all(&self.identities);
        self.grace_period_and_release(late);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Count { entry, value } => {
                let hot = self.promotion.promoted().iter().find(|promoted| promoted.entry == *entry);
                if let Some(slot) = hot.map(|promoted| promoted.slot) {
                    self.add(slot, *entry, *value);
                }
            }
            Step::CountLate { value } => self.count_late(*value),
            Step::Drain => self.drain(),
            Step::DrainBusy => {
                let Self { promotion, slots, recorded, .. } = self;
                promotion.drain_busy(slots, |Growth { entry, lines, sum, .. }| {
                    book(recorded, entry, lines, sum);
                });
            }
            Step::Tick { wanted, late } => self.tick(wanted, late),
            Step::DemoteAll { late } => self.demote_all(late),
        }
        let used = self.promotion.promoted().len() + self.promotion.free_slots();
        assert_eq!(used, SLOTS as usize, "no slot is lost, and none is given out twice");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let value = || prop_oneof![Just(0), 1..10_u64, Just(u64::from(u32::MAX))];
    let late = move || prop::collection::vec(value(), 0..4);
    let mut all: Vec<u32> = (0..ENTRIES).collect();
    all.rotate_left(3);
    let wanted = prop::sample::subsequence(all, 0..=ENTRIES as usize);
    prop_oneof![
        12 => (0..ENTRIES, value()).prop_map(|(entry, value)| Step::Count { entry, value }),
        1 => value().prop_map(|value| Step::CountLate { value }),
        2 => Just(Step::Drain),
        1 => Just(Step::DrainBusy),
        4 => (wanted.prop_shuffle(), late()).prop_map(|(wanted, late)| Step::Tick { wanted, late }),
        1 => late().prop_map(|late| Step::DemoteAll { late }),
    ]
}

proptest! {
    #![proptest_config(generate::config(1_000))]

    #[test]
    fn what_slots_count_is_recorded_once_and_for_the_right_line(
        start in prop_oneof![Just(0), Just(u64::MAX - 3)],
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(start);
        for step in &steps {
            world.step(step);
        }
        world.demote_all(&[7]);
        prop_assert_eq!(world.recorded, world.added);
    }
}

/// Many slots, of which few are busy: what one round looks at.
#[test]
fn each_round_looks_at_the_busy_ones_and_at_a_share_of_the_others() {
    const MANY: u32 = 20_000;
    const BUSY: u32 = 5;
    let options = PromotionOptions { promotions_per_tick: MANY as usize, ..PromotionOptions::default() };
    let mut promotion = Promotion::new(MANY, options);
    let buckets = table(16_384 * size_of::<Bucket>());
    let identities = IdentityTable::new(buckets, table(MANY as usize * size_of::<IdentityEntry>()), 16_384);
    let mut slots = vec![<(Slot, LastValue)>::default(); MANY as usize];
    let candidates: Vec<Candidate> = (0..MANY)
        .map(|entry| Candidate {
            entry,
            identity: identity_of(format!("name.{entry}:0|c").as_bytes(), 1).expect("it has one"),
            lines_per_second: if entry < BUSY { 50.0 } else { 0.1 },
            gauge: None,
        })
        .collect();
    promotion.promote(&slots, &identities, &candidates, |_, _| {});
    let promoted: Vec<(u32, u32)> = promotion.promoted().iter().map(|p| (p.slot, p.entry)).collect();
    assert!(promoted.len() > MANY as usize * 9 / 10, "few find their bucket full");
    let mut round = |lines_of_busy: u64, slots: &[(Slot, LastValue)]| {
        let mut slots = slots.to_vec();
        for (slot, _) in promoted.iter().filter(|(_, entry)| *entry < BUSY) {
            slots[*slot as usize].0.lines += lines_of_busy;
        }
        let mut told = Vec::new();
        promotion.drain_round(&slots, |growth| told.push(growth.entry));
        assert_eq!(promotion.demote(&identities, &[], 1.0), 0);
        told
    };
    // At first all are taken for busy; the first look tells the two kinds apart.
    assert_eq!(round(50, &slots).len(), BUSY as usize);
    for (slot, _) in &promoted {
        slots[*slot as usize].0.lines += 1;
    }
    let mut all = std::collections::BTreeSet::new();
    for n in 2..18 {
        let told = round(50 * n, &slots);
        assert!((0..BUSY).all(|entry| told.contains(&entry)), "busy ones are read in each round");
        assert!(told.len() <= promoted.len() / 16 + BUSY as usize, "{} were read", told.len());
        all.extend(told);
    }
    assert!(all.len() + 16 >= promoted.len(), "{} of {} had their turn", all.len(), promoted.len());
}
