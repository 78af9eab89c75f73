//! Any bytes -> the line parser: no panic, every line and sample accounted for, and what is called
//! cacheable keeps its promise.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rotameter::line::{self, Dialects, Event, EventKind, Parser, Tally};

/// What a cache would keep of an event: everything but its number.
#[derive(Debug, PartialEq)]
struct Kept {
    name: String,
    kind: EventKind,
    divisor: u64,
    times: u64,
    tags: Vec<(String, String)>,
}

fn keep(event: &Event<'_>) -> Kept {
    let kind = match event.kind {
        EventKind::Gauge { .. } => EventKind::Gauge { relative: false },
        other => other,
    };
    let tags = event.tags.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    Kept { name: event.name.to_owned(), kind, divisor: event.divisor.to_bits(), times: event.times, tags }
}

fuzz_target!(|payload: &[u8]| {
    let (graphite, packing) = (payload.len() % 2 == 1, payload.len() % 4 >= 2);
    let mut parser = Parser::new(Dialects { graphite, packing, ..Dialects::default() });
    let mut tally = Tally::default();
    let (mut lines, mut events) = (0, 0);
    for line in line::lines(payload) {
        lines += 1;
        let mut cacheable = None;
        parser.parse_line(line, &mut tally, &mut |event| {
            events += 1;
            assert!(event.times > 0);
            cacheable = event.cacheable.then(|| keep(&event));
        });
        if let Some(kept) = cacheable {
            check_promise(&mut parser, line, &kept);
        }
    }
    assert_eq!((tally.lines, tally.events), (lines, events));
    assert_eq!(tally.samples, tally.events + tally.vanished + tally.refused_samples());
    assert!(tally.lines_with_samples() <= tally.samples);
});

/// The same line with another number gives the same event with that number, and nothing else.
fn check_promise(parser: &mut Parser, line: &[u8], kept: &Kept) {
    let (head, _, tail) = line::split_value(line).expect("a cacheable line can be split");
    for value in ["7", "-0.125", "+1e3", "0x1p-2"] {
        let line = [head, b":", value.as_bytes(), tail].concat();
        let (mut tally, mut again) = (Tally::default(), Vec::new());
        parser.parse_line(&line, &mut tally, &mut |event| {
            assert!(event.cacheable);
            assert_eq!(event.raw, rotameter::line::number::parse(value.as_bytes()).expect("a number"));
            again.push(keep(&event));
        });
        assert_eq!(again.as_slice(), std::slice::from_ref(kept));
        let tagged = u64::from(!kept.tags.is_empty());
        let expected = Tally { lines: 1, samples: 1, events: 1, tags: tagged, ..Tally::default() };
        assert_eq!(tally, expected);
    }
}
