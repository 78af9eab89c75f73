//! Four times 16 bytes, which overlap as they must -> the same on every processor.

use super::{super::number, super::scan, BLOCK_BYTES, Block};

/// What every processor of an architecture has.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

const PIECE: usize = 16;
const PIECES: usize = BLOCK_BYTES / PIECE;

impl Block for Portable {
    const BYTES_MIN: usize = PIECE;

    #[inline(always)]
    fn marks(self, bytes: &[u8]) -> u64 {
        scan::block_marks(bytes).unwrap_or(0)
    }

    #[inline(always)]
    fn hash(self, text: &[u8], seeds: &[u64; 8]) -> u64 {
        let [a, b, c, d, e, f, g, h] = *seeds;
        let last = text.len().saturating_sub(PIECE);
        let part = |place: usize, one, other| {
            let (low, high) = piece(text, (place * PIECE).min(last));
            fold(low ^ one, high ^ other)
        };
        part(0, a, b) ^ part(1, c, d) ^ part(2, e, f) ^ part(3, g, h)
    }

    #[inline(always)]
    fn word(self, text: &[u8]) -> u64 {
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

    #[inline(always)]
    fn is_same(self, one: &[u8], other: &[u8]) -> bool {
        let last = one.len().saturating_sub(PIECE);
        let mut difference = 0;
        for place in 0..PIECES {
            let from = (place * PIECE).min(last);
            let ((low, high), (other_low, other_high)) = (piece(one, from), piece(other, from));
            difference |= (low ^ other_low) | (high ^ other_high);
        }
        difference == 0
    }

    #[inline(always)]
    fn decimal(self, front: &[u8], value: &[u8]) -> Option<f64> {
        match value.len() {
            1..=8 => number::short_decimal(u64::from_le_bytes(*front.last_chunk()?), value.len()),
            9..=16 => number::longer_decimal(u128::from_le_bytes(*front.last_chunk()?), value.len()),
            _ => None,
        }
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
