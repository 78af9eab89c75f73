//! Observations -> counts per native bucket.
//!
//! Bucket `i` of schema `s` ends at 2 to the power of `i / 2^s`, inclusively, and begins where the
//! one below it ends; negative values have the same buckets mirrored. Only buckets that were ever
//! hit are kept. Where they become too many, each two neighbours are joined.
//!
//! Source: the comments on `Histogram` in client_model's `metrics.proto`, and how client_golang
//! counts into it.

use std::sync::LazyLock;

/// Schemas that the format knows, from buckets of a factor of 65,536 to 256 buckets per doubling.
const SCHEMA_MIN: i8 = -4;
const SCHEMA_MAX: i8 = 8;

/// 2^-128. What is no further from zero than this is counted as zero.
pub const ZERO_THRESHOLD: f64 = f64::from_bits((1023 - 128) << 52);

/// Buckets of one series, whatever its rule says: 128 KiB.
const BUCKETS_MAX: u32 = 8192;

/// Checked options, one for all series of a vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NativePlan {
    schema: i8,
    buckets_max: u32,
}

impl NativePlan {
    /// The coarsest schema whose factor does not exceed the wanted one, or the finest that there is;
    /// `None` without native buckets.
    pub(super) fn new(factor: f64, buckets_max: u32) -> Option<Self> {
        // NaN is not above 1 either.
        let wanted = (factor > 1.0).then_some(factor)?;
        let schema = (SCHEMA_MIN..SCHEMA_MAX).find(|schema| bucket_factor(*schema) <= wanted);
        let buckets_max = if buckets_max == 0 { BUCKETS_MAX } else { buckets_max.min(BUCKETS_MAX) };
        Some(Self { schema: schema.unwrap_or(SCHEMA_MAX), buckets_max })
    }
}

/// A bucket's upper bound divided by its lower one.
fn bucket_factor(schema: i8) -> f64 {
    f64::from(-schema).exp2().exp2()
}

/// One bucket that was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeBucket {
    pub index: i32,
    /// Never zero, not cumulative.
    pub count: u64,
}

/// The native part of one histogram series.
#[derive(Clone, Debug)]
pub(super) struct Native {
    pub(super) schema: i8,
    pub(super) zero_count: u64,
    /// Both ascending by index.
    pub(super) positive: Vec<NativeBucket>,
    pub(super) negative: Vec<NativeBucket>,
}

impl Native {
    pub(super) fn new(plan: NativePlan) -> Self {
        Self { schema: plan.schema, zero_count: 0, positive: Vec::new(), negative: Vec::new() }
    }

    pub(super) fn observe(&mut self, plan: NativePlan, value: f64, times: u64) {
        if value.is_nan() || times == 0 {
            return;
        }
        if value.abs() <= ZERO_THRESHOLD {
            self.zero_count = self.zero_count.saturating_add(times);
        } else {
            let index = bucket_index(self.schema, value.abs());
            add(if value > 0.0 { &mut self.positive } else { &mut self.negative }, index, times);
        }
        // Each observation that finds too many buckets halves the resolution once, as in
        // client_golang; so one that counts several times may do so several times.
        let mut halvings = times;
        while self.positive.len() + self.negative.len() > plan.buckets_max as usize
            && self.schema > SCHEMA_MIN
            && halvings > 0
        {
            self.schema -= 1;
            join_neighbours(&mut self.positive);
            join_neighbours(&mut self.negative);
            halvings -= 1;
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + (self.positive.capacity() + self.negative.capacity()) * size_of::<NativeBucket>()
    }
}

fn add(buckets: &mut Vec<NativeBucket>, index: i32, times: u64) {
    let place = buckets.partition_point(|bucket| bucket.index < index);
    match buckets.get_mut(place) {
        Some(bucket) if bucket.index == index => bucket.count = bucket.count.saturating_add(times),
        _ => buckets.insert(place, NativeBucket { index, count: times }),
    }
}

/// Puts buckets 2n-1 and 2n into one, which is bucket n of the next coarser schema.
fn join_neighbours(buckets: &mut Vec<NativeBucket>) {
    for bucket in buckets.iter_mut() {
        bucket.index = (bucket.index + 1).div_euclid(2);
    }
    buckets.dedup_by(|next, kept| {
        let same = next.index == kept.index;
        if same {
            kept.count = kept.count.saturating_add(next.count);
        }
        same
    });
}

/// The upper bounds of the buckets between 0.5 and 1 in the finest schema, less the last one, which
/// is 1. A coarser schema has each second, fourth and so on of them.
static BOUNDS: LazyLock<[f64; 1 << SCHEMA_MAX]> =
    LazyLock::new(|| std::array::from_fn(|place| 0.5 * (place as f64 / 256.0).exp2()));

/// The bucket of `value`, which is above [`ZERO_THRESHOLD`]; infinity has the one behind that of the
/// greatest number.
fn bucket_index(schema: i8, value: f64) -> i32 {
    if value.is_infinite() {
        return bucket_index(schema, f64::MAX) + 1;
    }
    // Values this large are not subnormal, so `value` is `fraction` times 2 to the power of
    // `exponent`, with a fraction from 0.5 up to 1.
    let bits = value.to_bits();
    let exponent = i32::from(u16::try_from(bits >> 52 & 0x7ff).unwrap_or(0)) - 1022;
    let fraction = f64::from_bits(bits & ((1 << 52) - 1) | 1022 << 52);
    if schema > 0 {
        let step = 1_usize << (SCHEMA_MAX - schema);
        // The first bound that is not below the fraction, by halving the range.
        let (mut low, mut high) = (0, 1_usize << schema);
        while low < high {
            let middle = (low + high) / 2;
            if BOUNDS.get(middle * step).is_some_and(|bound| *bound < fraction) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let place = i32::try_from(low).unwrap_or(0);
        return place + (exponent - 1) * (1 << schema);
    }
    // A power of two is the end of its bucket, not the beginning of the next.
    let index = if fraction == 0.5 { exponent - 1 } else { exponent };
    (index + (1 << -schema) - 1) >> -schema
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_schema(factor: f64, expected: Option<i8>) {
        assert_eq!(NativePlan::new(factor, 10).map(|plan| plan.schema), expected, "{factor}");
    }

    #[test]
    fn the_schema_is_the_coarsest_that_keeps_the_factor() {
        check_schema(1.1, Some(3));
        check_schema(1.002, Some(8));
        check_schema(1.000_1, Some(8));
        check_schema(2.0, Some(0));
        check_schema(1.99, Some(1));
        check_schema(4.0, Some(-1));
        check_schema(100_000.0, Some(-4));
        check_schema(f64::INFINITY, Some(-4));
    }

    #[test]
    fn a_factor_of_one_or_less_is_none() {
        for factor in [1.0, 0.5, 0.0, -3.0, f64::NAN] {
            check_schema(factor, None);
        }
    }

    #[track_caller]
    fn check_index(schema: i8, value: f64, expected: i32) {
        assert_eq!(bucket_index(schema, value), expected, "{value} in schema {schema}");
    }

    #[test]
    fn powers_of_two_end_their_buckets_in_every_schema() {
        for schema in SCHEMA_MIN..=SCHEMA_MAX {
            check_index(schema, 1.0, 0);
            check_index(schema, 1.0 + f64::EPSILON, 1);
            check_index(schema, 65_536.0, if schema < 0 { 16 >> -schema } else { 16 << schema });
        }
        check_index(0, 3.0, 2);
        check_index(0, 0.25, -2);
        check_index(3, 0.5, -8);
        check_index(3, 3.0, 13);
        check_index(-4, 65_537.0, 2);
        check_index(-4, 1e-9, -1);
    }

    #[test]
    fn infinity_is_behind_the_greatest_number() {
        check_index(3, f64::MAX, 1024 * 8);
        check_index(3, f64::INFINITY, 1024 * 8 + 1);
        check_index(-4, f64::MAX, 64);
    }

    fn observed(plan: NativePlan, values: &[(f64, u64)]) -> Native {
        let mut native = Native::new(plan);
        values.iter().for_each(|(value, times)| native.observe(plan, *value, *times));
        native
    }

    fn total(native: &Native) -> u64 {
        let buckets = native.positive.iter().chain(&native.negative);
        native.zero_count + buckets.map(|bucket| bucket.count).sum::<u64>()
    }

    #[test]
    fn zero_negative_and_nan_have_their_places() {
        let plan = NativePlan::new(2.0, 10).unwrap();
        let native =
            observed(plan, &[(0.0, 2), (1e-39, 1), (-ZERO_THRESHOLD, 1), (-3.0, 4), (f64::NAN, 9), (1.0, 0)]);
        assert_eq!((native.zero_count, native.positive.len()), (4, 0));
        assert_eq!(native.negative, [NativeBucket { index: 2, count: 4 }]);
    }

    #[test]
    fn too_many_buckets_halve_the_resolution() {
        let plan = NativePlan::new(1.1, 4).unwrap();
        let values: Vec<(f64, u64)> = (0..5).map(|n| (1.1_f64.powi(n), 1)).collect();
        let native = observed(plan, &values);
        assert_eq!((native.schema, native.positive.len(), total(&native)), (2, 4, 5));
        // One observation halves once; many at once halve until it is enough.
        let far = [(1e-30, 1), (1e-20, 1), (1e20, 1), (1e30, 1)];
        assert_eq!(observed(plan, &[&far[..], &[(-1.0, 1)]].concat()).schema, 2);
        assert_eq!(observed(plan, &[&far[..], &[(-1.0, 1000)]].concat()).schema, -4);
    }

    proptest! {
        #[test]
        fn a_value_lies_within_the_bounds_of_its_bucket(exponent in -127.0..1023.0_f64, schema in -4..=8_i8) {
            let value = exponent.exp2();
            let index = f64::from(bucket_index(schema, value));
            let width = f64::from(-schema).exp2();
            let slack = 1e-9;
            prop_assert!(exponent <= index * width + slack && exponent > (index - 1.0) * width - slack);
        }

        #[test]
        fn joined_buckets_are_those_of_the_coarser_schema(values in prop::collection::vec(any::<f64>(), 1..60)) {
            let values: Vec<(f64, u64)> = values.into_iter().map(|value| (value, 3)).collect();
            let fine = NativePlan { schema: 4, buckets_max: BUCKETS_MAX };
            let mut joined = observed(fine, &values);
            join_neighbours(&mut joined.positive);
            join_neighbours(&mut joined.negative);
            // What stands for infinity is one bucket behind the last in any schema.
            if values.iter().all(|(value, _)| value.is_finite()) {
                let coarse = observed(NativePlan { schema: 3, ..fine }, &values);
                prop_assert_eq!(&joined.positive, &coarse.positive);
                prop_assert_eq!(&joined.negative, &coarse.negative);
            }
        }

        #[test]
        fn nothing_is_lost_however_few_buckets_are_allowed(
            values in prop::collection::vec((any::<f64>(), 0..5_u64), 0..400), buckets_max in 1..300_u32,
        ) {
            let native = observed(NativePlan::new(1.05, buckets_max).unwrap(), &values);
            let expected: u64 = values.iter().filter(|value| !value.0.is_nan()).map(|value| value.1).sum();
            prop_assert_eq!(total(&native), expected);
            prop_assert!(native.positive.windows(2).all(|two| two[0].index < two[1].index));
        }
    }
}
