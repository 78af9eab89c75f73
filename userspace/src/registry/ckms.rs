//! Sorted batches of samples -> quantiles within a stated error.
//!
//! Source: Cormode, Korn, Muthukrishnan, Srivastava, "Effective Computation of Biased Quantiles
//! over Data Streams", the variant with targets, in the reading of `beorn7/perks`: what that
//! library answers is what dashboards show, so its roundings are kept.

use super::summary::Quantile;

/// One kept sample, which stands for `width` observations up to and including its own.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    value: f64,
    width: u32,
    /// By how much the sample's rank may be too low. `u32::MAX` is "without bound".
    delta: u32,
}

/// A compressed stream of observations.
#[derive(Clone, Debug, Default)]
pub(super) struct Ckms {
    entries: Vec<Entry>,
    /// Observations merged so far.
    merged: u64,
    /// Another compression would change nothing.
    settled: bool,
}

impl Ckms {
    /// Merges `sorted` (ascending) and compresses. `spare` is working space.
    pub(super) fn merge(&mut self, sorted: &[f64], targets: &[Quantile], spare: &mut MergeSpace) {
        let merged = &mut spare.0;
        merged.clear();
        merged.reserve(self.entries.len() + sorted.len());
        let mut old = self.entries.iter().copied().peekable();
        let mut rank = 0.0;
        for value in sorted.iter().copied() {
            // A NaN is greater than nothing, and nothing is greater than it.
            let stays_before = |entry: &Entry| entry.value <= value || entry.value.is_nan() || value.is_nan();
            while let Some(entry) = old.next_if(stays_before) {
                rank += f64::from(entry.width);
                merged.push(entry);
            }
            let delta = match old.peek() {
                Some(_) => (self.error_at(rank, targets).floor() - 1.0).max(0.0),
                None => 0.0,
            };
            merged.push(Entry { value, width: 1, delta: saturating(delta) });
            self.merged += 1;
            rank += 1.0;
        }
        merged.extend(old);
        self.entries.clear();
        self.settled = false;
        self.compress_from(merged, targets);
    }

    /// Does what a query does to the stream before it reads.
    pub(super) fn settle(&mut self, targets: &[Quantile], spare: &mut MergeSpace) {
        if !self.settled {
            spare.0.clear();
            spare.0.append(&mut self.entries);
            self.compress_from(&mut spare.0, targets);
        }
    }

    /// Whether [`Ckms::settle`] would change nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// The sample at `quantile`; NaN if there is none.
    pub(super) fn query(&self, quantile: f64, targets: &[Quantile]) -> f64 {
        let wanted = (quantile * self.count()).ceil();
        let wanted = wanted + (self.error_at(wanted, targets) / 2.0).ceil();
        let mut entries = self.entries.iter();
        let Some(mut before) = entries.next() else { return f64::NAN };
        let mut rank = 0.0;
        for entry in entries {
            rank += f64::from(before.width);
            if rank + f64::from(entry.width) + widened(entry.delta) > wanted {
                return before.value;
            }
            before = entry;
        }
        before.value
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.entries.capacity() * size_of::<Entry>()
    }

    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 observations within one window")]
    fn count(&self) -> f64 {
        self.merged as f64
    }

    /// How many ranks a sample at `rank` may be off, so that every target is still met.
    fn error_at(&self, rank: f64, targets: &[Quantile]) -> f64 {
        let count = self.count();
        let mut least = f64::MAX;
        for target in targets {
            let error = if target.quantile * count <= rank {
                (2.0 * target.error * rank) / target.quantile
            } else {
                (2.0 * target.error * (count - rank)) / (1.0 - target.quantile)
            };
            if error < least {
                least = error;
            }
        }
        least
    }

    /// Takes `entries` over, from the highest rank down, joining neighbours as far as allowed.
    fn compress_from(&mut self, entries: &mut Vec<Entry>, targets: &[Quantile]) {
        let before = entries.len();
        if let Some(mut last) = entries.pop() {
            // Kept samples gather in `self.entries`, highest first, and are turned round below.
            let mut rank = self.count() - 1.0 - f64::from(last.width);
            while let Some(entry) = entries.pop() {
                let joined = f64::from(entry.width) + f64::from(last.width) + widened(last.delta);
                if joined <= self.error_at(rank, targets) {
                    last.width = last.width.saturating_add(entry.width);
                } else {
                    self.entries.push(last);
                    last = entry;
                }
                rank -= f64::from(entry.width);
            }
            self.entries.push(last);
        }
        self.entries.reverse();
        self.settled = self.entries.len() == before;
        if self.entries.capacity() > 2 * self.entries.len() {
            self.entries.shrink_to(self.entries.len() + self.entries.len() / 4);
        }
    }
}

/// Working space of [`Ckms`], shared by all series; holds nothing between calls.
#[derive(Debug, Default)]
pub(super) struct MergeSpace(Vec<Entry>);

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, as wanted")]
fn saturating(delta: f64) -> u32 {
    delta as u32
}

fn widened(delta: u32) -> f64 {
    if delta == u32::MAX { f64::MAX } else { f64::from(delta) }
}
