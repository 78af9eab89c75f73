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

/// Both halves of a 64-bit word, to be added to a sum of 32-bit words.
#[inline(always)]
#[must_use]
pub const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_up() {
        let word = u64::from_le_bytes([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(fold(halves(word)).to_be(), 0xddf2);
    }
}
