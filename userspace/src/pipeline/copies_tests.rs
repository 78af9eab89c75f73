//! Copies of one event in -> one of them counts, whatever came first.

use std::sync::Arc;

use super::growth::unit;
use super::*;
use crate::datagram::{Source, Transport};
use crate::kernel::promotion::Growth;
use crate::mapper::LoadOptions;

const RULES: &str = "
defaults: {ttl: 10s}
mappings:
- match: ti
  match_tags: {present: [dag]}
  name: ti
  same_event: {name: ti, rank: 1}
- match: ti.*
  name: ti
  labels: {dag: $1}
  same_event: {name: ti, rank: 2}
- match: ti
  name: ti
  same_event: {name: ti, rank: 3}
";

fn pipeline() -> Pipeline {
    let loaded = Mapper::from_text(RULES.as_bytes(), "m.yml", LoadOptions::default()).expect("it loads");
    let mapper = Arc::new(loaded.mapper);
    Pipeline::new(PipelineOptions { mapper, ..PipelineOptions::default() }, None)
}

fn ingest(pipeline: &Pipeline, payload: &str) {
    let payload = payload.as_bytes();
    let received = Timestamp(1);
    pipeline.ingest(&[Datagram { payload, received, source: Source::Nameless, transport: Transport::Udp }]);
}

#[track_caller]
fn check(pipeline: &Pipeline, expected: &str) {
    pipeline.look(|core| core.ledger.check()).expect("the ledger closes");
    let mut out = Vec::new();
    pipeline.write_exposition(Vec::new(), Format::Text, &mut out);
    let text = String::from_utf8(out).expect("an exposition is text");
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(series.join(" "), expected);
}

#[test]
fn the_best_copy_that_comes_counts_alone() {
    let plain = ["ti.a:1|c\nti:1|c", "ti.b:2|c\nti:2|c"];
    let tagged = ["ti.a:1|c\nti,dag=a:1|c", "ti,dag=b:2|c\nti.b:2|c"];
    for order in [[0, 1], [1, 0]] {
        for payloads in [plain, tagged] {
            let pipeline = pipeline();
            for round in 1..4 {
                order.iter().for_each(|at| ingest(&pipeline, payloads[*at]));
                check(&pipeline, &format!("ti{{dag=\"a\"}} {round} ti{{dag=\"b\"}} {}", 2 * round));
            }
        }
    }
}

#[test]
fn a_worse_copy_counts_where_there_is_no_better_one() {
    let pipeline = pipeline();
    ingest(&pipeline, "ti:1|c\nti:1|c");
    check(&pipeline, "ti 2");
    ingest(&pipeline, "ti.a:1|c");
    check(&pipeline, "ti{dag=\"a\"} 1");
    ingest(&pipeline, "ti:1|c\nti,dag=b:1|c\nti.a:1|c\nti:1|c");
    check(&pipeline, "ti{dag=\"b\"} 1");
    assert_eq!(pipeline.look(|core| core.ledger.dropped), 3);
}

#[test]
fn when_the_better_copy_has_expired_the_worse_one_counts_again() {
    let pipeline = pipeline();
    ingest(&pipeline, "ti,dag=b:1|c\nti.a:1|c");
    check(&pipeline, "ti{dag=\"b\"} 1");
    let later = Timestamp(Timestamp::now().0 + 20_000_000_000);
    while pipeline.core.lock().registry.expire(later).more {}
    ingest(&pipeline, "ti.a:1|c\nti.a:1|c");
    check(&pipeline, "ti{dag=\"a\"} 2");
    ingest(&pipeline, "ti,dag=b:1|c\nti.a:1|c");
    check(&pipeline, "ti{dag=\"b\"} 1");
}

#[test]
fn a_reload_knows_who_counted() {
    let pipeline = pipeline();
    ingest(&pipeline, "ti,dag=b:1|c");
    let loaded = Mapper::from_text(RULES.as_bytes(), "m.yml", LoadOptions::default()).expect("it loads");
    pipeline.reload(Arc::new(loaded.mapper)).expect("there is no kernel to wait for");
    ingest(&pipeline, "ti.b:1|c\nti,dag=b:1|c");
    check(&pipeline, "ti{dag=\"b\"} 2");
}

/// Lets the pipeline look at its numbers.
fn look(pipeline: &Pipeline) {
    pipeline.tick(Duration::from_secs(1)).expect("there is no kernel to wait for");
}

/// As if the events had first come two minutes ago.
fn age(pipeline: &Pipeline) {
    pipeline.core.lock().copies.age(Duration::from_secs(120));
}

#[test]
fn a_stray_copy_puts_nothing_away() {
    let pipeline = pipeline();
    for _ in 0..50 {
        ingest(&pipeline, "ti.a:1|c\nti:1|c");
    }
    age(&pipeline);
    ingest(&pipeline, "ti,dag=x:1|c");
    check(&pipeline, "ti{dag=\"a\"} 50");
    for round in 1..10 {
        ingest(&pipeline, &"ti.a:1|c\nti:1|c\n".repeat(20));
        ingest(&pipeline, &"ti,dag=x:1|c\n".repeat(9));
        look(&pipeline);
        check(&pipeline, &format!("ti{{dag=\"a\"}} {}", 50 + 20 * round));
    }
}

#[test]
fn a_stray_copy_at_the_start_is_found_out() {
    let pipeline = pipeline();
    ingest(&pipeline, "ti.a:1|c\nti:1|c\nti,dag=x:1|c\nti.a:1|c");
    check(&pipeline, "ti{dag=\"x\"} 1");
    for _ in 0..2 {
        ingest(&pipeline, &"ti.a:1|c\nti:1|c\n".repeat(20));
        look(&pipeline);
    }
    // A counter stays where it is.
    ingest(&pipeline, "ti.a:1|c\nti:1|c\nti,dag=x:1|c\nti.a:1|c");
    check(&pipeline, "ti{dag=\"a\"} 2 ti{dag=\"x\"} 1");
}

#[test]
fn a_fleet_that_is_switched_over_is_followed() {
    let pipeline = pipeline();
    let both = "ti.a:1|c\nti,dag=a:1|c\n".repeat(20);
    ingest(&pipeline, &"ti.a:1|c\nti:1|c\n".repeat(20));
    age(&pipeline);
    ingest(&pipeline, &both);
    check(&pipeline, "ti{dag=\"a\"} 40");
    ingest(&pipeline, &both);
    look(&pipeline);
    ingest(&pipeline, &both);
    look(&pipeline);
    // The copy with tags counts from here on, in the same series.
    ingest(&pipeline, &both);
    ingest(&pipeline, "ti.b:1|c");
    check(&pipeline, "ti{dag=\"a\"} 100");
    // Back again, at once: nobody sends tags any more.
    for _ in 0..4 {
        ingest(&pipeline, &"ti.a:1|c\nti:1|c\n".repeat(20));
        look(&pipeline);
    }
    ingest(&pipeline, "ti.b:1|c\nti.b:1|c\nti:1|c");
    let mut out = Vec::new();
    pipeline.write_exposition(Vec::new(), Format::Text, &mut out);
    let text = String::from_utf8(out).expect("an exposition is text");
    assert!(text.contains("ti{dag=\"b\"} 2\n"), "{text}");
}

#[test]
fn few_lines_decide_nothing() {
    let pipeline = pipeline();
    ingest(&pipeline, "ti,dag=a:1|c\nti.a:1|c");
    ingest(&pipeline, &"ti.a:1|c\n".repeat(14));
    (0..5).for_each(|_| look(&pipeline));
    ingest(&pipeline, "ti,dag=a:1|c\nti.a:1|c");
    check(&pipeline, "ti{dag=\"a\"} 2");
}

#[test]
fn an_observation_that_comes_twice_counts_once_where_a_rule_says_so() {
    let rules = "mappings:
- {match: a.*, name: one, labels: {id: $1}, drop_repeats_within: 1s}
- {match: b, name: two}
";
    let loaded = Mapper::from_text(rules.as_bytes(), "m.yml", LoadOptions::default()).expect("it loads");
    let mapper = Arc::new(loaded.mapper);
    let pipeline = Pipeline::new(PipelineOptions { mapper, ..PipelineOptions::default() }, None);
    ingest(&pipeline, "a.x:1500|ms\na.x:1500|ms\na.y:1500|ms\na.x:2500|ms\na.x:2500|ms\nb:1|ms\nb:1|ms");
    ingest(&pipeline, "a.x:1500|ms\na.x:3500|ms\na.x:1500|ms\na.x:3500|ms");
    pipeline.look(|core| core.ledger.check()).expect("the ledger closes");
    let mut out = Vec::new();
    pipeline.write_exposition(Vec::new(), Format::Text, &mut out);
    let text = String::from_utf8(out).expect("an exposition is text");
    for line in ["one_sum{id=\"x\"} 9", "one_count{id=\"x\"} 4", "one_count{id=\"y\"} 1", "two_count 2"] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    assert_eq!(pipeline.look(|core| core.ledger.dropped), 4);
}

#[test]
fn tags_are_part_of_what_is_remembered() {
    let rules = "mappings:
- {match: a, match_tags: {present: [k]}, name: one, drop_tags: [k], labels: {from: k}}
- {match: a, name: two, rename_tags: {l: m}}
";
    let loaded = Mapper::from_text(rules.as_bytes(), "m.yml", LoadOptions::default()).expect("it loads");
    let mapper = Arc::new(loaded.mapper);
    let pipeline = Pipeline::new(PipelineOptions { mapper, ..PipelineOptions::default() }, None);
    for _ in 0..3 {
        ingest(&pipeline, "a:1|c\na,k=v:1|c\na,l=v:1|c\na:1|c|#k:w,l:v");
    }
    check(&pipeline, "one{from=\"k\"} 3 one{from=\"k\",l=\"v\"} 3 two 3 two{m=\"v\"} 3");
}

#[test]
fn what_the_kernel_counts_of_a_worse_copy_counts_once_the_better_one_has_expired() {
    let pipeline = pipeline();
    ingest(&pipeline, "ti,dag=b:1|c");
    ingest(&pipeline, "ti.a:1|c|@0.5");
    ingest(&pipeline, "ti.a:1|g");
    let grow = |entry, lines, sum, at| {
        pipeline
            .core
            .lock()
            .grow(Growth { entry, lines, sum, last: None }, Timestamp(Timestamp::now().0 + at));
    };
    pipeline.look(|core| {
        let units = [0, 1, 2].map(|entry| core.cache.entry(entry).and_then(|entry| unit(&entry.recipe)));
        assert_eq!(units, [Some(1), Some(2), None], "a gauge may not be promoted");
    });
    grow(1, 3, 5, 0);
    check(&pipeline, "ti{dag=\"b\"} 1");
    assert_eq!(pipeline.look(|core| core.ledger.dropped), 5);
    let later = 20_000_000_000;
    while pipeline.core.lock().registry.expire(Timestamp(Timestamp::now().0 + later)).more {}
    grow(1, 3, 5, later);
    check(&pipeline, "ti{dag=\"a\"} 10");
}
