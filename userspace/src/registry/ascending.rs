//! Observations -> the same, ascending.
//!
//! Every five hundred observations of a series are sorted, so it is done for each of them once. They lie
//! close together, as numbers of a kind do: counting by the bits in which they differ first puts nearly all
//! of them into their places, without a comparison whose outcome no processor can foresee.

/// Bits of a digit; two digits are looked at.
const DIGIT_BITS: u32 = 9;
const DIGITS: usize = 1 << DIGIT_BITS;
/// Below this a comparison for each costs less.
const COUNTED_MIN: usize = 64;
/// Steps down for each observation, on average, before they are sorted by comparisons after all: then they
/// differ only in bits behind the two digits.
const STEPS_MAX: usize = 8;

/// Working space; holds nothing between calls.
#[derive(Debug, Default)]
pub(super) struct SortSpace {
    keys: Vec<u64>,
    spare: Vec<u64>,
}

/// Puts `values` into `sorted`, in the order of [`f64::total_cmp`]. All NaN are one and the same, the
/// greatest.
pub(super) fn sort_into(values: &[f64], sorted: &mut Vec<f64>, space: &mut SortSpace) {
    let SortSpace { keys, spare } = space;
    keys.clear();
    keys.extend(values.iter().map(|value| order_key(if value.is_nan() { f64::NAN } else { *value })));
    sort_keys(keys, spare);
    sorted.clear();
    sorted.extend(keys.iter().map(|key| value_of(*key)));
}

fn sort_keys(keys: &mut Vec<u64>, spare: &mut Vec<u64>) {
    if keys.len() < COUNTED_MIN {
        return keys.sort_unstable();
    }
    let (least, greatest) =
        keys.iter().fold((u64::MAX, 0), |(least, greatest), key| (least.min(*key), greatest.max(*key)));
    // Of the bits in which they differ the highest.
    let shift = (u64::BITS - (greatest - least).leading_zeros()).saturating_sub(2 * DIGIT_BITS);
    #[expect(clippy::cast_possible_truncation, reason = "only the lowest bits are wanted")]
    let digit = |key: u64, shift: u32| ((key - least) >> shift) as usize % DIGITS;
    let mut counts = [[0_u32; DIGITS]; 2];
    for key in &*keys {
        counts[0][digit(*key, shift)] += 1;
        counts[1][digit(*key, shift + DIGIT_BITS)] += 1;
    }
    spare.clear();
    spare.resize(keys.len(), 0);
    for (counts, shift) in counts.iter_mut().zip([shift, shift + DIGIT_BITS]) {
        let mut before = 0;
        for count in counts.iter_mut() {
            before += std::mem::replace(count, before);
        }
        for key in &*keys {
            let place = &mut counts[digit(*key, shift)];
            if let Some(to) = spare.get_mut(*place as usize) {
                *to = *key;
            }
            *place += 1;
        }
        std::mem::swap(keys, spare);
    }
    if shift > 0 && !settle(keys) {
        keys.sort_unstable();
    }
}

/// Moves each key down past those that are greater. `false` if that takes too long.
fn settle(keys: &mut [u64]) -> bool {
    let mut steps_left = keys.len() * STEPS_MAX;
    for at in 1..keys.len() {
        let key = keys[at];
        let mut place = at;
        while place > 0 && keys[place - 1] > key {
            keys[place] = keys[place - 1];
            place -= 1;
            steps_left -= 1;
            if steps_left == 0 {
                keys[place] = key;
                return false;
            }
        }
        keys[place] = key;
    }
    true
}

const SIGN: u64 = 1 << 63;

/// The bits of a float as a number of the same order, for numbers sort twice as fast. This is what
/// [`f64::total_cmp`] compares.
fn order_key(value: f64) -> u64 {
    let bits = value.to_bits();
    bits ^ if bits & SIGN == 0 { SIGN } else { u64::MAX }
}

fn value_of(key: u64) -> f64 {
    f64::from_bits(key ^ if key & SIGN == 0 { u64::MAX } else { SIGN })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(values: &[f64]) {
        let mut expected: Vec<f64> =
            values.iter().map(|value| if value.is_nan() { f64::NAN } else { *value }).collect();
        expected.sort_by(f64::total_cmp);
        // What an earlier call left behind makes no difference.
        let mut space = SortSpace { keys: vec![7; 3], spare: vec![7; 900] };
        let mut sorted = vec![1.0];
        sort_into(values, &mut sorted, &mut space);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&sorted), bits(&expected));
    }

    proptest! {
        #[test]
        fn any_floats_are_sorted(bits in proptest::collection::vec(any::<u64>(), 0..700)) {
            check(&bits.into_iter().map(f64::from_bits).collect::<Vec<_>>());
        }

        #[test]
        fn timings_are_sorted(micros in proptest::collection::vec(0_u32..50_000, 0..700)) {
            check(&micros.into_iter().map(|micros| f64::from(micros) / 1000.0).collect::<Vec<_>>());
        }

        #[test]
        fn numbers_far_from_the_others_make_no_difference(
            near in proptest::collection::vec(0_u64..1 << 20, 64..600),
            far in proptest::collection::vec(
                prop::sample::select(vec![0.0, -0.0, 1e300, -1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]), 0..5)
        ) {
            // So near that the two digits do not tell them apart.
            let near = near.into_iter().map(|n| f64::from_bits(1.5_f64.to_bits() + n));
            check(&near.chain(far).collect::<Vec<_>>());
        }
    }

    #[test]
    fn equal_floats_are_sorted() {
        check(&[2.5; 500]);
        check(&[]);
    }
}
