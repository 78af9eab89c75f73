//! One registry in every format, against files that were read by hand; and the binary form read back
//! by a reader of its own.

mod reader;

use super::tests::{CLOCK, own, record, written_as};
use super::{Encoding, Format, OpenMetricsVersion};
use crate::registry::FamilyKind::{Counter, Gauge, Histogram, Summary};
use crate::registry::{Registry, RegistryConfig};

const DELIMITED: Format = Format::Protobuf(Encoding::Delimited);
const OPENMETRICS: Format = Format::OpenMetrics(OpenMetricsVersion::V1_0_0);

/// Something of everything: own families, escapes, all kinds, and numbers that no format agrees on.
fn registry() -> Registry {
    let mut registry = Registry::new(RegistryConfig::default());
    let awkward = [("dag_id", "a\"b\\c\nd é"), ("task_id", "")];
    record(&mut registry, Counter, "ti_finish_total", &awkward, 1_234_567.0);
    record(&mut registry, Counter, "ti_finish_total", &[], 0.5);
    record(&mut registry, Counter, "ti_start", &[("state", "ok")], 2.0);
    record(&mut registry, Gauge, "pool_open", &[("pool", "default")], f64::NEG_INFINITY);
    record(&mut registry, Gauge, "pool_open", &[], f64::NAN);
    // `scheduler` and `scheduler_created` are taken, so that neither can be derived.
    record(&mut registry, Counter, "scheduler_total", &[], 1.0);
    record(&mut registry, Gauge, "scheduler", &[], 1.0);
    record(&mut registry, Gauge, "scheduler_created", &[], 1.0);
    for value in [0.25, 3.0, 1.5] {
        record(&mut registry, Summary, "duration", &[("dag_id", "x")], value);
    }
    for value in [0.5, 3.0, 0.0, -1.0, 3.1, 3.7, 3.7, 70.0, f64::INFINITY] {
        record(&mut registry, Histogram, "delay", &[("dag_id", "x")], value);
    }
    registry
}

fn exposition(format: Format, series_max: usize) -> Vec<u8> {
    let own = vec![own("own_lines_total", &[("reason=\"a\\\\b\"", 3.0)]), own("own_size", &[("", 7.5)])];
    written_as(format, &mut registry(), own, series_max)
}

#[track_caller]
fn check(format: Format, expected: &str) {
    let text = String::from_utf8(exposition(format, 1000)).unwrap();
    assert!(text == expected, "this was written:\n{text}");
    if format == Format::Text || format == OPENMETRICS {
        assert_eq!(exposition(format, 1), expected.as_bytes(), "in steps of one series");
    }
}

#[test]
fn text() {
    check(Format::Text, include_str!("text.txt"));
}

#[test]
fn openmetrics() {
    check(OPENMETRICS, include_str!("openmetrics.txt"));
}

#[test]
fn protobuf_as_text() {
    check(Format::Protobuf(Encoding::Text), include_str!("protobuf.txt"));
}

#[test]
fn protobuf_in_lines() {
    check(Format::Protobuf(Encoding::CompactText), include_str!("protobuf_compact.txt"));
}

/// The text form and the binary form are written by different code; what is read from the one is what
/// stands in the other.
#[test]
fn protobuf_reads_back() {
    let families = reader::read(&exposition(DELIMITED, 1000)).expect("valid messages");
    let text: String = families.iter().flat_map(|family| [family.as_str(), "\n"]).collect();
    assert_eq!(text, include_str!("protobuf.txt"));
}

#[test]
fn a_large_family_is_split_and_loses_nothing() {
    let mut registry = Registry::new(RegistryConfig::default());
    for n in 0..10 {
        record(&mut registry, Counter, "x", &[("n", &n.to_string())], 1.0);
    }
    record(&mut registry, Gauge, "y", &[], 1.0);
    for (series_max, messages) in [(1000, 2), (10, 2), (5, 3), (4, 4), (1, 11)] {
        let families = reader::read(&written_as(DELIMITED, &mut registry, Vec::new(), series_max)).unwrap();
        assert_eq!(families.len(), messages, "in steps of {series_max}");
        assert!(families.iter().all(|family| family.contains("metric: {")));
        let series: usize = families.iter().map(|family| family.matches("metric: {").count()).sum();
        assert_eq!(series, 11);
    }
}

#[test]
fn what_comes_during_an_openmetrics_scrape_waits_for_the_next() {
    let mut registry = Registry::new(RegistryConfig::default());
    record(&mut registry, Counter, "a_total", &[], 1.0);
    record(&mut registry, Gauge, "z", &[], 1.0);
    let (mut cursor, mut out) = (super::Cursor::new(Vec::new(), OPENMETRICS, CLOCK), Vec::new());
    assert_eq!(cursor.write_slice(&mut registry, &mut out, 1, super::tests::NOW), super::Progress::More);
    record(&mut registry, Gauge, "a_created", &[], 1.0);
    while cursor.write_slice(&mut registry, &mut out, 1, super::tests::NOW) == super::Progress::More {}
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("\na_created 1.57783680025e+09\n") && !text.contains("# TYPE a_created"), "{text}");
    assert!(text.contains("\nz 1.0\n# EOF\n"), "{text}");
    let text = String::from_utf8(written_as(OPENMETRICS, &mut registry, Vec::new(), 1)).unwrap();
    assert!(text.contains("\na_created 1.0\n") && !text.contains("a_created 1.5"), "{text}");
}
