//! Bytes -> place of the first that is wanted.
//!
//! Lines are a hundred bytes long and their parts shorter. A library's vector search is made for more:
//! there its call and its set-up cost as much as eight bytes at a time do here.

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

#[inline]
fn first_marked(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
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
