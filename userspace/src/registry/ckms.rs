//! Sorted batches of samples -> quantiles within a stated error.
//!
//! Source: Cormode, Korn, Muthukrishnan, Srivastava, "Effective Computation of Biased Quantiles
//! over Data Streams", the variant with targets, in the reading of `beorn7/perks`: what that
//! library answers is what dashboards show, so its roundings are kept.

use std::cmp::Ordering;

use smallvec::SmallVec;

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
        let mut old = &*self.entries;
        let (mut rank, mut count) = (0.0, self.count());
        for value in sorted.iter().copied() {
            // A NaN is greater than nothing, and nothing is greater than it.
            while let [entry, rest @ ..] = old
                && !matches!(entry.value.partial_cmp(&value), Some(Ordering::Greater))
            {
                rank += f64::from(entry.width);
                merged.push(*entry);
                old = rest;
            }
            let delta = if old.is_empty() { 0.0 } else { (errors.floor_at(rank, count) - 1.0).max(0.0) };
            merged.push(Entry { value, width: 1, delta: saturating(delta) });
            (rank, count) = (rank + 1.0, count + 1.0);
        }
        merged.extend_from_slice(old);
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
            for entry in others.iter().rev() {
                let joined = f64::from(entry.width) + f64::from(last.width) + widened(last.delta);
                if errors.allow(joined, rank, count) {
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

/// How many ranks a sample at `rank` of `count` may be off, so that every target is still met.
fn error_at(rank: f64, count: f64, targets: &[Quantile]) -> f64 {
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

/// Answers questions about [`error_at`] without its divisions, which are most of what merging takes.
///
/// Each target's error falls and then rises with the rank, so it is the greater of two lines. Their
/// products may differ from the quotients in the last digits; where that could change the answer, the
/// quotients are asked.
struct Errors<'a> {
    targets: &'a [Quantile],
    slopes: SmallVec<[Slopes; 2]>,
}

/// Of some targets the slopes of both lines: by the rank, and by what is above it. So many, and not more,
/// so that a processor takes them side by side; where there are fewer the last one is there again.
#[derive(Clone, Copy, Debug)]
struct Slopes {
    by_rank: [f64; SLOPES],
    by_rest: [f64; SLOPES],
}

const SLOPES: usize = 4;

/// Far more than the rounding of a few operations makes, as a share.
const DOUBT: f64 = 1e-9;
/// Closer to 0 or 1 the lines are too steep for [`DOUBT`].
const QUANTILE_MIN: f64 = 1e-6;

impl<'a> Errors<'a> {
    fn new(targets: &'a [Quantile]) -> Self {
        let is_plain = |target: &Quantile| {
            (QUANTILE_MIN..=1.0 - QUANTILE_MIN).contains(&target.quantile)
                && (0.0..=1.0).contains(&target.error)
        };
        let mut slopes = SmallVec::new();
        if targets.iter().all(is_plain) {
            slopes.extend(targets.chunks(SLOPES).map(|targets| {
                let target = |at: usize| targets.get(at).or(targets.last());
                let twice = |at| target(at).map_or(0.0, |target| 2.0 * target.error);
                let quantile = |at| target(at).map_or(0.5, |target| target.quantile);
                Slopes {
                    by_rank: std::array::from_fn(|at| twice(at) / quantile(at)),
                    by_rest: std::array::from_fn(|at| twice(at) / (1.0 - quantile(at))),
                }
            }));
        }
        Self { targets, slopes }
    }

    /// About the error; NaN if nothing is known.
    #[inline(always)]
    fn about(&self, rank: f64, count: f64) -> f64 {
        let rest = count - rank;
        let least = |slopes: &Slopes| {
            let error: [f64; SLOPES] =
                std::array::from_fn(|at| greater(rank * slopes.by_rank[at], rest * slopes.by_rest[at]));
            lesser(lesser(error[0], error[2]), lesser(error[1], error[3]))
        };
        match &*self.slopes {
            [] => f64::NAN,
            [slopes] => least(slopes),
            several => several.iter().map(least).fold(f64::MAX, lesser),
        }
    }

    /// Whether a sample of this width may stand at `rank`.
    #[inline(always)]
    fn allow(&self, width: f64, rank: f64, count: f64) -> bool {
        let about = self.about(rank, count);
        if about * (1.0 - DOUBT) > width {
            return true;
        }
        // Not so if nothing is known.
        let is_below = about * (1.0 + DOUBT) < width;
        !is_below && width <= error_at(rank, count, self.targets)
    }

    /// The error, rounded down.
    #[inline(always)]
    fn floor_at(&self, rank: f64, count: f64) -> f64 {
        let about = self.about(rank, count);
        let floor = f64::from(saturating(about));
        let above = about - floor;
        if above > about * DOUBT && above < 1.0 - about * DOUBT {
            return floor;
        }
        error_at(rank, count, self.targets).floor()
    }
}

/// One instruction each, which `f64::max` and `f64::min` are not, for they say what becomes of NaN.
fn greater(one: f64, other: f64) -> f64 {
    if one > other { one } else { other }
}

fn lesser(one: f64, other: f64) -> f64 {
    if one < other { one } else { other }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Ranks that are whole numbers meet errors that are whole numbers often: there the last digit
        /// decides.
        #[test]
        fn what_is_said_of_errors_is_what_their_quotients_say(
            targets in proptest::collection::vec(
                (prop_oneof![0.0..=1.0, prop::sample::select(vec![0.0, 0.1, 0.5, 0.9, 0.99, 1.0])],
                 prop_oneof![0.0..=0.2, prop::sample::select(vec![0.0, 0.001, 0.01, 0.05])]),
                0..7
            ),
            count in 1..20_000_u32,
            widths in proptest::collection::vec(1..100_u32, 1..50),
        ) {
            let targets: Vec<_> =
                targets.into_iter().map(|(quantile, error)| Quantile { quantile, error }).collect();
            let errors = Errors::new(&targets);
            let count = f64::from(count);
            for width in widths.into_iter().map(f64::from).chain([f64::MAX]) {
                let rank = (count * (width / 100.0).min(1.0)).floor();
                let error = error_at(rank, count, &targets);
                prop_assert_eq!(errors.allow(width, rank, count), width <= error);
                prop_assert_eq!(errors.allow(error, rank, count), error <= error);
                prop_assert_eq!(errors.allow(error.next_up(), rank, count), error.next_up() <= error);
                let (floor, expected) = (errors.floor_at(rank, count), error.floor());
                prop_assert_eq!(floor.to_bits(), expected.to_bits(), "{} {}", error, rank);
            }
        }
    }
}
