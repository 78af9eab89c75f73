//! Bytes -> place of the first that is wanted.
//!
//! Lines are a hundred bytes long and their parts shorter. A library's vector search is made for more:
//! there its call and its set-up cost as much as eight bytes at a time do here.

use super::block::BLOCK_BYTES;

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;

/// Index of the first byte of `bytes` from `from` on that is one of `wanted`, none of which is NUL.
#[inline]
#[must_use]
pub fn first_from<const N: usize>(bytes: &[u8], from: usize, wanted: [u8; N]) -> Option<usize> {
    let (words, rest) = bytes.get(from..)?.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let marks = marks(u64::from_le_bytes(*word), wanted);
        if marks != 0 {
            return Some(from + at * 8 + first_marked(marks));
        }
    }
    if rest.is_empty() {
        return None;
    }
    let begin = bytes.len() - rest.len();
    match bytes.last_chunk::<8>() {
        // What lies before the rest is shifted out, and NULs come in.
        Some(word) => {
            let marks = marks(u64::from_le_bytes(*word) >> (64 - 8 * rest.len()), wanted);
            (marks != 0).then(|| begin + first_marked(marks))
        }
        None => rest.iter().position(|byte| wanted.contains(byte)).map(|at| begin + at),
    }
}

/// The top bit of each byte that is wanted. Bytes above the first such may be marked wrongly, for the
/// subtraction borrows from them; those below never are.
#[inline]
fn marks<const N: usize>(word: u64, wanted: [u8; N]) -> u64 {
    wanted.into_iter().fold(0, |marks, byte| {
        let difference = word ^ (ONES * u64::from(byte));
        marks | (difference.wrapping_sub(ONES) & !difference & TOPS)
    })
}

/// What ends the parts of a line.
const LINE_MARKS: [u8; 3] = [b':', b'|', b'\n'];
/// What is looked at in one step.
const STEP_BYTES: usize = 16;

/// Where a `:`, a `|` or a `\n` stands among the first [`BLOCK_BYTES`]: bit `n` is that of byte `n`. `None`
/// of fewer than 16 bytes.
///
/// Without a branch that depends on the bytes: lengths of names follow no rule, so each loop over one
/// ends where the processor did not expect it.
#[inline]
#[must_use]
pub fn block_marks(bytes: &[u8]) -> Option<u64> {
    marks_of(bytes, LINE_MARKS)
}

#[inline]
fn marks_of<const N: usize>(bytes: &[u8], wanted: [u8; N]) -> Option<u64> {
    let last = bytes.len().min(BLOCK_BYTES).checked_sub(STEP_BYTES)?;
    let mut marks = 0;
    for begin in [0, STEP_BYTES, 2 * STEP_BYTES, 3 * STEP_BYTES] {
        // At the end some bytes are looked at twice, which makes no difference.
        let from = begin.min(last);
        marks |= step_marks(bytes.get(from..)?.first_chunk()?, wanted) << from;
    }
    Some(marks)
}

/// Where a `.` stands in a name; `None` of fewer than 16 bytes, and of more than [`BLOCK_BYTES`].
#[inline]
#[must_use]
pub fn block_dots(name: &[u8]) -> Option<u64> {
    if name.len() > BLOCK_BYTES { None } else { marks_of(name, [b'.']) }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[expect(unsafe_code, reason = "16 bytes in one comparison: two thirds of the time of eight at a time")]
fn step_marks<const N: usize>(bytes: &[u8; STEP_BYTES], wanted: [u8; N]) -> u64 {
    // SAFETY: the function needs SSE2, which each processor of this architecture has.
    unsafe { step_marks_sse2(bytes, wanted) }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn step_marks_sse2<const N: usize>(bytes: &[u8; STEP_BYTES], wanted: [u8; N]) -> u64 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8, _mm_setzero_si128,
    };

    let whole = u128::from_le_bytes(*bytes).cast_signed();
    #[expect(clippy::cast_possible_truncation, reason = "its halves")]
    let bytes = _mm_set_epi64x((whole >> 64) as i64, whole as i64);
    let mut marks = _mm_setzero_si128();
    for byte in wanted {
        marks = _mm_or_si128(marks, _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte.cast_signed())));
    }
    u64::from(_mm_movemask_epi8(marks).cast_unsigned())
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn step_marks<const N: usize>(bytes: &[u8; STEP_BYTES], wanted: [u8; N]) -> u64 {
    let marks = bytes.iter().enumerate();
    marks.fold(0, |marks, (at, byte)| marks | u64::from(wanted.contains(byte)) << at)
}

#[inline]
fn first_marked(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_block_is_marked_as_one_would_mark_it(
            bytes in proptest::collection::vec(b'8'..=b'<', 0..200),
            noise in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            marks in "[a:|.\n]{0,200}",
        ) {
            for bytes in [bytes, noise, marks.into_bytes()] {
                let block = bytes.iter().take(BLOCK_BYTES).enumerate();
                let marks = block.fold(0, |marks, (at, byte)| marks | u64::from(b":|\n".contains(byte)) << at);
                proptest::prop_assert_eq!(block_marks(&bytes), (bytes.len() >= 16).then_some(marks));
                let dots = (0..).zip(&bytes).filter(|(_, byte)| **byte == b'.');
                let fits = (16..=BLOCK_BYTES).contains(&bytes.len());
                let dots = fits.then(|| dots.fold(0, |dots, (at, _)| dots | 1_u64 << at));
                proptest::prop_assert_eq!(block_dots(&bytes), dots);
            }
        }

        #[test]
        fn the_first_is_found_as_one_would_look_for_it(
            bytes in proptest::collection::vec(b'8'..=b'<', 0..40),
            noise in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        ) {
            for bytes in [bytes, noise] {
                for from in 0..=bytes.len() + 1 {
                    let mut behind = bytes.iter().skip(from);
                    let expected = behind.position(|byte| matches!(byte, b':' | b'\n'));
                    let expected = expected.map(|at| from + at);
                    proptest::prop_assert_eq!(first_from(&bytes, from, [b':', b'\n']), expected);
                }
            }
        }
    }
}
