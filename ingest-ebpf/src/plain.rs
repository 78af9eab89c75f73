//! The end of a payload -> the plain line that it may be: one line, a small whole number, neither rate nor tags.
//!
//! Nearly all counters and most gauges come alone in their datagram and look like that. Such a line is found
//! from its end, so its head need not be searched for a `:`; and its words are hashed and compared where they
//! lie. That the head has a `:` or an end of line in it, as that of several lines has, comes out with the
//! comparison: no head in the table has.

use crate::{
    identity::{PLAIN, TOPS, colons, hash_end, hash_pair, load, low_bytes},
    layout::{HEAD_BYTES_MAX, IdentityEntry, Payload},
};

/// What a payload is if it is one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainLine {
    pub value: u64,
    /// As of an [`Identity`](crate::identity::Identity). Bytes of the head are 1 to `HEAD_BYTES_MAX - 1`.
    pub shape: u32,
    /// `|` and the type's letter.
    pub tail: u64,
}

impl PlainLine {
    /// Whether it is worth asking for an [early `:`](has_early_colon) first.
    #[inline(always)]
    #[must_use]
    pub const fn is_long(&self) -> bool {
        (self.shape >> 16) as usize >= LONG_HEAD_BYTES
    }
}

/// The line that a payload of `length` bytes is, if it is a plain one and the only one. `line` are the
/// payload's last eight bytes; of a shorter one the first of them may be anything. Both without an end of line.
#[inline(always)]
#[must_use]
pub const fn plain_line(line: u64, length: usize) -> Option<PlainLine> {
    let Some((value, bytes)) = plain_value(line) else { return None };
    let head_bytes = length.wrapping_sub(bytes);
    if head_bytes.wrapping_sub(1) >= HEAD_BYTES_MAX - 1 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below HEAD_BYTES_MAX")]
    let shape = (head_bytes as u32) << 16 | 2;
    Some(PlainLine { value, shape, tail: line >> 48 })
}

/// The number of one to three digits of a line that ends with these eight bytes, and how many bytes stand from
/// its `:` on.
#[inline(always)]
const fn plain_value(line: u64) -> Option<(u64, usize)> {
    // Nearly all have one digit.
    if let Some(digit) = one_digit(line >> 32) {
        return Some((digit, 4));
    }
    let numbers = line ^ ZEROS_AND_BAR;
    let (units, tens, hundreds) = ((numbers >> 40) & 0xff, (numbers >> 32) & 0xff, (numbers >> 24) & 0xff);
    // The splitter ends a tail at a control byte, and may at what is not ASCII.
    let is_letter = (line >> 56).wrapping_sub(0x20) < 0x60;
    if (numbers >> 48) & 0xff != 0 || !is_letter || units > 9 || tens > 9 {
        return None;
    }
    let two = tens * 10 + units;
    if hundreds == COLON {
        Some((two, 5))
    } else if hundreds <= 9 && (numbers >> 16) & 0xff == COLON {
        Some((hundreds * 100 + two, 6))
    } else {
        None
    }
}

/// The digit of a word that begins with a `:`, a digit and a `|`.
#[inline(always)]
#[must_use]
pub const fn one_digit(word: u64) -> Option<u64> {
    let plain = word ^ PLAIN;
    if plain & 0x00ff_00ff == 0 && plain & 0xff00 <= 0x0900 { Some((plain >> 8) & 0xff) } else { None }
}

/// For each full pair of words of a head, or until `$body` breaks out; written out, for much of the work of such
/// a loop is counting.
macro_rules! each_pair {
    ($pairs:ident, $at:ident, $body:block) => {
        'pairs: {
            each_pair!('pairs, $pairs, $at, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        }
    };
    ($end:lifetime, $pairs:ident, $at:ident, $body:block, $($number:literal)*) => {
        $(
            if $number >= $pairs {
                break $end;
            }
            let $at = $number;
            $body
        )*
    };
}

/// Hash of a plain line's identity, and the end of its head, for [`equals`]. The shape is in memory, as for
/// [`load`].
#[inline(always)]
#[must_use]
pub fn hash(payload: &Payload, shape: &u32, tail: u64, seed: u64) -> (u64, (u64, u64)) {
    let (pairs, head) = (pairs(shape), payload.line(0));
    let mut hash = seed;
    each_pair!(pairs, at, {
        hash = hash_pair(hash, head.two_words(2 * at));
    });
    let end = last_pair(payload, shape);
    (hash_end(hash_pair(hash_pair(hash, end), (tail, 0)), load(shape)), end)
}

/// Whether `entry` is of a plain line; every byte is compared.
#[inline(always)]
#[must_use]
pub fn equals(payload: &Payload, shape: &u32, end: (u64, u64), tail: u64, entry: &IdentityEntry) -> bool {
    let full = pairs(shape);
    if entry.shape != load(shape) || full >= HEAD_BYTES_MAX / 16 {
        return false;
    }
    let words = &entry.words[2 * full..2 * full + 3];
    if (end.0 ^ words[0]) | (end.1 ^ words[1]) | (tail ^ words[2]) != 0 {
        return false;
    }
    let (pairs, head) = (pairs(shape), payload.line(0));
    each_pair!(pairs, at, {
        let (first, second) = head.two_words(2 * at);
        if (first ^ entry.words[2 * at]) | (second ^ entry.words[2 * at + 1]) != 0 {
            return false;
        }
    });
    true
}

/// Whether a plain line's head has no `:` in it, nor anything that is not ASCII: then the line is what
/// [`split_line`](crate::identity::split_line) would make of the payload, and the only one.
#[inline(always)]
#[must_use]
pub fn is_one_line(payload: &Payload, shape: &u32) -> bool {
    let (pairs, head) = (pairs(shape), payload.line(0));
    let last = last_pair(payload, shape);
    let mut marks = colons(last.0) | colons(last.1);
    each_pair!(pairs, at, {
        let (first, second) = head.two_words(2 * at);
        marks |= colons(first) | colons(second);
    });
    marks & TOPS == 0
}

/// Whether a [long](PlainLine::is_long) head has an early `:`, as that of nearly every datagram of several lines
/// has: to hash all of one for nothing would take longer.
#[inline(always)]
#[must_use]
pub fn has_early_colon(payload: &Payload) -> bool {
    let head = payload.line(0);
    let mut marks = 0;
    for at in 0..LONG_HEAD_BYTES / 16 {
        let (first, second) = head.two_words(2 * at);
        marks |= colons(first) | colons(second);
    }
    marks & TOPS != 0
}

/// Few datagrams of several lines are shorter than this.
const LONG_HEAD_BYTES: usize = 64;

/// How many full pairs of words a head has.
#[inline(always)]
fn pairs(shape: &u32) -> usize {
    (load(shape) >> 20) as usize
}

/// The rest of a head, with zeros behind it.
#[inline(always)]
fn last_pair(payload: &Payload, shape: &u32) -> (u64, u64) {
    let bytes = (load(shape) >> 16) as usize;
    let (first, second) = payload.two_words(bytes & !15);
    let inside = low_bytes(bytes & 7);
    if bytes & 8 == 0 { (first & inside, 0) } else { (first, second & inside) }
}

const COLON: u64 = (b':' ^ b'0') as u64;
/// What makes digits numbers, and a `|` behind three of them 0. For a letter is the last byte.
const ZEROS_AND_BAR: u64 = u64::from_le_bytes(*b"0000000|") >> 8;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::identity::{Identity, Line, split_line};

    const SEED: u64 = 7;

    fn payload(bytes: &[u8]) -> Payload {
        let mut payload = Payload { bytes: [b'7'; size_of::<Payload>()] };
        payload.bytes[..bytes.len()].copy_from_slice(bytes);
        payload.terminate(bytes.len());
        payload
    }

    /// What the end of a payload looks like, with the eight bytes in front of it as a frame has others there.
    fn plain(bytes: &[u8]) -> Option<PlainLine> {
        let mut framed = Vec::from(*b":1|c\n:2|");
        framed.extend_from_slice(bytes);
        let last = framed.last_chunk().map(|last| u64::from_le_bytes(*last)).unwrap();
        let line = |last: u64| {
            let newline = bytes.ends_with(b"\n");
            plain_line(if newline { last << 8 } else { last }, bytes.len() - usize::from(newline))
        };
        assert_eq!(line(payload(bytes).last_word(bytes.len())), line(last));
        line(last)
    }

    /// The same for a payload that is no more than that.
    fn only_line(bytes: &[u8]) -> Option<PlainLine> {
        plain(bytes).filter(|line| is_one_line(&payload(bytes), &line.shape))
    }

    /// The one line by the splitter.
    fn split(bytes: &[u8]) -> Option<(Line, Identity)> {
        let mut identity = Identity::EMPTY;
        let line = split_line(&payload(bytes), 0, bytes.len(), SEED, &mut identity).ok()?;
        (line.next == bytes.len()).then_some((line, identity))
    }

    #[track_caller]
    fn check(bytes: &[u8]) {
        let found = only_line(bytes).map(|line| {
            let (hash, _) = hash(&payload(bytes), &line.shape, line.tail, SEED);
            (line.value, line.shape, hash)
        });
        let expected = split(bytes).filter(|(line, identity)| {
            let value_bytes = bytes.len() - (identity.shape >> 16) as usize - 3 - usize::from(line.newline);
            let ascii = identity.tail().all(|byte| byte < 0x80);
            (1..=3).contains(&value_bytes) && identity.shape & 0xffff == 2 && line.decimals == 0 && ascii
        });
        let expected = expected.map(|(line, identity)| (line.value, identity.shape, line.hash));
        // The splitter takes any letter behind one digit, too, and then the table does not.
        if let Some((_, identity)) = split(bytes)
            && !identity.is_printable()
        {
            assert!(found.is_none() || found == expected, "{}", bytes.escape_ascii());
        } else {
            assert_eq!(found, expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn it_is_what_the_splitter_finds_from_the_other_side() {
        for length in 0..=260 {
            for end in [":1|c", ":12|c", ":123|g", ":0|g", ":007|s", ":1234|c", ":1.5|g", ":-1|g", ":1|ms"] {
                for newline in ["", "\n", "\n\n"] {
                    check(format!("{}{end}{newline}", "n".repeat(length)).as_bytes());
                }
            }
        }
        for bytes in
            ["", ":", "1|c", ":1|c", "\n", "a:|c", "a:1|", "a:1|\n", "a:1||", "a:12|\n", "a:1|é", "é:1|c"]
        {
            check(bytes.as_bytes());
        }
    }

    #[test]
    fn a_plain_line_is_found() {
        let found = |bytes: &[u8]| only_line(bytes).map(|line| (line.value, line.shape));
        assert_eq!(found(b"a:7|c"), Some((7, 1 << 16 | 2)));
        assert_eq!(found(b"pool:128|g\n"), Some((128, 4 << 16 | 2)));
        assert_eq!(found(b"a:7|c\na:7|c"), None);
    }

    #[test]
    fn an_early_colon_is_one_of_the_first_bytes_of_a_long_head() {
        for at in 0..120 {
            let mut head = [b'n'; 120];
            head[at] = b':';
            assert_eq!(has_early_colon(&payload(&head)), at < LONG_HEAD_BYTES, "{at}");
        }
        assert!(!has_early_colon(&payload(&[b'n'; 120])));
    }

    /// What a head of so many bytes may be, in the table.
    fn head(bytes: usize) -> impl Strategy<Value = Vec<u8>> {
        let byte = (0x20..=0x7e_u8).prop_filter("a head ends at its colon", |byte| *byte != b':');
        prop::collection::vec(byte, bytes..=bytes)
    }

    fn entry(head: &[u8]) -> (IdentityEntry, u64) {
        let mut bytes = head.to_vec();
        bytes.extend_from_slice(b":1|c");
        let (line, identity) = split(&bytes).unwrap();
        (identity.entry(1), line.hash)
    }

    proptest! {
        #[test]
        fn any_payload_is_that_line_which_the_splitter_says(
            head in "[a-z.:|\\n]{0,80}|[ -~é\\x00-\\x1f]{0,80}", digits in "[0-9]{0,4}", tail in "[|cg\\n:1é\\x01]{0,4}",
        ) {
            check(format!("{head}:{digits}|{tail}").as_bytes());
        }

        #[test]
        fn several_lines_or_a_byte_that_differs_equal_no_identity(
            (head, at, byte) in (1..HEAD_BYTES_MAX).prop_flat_map(|bytes| (head(bytes), 0..bytes, any::<u8>())),
        ) {
            let (entry, hash_of_entry) = entry(&head);
            let mut bytes = head.clone();
            bytes[at] = byte;
            bytes.extend_from_slice(b":9|c");
            let line = plain(&bytes).unwrap();
            let payload = payload(&bytes);
            let same = byte == head[at];
            let (hash, end) = hash(&payload, &line.shape, line.tail, SEED);
            prop_assert_eq!(equals(&payload, &line.shape, end, line.tail, &entry), same);
            prop_assert_eq!(hash == hash_of_entry, same);
            prop_assert!(!equals(&payload, &line.shape, end, line.tail ^ 0x100, &entry));
        }
    }
}
