//! Datagram -> lines -> [`Event`]s.
//!
//! A line is a name, a `:`, and one or more samples. [`Parser`] reads it as statsd_exporter does,
//! step by step and error by error; where that program would crash, the line ends in an error
//! instead. The dialects differ only in where tags stand: each has its own file and a switch in
//! [`Dialects`].

mod dogstatsd;
pub mod escape;
pub mod event;
mod head;
mod influx;
mod librato;
pub mod number;
mod parser;
mod sample;
mod signalfx;
mod tags;
pub mod tally;

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
