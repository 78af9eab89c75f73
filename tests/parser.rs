//! The daemon's line parser against the reference's, line by line.
//!
//! Wanted differences: none. Where statsd_exporter crashes, both do what the parser documents.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rotameter::line::{self, Dialects, EventKind, LineError, Parser, Tally};

use crate::corpus;
use crate::reference::line::{Event, Kind, Read, read};

/// What the daemon's parser makes of `line`, in the reference's words.
fn parsed(parser: &mut Parser, line: &[u8]) -> Read {
    let (mut tally, mut events) = (Tally::default(), Vec::new());
    parser.parse_line(line, &mut tally, &mut |event| {
        let kind = match event.kind {
            EventKind::Counter => Kind::Counter,
            EventKind::Gauge { relative } => Kind::Gauge { relative },
            EventKind::Observer => Kind::Observer,
        };
        let tags: BTreeMap<String, String> =
            event.tags.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        assert_eq!(tags.len(), event.tags.len(), "each key once");
        let (name, value, times) = (event.name.to_owned(), event.value(), event.times);
        events.push(Event { name, kind, value, times, tags });
    });
    assert_eq!((tally.lines, tally.empty), (1, u64::from(line.is_empty())));
    assert_eq!(tally.samples, tally.events + tally.vanished + tally.refused_samples());
    let errors = LineError::ALL.into_iter().map(|error| (error.reason(), tally.error(error)));
    Read {
        events,
        samples: tally.samples,
        tagged_samples: tally.tags,
        tag_errors: tally.tag_errors,
        vanished: tally.vanished,
        notice: match (tally.notice_events, tally.service_checks) {
            (1, 0) => Some("event"),
            (0, 1) => Some("service_check"),
            _ => None,
        },
        errors: errors.filter(|&(_, count)| count > 0).collect(),
    }
}

/// `read` as text, so that NaN equals NaN and 0 differs from -0.
fn exact(read: &Read) -> String {
    format!("{read:?}")
}

#[track_caller]
fn check(parser: &mut Parser, line: &[u8]) {
    let (parsed, read) = (parsed(parser, line), read(line, false));
    // Text only for the few that hold a NaN: writing it takes most of the time otherwise.
    if parsed != read {
        assert_eq!(exact(&parsed), exact(&read), "{}", line.escape_ascii());
    }
}

#[test]
fn every_recorded_line_is_read_as_the_reference_reads_it() {
    let mut parser = Parser::default();
    for name in corpus::names().expect("the corpus is there") {
        let mut lines = 0u32;
        for datagram in corpus::load(&name).expect("the recording loads") {
            for line in line::lines(&datagram.payload) {
                check(&mut parser, line);
                lines += 1;
            }
        }
        assert!(lines > 10_000, "{name}");
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[+-]?[0-9]{1,5}(\\.[0-9]{0,6})?",
        1 => "[+-]?[0-9]{15,25}(\\.[0-9]{0,20})?",
        1 => any::<f64>().prop_map(|value| value.to_string()),
        1 => "[+-]?[0-9]{0,3}\\.?[0-9]{0,3}[eE]?[+-]?[0-9]{0,3}",
        1 => "[+-]?0[xX]_?[0-9a-fA-F]{0,6}\\.?[0-9a-fA-F]{0,6}([pP][+-]?[0-9]{0,3})?",
        1 => "[+-]?[0-9_.e]{1,6}",
        1 => "[+-]?([iI][nN][fF](inity)?|[nN][aA][nN]|inx|0b1| 1|1 )",
    ]
}

fn tag_list(separator: &'static str) -> impl Strategy<Value = String> {
    let tag = prop_oneof![
        4 => ("[a-c]{1,2}", "[a-z:=é]{1,3}").prop_map(move |(key, value)| format!("{key}{separator}{value}")),
        1 => ("[#-]{0,2}[0-9a.ü-]{0,3}", "[x\r]{0,2}").prop_map(move |(key, value)| format!("{key}{separator}{value}")),
        1 => "[#a:=]{0,3}",
    ];
    prop::collection::vec(tag, 0..22).prop_map(|tags| tags.join(","))
}

fn head() -> impl Strategy<Value = String> {
    let name = "[a-c0-9.é-]{0,6}";
    prop_oneof![
        4 => name,
        1 => (name, "[#,]", tag_list("=")).prop_map(|(name, delimiter, tags)| format!("{name}{delimiter}{tags}")),
        1 => (name, tag_list("="), name).prop_map(|(name, tags, after)| format!("{name}[{tags}]{after}")),
        1 => "[a\\[\\]#,=]{1,8}",
    ]
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => number().prop_map(|rate| format!("@{rate}")),
        1 => "@(0|0.5|0.1|1|2|-1|1e-7|1e400|)",
        3 => tag_list(":").prop_map(|tags| format!("#{tags}")),
        1 => "c(:[a-z:]{0,3}|ard:low)?",
        1 => "(e|card|c):[a-z:]{0,3}",
        1 => "T[0-9x]{0,4}",
        1 => "[e0-9x\r]{0,3}",
    ]
}

fn sample() -> impl Strategy<Value = String> {
    let kind = prop_oneof![9 => "c|g|ms|h|d", 1 => "s|C|c |c\r|"];
    let values = prop::collection::vec(number(), 1..4).prop_map(|values| values.join(":"));
    let value = prop_oneof![4 => number().boxed(), 1 => values.boxed()];
    let fields = prop_oneof![2 => Just(Vec::new()), 2 => prop::collection::vec(field(), 0..3), 1 => prop::collection::vec(field(), 0..8)];
    (value, kind, fields).prop_map(|(value, kind, fields)| [vec![value, kind], fields].concat().join("|"))
}

fn nasty_line() -> impl Strategy<Value = Vec<u8>> {
    let samples =
        prop_oneof![3 => prop::collection::vec(sample(), 1..2), 1 => prop::collection::vec(sample(), 0..4)];
    let line =
        (head(), samples).prop_map(|(head, samples)| format!("{head}:{}", samples.join(":")).into_bytes());
    // Now and then one byte is another one.
    let spoilt = (line, any::<prop::sample::Index>(), any::<u8>(), prop::bool::weighted(0.1));
    spoilt.prop_map(|(mut line, at, byte, spoil)| {
        if spoil {
            let at = at.index(line.len());
            line[at] = byte;
        }
        line
    })
}

/// A DogStatsD event or service check, or nearly one.
fn notice() -> impl Strategy<Value = Vec<u8>> {
    let event = ("[a-z|:é]{0,3}", "[a-z|:\\\\]{0,3}", "(\\|([dhpt]:x|#a:b))?", 0..3_usize).prop_map(
        |(title, text, fields, off)| {
            let (title_bytes, text_bytes) = (title.len() + off / 2, text.len() + off % 2);
            format!("_e{{{title_bytes},{text_bytes}}}:{title}|{text}{fields}")
        },
    );
    let any = "_(e[{]?|sc[|]?)[0-9,{}|:a]{0,8}";
    let check = "_sc\\|[a-z:]{0,2}\\|[0-5]?(\\|m:a:1)?";
    prop_oneof![event, any, check].prop_map(String::into_bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn notices_are_read_as_the_reference_reads_them(line in notice()) {
        prop_assert_eq!(exact(&parsed(&mut Parser::default(), &line)), exact(&read(&line, false)), "{}", line.escape_ascii());
    }

    #[test]
    fn nasty_lines_are_read_as_the_reference_reads_them(line in nasty_line(), packing: bool) {
        let mut parser = Parser::new(Dialects { packing, ..Dialects::default() });
        prop_assert_eq!(exact(&parsed(&mut parser, &line)), exact(&read(&line, packing)), "{}", line.escape_ascii());
    }
}
