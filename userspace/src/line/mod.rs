//! Datagram -> lines -> [`Event`]s.
//!
//! A line is a name, a `:`, and one or more samples. [`Parser`] reads it as statsd_exporter does,
//! step by step and error by error; where that program would crash or lose what a client meant, the
//! line is read as meant or ends in an error instead. The dialects differ only in where tags stand: each has its own file and a switch in
//! [`Dialects`].

pub mod block;
mod dogstatsd;
pub mod escape;
pub mod event;
mod graphite;
mod head;
mod influx;
mod librato;
mod notice;
pub mod number;
mod parser;
mod plain;
mod sample;
pub mod scan;
mod signalfx;
mod tags;
pub mod tally;

use block::{BLOCK_BYTES, BYTES_MIN};
pub use event::{Event, EventKind};
pub use head::Dialects;
pub use parser::Parser;
pub use tally::{LineError, Tally};

/// The lines of a datagram: what stands between its `\n`.
///
/// Nothing is trimmed and nothing is left out: a `\n` at the end is followed by one more, empty,
/// line, and an empty payload is one empty line. Empty lines count as lines.
pub fn lines(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(payload);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let (line, after) = match memchr::memchr(b'\n', bytes).and_then(|at| bytes.split_at_checked(at)) {
            Some((line, after)) => (line, after.get(1..)),
            None => (bytes, None),
        };
        rest = after;
        Some(line)
    })
}

/// The line with its value cut out, `(head, value, tail)`: the head ends before the first `:`, the
/// tail begins with the first `|` after it.
///
/// `None` if either is missing or the value holds a `:`, that is for every line that could hold more
/// than one value before its type. Two lines with the same head and tail, whose value is a number,
/// give the same event but for the number if one of them was `cacheable`: see [`Event`].
#[must_use]
pub fn split_value(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (head, rest) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    let rest = rest.get(1..)?;
    let (value, tail) = rest.split_at_checked(memchr::memchr2(b'|', b':', rest)?)?;
    (tail.first() == Some(&b'|')).then_some((head, value, tail))
}

/// The first line of a payload, split as [`split_value`] does, and what follows its `\n`, if there is one.
/// That is what [`lines`] and [`split_value`] find one after the other, in one go over the bytes. `None` if
/// it is not as nearly every line is: then [`any_line`] knows.
#[inline(always)]
#[must_use]
pub fn plain_line(payload: &[u8]) -> Option<NextLine<'_>> {
    let length = payload.len();
    let (colon, bar, is_last_mark);
    if length <= BLOCK_BYTES {
        if length < BYTES_MIN {
            return None;
        }
        let marks = block::marks(payload);
        let behind = marks & marks.wrapping_sub(1);
        (colon, bar) = (marks.trailing_zeros() as usize, behind.trailing_zeros() as usize);
        is_last_mark = behind & behind.wrapping_sub(1) == 0;
    } else {
        // Two blocks, of which the second ends where the payload does, unless that goes on.
        let second = length.min(2 * BLOCK_BYTES) - BLOCK_BYTES;
        let marks_from = |at: usize| {
            let bytes = payload.get(at..).and_then(<[u8]>::first_chunk::<BLOCK_BYTES>);
            bytes.map_or(0, |bytes| u128::from(block::marks(bytes))) << at
        };
        let marks = marks_from(0) | marks_from(second);
        let behind = marks & marks.wrapping_sub(1);
        (colon, bar) = (marks.trailing_zeros() as usize, behind.trailing_zeros() as usize);
        is_last_mark = behind & behind.wrapping_sub(1) == 0 && length <= 2 * BLOCK_BYTES;
    }
    // Whatever comes first, it ends the line or is one of the two.
    if payload.get(colon) != Some(&b':') || payload.get(bar) != Some(&b'|') {
        return None;
    }
    let (line, rest) = if is_last_mark { (payload, None) } else { end_line(payload, bar) };
    let (front, tail) = line.split_at_checked(bar)?;
    let (head, value) = front.split_at_checked(colon)?;
    Some(NextLine { line, split: Some((head, value.get(1..)?, tail)), rest })
}

/// What stands before the first `\n` from `from` on, and behind it.
#[inline(never)]
fn end_line(payload: &[u8], from: usize) -> (&[u8], Option<&[u8]>) {
    match scan::first_from(payload, from, [b'\n']) {
        Some(end) => (payload.get(..end).unwrap_or_default(), payload.get(end + 1..)),
        None => (payload, None),
    }
}

/// The same for every line, more slowly.
#[must_use]
pub fn any_line(payload: &[u8]) -> NextLine<'_> {
    let without_value = |end: Option<usize>| NextLine {
        line: end.and_then(|end| payload.get(..end)).unwrap_or(payload),
        split: None,
        rest: end.and_then(|end| payload.get(end + 1..)),
    };
    // The name is long enough for a vector search; what follows it is not.
    let Some(colon) = memchr::memchr2(b':', b'\n', payload) else { return without_value(None) };
    if payload.get(colon) == Some(&b'\n') {
        return without_value(Some(colon));
    }
    let Some(bar) = scan::first_from(payload, colon + 1, [b'|', b':', b'\n']) else {
        return without_value(None);
    };
    let end = scan::first_from(payload, bar, [b'\n']);
    if payload.get(bar) != Some(&b'|') {
        return without_value(end);
    }
    let NextLine { line, rest, .. } = without_value(end);
    let split = line.split_at_checked(bar).and_then(|(front, tail)| {
        let (head, value) = front.split_at_checked(colon)?;
        Some((head, value.get(1..)?, tail))
    });
    NextLine { line, split, rest }
}

/// What [`plain_line`] and [`any_line`] find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextLine<'a> {
    pub line: &'a [u8],
    /// Head, value, tail.
    pub split: Option<(&'a [u8], &'a [u8], &'a [u8])>,
    /// `None` after the last line.
    pub rest: Option<&'a [u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(payload: &[u8]) -> Vec<&str> {
        lines(payload).map(|line| std::str::from_utf8(line).expect("the tests use text")).collect()
    }

    #[test]
    fn a_newline_at_the_end_yields_one_more_empty_line() {
        assert_eq!(texts(b"a:1|c\nb:2|c\n"), ["a:1|c", "b:2|c", ""]);
    }

    #[test]
    fn an_empty_payload_is_one_empty_line() {
        assert_eq!(texts(b""), [""]);
        assert_eq!(texts(b"\n"), ["", ""]);
    }

    #[test]
    fn only_newlines_split() {
        assert_eq!(texts(b"a:1|c\r\n\0b"), ["a:1|c\r", "\0b"]);
    }

    proptest::proptest! {
        #[test]
        fn one_go_finds_what_two_find(payload in "[a:|\n]{0,8}([a-c.]{0,90}[:|\n]{0,2}[0-9|]{0,9}){0,4}") {
            let mut rest = Some(payload.as_bytes());
            for line in lines(payload.as_bytes()) {
                let payload = rest.expect("as many lines");
                let next = any_line(payload);
                proptest::prop_assert_eq!((next.line, next.split), (line, split_value(line)));
                proptest::prop_assert_eq!(plain_line(payload).unwrap_or(next), next);
                rest = next.rest;
            }
            proptest::prop_assert_eq!(rest, None);
        }
    }

    #[track_caller]
    fn check_split(line: &str, expected: Option<(&str, &str, &str)>) {
        let expected = expected.map(|(h, v, t)| (h.as_bytes(), v.as_bytes(), t.as_bytes()));
        assert_eq!(split_value(line.as_bytes()), expected, "{line}");
    }

    #[test]
    fn the_value_stands_between_the_first_colon_and_the_first_bar() {
        check_split("a.b:1|c", Some(("a.b", "1", "|c")));
        check_split("a:1|c|@0.5|#k:v", Some(("a", "1", "|c|@0.5|#k:v")));
        check_split("a|b:1|c", Some(("a|b", "1", "|c")));
        check_split(":|", Some(("", "", "|")));
    }

    #[test]
    fn a_line_without_one_plain_value_has_no_key() {
        check_split("", None);
        check_split("a", None);
        check_split("a:1", None);
        check_split("a|c", None);
        check_split("a:1:2|ms", None);
    }
}
