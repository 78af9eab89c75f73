//! Line -> identity and value: the one splitter, compiled into the kernel and into the daemon.
//!
//! The identity is the line with its value's digits taken out: the *head* up to the first `:`, and
//! the *tail* from the `|` behind the digits to the end. The grammar is a strict subset of the line
//! parser's: `head ":" [0-9]{1,15} "|" rest`, all bytes printable ASCII, head not empty. What does
//! not fit is not refused, it is just not for the slots.

use crate::layout::{IDENTITY_WORDS_MAX, IdentityEntry, Payload};

/// A line that fits the kernel's grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The digits as a number, below 10^15.
    pub value: u64,
    /// Bucket and tag under which the table knows the identity.
    pub hash: u64,
    /// Offset behind this line and its `\n`; the payload's length if it was the last.
    pub next: usize,
    /// Whether a `\n` ended the line.
    pub newline: bool,
}

/// Why a line has no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoIdentity {
    /// It does not fit the grammar.
    Odd,
    /// Head and tail together are longer than [`IDENTITY_WORDS_MAX`] words.
    Long,
}

/// The identity of one line, in the form in which the table compares it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Words in use. The rest hold what an earlier line left there.
    pub word_count: u32,
    /// Bytes of head and tail, `head << 16 | tail`.
    pub shape: u32,
    pub words: [u64; IDENTITY_WORDS_MAX],
}

impl Identity {
    pub const EMPTY: Self = Self { word_count: 0, shape: 0, words: [0; IDENTITY_WORDS_MAX] };

    /// Whether `entry` is of this identity; every byte is compared.
    #[inline(always)]
    #[must_use]
    pub fn equals(&self, entry: &IdentityEntry) -> bool {
        let count = self.count();
        if entry.shape != self.shape {
            return false;
        }
        let mut at = 0;
        while at < IDENTITY_WORDS_MAX {
            if at >= count {
                break;
            }
            if entry.words[at & WORD_MASK] != self.words[at & WORD_MASK] {
                return false;
            }
            at += 1;
        }
        true
    }

    /// This identity as a table entry.
    #[must_use]
    pub fn entry(&self, operation: u32) -> IdentityEntry {
        let mut words = [0; IDENTITY_WORDS_MAX];
        let count = self.count().min(IDENTITY_WORDS_MAX);
        words[..count].copy_from_slice(&self.words[..count]);
        IdentityEntry { operation, shape: self.shape, words }
    }

    /// Number of words, read back from memory: the verifier then knows nothing of the path that led
    /// to it, and checks what follows once instead of once for each length.
    #[inline(always)]
    fn count(&self) -> usize {
        // SAFETY: the reference is valid and aligned, and any bits are a u32.
        unsafe { core::ptr::from_ref(&self.word_count).read_volatile() as usize }
    }

    /// Stores the number of words; the counterpart of [`Identity::count`].
    #[inline(always)]
    fn set_count(&mut self, count: usize) {
        #[expect(clippy::cast_possible_truncation, reason = "callers count up to IDENTITY_WORDS_MAX + 1")]
        let count = count as u32;
        // SAFETY: the reference is valid, aligned and exclusive.
        unsafe { core::ptr::from_mut(&mut self.word_count).write_volatile(count) }
    }
}

/// Splits the line that begins at `start` of a payload of `length` bytes.
///
/// The payload must be [terminated](Payload::terminate). On success `identity` holds the line's
/// identity; otherwise its content means nothing.
///
/// # Errors
///
/// [`NoIdentity`], if the line is not for the slots. The line may still be a good one.
#[inline(always)]
pub fn split_line(
    payload: &Payload,
    start: usize,
    length: usize,
    seed: u64,
    identity: &mut Identity,
) -> Result<Line, NoIdentity> {
    let (head_bytes, hash) = scan_head(payload, start, seed, identity)?;
    let (value, digits) = read_digits(payload, start + head_bytes + 1)?;
    let tail = start + head_bytes + 1 + digits;
    if payload.word(tail) & 0xff != u64::from(b'|') {
        return Err(NoIdentity::Odd);
    }
    let (tail_bytes, end, hash) = scan_tail(payload, tail, hash, identity)?;
    let newline = end == u64::from(b'\n');
    let at_end = tail + tail_bytes;
    if !newline && at_end != length {
        // A NUL or another control byte inside the line, or something that is not ASCII.
        return Err(NoIdentity::Odd);
    }
    if at_end > length {
        return Err(NoIdentity::Odd);
    }
    #[expect(clippy::cast_possible_truncation, reason = "both are at most 8 * IDENTITY_WORDS_MAX")]
    let shape = ((head_bytes as u32) << 16) | tail_bytes as u32;
    identity.shape = shape;
    Ok(Line { value, hash: hash_end(hash, shape), next: if newline { at_end + 1 } else { at_end }, newline })
}

/// Head up to the first `:`: its length, and the hash so far.
#[inline(always)]
fn scan_head(
    payload: &Payload,
    start: usize,
    seed: u64,
    identity: &mut Identity,
) -> Result<(usize, u64), NoIdentity> {
    let mut hash = seed;
    let mut at = 0;
    // Two words at a time, for most of the work of a round is not done on the words.
    while at < IDENTITY_WORDS_MAX - 2 {
        let (word, second) = payload.two_words(start + at * 8);
        let stops = head_stops(word);
        let second_stops = head_stops(second);
        if stops | second_stops == 0 {
            identity.words[at & WORD_MASK] = word;
            identity.words[(at + 1) & WORD_MASK] = second;
            hash = hash_word(hash_word(hash, word), second);
            at += 2;
            continue;
        }
        let (last, stops) = if stops == 0 {
            identity.words[at & WORD_MASK] = word;
            hash = hash_word(hash, word);
            at += 1;
            (second, second_stops)
        } else {
            (word, stops)
        };
        let inside = first_marked(stops);
        if (last >> (8 * inside)) & 0xff != u64::from(b':') || at + inside == 0 {
            return Err(NoIdentity::Odd);
        }
        let last = last & low_bytes(inside);
        identity.words[at & WORD_MASK] = last;
        identity.set_count(at + 1);
        return Ok((at * 8 + inside, hash_word(hash, last)));
    }
    Err(NoIdentity::Long)
}

/// Marks what ends a head: its `:`, or a byte that has no place in a line.
#[inline(always)]
const fn head_stops(word: u64) -> u64 {
    not_printable(word) | equal_bytes(word, b':')
}

/// Tail up to the first byte that is not printable: its length, that byte, and the hash so far.
#[inline(always)]
fn scan_tail(
    payload: &Payload,
    tail: usize,
    mut hash: u64,
    identity: &mut Identity,
) -> Result<(usize, u64, u64), NoIdentity> {
    // A head leaves room for a word. Masked rather than compared, because the verifier of Linux 6.1
    // forgets what a comparison says about the copy of the number that lies on the stack.
    let mut count = identity.count() & WORD_MASK;
    // A counter without rate and tags, by far the most frequent tail.
    let word = payload.word(tail);
    let end = (word >> 16) & 0xff;
    if word & 0xffff == COUNTER_TAIL && (end == 0 || end == u64::from(b'\n')) {
        identity.words[count & WORD_MASK] = COUNTER_TAIL;
        identity.set_count(count + 1);
        return Ok((2, end, hash_word(hash, COUNTER_TAIL)));
    }
    let mut at = 0;
    while at < IDENTITY_WORDS_MAX {
        if count >= IDENTITY_WORDS_MAX {
            return Err(NoIdentity::Long);
        }
        let word = payload.word(tail + at * 8);
        let stops = not_printable(word);
        if stops == 0 {
            identity.words[count & WORD_MASK] = word;
            hash = hash_word(hash, word);
            count += 1;
            at += 1;
            continue;
        }
        let inside = first_marked(stops);
        let last = word & low_bytes(inside);
        identity.words[count & WORD_MASK] = last;
        identity.set_count(count + 1);
        let end = (word >> (8 * inside)) & 0xff;
        return Ok((at * 8 + inside, end, hash_word(hash, last)));
    }
    Err(NoIdentity::Long)
}

/// The number that begins at `at`, and how many digits it has.
#[inline(always)]
fn read_digits(payload: &Payload, at: usize) -> Result<(u64, usize), NoIdentity> {
    let low = payload.word(at) ^ ZEROS;
    // Nearly every counter on the wire is a single digit; what ends it is checked by the caller.
    if low & 0xff <= 9 && (low >> 8) & 0xff == u64::from(b'|' ^ b'0') {
        return Ok((low & 0xff, 1));
    }
    let stops = not_digits(low);
    if stops != 0 {
        let digits = first_marked(stops);
        if digits == 0 {
            return Err(NoIdentity::Odd);
        }
        return Ok((eight_digits(low << (64 - 8 * digits)), digits));
    }
    let high = payload.word(at + 8) ^ ZEROS;
    let stops = not_digits(high);
    if stops == 0 {
        return Err(NoIdentity::Odd);
    }
    let more = first_marked(stops);
    if more == 0 {
        return Ok((eight_digits(low), 8));
    }
    // Sixteen digits with leading zeros: what is not a digit falls out at the top.
    let missing = 8 * (8 - more);
    let leading = low << missing;
    let trailing = (high << missing) | (low >> (64 - missing));
    Ok((eight_digits(leading) * 100_000_000 + eight_digits(trailing), 8 + more))
}

/// Indices of words are masked: what the loops already bound, the compiler does not always see, and a
/// bounds check would be a panic path.
const WORD_MASK: usize = IDENTITY_WORDS_MAX - 1;
const _: () = assert!(IDENTITY_WORDS_MAX.is_power_of_two());

/// `|c`
const COUNTER_TAIL: u64 = u16::from_le_bytes(*b"|c") as u64;

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;
const ZEROS: u64 = 0x3030_3030_3030_3030;

// The markers below set the top bit of each byte that has a property. Carries run upwards only and
// only out of a marked byte, so the lowest mark is always right, and only that one is used.

/// Marks bytes outside `0x20..=0x7e`.
#[inline(always)]
const fn not_printable(word: u64) -> u64 {
    let below = word.wrapping_sub(ONES * 0x20) & !word;
    let above = word.wrapping_add(ONES) | word;
    (below | above) & TOPS
}

/// Marks bytes equal to `byte`.
#[inline(always)]
const fn equal_bytes(word: u64, byte: u8) -> u64 {
    let difference = word ^ (ONES * byte as u64);
    difference.wrapping_sub(ONES) & !difference & TOPS
}

/// Marks bytes above 9, in a word whose digits were already turned into numbers.
#[inline(always)]
const fn not_digits(word: u64) -> u64 {
    (word.wrapping_add(ONES * 0x76) | word) & TOPS
}

/// Index of the lowest marked byte; `marks` is not 0. Without a count-zeros instruction on bpf, a
/// multiplication looks it up.
#[inline(always)]
const fn first_marked(marks: u64) -> usize {
    let lowest = (marks & marks.wrapping_neg()) >> 7;
    let index = (lowest.wrapping_mul(0x0001_0203_0405_0607) >> 56) as usize;
    index & 7
}

/// Mask of the lowest `count` bytes, `count` below 8.
#[inline(always)]
const fn low_bytes(count: usize) -> u64 {
    (1 << (8 * count)) - 1
}

/// Eight numbers 0 to 9, the first in the lowest byte, as one number.
#[inline(always)]
const fn eight_digits(word: u64) -> u64 {
    let pairs = (word.wrapping_mul(10) + (word >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff
}

/// One word into the hash. Not a hash against attackers: only the daemon inserts, so all that a
/// sender could bring about by a collision is that an identity stays cold.
#[inline(always)]
const fn hash_word(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The lengths into the hash, and a last mix that brings the high bits down.
#[inline(always)]
const fn hash_end(hash: u64, shape: u32) -> u64 {
    let mixed = (hash ^ (hash >> 32) ^ shape as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::String;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn payload(bytes: &[u8]) -> Payload {
        let mut payload = Payload { bytes: [b'7'; 2080] };
        payload.bytes[..bytes.len()].copy_from_slice(bytes);
        payload.terminate(bytes.len());
        payload
    }

    fn split(bytes: &[u8]) -> Result<(Line, Vec<u8>), NoIdentity> {
        let mut identity = Identity::EMPTY;
        let line = split_line(&payload(bytes), 0, bytes.len(), 7, &mut identity)?;
        Ok((line, identity_bytes(&identity)))
    }

    /// Head and tail back as bytes, with `:` between.
    fn identity_bytes(identity: &Identity) -> Vec<u8> {
        let (head, tail) = ((identity.shape >> 16) as usize, (identity.shape & 0xffff) as usize);
        let bytes: Vec<u8> =
            identity.words[..identity.word_count as usize].iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut out = bytes[..head].to_vec();
        out.push(b':');
        let tail_at = (head / 8 + 1) * 8;
        out.extend_from_slice(&bytes[tail_at..tail_at + tail]);
        out
    }

    #[track_caller]
    fn check(line: &str, identity: &str, value: u64) {
        let (got, bytes) = split(line.as_bytes()).expect("the line fits the grammar");
        assert_eq!(String::from_utf8(bytes).unwrap(), identity);
        assert_eq!(got.value, value);
        assert_eq!(got.next, line.len());
    }

    #[test]
    fn the_digits_are_taken_out_and_all_else_is_identity() {
        check("airflow.ti_successes:1|c|@0.5|#dag:etl", "airflow.ti_successes:|c|@0.5|#dag:etl", 1);
        check("a:0|c", "a:|c", 0);
        check("a:1|c:2|g", "a:|c:2|g", 1);
        check("abcdefg:12345678|c", "abcdefg:|c", 12_345_678);
        check("abcdefgh:123456789|ms", "abcdefgh:|ms", 123_456_789);
        check("x:999999999999999|c", "x:|c", 999_999_999_999_999);
        check("x:000000000000001|c", "x:|c", 1);
        check("x:1||", "x:||", 1);
    }

    #[test]
    fn a_line_ends_at_its_newline() {
        let (line, identity) = split(b"a:1|c\nb:2|c").unwrap();
        assert_eq!((line.value, line.next, line.newline), (1, 6, true));
        assert_eq!(identity, b"a:|c");
        let (line, _) = split(b"a:1|c\n").unwrap();
        assert_eq!((line.next, line.newline), (6, true));
    }

    #[test]
    fn what_is_not_plain_digits_has_no_identity() {
        for line in [
            "",
            "a",
            "a:",
            ":1|c",
            "a:|c",
            "a:1",
            "a:-1|c",
            "a:+1|g",
            "a:1.5|ms",
            "a:1e3|c",
            "a:1:2|ms",
            "a:1|c\r",
            "a:1|c\0",
            "a\0:1|c",
            "a:1 |c",
            "a: 1|c",
            "a:1234567890123456|c",
            "a:1|c\u{7f}",
            "é:1|c",
            "a:1|c|#k:é",
            "a\n:1|c",
            "\n",
            "a:1\n|c",
            "a:0x1|c",
            "a:1_0|c",
            "a:１|c",
            "a:12345678x|c",
            "a:1234567890x|c",
            "a:12345678",
        ] {
            assert_eq!(split(line.as_bytes()).map(|(l, _)| l), Err(NoIdentity::Odd), "{line:?}");
        }
    }

    #[test]
    fn an_identity_beyond_the_table_is_too_long() {
        let fits = format!("{}:1|c", "n".repeat(239));
        assert!(split(fits.as_bytes()).is_ok());
        let long = format!("{}:1|c", "n".repeat(256));
        assert_eq!(split(long.as_bytes()).map(|(l, _)| l), Err(NoIdentity::Long));
        let long = format!("n:1|c|#{}", "t".repeat(256));
        assert_eq!(split(long.as_bytes()).map(|(l, _)| l), Err(NoIdentity::Long));
    }

    #[test]
    fn an_entry_equals_its_own_identity_only() {
        let mut one = Identity::EMPTY;
        let mut other = Identity { words: [u64::MAX; IDENTITY_WORDS_MAX], ..Identity::EMPTY };
        let a = split_line(&payload(b"airflow.ti.start:1|c"), 0, 20, 7, &mut one).unwrap();
        let b = split_line(&payload(b"airflow.ti.start:9|c"), 0, 20, 7, &mut other).unwrap();
        assert_eq!(a.hash, b.hash);
        assert!(other.equals(&one.entry(1)));
        split_line(&payload(b"airflow.ti.starT:9|c"), 0, 20, 7, &mut other).unwrap();
        assert!(!other.equals(&one.entry(1)));
    }

    /// The grammar once more, the slow and obvious way.
    fn obvious(line: &[u8]) -> Option<(Vec<u8>, u64)> {
        if !line.iter().all(|b| (0x20..=0x7e).contains(b)) {
            return None;
        }
        let colon = line.iter().position(|b| *b == b':')?;
        let digits = line[colon + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if colon == 0 || digits == 0 || digits > 15 || line.get(colon + 1 + digits) != Some(&b'|') {
            return None;
        }
        let value = core::str::from_utf8(&line[colon + 1..colon + 1 + digits]).ok()?.parse().ok()?;
        let mut identity = line[..=colon].to_vec();
        identity.extend_from_slice(&line[colon + 1 + digits..]);
        Some((identity, value))
    }

    proptest! {
        #[test]
        fn the_splitter_agrees_with_the_obvious_one(
            head in "[a-z.:_ -~]{0,40}", digits in "[0-9.+-]{0,17}", tail in "[|cgms@#:,0-9é\\x00\\r\\x7f]{0,40}",
            start in 0_usize..9,
        ) {
            let line = format!("{head}:{digits}{tail}");
            let mut bytes = Vec::new();
            bytes.resize(start, b'x');
            bytes.extend_from_slice(line.as_bytes());
            let mut identity = Identity::EMPTY;
            let got = split_line(&payload(&bytes), start, bytes.len(), 1, &mut identity);
            match obvious(line.as_bytes()) {
                Some((expected, value)) => {
                    let got = got.unwrap();
                    prop_assert_eq!(got.value, value);
                    prop_assert_eq!(got.next, bytes.len());
                    prop_assert_eq!(identity_bytes(&identity), expected);
                }
                None => prop_assert_eq!(got, Err(NoIdentity::Odd)),
            }
        }

        #[test]
        fn any_bytes_are_split_without_panic_and_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..1472)) {
            let payload = payload(&bytes);
            let mut identity = Identity::EMPTY;
            let mut at = 0;
            while let Ok(line) = split_line(&payload, at, bytes.len(), 1, &mut identity) {
                prop_assert!(line.next > at && line.next <= bytes.len());
                at = line.next;
                if at == bytes.len() { break; }
            }
        }
    }
}
