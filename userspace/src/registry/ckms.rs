//! Sorted batches of samples -> quantiles within a stated error.
//!
//! Source: Cormode, Korn, Muthukrishnan, Srivastava, "Effective Computation of Biased Quantiles
//! over Data Streams", the variant with targets, in the reading of `beorn7/perks`: what that
//! library answers is what dashboards show, so its roundings are kept.

use super::rank_error::{Anchor, Errors, error_at, saturating};
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
        let errors = Errors::new(targets);
        let merged = &mut spare.0;
        merged.clear();
        merged.reserve(self.entries.len() + sorted.len());
        let (mut rank, mut count, mut sorted_left) = (0.0, self.count(), sorted);
        for entry in &self.entries {
            // A NaN is greater than nothing, and nothing is greater than it.
            let below = sorted_left.iter().take_while(|value| entry.value > **value).count();
            let run;
            (run, sorted_left) = sorted_left.split_at(below);
            append_run(&errors, merged, run, rank, count);
            let below = f64::from(u32::try_from(below).unwrap_or(u32::MAX));
            (rank, count) = (rank + below + f64::from(entry.width), count + below);
            merged.push(*entry);
        }
        merged.extend(sorted_left.iter().map(|value| Entry { value: *value, width: 1, delta: 0 }));
        self.merged += sorted.len() as u64;
        self.entries.clear();
        self.settled = false;
        self.compress_from(merged, &errors);
    }

    /// Does what a query does to the stream before it reads.
    pub(super) fn settle(&mut self, targets: &[Quantile], spare: &mut MergeSpace) {
        if !self.settled {
            spare.0.clear();
            spare.0.append(&mut self.entries);
            self.compress_from(&spare.0, &Errors::new(targets));
        }
    }

    /// Whether [`Ckms::settle`] would change nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// The sample at `quantile`; NaN if there is none.
    pub(super) fn query(&self, quantile: f64, targets: &[Quantile]) -> f64 {
        let wanted = (quantile * self.count()).ceil();
        let wanted = wanted + (error_at(wanted, self.count(), targets) / 2.0).ceil();
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

    /// Keeps `entries`, from the highest rank down, joining neighbours as far as allowed.
    fn compress_from(&mut self, entries: &[Entry], errors: &Errors<'_>) {
        if let Some((last, others)) = entries.split_last() {
            // Kept samples gather in `self.entries`, highest first, and are turned round below.
            let count = self.count();
            let mut last = *last;
            let mut rank = count - 1.0 - f64::from(last.width);
            let mut known = Anchor::default();
            for entry in others.iter().rev() {
                let joined = f64::from(entry.width) + f64::from(last.width) + widened(last.delta);
                if errors.allow_near(&mut known, joined, rank, count) {
                    last.width = last.width.saturating_add(entry.width);
                } else {
                    self.entries.push(last);
                    last = *entry;
                }
                rank -= f64::from(entry.width);
            }
            self.entries.push(last);
        }
        self.entries.reverse();
        self.settled = self.entries.len() == entries.len();
        if self.entries.capacity() > 2 * self.entries.len() {
            self.entries.shrink_to(self.entries.len() + self.entries.len() / 4);
        }
    }
}

/// Appends new samples side by side, the first of which has `rank` of `count`, and each next one of both
/// one more. What is above them stays as it is, so that the error never falls on the way: where it is the
/// same at both ends, as nearly everywhere, it is the same between them.
#[inline(always)]
fn append_run(errors: &Errors<'_>, to: &mut Vec<Entry>, run: &[f64], rank: f64, count: f64) {
    let Some(further) = run.len().checked_sub(1) else { return };
    let further = f64::from(u32::try_from(further).unwrap_or(u32::MAX));
    let delta = |floor: f64| saturating((floor - 1.0).max(0.0));
    if let Some(floor) = errors.floor_between(rank, count, further) {
        let delta = delta(floor);
        return to.extend(run.iter().map(|value| Entry { value: *value, width: 1, delta }));
    }
    let (mut rank, mut count) = (rank, count);
    for value in run {
        to.push(Entry { value: *value, width: 1, delta: delta(errors.floor_at(rank, count)) });
        (rank, count) = (rank + 1.0, count + 1.0);
    }
}

/// Working space of [`Ckms`], shared by all series; holds nothing between calls.
#[derive(Debug, Default)]
pub(super) struct MergeSpace(Vec<Entry>);

fn widened(delta: u32) -> f64 {
    if delta == u32::MAX { f64::MAX } else { f64::from(delta) }
}
