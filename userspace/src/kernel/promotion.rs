//! Lines per second of each identity -> which ones the kernel counts.
//!
//! While there are free slots, every identity gets one that comes often enough to pay for the reading of
//! a slot; when there are none, busier ones displace the quietest. And the bookkeeping that makes a slot
//! exact: its base is read before the kernel can add to it, and after its identity was taken out and a
//! grace period has passed it is read a last time. This file knows neither clock nor kernel; the caller
//! drains, waits and records.

use std::collections::HashMap;

use ingest_ebpf::layout::{OPERATION_ADD, OPERATION_LAST};
use smallvec::SmallVec;

pub use super::promoted::{Growth, Promoted};
use super::{
    identities::{HashedIdentity, IdentityTable, Refused},
    promoted::QUIET_FOR_EVER,
    slots::SlotTable,
};
use crate::{mapper::cache::EntryIndex, registry::SeriesId};

/// What promotion goes by; checked by `config.rs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PromotionOptions {
    /// An identity with at least this many lines per second may be promoted.
    pub promote_lines_per_second: f64,
    /// A promoted one below this rate at `demote_after_looks` looks in a row goes.
    pub demote_lines_per_second: f64,
    pub demote_after_looks: u32,
    /// Promotions in one tick at most, so that a tick stays short.
    pub promotions_per_tick: usize,
}

impl Default for PromotionOptions {
    fn default() -> Self {
        Self {
            promote_lines_per_second: LINES_PER_SECOND_MIN,
            demote_lines_per_second: LINES_PER_SECOND_MIN / 10.0,
            demote_after_looks: 10,
            promotions_per_tick: 1024,
        }
    }
}

/// Lines per second from which a slot pays where there are so many CPUs.
///
/// A line that is counted in a slot saves some 90 ns. A slot of which lines come seldom is read a few times
/// a minute, a nanosecond or two for each CPU, more where they do not fit into a cache; and promoting an
/// identity takes about a microsecond, so it should come more than once or twice.
#[must_use]
pub fn lines_per_second_that_pay(cpus: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a number of CPUs")]
    let rate = cpus as f64 / 100.0;
    rate.max(LINES_PER_SECOND_MIN)
}

/// Three lines in a minute and a half.
const LINES_PER_SECOND_MIN: f64 = 0.02;

/// One identity that could be promoted.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub entry: EntryIndex,
    pub identity: HashedIdentity,
    pub lines_per_second: f64,
    /// Of an absolute gauge, its series: the kernel keeps the last value. Otherwise it adds.
    pub gauge: Option<SeriesId>,
}

/// The promoted identities and the free slots.
#[derive(Debug)]
pub struct Promotion {
    options: PromotionOptions,
    promoted: Vec<Promoted>,
    /// Taken out of the table, waiting for their grace period.
    leaving: Vec<Promoted>,
    free: Vec<u32>,
    /// Slots that feed a gauge, those that are leaving included.
    gauges: HashMap<SeriesId, SmallVec<[u32; 2]>, foldhash::fast::RandomState>,
    /// Slot -> its index among the promoted ones, where it is promoted.
    places: Vec<u32>,
    /// Slots that are looked at in each round, and those that have to go. Of the others each round has a
    /// share, beginning behind the index `hand`.
    busy: Vec<u32>,
    settled: Vec<u32>,
    hand: usize,
    /// Slots that the present round looks at; empty between rounds.
    round: Vec<u32>,
    /// The sum of all windows.
    seconds: f64,
    pub promotions: u64,
    pub demotions: u64,
    /// Identities that the table had no room for.
    pub refused: u64,
}

impl Promotion {
    /// Nothing promoted, `slots` slots free.
    #[must_use]
    pub fn new(slots: u32, options: PromotionOptions) -> Self {
        Self {
            options,
            promoted: Vec::new(),
            leaving: Vec::new(),
            free: (0..slots).rev().collect(),
            gauges: HashMap::default(),
            places: vec![0; slots as usize],
            busy: Vec::new(),
            settled: Vec::new(),
            hand: 0,
            round: Vec::new(),
            seconds: 0.0,
            promotions: 0,
            demotions: 0,
            refused: 0,
        }
    }

    #[must_use]
    pub fn promoted(&self) -> &[Promoted] {
        &self.promoted
    }

    #[must_use]
    pub fn options(&self) -> &PromotionOptions {
        &self.options
    }

    /// Whether demoted slots wait for a grace period and [`Promotion::release`].
    #[must_use]
    pub fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Slots that are neither in use nor waiting.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        self.free.len()
    }

    /// Reads every slot in use, and hands what grew to `record`.
    pub fn drain(&mut self, table: &impl SlotTable, mut record: impl FnMut(Growth)) {
        for promoted in self.promoted.iter_mut().chain(&mut self.leaving) {
            tell(promoted.read(table), &mut record);
        }
    }

    /// Reads the slots of busy identities, and hands what grew to `record`.
    pub fn drain_busy(&mut self, table: &impl SlotTable, mut record: impl FnMut(Growth)) {
        for slot in &self.busy {
            if let Some(promoted) = at_slot(&mut self.promoted, &self.places, *slot) {
                tell(promoted.read(table), &mut record);
            }
        }
    }

    /// Reads the slots that the next [`Promotion::demote`] looks at, and hands what grew to `record`.
    pub fn drain_round(&mut self, table: &impl SlotTable, mut record: impl FnMut(Growth)) {
        self.choose_round();
        for slot in &self.round {
            if let Some(promoted) = at_slot(&mut self.promoted, &self.places, *slot) {
                tell(promoted.read(table), &mut record);
            }
        }
    }

    /// Busy identities, and of the others so many that all have had their turn after [`ROUNDS`] rounds:
    /// reading a slot costs something on each CPU, whether a line came or not.
    fn choose_round(&mut self) {
        if !self.round.is_empty() || self.promoted.is_empty() {
            return;
        }
        self.round.extend(&self.busy);
        self.round.append(&mut self.settled);
        let share = (self.promoted.len() / ROUNDS).max(ROUND_SLOTS_MIN).min(self.promoted.len());
        for _ in 0..share {
            self.hand = (self.hand + 1) % self.promoted.len();
            let promoted = &self.promoted[self.hand];
            if !promoted.busy && promoted.quiet_looks != QUIET_FOR_EVER {
                self.round.push(promoted.slot);
            }
        }
    }

    /// Ends a window of `seconds`: rates, and who has to go. Those are out of `identities` when this
    /// returns, but programs may still add to their slots until a grace period has passed; then call
    /// [`Promotion::release`]. Call [`Promotion::drain_round`] first.
    pub fn demote(&mut self, identities: &IdentityTable, candidates: &[Candidate], seconds: f64) -> usize {
        self.seconds += seconds;
        self.choose_round();
        self.busy.clear();
        let mut going = Vec::new();
        for slot in std::mem::take(&mut self.round) {
            let Some(at) = index_of(&self.promoted, &self.places, slot) else { continue };
            let promoted = &mut self.promoted[at];
            let quiet_looks = promoted.look(self.seconds, self.options.demote_lines_per_second);
            if quiet_looks >= self.options.demote_after_looks {
                going.push(at);
            } else if promoted.busy {
                self.busy.push(slot);
            }
        }
        // One that is settled may have been busy as well.
        going.sort_unstable();
        going.dedup();
        self.displace(candidates, &mut going);
        self.take_out(identities, &going);
        going.len()
    }

    /// Takes the gauges `which` out of the table; then, as for [`Promotion::demote`], a grace period and
    /// [`Promotion::release`]. Returns how many there were.
    pub fn demote_gauges(&mut self, identities: &IdentityTable, which: impl Fn(SeriesId) -> bool) -> usize {
        let slots = self.gauges.iter().filter(|(series, _)| which(**series)).flat_map(|(_, slots)| slots);
        // Those that are leaving already have no place any more.
        let mut going: Vec<usize> =
            slots.filter_map(|slot| index_of(&self.promoted, &self.places, *slot)).collect();
        going.sort_unstable();
        self.take_out(identities, &going);
        going.len()
    }

    /// Takes those at these indices, which are sorted, out of the table.
    fn take_out(&mut self, identities: &IdentityTable, going: &[usize]) {
        // From the back, so that `swap_remove` does not move what is still to go.
        for at in going.iter().rev() {
            let promoted = self.promoted.swap_remove(*at);
            self.note_place(*at);
            identities.remove(promoted.hash, promoted.slot);
            self.leaving.push(promoted);
        }
        if !going.is_empty() {
            let Self { busy, promoted, places, .. } = self;
            busy.retain(|slot| index_of(promoted, places, *slot).is_some());
        }
    }

    fn note_place(&mut self, at: usize) {
        if let Some(moved) = self.promoted.get(at)
            && let Some(place) = self.places.get_mut(moved.slot as usize)
        {
            *place = u32::try_from(at).unwrap_or(u32::MAX);
        }
    }

    /// When no slot is free, the quietest go for candidates that are at least twice as busy. `going` is
    /// sorted, before and after.
    fn displace(&self, candidates: &[Candidate], going: &mut Vec<usize>) {
        let wanted = candidates.len().min(self.options.promotions_per_tick);
        let missing = wanted.saturating_sub(self.free.len() + going.len());
        let mut quietest: Vec<usize> = match missing {
            0 => return,
            _ => (0..self.promoted.len()).filter(|at| going.binary_search(at).is_err()).collect(),
        };
        let rate = |at: &usize| self.promoted[*at].lines_per_second;
        if missing < quietest.len() {
            quietest.select_nth_unstable_by(missing, |a, b| rate(a).total_cmp(&rate(b)));
            quietest.truncate(missing);
        }
        quietest.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
        let busiest = candidates.iter().skip(wanted - missing);
        for (at, candidate) in quietest.into_iter().zip(busiest) {
            if candidate.lines_per_second < 2.0 * rate(&at) {
                break;
            }
            going.push(at);
        }
        going.sort_unstable();
    }

    /// After the grace period: reads the demoted slots a last time and frees them. `record` gets
    /// what grew, `left` every entry that the kernel no longer counts.
    pub fn release(
        &mut self,
        table: &impl SlotTable,
        mut record: impl FnMut(Growth),
        mut left: impl FnMut(EntryIndex),
    ) {
        for mut promoted in self.leaving.drain(..) {
            let growth = promoted.read_last(table);
            tell(growth, &mut record);
            self.free.push(promoted.slot);
            self.demotions += 1;
            left(promoted.entry);
            if let Some(series) = promoted.gauge {
                forget(&mut self.gauges, series, promoted.slot);
            }
        }
    }

    /// Whether slots feed this gauge.
    #[inline]
    #[must_use]
    pub fn feeds(&self, series: SeriesId) -> bool {
        !self.gauges.is_empty() && self.gauges.contains_key(&series)
    }

    /// Reads the slots that feed a gauge, now that something else is about to change it, and hands what
    /// they gained to `record`. They go with the next [`Promotion::demote`]. Whether there were any.
    pub fn settle_gauge(
        &mut self,
        table: &impl SlotTable,
        series: SeriesId,
        mut record: impl FnMut(Growth),
    ) -> bool {
        let Some(slots) = self.gauges.get(&series) else { return false };
        for slot in slots {
            let promoted = match at_slot(&mut self.promoted, &self.places, *slot) {
                Some(promoted) => promoted,
                None => match self.leaving.iter_mut().find(|leaving| leaving.slot == *slot) {
                    Some(leaving) => leaving,
                    None => continue,
                },
            };
            if promoted.quiet_looks != QUIET_FOR_EVER {
                promoted.quiet_looks = QUIET_FOR_EVER;
                self.settled.push(*slot);
            }
            tell(promoted.read(table), &mut record);
        }
        true
    }

    /// Says that the gauge which a slot feeds has expired and is another series now.
    pub fn rename_gauge(&mut self, slot: u32, to: SeriesId) {
        let promoted = match at_slot(&mut self.promoted, &self.places, slot) {
            Some(promoted) => Some(promoted),
            None => self.leaving.iter_mut().find(|leaving| leaving.slot == slot),
        };
        if let Some(promoted) = promoted
            && let Some(from) = promoted.gauge.replace(to).filter(|from| *from != to)
        {
            forget(&mut self.gauges, from, slot);
            self.gauges.entry(to).or_default().push(slot);
        }
    }

    /// Promotes the busiest of `candidates` (sorted, busiest first) into free slots; `entered` gets
    /// each entry and its slot, if the table took it.
    pub fn promote(
        &mut self,
        table: &impl SlotTable,
        identities: &IdentityTable,
        candidates: &[Candidate],
        mut entered: impl FnMut(EntryIndex, Result<u32, Refused>),
    ) {
        for candidate in candidates.iter().take(self.options.promotions_per_tick) {
            let feeding = candidate.gauge.and_then(|series| self.gauges.get(&series));
            if feeding.is_some_and(|slots| slots.len() >= GAUGE_SLOTS_MAX) {
                continue;
            }
            let Some(slot) = self.free.pop() else { break };
            // The base, before the kernel can add.
            let last = table.total(slot);
            let last_received_ns = table.last(slot).received_ns;
            let operation = if candidate.gauge.is_some() { OPERATION_LAST } else { OPERATION_ADD };
            let result = identities.insert(&candidate.identity, slot, operation);
            entered(candidate.entry, result.map(|()| slot));
            if result.is_err() {
                self.free.push(slot);
                self.refused += 1;
                continue;
            }
            self.promotions += 1;
            if let Some(series) = candidate.gauge {
                self.gauges.entry(series).or_default().push(slot);
            }
            self.promoted.push(Promoted {
                slot,
                entry: candidate.entry,
                lines_per_second: candidate.lines_per_second,
                hash: candidate.identity.hash,
                gauge: candidate.gauge,
                last,
                last_received_ns,
                window_lines: 0,
                looked_at_seconds: self.seconds,
                quiet_looks: 0,
                // The first look comes soon, for the rate is an estimate.
                busy: true,
            });
            self.busy.push(slot);
            self.note_place(self.promoted.len() - 1);
        }
    }

    /// Takes every identity out of the table, as for a reload or the end; then, as for
    /// [`Promotion::demote`], a grace period and [`Promotion::release`].
    pub fn demote_all(&mut self, identities: &IdentityTable) {
        self.busy.clear();
        self.settled.clear();
        self.round.clear();
        for promoted in self.promoted.drain(..) {
            identities.remove(promoted.hash, promoted.slot);
            self.leaving.push(promoted);
        }
    }
}

/// Rounds after which every slot has been looked at.
const ROUNDS: usize = 16;
/// So many are looked at in each round in any case.
const ROUND_SLOTS_MIN: usize = 1024;
/// Slots that feed one gauge, at most: each is read before anything else changes it.
const GAUGE_SLOTS_MAX: usize = 4;

fn tell(growth: Growth, record: &mut impl FnMut(Growth)) {
    if growth.lines != 0 {
        record(growth);
    }
}

/// The index of the promoted one in a slot.
fn index_of(promoted: &[Promoted], places: &[u32], slot: u32) -> Option<usize> {
    let at = *places.get(slot as usize)? as usize;
    promoted.get(at).filter(|promoted| promoted.slot == slot).map(|_| at)
}

fn at_slot<'a>(promoted: &'a mut [Promoted], places: &[u32], slot: u32) -> Option<&'a mut Promoted> {
    index_of(promoted, places, slot).and_then(|at| promoted.get_mut(at))
}

fn forget<S: std::hash::BuildHasher>(
    gauges: &mut HashMap<SeriesId, SmallVec<[u32; 2]>, S>,
    series: SeriesId,
    slot: u32,
) {
    if let Some(slots) = gauges.get_mut(&series) {
        slots.retain(|other| *other != slot);
        if slots.is_empty() {
            gauges.remove(&series);
        }
    }
}
