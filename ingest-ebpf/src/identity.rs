//! Line -> identity and value: the one splitter, compiled into the kernel and into the daemon.
//!
//! The identity is the line with its value's digits taken out: the *head* up to the first `:`, and
//! the *tail* from the `|` behind the digits to the end. The grammar is a strict subset of the line
//! parser's: `head ":" [0-9]{1,15} "|" rest`, all bytes printable ASCII, head not empty. What does
//! not fit is not refused, it is just not for the slots.

use crate::{
    layout::{IDENTITY_WORDS_MAX, IdentityEntry, Payload, VALUE_DIGITS_MAX},
    plain::one_digit,
};

/// A line that fits the kernel's grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The digits as a number, below 10^15.
    pub value: u64,
    /// How many of the digits stand behind a point.
    pub decimals: u32,
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
    /// Words in use, an even number. The rest hold what an earlier line left there.
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
        // Written out, as the scan of a head.
        macro_rules! same_up_to_count {
            ($($at:literal)*) => {
                $(
                    if $at >= count {
                        return true;
                    }
                    let differences = entry.words[$at] ^ self.words[$at];
                    if differences | (entry.words[$at + 1] ^ self.words[$at + 1]) != 0 {
                        return false;
                    }
                )*
            };
        }
        same_up_to_count!(0 2 4 6 8 10 12 14 16 18 20 22 24 26 28 30);
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

    /// The line up to its first `:`.
    pub fn head(&self) -> impl Iterator<Item = u8> {
        self.bytes(0, (self.shape >> 16) as usize)
    }

    /// The line from the `|` behind its value.
    pub fn tail(&self) -> impl Iterator<Item = u8> {
        self.bytes(((self.shape >> 16) as usize / 16 + 1) * 16, (self.shape & 0xffff) as usize)
    }

    fn bytes(&self, from: usize, count: usize) -> impl Iterator<Item = u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).skip(from).take(count)
    }

    /// Whether every byte is printable ASCII, as all that is inserted into the table must be.
    #[must_use]
    pub fn is_printable(&self) -> bool {
        self.head().chain(self.tail()).all(|byte| (0x20..=0x7e).contains(&byte))
    }

    /// Number of words, read back from memory.
    #[inline(always)]
    fn count(&self) -> usize {
        load(&self.word_count) as usize
    }

    /// Stores the number of words; the counterpart of [`Identity::count`].
    #[inline(always)]
    fn set_count(&mut self, count: usize) {
        #[expect(clippy::cast_possible_truncation, reason = "callers count up to IDENTITY_WORDS_MAX")]
        store(&mut self.word_count, count as u32);
    }

    /// Stores two words, the first of which has the even index `at`.
    #[inline(always)]
    fn set_pair(&mut self, at: usize, pair: (u64, u64)) {
        self.words[at & WORD_MASK] = pair.0;
        self.words[(at + 1) & WORD_MASK] = pair.1;
    }
}

/// Reads a number back from memory: the verifier then knows nothing of the path that led to it, and
/// checks what follows once instead of once for each path.
#[inline(always)]
#[must_use]
pub fn load<T: Copy>(from: &T) -> T {
    // SAFETY: the reference is valid and aligned, and what it refers to is initialised.
    unsafe { core::ptr::from_ref(from).read_volatile() }
}

/// Stores a number; the counterpart of [`load`].
#[inline(always)]
pub fn store<T: Copy>(to: &mut T, number: T) {
    // SAFETY: the reference is valid, aligned and exclusive.
    unsafe { core::ptr::from_mut(to).write_volatile(number) }
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
    let mut hash = scan_head(payload, start, seed, identity)?;
    let head_bytes = load(&identity.shape) as usize;
    let colon = start + head_bytes;
    let word = payload.word(colon);
    let mut end = (word >> 32) & 0xff;
    let (value, decimals, at_end, tail_bytes);
    if let Some(digit) = one_digit(word)
        && (end == 0 || end == NEWLINE)
    {
        // One digit, one letter, neither rate nor tags: by far the most frequent.
        (value, decimals) = (digit, 0);
        (at_end, tail_bytes) = (colon + 4, 2);
        let pair = ((word >> 16) & 0xffff, 0);
        let count = identity.count() & PAIR_MASK;
        identity.set_pair(count, pair);
        identity.set_count(count + 2);
        hash = hash_pair(hash, pair);
    } else {
        if word & 0xff != u64::from(b':') {
            // The scan stopped at something that is not ASCII.
            return Err(NoIdentity::Odd);
        }
        let value_bytes;
        (value, decimals, value_bytes) = read_value(payload, colon + 1)?;
        let tail = colon + 1 + value_bytes;
        if payload.word(tail) & 0xff != u64::from(b'|') {
            return Err(NoIdentity::Odd);
        }
        (tail_bytes, hash) = scan_tail(payload, tail, hash, identity)?;
        at_end = tail + tail_bytes;
        end = payload.word(at_end) & 0xff;
    }
    let newline = end == NEWLINE;
    // Otherwise another control byte is inside the line. Behind the payload no end of line can be: what
    // terminates it has none, and no line reaches beyond that.
    if !newline && at_end != length {
        return Err(NoIdentity::Odd);
    }
    let next = at_end + usize::from(newline);
    #[expect(clippy::cast_possible_truncation, reason = "both are at most 8 * IDENTITY_WORDS_MAX")]
    let shape = ((head_bytes as u32) << 16) | tail_bytes as u32;
    store(&mut identity.shape, shape);
    Ok(Line { value, decimals, hash: hash_end(hash, shape), next, newline })
}

/// Whether a payload whose last eight bytes are these, without an end of line, ends in a timer's line without
/// rate and tags: `|ms`.
#[inline(always)]
#[must_use]
pub const fn ends_in_timer(line: u64) -> bool {
    line >> 40 == TIMER_TYPE
}

/// Head up to the first `:`, or to what is not ASCII: the hash so far. Its length is in `shape`.
#[inline(always)]
fn scan_head(payload: &Payload, start: usize, seed: u64, identity: &mut Identity) -> Result<u64, NoIdentity> {
    let line = payload.line(start);
    // Two words at a time, for most of the work of a round is not done on the words; and written out,
    // for most of what is left is counting.
    macro_rules! first_with_mark {
        ($($at:literal)*) => {
            'marked: {
                let mut hash = seed;
                $(
                    let pair = line.two_words($at);
                    let marks = (colons(pair.0), colons(pair.1));
                    if (marks.0 | marks.1) & TOPS != 0 {
                        break 'marked ($at, pair, marks, hash);
                    }
                    identity.set_pair($at, pair);
                    #[allow(unused_assignments, reason = "that of the last pair is")]
                    {
                        hash = hash_pair(hash, pair);
                    }
                )*
                return Err(NoIdentity::Long)
            }
        };
    }
    let (at, pair, marks, hash) = first_with_mark!(0 2 4 6 8 10 12 14 16 18 20 22 24 26 28);
    let (pair, inside) = cut(pair, marks);
    let bytes = at * 8 + inside;
    if bytes == 0 {
        return Err(NoIdentity::Odd);
    }
    identity.set_pair(at, pair);
    identity.set_count(at + 2);
    #[expect(clippy::cast_possible_truncation, reason = "at most 8 * IDENTITY_WORDS_MAX")]
    store(&mut identity.shape, bytes as u32);
    Ok(hash_pair(hash, pair))
}

/// Tail up to the first control byte, or to what is not ASCII: its length, and the hash so far.
#[inline(always)]
fn scan_tail(
    payload: &Payload,
    tail: usize,
    mut hash: u64,
    identity: &mut Identity,
) -> Result<(usize, u64), NoIdentity> {
    let mut at = 0;
    while at < IDENTITY_WORDS_MAX {
        // Read back and masked each time: of a copy on the stack the verifier of Linux 6.1 forgets what a
        // comparison says.
        let count = identity.count();
        if count >= IDENTITY_WORDS_MAX {
            break;
        }
        let count = count & PAIR_MASK;
        let pair = payload.two_words(tail + at * 8);
        let marks = (controls(pair.0), controls(pair.1));
        identity.set_count(count + 2);
        if (marks.0 | marks.1) & TOPS == 0 {
            identity.set_pair(count, pair);
            hash = hash_pair(hash, pair);
            at += 2;
            continue;
        }
        let (pair, inside) = cut(pair, marks);
        identity.set_pair(count, pair);
        return Ok((at * 8 + inside, hash_pair(hash, pair)));
    }
    Err(NoIdentity::Long)
}

/// The bytes of a pair before the first marked one, and how many they are.
#[inline(always)]
fn cut(pair: (u64, u64), marks: (u64, u64)) -> ((u64, u64), usize) {
    let first = marks.0 & TOPS;
    if first != 0 {
        let lowest = lowest_mark(first);
        ((pair.0 & (lowest - 1), 0), mark_index(lowest))
    } else {
        let lowest = lowest_mark(marks.1 & TOPS);
        ((pair.0, pair.1 & (lowest - 1)), 8 + mark_index(lowest))
    }
}

/// The number that begins at `start`: its digits, how many of them stand behind a point, and its length.
#[inline(always)]
fn read_value(payload: &Payload, start: usize) -> Result<(u64, u32, usize), NoIdentity> {
    let words = payload.two_words(start);
    let whole = count_digits(words);
    let half = if whole < 8 { words.0 } else { words.1 };
    if whole >= 16 || (half >> (8 * (whole & 7))) & 0xff != u64::from(b'.') {
        return Ok((to_number(words, whole)?, 0, whole));
    }
    // Most points are in timers, which have no use for a slot; so a gauge's type must follow.
    let bar = first_marked((bars(words.0), bars(words.1)));
    if payload.word(start + bar) & 0xffff != GAUGE_TYPE {
        return Err(NoIdentity::Odd);
    }
    let words = without_byte(words, whole);
    let digits = count_digits(words);
    if whole == 0 || digits <= whole {
        return Err(NoIdentity::Odd);
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
    let decimals = (digits - whole) as u32;
    Ok((to_number(words, digits)?, decimals, digits + 1))
}

/// How many digits two words begin with.
#[inline(always)]
fn count_digits(words: (u64, u64)) -> usize {
    first_marked((not_digits(words.0), not_digits(words.1)))
}

/// Index of the lowest marked byte of two words; 16 if there is none.
#[inline(always)]
const fn first_marked(marks: (u64, u64)) -> usize {
    if marks.0 != 0 {
        mark_index(lowest_mark(marks.0))
    } else if marks.1 != 0 {
        8 + mark_index(lowest_mark(marks.1))
    } else {
        16
    }
}

/// Two words with the byte `at`, below 16, taken out, and a NUL behind.
#[inline(always)]
fn without_byte(words: (u64, u64), at: usize) -> (u64, u64) {
    let before = low_bytes(at & 7);
    let squeezed = |word: u64, next: u64| (word & before) | ((word >> 8 | next << 56) & !before);
    if at < 8 { (squeezed(words.0, words.1), words.1 >> 8) } else { (words.0, squeezed(words.1, 0)) }
}

/// The first 1 to 15 digits of two words as a number.
#[inline(always)]
fn to_number(words: (u64, u64), digits: usize) -> Result<u64, NoIdentity> {
    let (low, high) = (words.0 ^ ZEROS, words.1 ^ ZEROS);
    if digits == 0 || digits > VALUE_DIGITS_MAX {
        return Err(NoIdentity::Odd);
    }
    // What is not a digit falls out at the top, and zeros come in below.
    let missing = 8 * (8 - (digits & 7));
    if digits < 8 {
        return Ok(eight_digits(low << missing));
    }
    if digits == 8 {
        return Ok(eight_digits(low));
    }
    let leading = low << missing;
    let trailing = (high << missing) | (low >> (64 - missing));
    Ok(eight_digits(leading) * 100_000_000 + eight_digits(trailing))
}

/// Indices of words are masked: what the loops already bound, the compiler does not always see, and a
/// bounds check would be a panic path.
const WORD_MASK: usize = IDENTITY_WORDS_MAX - 1;
/// The same for the first of two words.
const PAIR_MASK: usize = IDENTITY_WORDS_MAX - 2;
const _: () = assert!(IDENTITY_WORDS_MAX.is_power_of_two());

/// As the highest or lowest byte of a word.
pub const NEWLINE: u64 = b'\n' as u64;
/// `|g`
const GAUGE_TYPE: u64 = u16::from_le_bytes(*b"|g") as u64;
/// `|ms`
const TIMER_TYPE: u64 = u32::from_le_bytes(*b"|ms\0") as u64;
/// A `:` and a single digit, with the `|` behind it.
pub(crate) const PLAIN: u64 = u32::from_le_bytes(*b":0|\0") as u64;

const ONES: u64 = 0x0101_0101_0101_0101;
pub(crate) const TOPS: u64 = 0x8080_8080_8080_8080;
const ZEROS: u64 = 0x3030_3030_3030_3030;

// The markers below set the top bit of each byte that has a property. Carries run upwards only and
// only out of a marked byte, so the lowest mark is always right, and only that one is used.

/// Marks `:`, and perhaps bytes above `0x7f`.
#[inline(always)]
pub(crate) const fn colons(word: u64) -> u64 {
    (word ^ (ONES * b':' as u64)).wrapping_sub(ONES)
}

/// Marks `|`, and perhaps bytes above `0x7f`.
#[inline(always)]
const fn bars(word: u64) -> u64 {
    (word ^ (ONES * b'|' as u64)).wrapping_sub(ONES) & TOPS
}

/// Marks bytes below `0x20`, and perhaps some above `0x7f`.
#[inline(always)]
const fn controls(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20)
}

/// Marks bytes that are no digits.
#[inline(always)]
const fn not_digits(word: u64) -> u64 {
    let numbers = word ^ ZEROS;
    (numbers.wrapping_add(ONES * 0x76) | numbers) & TOPS
}

/// The lowest bit of the lowest marked byte; `marks` is not 0.
#[inline(always)]
const fn lowest_mark(marks: u64) -> u64 {
    (marks & marks.wrapping_neg()) >> 7
}

/// Index of the byte whose lowest bit this is. Without a count-zeros instruction on bpf, a multiplication
/// looks it up.
#[inline(always)]
const fn mark_index(lowest: u64) -> usize {
    (lowest.wrapping_mul(0x0001_0203_0405_0607) >> 56) as usize & 7
}

/// Mask of the lowest `count` bytes, `count` below 8.
#[inline(always)]
pub(crate) const fn low_bytes(count: usize) -> u64 {
    (1 << (8 * count)) - 1
}

/// Eight numbers 0 to 9, the first in the lowest byte, as one number.
#[inline(always)]
const fn eight_digits(word: u64) -> u64 {
    let pairs = (word.wrapping_mul(10) + (word >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff
}

/// Two words into the hash, one of them beside the chain of multiplications. Not a hash against
/// attackers: only the daemon inserts, so all that a sender could bring about by a collision is that
/// an identity stays cold.
#[inline(always)]
pub(crate) const fn hash_pair(hash: u64, pair: (u64, u64)) -> u64 {
    (hash ^ pair.0 ^ pair.1.wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The lengths into the hash, and a last mix that brings the high bits down.
#[inline(always)]
pub(crate) const fn hash_end(hash: u64, shape: u32) -> u64 {
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
        let mut payload = Payload { bytes: [b'7'; size_of::<Payload>()] };
        payload.bytes[..bytes.len()].copy_from_slice(bytes);
        payload.terminate(bytes.len());
        payload
    }

    fn split(bytes: &[u8]) -> Result<(Line, Vec<u8>), NoIdentity> {
        let mut identity = Identity::EMPTY;
        let line = split_line(&payload(bytes), 0, bytes.len(), 7, &mut identity)?;
        // Such a one is never in the table.
        if !identity.is_printable() {
            return Err(NoIdentity::Odd);
        }
        Ok((line, identity_bytes(&identity)))
    }

    /// Head and tail back as bytes, with `:` between.
    fn identity_bytes(identity: &Identity) -> Vec<u8> {
        identity.head().chain([b':']).chain(identity.tail()).collect()
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
        check("x:1|g|@0.1", "x:|g|@0.1", 1);
        check("abcdefghijklmno:7|c", "abcdefghijklmno:|c", 7);
        check("abcdefghijklmnop:42|c", "abcdefghijklmnop:|c", 42);
    }

    #[test]
    fn a_point_between_digits_is_taken_out_too() {
        for (text, value, decimals) in [
            ("0.0", 0, 1),
            ("1.5", 15, 1),
            ("12.345678", 12_345_678, 6),
            ("1234567.8", 12_345_678, 1),
            ("12345678.9", 123_456_789, 1),
            ("123456789.25", 12_345_678_925, 2),
            ("12345678901234.5", 123_456_789_012_345, 1),
            ("0.00000000000001", 1, 14),
        ] {
            let line = std::format!("airflow.ti:{text}|g");
            let (got, identity) = split(line.as_bytes()).expect("the line fits the grammar");
            assert_eq!((got.value, got.decimals, got.next), (value, decimals, line.len()), "{line}");
            assert_eq!(identity, b"airflow.ti:|g");
        }
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
            "a:1.5|c",
            "a:12345678.5|h",
            "a:1.|g",
            "a:.5|g",
            "a:1.5.5|g",
            "a:1..5|g",
            "a:.|g",
            "a:123456789012345.6|g",
            "a:1.234567890123456|g",
            "a:1.5e3|g",
            "a:-1.5|g",
            "a:12345678.x|g",
            "a:12345678.90123456|g",
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
    fn obvious(line: &[u8]) -> Option<(Vec<u8>, u64, u32)> {
        if !line.iter().all(|b| (0x20..=0x7e).contains(b)) {
            return None;
        }
        let colon = line.iter().position(|b| *b == b':')?;
        let bar = colon + line[colon..].iter().position(|b| *b == b'|')?;
        let text = core::str::from_utf8(&line[colon + 1..bar]).ok()?;
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let digits = text.replacen('.', "", 1);
        if colon == 0 || !is_plain(whole) || !is_plain(decimals) || digits.len() > 15 {
            return None;
        }
        let decimals = if text.contains('.') { u32::try_from(decimals.len()).ok()? } else { 0 };
        if decimals > 0 && !line[bar..].starts_with(b"|g") {
            return None;
        }
        let mut identity = line[..=colon].to_vec();
        identity.extend_from_slice(&line[bar..]);
        Some((identity, digits.parse().ok()?, decimals))
    }

    proptest! {
        #[test]
        fn the_splitter_agrees_with_the_obvious_one(
            head in "[a-z.:_ -~]{0,40}", digits in "[0-9]{0,17}|[0-9]{1,9}[.][0-9]{0,9}|[0-9.+-]{0,17}", tail in "[|cgms@#:,0-9é\\x00\\r\\x7f]{0,40}",
            start in 0_usize..9,
        ) {
            let line = format!("{head}:{digits}{tail}");
            let mut bytes = Vec::new();
            bytes.resize(start, b'x');
            bytes.extend_from_slice(line.as_bytes());
            let mut identity = Identity::EMPTY;
            let got = split_line(&payload(&bytes), start, bytes.len(), 1, &mut identity);
            let got = got.ok().filter(|_| identity.is_printable());
            match obvious(line.as_bytes()) {
                Some((expected, value, decimals)) => {
                    let got = got.unwrap();
                    prop_assert_eq!((got.value, got.decimals), (value, decimals));
                    prop_assert_eq!(got.next, bytes.len());
                    prop_assert_eq!(identity_bytes(&identity), expected);
                }
                None => prop_assert_eq!(got, None),
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
