//! Lines per second of each identity -> which ones the kernel counts.
//!
//! A bounded top-K with hysteresis, and the bookkeeping that makes a slot exact: its base is read
//! before the kernel can add to it, and after its identity was taken out and a grace period has
//! passed it is read a last time. This file knows neither clock nor kernel; the caller drains, waits
//! and records.

use std::collections::HashMap;

use ingest_ebpf::layout::{LastValue, OPERATION_ADD, OPERATION_LAST, Slot};
use smallvec::SmallVec;

use super::{
    identities::{HashedIdentity, IdentityTable, Refused},
    slots::SlotTable,
};
use crate::{mapper::cache::EntryIndex, registry::SeriesId};

/// What promotion goes by; checked by `config.rs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PromotionOptions {
    /// An identity with at least this many lines per second may be promoted.
    pub promote_lines_per_second: f64,
    /// A promoted one below this rate for `demote_after_ticks` ticks goes.
    pub demote_lines_per_second: f64,
    pub demote_after_ticks: u32,
    /// Promotions in one tick at most, so that a tick stays short.
    pub promotions_per_tick: usize,
}

impl Default for PromotionOptions {
    fn default() -> Self {
        Self {
            promote_lines_per_second: 1.0,
            demote_lines_per_second: 0.1,
            demote_after_ticks: 10,
            promotions_per_tick: 1024,
        }
    }
}

/// One identity that could be promoted.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub entry: EntryIndex,
    pub identity: HashedIdentity,
    pub lines_per_second: f64,
    /// Of an absolute gauge, its series: the kernel keeps the last value. Otherwise it adds.
    pub gauge: Option<SeriesId>,
}

/// One promoted identity.
#[derive(Clone, Copy, Debug)]
pub struct Promoted {
    pub slot: u32,
    pub entry: EntryIndex,
    /// Smoothed over a few ticks.
    pub lines_per_second: f64,
    hash: u64,
    gauge: Option<SeriesId>,
    /// The slot's total when it was last read.
    last: Slot,
    /// When the newest value that was read, or was there before, had been received.
    last_received_ns: u64,
    /// Lines since the last tick.
    window_lines: u64,
    quiet_ticks: u32,
}

/// What a slot gained since it was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    pub entry: EntryIndex,
    pub lines: u64,
    pub sum: u64,
    /// Of a gauge, its newest value; `None` if all that came is older than what was told before.
    pub last: Option<LastValue>,
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
            let growth = promoted.read(table);
            if growth.lines != 0 {
                promoted.window_lines += growth.lines;
                record(growth);
            }
        }
    }

    /// Ends a window of `seconds`: rates, and who has to go. Those are out of `identities` when this
    /// returns, but programs may still add to their slots until a grace period has passed; then call
    /// [`Promotion::release`]. Call [`Promotion::drain`] first.
    pub fn demote(&mut self, identities: &IdentityTable, candidates: &[Candidate], seconds: f64) -> usize {
        let quiet_below = self.options.demote_lines_per_second;
        for promoted in &mut self.promoted {
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            let rate = std::mem::take(&mut promoted.window_lines) as f64 / seconds;
            promoted.lines_per_second += (rate - promoted.lines_per_second) * SMOOTHING;
            let quiet = rate < quiet_below && promoted.lines_per_second < quiet_below * 10.0;
            if promoted.quiet_ticks != QUIET_FOR_EVER {
                promoted.quiet_ticks = if quiet { promoted.quiet_ticks + 1 } else { 0 };
            }
        }
        let demote_after = self.options.demote_after_ticks;
        let mut going: Vec<usize> =
            (0..self.promoted.len()).filter(|at| self.promoted[*at].quiet_ticks >= demote_after).collect();
        self.displace(candidates, &mut going);
        // From the back, so that `swap_remove` does not move what is still to go.
        going.sort_unstable();
        for at in going.iter().rev() {
            let promoted = self.promoted.swap_remove(*at);
            self.note_place(*at);
            identities.remove(promoted.hash, promoted.slot);
            self.leaving.push(promoted);
        }
        going.len()
    }

    fn note_place(&mut self, at: usize) {
        if let Some(moved) = self.promoted.get(at)
            && let Some(place) = self.places.get_mut(moved.slot as usize)
        {
            *place = u32::try_from(at).unwrap_or(u32::MAX);
        }
    }

    /// When no slot is free, the quietest go for candidates that are at least twice as busy.
    fn displace(&self, candidates: &[Candidate], going: &mut Vec<usize>) {
        let wanted = candidates.len().min(self.options.promotions_per_tick);
        let missing = wanted.saturating_sub(self.free.len() + going.len());
        if missing == 0 || self.promoted.is_empty() {
            return;
        }
        let mut quietest: Vec<usize> = (0..self.promoted.len()).filter(|at| !going.contains(at)).collect();
        quietest.sort_by(|a, b| {
            self.promoted[*a].lines_per_second.total_cmp(&self.promoted[*b].lines_per_second)
        });
        let busiest = candidates.iter().skip(wanted - missing);
        for (at, candidate) in quietest.into_iter().zip(busiest) {
            if candidate.lines_per_second < 2.0 * self.promoted[at].lines_per_second {
                break;
            }
            going.push(at);
        }
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
            if growth.lines != 0 {
                record(growth);
            }
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
            let place = self.places.get(*slot as usize).map_or(usize::MAX, |place| *place as usize);
            let promoted = match self.promoted.get_mut(place).filter(|promoted| promoted.slot == *slot) {
                Some(promoted) => promoted,
                None => match self.leaving.iter_mut().find(|leaving| leaving.slot == *slot) {
                    Some(leaving) => leaving,
                    None => continue,
                },
            };
            promoted.quiet_ticks = QUIET_FOR_EVER;
            let growth = promoted.read(table);
            if growth.lines != 0 {
                promoted.window_lines += growth.lines;
                record(growth);
            }
        }
        true
    }

    /// Says that the gauge which a line feeds has expired and is another series now.
    pub fn rename_gauge(&mut self, entry: EntryIndex, to: SeriesId) {
        for promoted in self.promoted.iter_mut().chain(&mut self.leaving) {
            let Some(from) = promoted.gauge.filter(|from| promoted.entry == entry && *from != to) else {
                continue;
            };
            promoted.gauge = Some(to);
            forget(&mut self.gauges, from, promoted.slot);
            self.gauges.entry(to).or_default().push(promoted.slot);
        }
    }

    /// Promotes the busiest of `candidates` (sorted, busiest first) into free slots; `entered` gets
    /// each entry and whether the table took it.
    pub fn promote(
        &mut self,
        table: &impl SlotTable,
        identities: &IdentityTable,
        candidates: &[Candidate],
        mut entered: impl FnMut(EntryIndex, Result<(), Refused>),
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
            entered(candidate.entry, result);
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
                quiet_ticks: 0,
            });
            self.note_place(self.promoted.len() - 1);
        }
    }

    /// Takes every identity out of the table, as for a reload or the end; then, as for
    /// [`Promotion::demote`], a grace period and [`Promotion::release`].
    pub fn demote_all(&mut self, identities: &IdentityTable) {
        for promoted in self.promoted.drain(..) {
            identities.remove(promoted.hash, promoted.slot);
            self.leaving.push(promoted);
        }
    }
}

/// Weight of the newest window in a rate.
const SMOOTHING: f64 = 0.3;
/// Slots that feed one gauge, at most: each is read before anything else changes it.
const GAUGE_SLOTS_MAX: usize = 4;
/// Of an identity that has to go, however busy it is.
const QUIET_FOR_EVER: u32 = u32::MAX;

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

impl Promoted {
    fn read(&mut self, table: &impl SlotTable) -> Growth {
        let total = table.total(self.slot);
        let mut growth = Growth {
            entry: self.entry,
            lines: total.lines.wrapping_sub(self.last.lines),
            sum: total.sum.wrapping_sub(self.last.sum),
            last: None,
        };
        if growth.lines != 0 && self.gauge.is_some() {
            let value = table.last(self.slot);
            // What the slot's last identity left there is not newer. Nor is anything, if a value could not
            // be read: then its lines are for the next time.
            if value.received_ns <= self.last_received_ns {
                return Growth { lines: 0, sum: 0, ..growth };
            }
            self.last_received_ns = value.received_ns;
            growth.last = Some(value);
        }
        self.last = total;
        growth
    }

    /// The last reading. Lines whose values are older than what another CPU has said wait for a newer
    /// value; now none will come, and they are told without one.
    fn read_last(&mut self, table: &impl SlotTable) -> Growth {
        let growth = self.read(table);
        let total = table.total(self.slot);
        let lines = total.lines.wrapping_sub(self.last.lines);
        if growth.lines != 0 || lines == 0 {
            return growth;
        }
        self.last = total;
        Growth { lines, ..growth }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reading_leaves_no_line_behind() {
        let of = |lines, number, received_ns| {
            vec![(Slot { lines, ..Slot::default() }, LastValue { number, received_ns })]
        };
        let mut promoted = Promoted {
            slot: 0,
            entry: 3,
            lines_per_second: 0.0,
            hash: 0,
            gauge: Some(SeriesId::NONE),
            last: Slot::default(),
            last_received_ns: 50,
            window_lines: 0,
            quiet_ticks: 0,
        };
        let first = promoted.read(&of(2, 7, 100));
        assert_eq!((first.lines, first.last.map(|value| value.number)), (2, Some(7)));
        // Another CPU had received its value earlier, and wrote it later.
        let late = of(3, 7, 100);
        assert_eq!(promoted.read(&late).lines, 0, "it waits for a newer value");
        let last = promoted.read_last(&late);
        assert_eq!((last.lines, last.last), (1, None));
        assert_eq!(promoted.read_last(&late).lines, 0);
    }
}
