//! Bytes -> Internet checksum sums (RFC 1071), in a form that both targets compile well.

use crate::layout::Payload;

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

/// Both halves of a 64-bit word, to be added to a sum of 32-bit words.
#[inline(always)]
#[must_use]
pub const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// Sum of the first `words` eight-byte words of a payload whose end was padded with zeros.
#[inline(always)]
#[must_use]
pub fn payload_sum(payload: &Payload, words: usize) -> u64 {
    let mut sum = 0;
    let mut at = 0;
    // Two words a round: half of a round's work is counting it.
    while at < PAYLOAD_WORDS_MAX {
        if at >= words {
            return sum;
        }
        let (first, second) = payload.two_words(at * 8);
        sum += halves(first);
        if at + 1 >= words {
            return sum;
        }
        sum += halves(second);
        at += 2;
    }
    sum
}

/// Words of the longest payload, the last one padded.
const PAYLOAD_WORDS_MAX: usize = crate::layout::PAYLOAD_BYTES_MAX.div_ceil(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_up() {
        let mut payload = Payload::EMPTY;
        payload.bytes[..8].copy_from_slice(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(fold(payload_sum(&payload, 1)).to_be(), 0xddf2_u16);
    }
}
