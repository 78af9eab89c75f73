//! Up to 64 bytes of a line -> what there is to know of them, all of them at once.
//!
//! It is asked of every line, and lengths of names follow no rule, so a loop over one ends where the
//! processor did not expect it. Nothing in here has one, nor a branch that depends on the bytes.

mod portable;
#[cfg(target_arch = "x86_64")]
mod wide;

use std::fmt::Debug;

pub use portable::{Portable, fold, piece};
#[cfg(target_arch = "x86_64")]
pub use wide::Wide;

/// Bytes of a block. Most lines are not longer.
pub const BLOCK_BYTES: usize = 64;

/// A way to look at the bytes of a block. All find the same, but their hashes differ.
pub trait Block: Copy + Debug {
    /// Texts that are shorter cannot be asked about.
    const BYTES_MIN: usize;

    /// Where a `:`, a `|` or a `\n` stands: bit `n` is that of byte `n`.
    fn marks(self, bytes: &[u8]) -> u64;

    /// A hash that nobody can foresee who does not know the seeds. Its bits are not all equally good, and
    /// the length is not in it.
    fn hash(self, text: &[u8], seeds: &[u64; 8]) -> u64;

    /// A text of 2 to 8 bytes, as `|c` or `|ms`, as a number that no other one of its length has. Of texts of
    /// other lengths 0.
    fn word(self, text: &[u8]) -> u64;

    /// Whether two texts of one length are the same.
    fn is_same(self, one: &[u8], other: &[u8]) -> bool;

    /// The number that `value` spells, if it is up to sixteen digits without a sign, perhaps with a point
    /// among them. It may be missed. Of texts of any length; `front` ends with it.
    fn decimal(self, front: &[u8], value: &[u8]) -> Option<f64>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_marks(block: impl Block, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(BLOCK_BYTES)];
        let expected = bytes.iter().enumerate().map(|(at, byte)| u64::from(b":|\n".contains(byte)) << at);
        if bytes.len() >= block_bytes_min(block) {
            assert_eq!(block.marks(bytes), expected.sum::<u64>(), "{}", bytes.escape_ascii());
        }
    }

    fn block_bytes_min<B: Block>(_: B) -> usize {
        B::BYTES_MIN
    }

    /// Each byte counts, wherever it stands.
    fn check_hash_and_sameness(block: impl Block, bytes: &[u8], at: usize) {
        let bytes = &bytes[..bytes.len().min(BLOCK_BYTES)];
        if bytes.len() < block_bytes_min(block).max(1) {
            return;
        }
        let seeds = std::array::from_fn(|at| (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut other, at) = (bytes.to_vec(), at % bytes.len());
        assert!(block.is_same(bytes, &other));
        assert_eq!(block.hash(bytes, &seeds), block.hash(&other, &seeds));
        other[at] ^= 1;
        assert!(!block.is_same(bytes, &other), "{at}");
        assert_ne!(block.hash(bytes, &seeds), block.hash(&other, &seeds), "{at}");
    }

    fn check_decimal(block: impl Block, name: &[u8], value: &[u8]) {
        let front = [name, value].concat();
        if let Some(number) = block.decimal(&front, value) {
            let expected = super::super::number::parse(value).map(f64::to_bits);
            assert_eq!(Ok(number.to_bits()), expected, "{}", value.escape_ascii());
        }
    }

    /// Whatever this machine has.
    macro_rules! with_each_block {
        ($check:ident($($argument:expr),*)) => {
            $check(Portable, $($argument),*);
            #[cfg(target_arch = "x86_64")]
            if let Some(wide) = Wide::detect() {
                $check(wide, $($argument),*);
            }
        };
    }

    proptest! {
        #[test]
        fn bytes_are_marked_as_one_would_mark_them(
            near in proptest::collection::vec(b'8'..=b'<', 0..80),
            noise in any::<Vec<u8>>(),
            marks in "[a:|\n]{0,80}",
        ) {
            for bytes in [&near, &noise, marks.as_bytes()] {
                with_each_block!(check_marks(bytes));
            }
        }

        #[test]
        fn each_byte_makes_another_text(bytes in proptest::collection::vec(any::<u8>(), 1..80), at in any::<usize>()) {
            with_each_block!(check_hash_and_sameness(&bytes, at));
        }

        #[test]
        fn what_is_read_as_a_number_is_that_number(
            name in "[a-z.:0-9]{0,18}",
            value in "[0-9]{1,16}|[0-9]{0,9}[.]?[0-9]{0,9}|[0-9.]{0,18}|[0-9.+e:|-]{0,17}",
            noise in any::<Vec<u8>>(),
        ) {
            for value in [value.as_bytes(), &noise] {
                with_each_block!(check_decimal(name.as_bytes(), value));
            }
        }
    }

    fn check_plain_values(block: impl Block) {
        for (value, expected) in
            [("7", 7.0), ("7.", 7.0), (".5", 0.5), ("0.003", 0.003), ("4.649029", 4.649_029)]
        {
            let front = format!("airflow.pool.open_slots:{value}");
            assert_eq!(block.decimal(front.as_bytes(), value.as_bytes()), Some(expected), "{value}");
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
            assert_eq!(block.decimal(front.as_bytes(), value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn usual_values_are_not_missed() {
        with_each_block!(check_plain_values());
    }
}
