//! Line of a plain sample -> its event, in one go.
//!
//! Nearly all lines are `name:value|type` and nothing else. [`Parser`](super::Parser) looks for all that
//! may stand in a line, dialect by dialect; here one look at the name rules all of that out.

use super::sample::{self, SampleType};
use super::{Dialects, Event, EventKind, number, plain_line};

/// Bytes that are looked at in one step.
const STEP: usize = 16;

/// The event of a line that is plain: cacheable, with no tags, no rate and no error. `None` of any other
/// one, which may be just as good.
pub(super) fn event(line: &[u8], dialects: Dialects) -> Option<Event<'_>> {
    let next = plain_line(line)?;
    let (head, value, tail) = next.split.filter(|_| next.rest.is_none())?;
    event_of((head, value, tail), line.get(..head.len() + 1 + value.len())?, dialects)
}

/// The same for a line that is split already, of which `front` is what stands before the tail.
#[inline]
pub(super) fn event_of<'a>(
    (head, value, tail): (&'a [u8], &[u8], &[u8]),
    front: &[u8],
    dialects: Dialects,
) -> Option<Event<'a>> {
    let (kind, divisor) = match sample::sample_type(tail.get(1..)?) {
        SampleType::Counter => (EventKind::Counter, 1.0),
        SampleType::Gauge => (EventKind::Gauge { relative: matches!(value, [b'+' | b'-', ..]) }, 1.0),
        SampleType::Timer => (EventKind::Observer, 1000.0),
        SampleType::Observation => (EventKind::Observer, 1.0),
        SampleType::Set | SampleType::Unknown => return None,
    };
    if !is_plain_name(head, dialects) {
        return None;
    }
    let raw = number::parse_last(front, value).ok()?;
    let name = str::from_utf8(head).ok()?;
    Some(Event { name, kind, raw, divisor, times: 1, tags: &[], dogstatsd: false, cacheable: true })
}

/// Whether no dialect finds tags in the head, and it begins no notice.
fn is_plain_name(head: &[u8], dialects: Dialects) -> bool {
    if matches!(head, [] | [b'_', b'e', b'{', ..] | [b'_', b's', b'c', b'|', ..]) {
        return false;
    }
    let steps = head.as_chunks::<STEP>().0;
    let is_plain = match head.last_chunk::<STEP>() {
        // At the end some bytes are looked at twice.
        Some(last) => steps.iter().all(is_plain_step) && is_plain_step(last),
        None => head.iter().fold(true, |is_plain, byte| is_plain & is_plain_byte(*byte)),
    };
    is_plain && !(dialects.graphite && memchr::memchr(b';', head).is_some())
}

/// Without a branch for each byte, so that the compiler looks at all of them at once.
#[inline]
fn is_plain_step(bytes: &[u8; STEP]) -> bool {
    bytes.iter().fold(true, |is_plain, byte| is_plain & is_plain_byte(*byte))
}

#[inline]
fn is_plain_byte(byte: u8) -> bool {
    !((byte == b'[') | (byte == b']') | (byte == b'#') | (byte == b','))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::line::{Parser, Tally, split_value};

    /// The event and the counts of the long way, and of the short one.
    fn both(dialects: Dialects, line: &[u8]) -> [Option<(String, Tally)>; 2] {
        let (mut tally, mut long) = (Tally::default(), None);
        Parser::new(dialects).parse_any(line, &mut tally, &mut |event| long = Some(format!("{event:?}")));
        let short = Tally { lines: 1, samples: 1, events: 1, ..Tally::default() };
        [long.map(|event| (event, tally)), event(line, dialects).map(|event| (format!("{event:?}"), short))]
    }

    #[test]
    fn what_airflow_sends_is_plain() {
        for line in ["airflow.ti.start.a.b:1|c", "airflow.pool.x-\u{e9}:-2.5|g", "dag.a.b.duration:12.5|ms"] {
            let [long, short] = both(Dialects::default(), line.as_bytes());
            assert!(long.is_some());
            assert_eq!(long, short);
        }
    }

    proptest! {
        #[test]
        fn the_short_way_gives_what_the_long_one_does(
            line in "(_e\\{|_sc\\|)?[ab.\u{e9}]{0,20}[:|#,;\\[\\]=]{0,1}[ab]{0,20}:[+-]?[0-9.:]{1,4}\\|(c|g|ms|h|d|s|c\\|@1|c\\|#k:v)[|\n]?",
            noise in any::<Vec<u8>>(),
            graphite: bool,
            dogstatsd: bool,
        ) {
            let dialects = Dialects { graphite, dogstatsd, ..Dialects::default() };
            let odd = [&noise, &b"aaaaaaaaaaaaaaaaaa:1|c"[..]].concat();
            for line in [line.as_bytes(), &noise, &odd] {
                // What stands between two `\n` has none.
                let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
                let [long, short] = both(dialects, line);
                prop_assert!(short.is_none() || long == short, "{:?} is not {:?}", short, long);
                let split = split_value(line);
                let of_parts = split.and_then(|(head, _, tail)| {
                    Parser::new(dialects).plain_event(line, head.len(), tail.len())
                });
                let of_parts = of_parts.map(|event| format!("{event:?}"));
                let text = |counted: Option<(String, Tally)>| counted.map(|(event, _)| event);
                prop_assert!(of_parts.is_none() || of_parts == text(long));
                prop_assert!(short.is_none() || of_parts == text(short));
            }
        }
    }
}
