//! Up to 64 bytes of a line -> what there is to know of them, all of them at once.
//!
//! It is asked of every line, and lengths of names follow no rule, so a loop over one ends where the
//! processor did not expect it. Nothing in here has one, nor a branch that depends on the bytes: a text is
//! four times 16 bytes, which overlap as they must.

use super::{number, scan};

/// Bytes of a block. Most lines are not longer.
pub const BLOCK_BYTES: usize = 64;
/// Texts that are shorter cannot be asked about.
pub const BYTES_MIN: usize = PIECE;

const PIECE: usize = 16;
const PIECES: usize = BLOCK_BYTES / PIECE;

/// Where a `:`, a `|` or a `\n` stands: bit `n` is that of byte `n`.
#[inline(always)]
#[must_use]
pub fn marks(bytes: &[u8]) -> u64 {
    scan::block_marks(bytes).unwrap_or(0)
}

/// A hash that nobody can foresee who does not know the seeds. Its bits are not all equally good, and the
/// length is not in it.
#[inline(always)]
#[must_use]
pub fn hash(text: &[u8], seeds: &[u64; 8]) -> u64 {
    let [a, b, c, d, e, f, g, h] = *seeds;
    let last = text.len().saturating_sub(PIECE);
    let part = |place: usize, one, other| {
        let (low, high) = piece(text, (place * PIECE).min(last));
        fold(low ^ one, high ^ other)
    };
    part(0, a, b) ^ part(1, c, d) ^ part(2, e, f) ^ part(3, g, h)
}

/// A text of 2 to 8 bytes, as `|c` or `|ms`, as a number that no other one of its length has. Of texts of
/// other lengths 0.
#[inline(always)]
#[must_use]
pub fn word(text: &[u8]) -> u64 {
    match *text {
        [first, second] | [first, second, _] => {
            let last = text.last().copied().unwrap_or(0);
            u64::from(first) | u64::from(second) << 8 | u64::from(last) << 16
        }
        _ if text.len() > 8 => 0,
        _ => match (text.first_chunk(), text.last_chunk()) {
            (Some(first), Some(last)) => {
                u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
            }
            _ => 0,
        },
    }
}

/// Whether two texts of one length are the same.
#[inline(always)]
#[must_use]
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    let last = one.len().saturating_sub(PIECE);
    let mut is_same = true;
    for place in 0..PIECES {
        let from = (place * PIECE).min(last);
        let pieces = [one, other].map(|text| text.get(from..).and_then(<[u8]>::first_chunk::<PIECE>));
        is_same &= pieces[0] == pieces[1];
    }
    is_same
}

/// The number that `value` spells, if it is up to sixteen digits without a sign, perhaps with a point among
/// them. It may be missed. Of texts of any length; `front` ends with it.
#[inline(always)]
#[must_use]
pub fn decimal(front: &[u8], value: &[u8]) -> Option<f64> {
    match value.len() {
        1..=8 => number::short_decimal(u64::from_le_bytes(*front.last_chunk()?), value.len()),
        9..=16 => number::longer_decimal(u128::from_le_bytes(*front.last_chunk()?), value.len()),
        _ => None,
    }
}

/// The product of both, folded: each bit of it hangs on all bits of both.
#[inline]
#[must_use]
pub fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    #[expect(clippy::cast_possible_truncation, reason = "its halves")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

/// Both halves of the 16 bytes at `from`.
#[inline]
#[must_use]
pub fn piece(text: &[u8], from: usize) -> (u64, u64) {
    match text.get(from..).and_then(<[u8]>::first_chunk::<PIECE>) {
        #[expect(clippy::cast_possible_truncation, reason = "its halves")]
        Some(bytes) => {
            let whole = u128::from_le_bytes(*bytes);
            (whole as u64, (whole >> 64) as u64)
        }
        None => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_marks(bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(BLOCK_BYTES)];
        let expected = bytes.iter().enumerate().map(|(at, byte)| u64::from(b":|\n".contains(byte)) << at);
        if bytes.len() >= BYTES_MIN {
            assert_eq!(marks(bytes), expected.sum::<u64>(), "{}", bytes.escape_ascii());
        }
    }

    /// Each byte counts, wherever it stands.
    fn check_hash_and_sameness(bytes: &[u8], at: usize) {
        let bytes = &bytes[..bytes.len().min(BLOCK_BYTES)];
        if bytes.len() < BYTES_MIN.max(1) {
            return;
        }
        let seeds = std::array::from_fn(|at| (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut other, at) = (bytes.to_vec(), at % bytes.len());
        assert!(is_same(bytes, &other));
        assert_eq!(hash(bytes, &seeds), hash(&other, &seeds));
        other[at] ^= 1;
        assert!(!is_same(bytes, &other), "{at}");
        assert_ne!(hash(bytes, &seeds), hash(&other, &seeds), "{at}");
    }

    fn check_decimal(name: &[u8], value: &[u8]) {
        let front = [name, value].concat();
        if let Some(number) = decimal(&front, value) {
            let expected = super::super::number::parse(value).map(f64::to_bits);
            assert_eq!(Ok(number.to_bits()), expected, "{}", value.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn bytes_are_marked_as_one_would_mark_them(
            near in proptest::collection::vec(b'8'..=b'<', 0..80),
            noise in any::<Vec<u8>>(),
            marks in "[a:|\n]{0,80}",
        ) {
            for bytes in [&near, &noise, marks.as_bytes()] {
                check_marks(bytes);
            }
        }

        #[test]
        fn each_byte_makes_another_text(bytes in proptest::collection::vec(any::<u8>(), 1..80), at in any::<usize>()) {
            check_hash_and_sameness(&bytes, at);
        }

        #[test]
        fn what_is_read_as_a_number_is_that_number(
            name in "[a-z.:0-9]{0,18}",
            value in "[0-9]{1,16}|[0-9]{0,9}[.]?[0-9]{0,9}|[0-9.]{0,18}|[0-9.+e:|-]{0,17}",
            noise in any::<Vec<u8>>(),
        ) {
            for value in [value.as_bytes(), &noise] {
                check_decimal(name.as_bytes(), value);
            }
        }
    }

    fn check_plain_values() {
        for (value, expected) in
            [("7", 7.0), ("7.", 7.0), (".5", 0.5), ("0.003", 0.003), ("4.649029", 4.649_029)]
        {
            let front = format!("airflow.pool.open_slots:{value}");
            assert_eq!(decimal(front.as_bytes(), value.as_bytes()), Some(expected), "{value}");
        }
        for (value, expected) in [
            ("123456.789012", Some(123_456.789_012)),
            ("9007199254740992", Some(9_007_199_254_740_992.0)),
            ("9007199254740993", None),
            (".", None),
            ("1.2.3", None),
            ("-1", None),
            ("", None),
        ] {
            let front = format!("airflow.pool.open_slots:{value}");
            assert_eq!(decimal(front.as_bytes(), value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn usual_values_are_not_missed() {
        check_plain_values();
    }
}
