//! Lines per second of each identity -> which ones the kernel counts.
//!
//! A bounded top-K with hysteresis, and the bookkeeping that makes a slot exact: its base is read
//! before the kernel can add to it, and after its identity was taken out and a grace period has
//! passed it is read a last time. This file knows neither clock nor kernel; the caller drains, waits
//! and records.

use ingest_ebpf::layout::{OPERATION_ADD, Slot};

use super::{
    identities::{HashedIdentity, IdentityTable, Refused},
    slots::SlotTable,
};
use crate::mapper::cache::EntryIndex;

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
}

/// One promoted identity.
#[derive(Clone, Copy, Debug)]
pub struct Promoted {
    pub slot: u32,
    pub entry: EntryIndex,
    /// Smoothed over a few ticks.
    pub lines_per_second: f64,
    hash: u64,
    /// The slot's total when it was last read.
    last: Slot,
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
}

/// The promoted identities and the free slots.
#[derive(Debug)]
pub struct Promotion {
    options: PromotionOptions,
    promoted: Vec<Promoted>,
    /// Taken out of the table, waiting for their grace period.
    leaving: Vec<Promoted>,
    free: Vec<u32>,
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
            promoted.quiet_ticks = if quiet { promoted.quiet_ticks + 1 } else { 0 };
        }
        let demote_after = self.options.demote_after_ticks;
        let mut going: Vec<usize> =
            (0..self.promoted.len()).filter(|at| self.promoted[*at].quiet_ticks >= demote_after).collect();
        self.displace(candidates, &mut going);
        // From the back, so that `swap_remove` does not move what is still to go.
        going.sort_unstable();
        for at in going.iter().rev() {
            let promoted = self.promoted.swap_remove(*at);
            identities.remove(promoted.hash, promoted.slot);
            self.leaving.push(promoted);
        }
        going.len()
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
            let growth = promoted.read(table);
            if growth.lines != 0 {
                record(growth);
            }
            self.free.push(promoted.slot);
            self.demotions += 1;
            left(promoted.entry);
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
            let Some(slot) = self.free.pop() else { break };
            // The base, before the kernel can add.
            let last = table.total(slot);
            let result = identities.insert(&candidate.identity, slot, OPERATION_ADD);
            entered(candidate.entry, result);
            if result.is_err() {
                self.free.push(slot);
                self.refused += 1;
                continue;
            }
            self.promotions += 1;
            self.promoted.push(Promoted {
                slot,
                entry: candidate.entry,
                lines_per_second: candidate.lines_per_second,
                hash: candidate.identity.hash,
                last,
                window_lines: 0,
                quiet_ticks: 0,
            });
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

impl Promoted {
    fn read(&mut self, table: &impl SlotTable) -> Growth {
        let total = table.total(self.slot);
        let growth = Growth {
            entry: self.entry,
            lines: total.lines.wrapping_sub(self.last.lines),
            sum: total.sum.wrapping_sub(self.last.sum),
        };
        self.last = total;
        growth
    }
}
