//! Bytes -> Internet checksum sums (RFC 1071), in a form that both targets compile well.

/// Folds a sum of 32-bit words to the 16-bit one's complement sum, not yet complemented.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "three folds leave no more than 16 bits")]
    let folded = sum as u16;
    folded
}

/// Whether a sum of 32-bit words, of which one at least is not 0, folds to `0xffff`, as that of what holds its
/// own checksum does.
///
/// That is to say, whether it is a multiple of `0xffff`; and a number is one of an odd number if its product
/// with that one's inverse is small. One multiplication, instead of folding.
#[inline(always)]
#[must_use]
pub const fn is_valid(sum: u64) -> bool {
    sum.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}

/// Times `0xffff` it is 1, modulo 2^64.
const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
const _: () = assert!(INVERSE.wrapping_mul(0xffff) == 1);

/// Both halves of a 64-bit word, to be added to a sum of 32-bit words.
#[inline(always)]
#[must_use]
pub const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sum_is_valid_that_folds_to_all_ones(sum in 1..u64::MAX, factor in 1..u64::MAX / 0xffff) {
            prop_assert_eq!(is_valid(sum), fold(sum) == 0xffff);
            prop_assert!(is_valid(factor * 0xffff));
            prop_assert_eq!(fold(factor * 0xffff), 0xffff);
        }
    }

    #[test]
    fn the_example_of_rfc_1071_sums_up() {
        let word = u64::from_le_bytes([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(fold(halves(word)).to_be(), 0xddf2);
    }
}
