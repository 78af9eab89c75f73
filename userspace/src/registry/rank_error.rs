//! Rank of a sample -> by how much it may be off.

use smallvec::SmallVec;

use super::summary::Quantile;

/// How many ranks a sample at `rank` of `count` may be off, so that every target is still met.
pub(super) fn error_at(rank: f64, count: f64, targets: &[Quantile]) -> f64 {
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
pub(super) struct Errors<'a> {
    targets: &'a [Quantile],
    slopes: SmallVec<[Slopes; 2]>,
    /// The steepest of the lines, and a little more.
    steepest: f64,
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
    pub(super) fn new(targets: &'a [Quantile]) -> Self {
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
        let steepest = slopes.iter().flat_map(|slopes: &Slopes| slopes.by_rank.iter().chain(&slopes.by_rest));
        let steepest = steepest.copied().fold(0.0, greater) * (1.0 + DOUBT);
        Self { targets, slopes, steepest }
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

    /// [`Errors::floor_at`] from `rank` up to `further` ranks more, where `count` is as many more; `None` if
    /// it may differ.
    #[inline(always)]
    pub(super) fn floor_between(&self, rank: f64, count: f64, further: f64) -> Option<f64> {
        let (last_rank, last_count) = (rank + further, count + further);
        let (least, most) = (self.about(rank, count), self.about(last_rank, last_count));
        let floor = saturating(most * (1.0 + DOUBT));
        if saturating(least * (1.0 - DOUBT)) == floor && (1..u32::MAX).contains(&floor) {
            return Some(f64::from(floor));
        }
        // Rounded, too, each line by itself never falls, but where one gives way to the other it might.
        let is_one_line = |target: &Quantile| {
            (target.quantile * count <= rank) == (target.quantile * last_count <= last_rank)
        };
        if self.slopes.is_empty() || !self.targets.iter().all(is_one_line) {
            return None;
        }
        let floor = error_at(rank, count, self.targets).floor();
        (error_at(last_rank, last_count, self.targets).floor() == floor).then_some(floor)
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

    /// Whether a sample of this width may stand at `rank`. For ranks that fall: the error differs from that of a rank nearby by no more than the
    /// steepest line does, which nearly always says enough.
    #[inline(always)]
    pub(super) fn allow_near(&self, known: &mut Anchor, width: f64, rank: f64, count: f64) -> bool {
        let change = (known.rank - rank) * self.steepest;
        if width < known.least - change {
            return true;
        }
        if width > known.most + change {
            return false;
        }
        let about = self.about(rank, count);
        if about >= 0.0 {
            *known = Anchor { rank, least: about * (1.0 - DOUBT), most: about * (1.0 + DOUBT) };
        }
        self.allow(width, rank, count)
    }

    /// The error, rounded down.
    #[inline(always)]
    pub(super) fn floor_at(&self, rank: f64, count: f64) -> f64 {
        let about = self.about(rank, count);
        let floor = f64::from(saturating(about));
        let above = about - floor;
        if above > about * DOUBT && above < 1.0 - about * DOUBT {
            return floor;
        }
        error_at(rank, count, self.targets).floor()
    }
}

/// A rank of which the error is known, as far as [`Errors::about`] knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    rank: f64,
    least: f64,
    most: f64,
}

impl Default for Anchor {
    /// Nothing is known.
    fn default() -> Self {
        Self { rank: 0.0, least: f64::NEG_INFINITY, most: f64::INFINITY }
    }
}

/// One instruction each, which `f64::max` and `f64::min` are not, for they say what becomes of NaN.
fn greater(one: f64, other: f64) -> f64 {
    if one > other { one } else { other }
}

fn lesser(one: f64, other: f64) -> f64 {
    if one < other { one } else { other }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, as wanted")]
pub(super) fn saturating(delta: f64) -> u32 {
    delta as u32
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
                for further in [0.0, 1.0, 2.0, 7.0, 30.0] {
                    let Some(floor) = errors.floor_between(rank, count, further) else { continue };
                    let mut more = 0.0;
                    while more <= further {
                        let expected = error_at(rank + more, count + more, &targets).floor();
                        prop_assert_eq!(floor.to_bits(), expected.to_bits(), "{} + {} of {}", rank, more, further);
                        more += 1.0;
                    }
                }
            }
        }

        #[test]
        fn what_is_known_of_a_rank_says_nothing_wrong_of_those_below(
            targets in proptest::collection::vec(
                (prop_oneof![0.0..=1.0, prop::sample::select(vec![0.0, 0.1, 0.5, 0.9, 0.99, 1.0])],
                 prop_oneof![0.0..=0.2, prop::sample::select(vec![0.0, 0.001, 0.01, 0.05])]),
                0..7
            ),
            count in 1..20_000_u32,
            steps in proptest::collection::vec((1..300_u32, -2..3_i32), 1..100),
        ) {
            let targets: Vec<_> =
                targets.into_iter().map(|(quantile, error)| Quantile { quantile, error }).collect();
            let (errors, count) = (Errors::new(&targets), f64::from(count));
            let (mut known, mut rank) = (Anchor::default(), count - 1.0);
            for (step, off) in steps {
                let error = error_at(rank, count, &targets);
                for width in [error, error.next_up(), error.next_down(), error.round() + f64::from(off)] {
                    let allowed = errors.allow_near(&mut known, width, rank, count);
                    prop_assert_eq!(allowed, width <= error, "{} at {}, {:?}", width, rank, known);
                }
                rank -= f64::from(step);
            }
        }
    }
}
