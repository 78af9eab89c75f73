//! Events -> the whole text, and a strict reader over random ones.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::registry::{HistogramOptions, Refusal, RegistryConfig, SeriesId, SeriesRequest, SummaryOptions};

pub(super) const NOW: Timestamp = Timestamp(1_000_000_000);

fn resolve(
    registry: &mut Registry,
    kind: FamilyKind,
    family: &str,
    labels: &[(&str, &str)],
    ttl: Option<Duration>,
) -> Result<SeriesId, Refusal> {
    let summary = &SummaryOptions::default();
    let histogram = &HistogramOptions { buckets: vec![1.0, 0.1], ..HistogramOptions::default() };
    let help = "h\\e\nlp";
    let request = SeriesRequest {
        family,
        kind,
        labels,
        help,
        ttl,
        max_series: None,
        label_budget: None,
        sender_gauge: None,
        summary,
        histogram,
    };
    registry.resolve(&request, NOW).map(|resolved| resolved.id)
}

/// A counter or a gauge, by its name.
pub(super) fn own(name: &str, samples: &[(&str, f64)]) -> OwnFamily {
    OwnFamily {
        name: name.to_owned(),
        help: String::new(),
        kind: if name.ends_with("_total") { FamilyKind::Counter } else { FamilyKind::Gauge },
        samples: samples.iter().map(|(labels, value)| ((*labels).to_owned(), *value)).collect(),
    }
}

/// One event of each kind with value `value`.
pub(super) fn record(
    registry: &mut Registry,
    kind: FamilyKind,
    family: &str,
    labels: &[(&str, &str)],
    value: f64,
) {
    let Ok(id) = resolve(registry, kind, family, labels, None) else { return };
    match kind {
        FamilyKind::Counter => registry.add(id, value, NOW).unwrap(),
        FamilyKind::Gauge => registry.set(id, value, NOW, NOW).map(|_| ()).unwrap(),
        FamilyKind::Summary | FamilyKind::Histogram => registry.observe(id, value, 1, NOW).unwrap(),
    }
}

/// `NOW` is 2020-01-01 00:00:00.25.
pub(super) const CLOCK: WallClock = WallClock::at(NOW, 1_577_836_800_250_000_000);

pub(super) fn written_as(
    format: Format,
    registry: &mut Registry,
    own: Vec<OwnFamily>,
    series_max: usize,
) -> Vec<u8> {
    let (mut cursor, mut out) = (Cursor::new(own, format, CLOCK), Vec::new());
    while cursor.write_slice(registry, &mut out, series_max, NOW) == Progress::More {}
    out
}

fn written(registry: &mut Registry, own: Vec<OwnFamily>, series_max: usize) -> String {
    let out = written_as(Format::Text, registry, own, series_max);
    String::from_utf8(out).unwrap()
}

type Event<'a> = (FamilyKind, &'a str, &'a [(&'a str, &'a str)], f64);

#[track_caller]
fn check(events: &[Event<'_>], expected: &str) {
    let mut registry = Registry::new(RegistryConfig::default());
    for (kind, family, labels, value) in events {
        record(&mut registry, *kind, family, labels, *value);
    }
    for series_max in [1, 2, 3, 1000] {
        let text = written(&mut registry, Vec::new(), series_max).replace("# HELP x h\\\\e\\nlp\n", "");
        assert_eq!(text, expected);
        read_strictly(&text);
    }
}

use FamilyKind::{Counter as C, Gauge as G, Histogram as H, Summary as S};

#[test]
fn series_are_sorted_by_number_of_labels_then_by_value() {
    check(
        &[
            (C, "x", &[("a", "x y")], 1.0),
            (C, "x", &[("a", "x"), ("b", "")], 2.5),
            (C, "x", &[("b", "x")], 3.0),
            (C, "x", &[], 1e6),
        ],
        "# TYPE x counter\nx 1e+06\nx{b=\"x\"} 3\nx{a=\"x y\"} 1\nx{a=\"x\",b=\"\"} 2.5\n",
    );
}

#[test]
fn values_are_escaped() {
    check(&[(G, "x", &[("a", "\\ \" \n \r é")], -0.0)], "# TYPE x gauge\nx{a=\"\\\\ \\\" \\n \r é\"} 0\n");
}

#[test]
fn a_histogram_is_cumulative() {
    check(
        &[(H, "x", &[("a", "1")], 0.1), (H, "x", &[("a", "1")], 0.5), (H, "x", &[("a", "1")], 7.0)],
        "# TYPE x histogram
x_bucket{a=\"1\",le=\"0.1\"} 1
x_bucket{a=\"1\",le=\"1\"} 2
x_bucket{a=\"1\",le=\"+Inf\"} 3
x_sum{a=\"1\"} 7.6
x_count{a=\"1\"} 3
",
    );
}

#[test]
fn a_summary_has_its_quantiles_first() {
    check(
        &[(S, "x", &[], 2.0), (S, "x", &[], 1.0)],
        "# TYPE x summary
x{quantile=\"0.5\"} 1
x{quantile=\"0.9\"} 2
x{quantile=\"0.99\"} 2
x_sum 3
x_count 2
",
    );
}

#[test]
fn own_families_stand_in_order_among_the_others() {
    let mut registry = Registry::new(RegistryConfig::default());
    for family in ["a", "c", "m"] {
        record(&mut registry, C, family, &[], 1.0);
    }
    let own = || {
        vec![own("m", &[("", 7.0)]), own("b", &[("k=\"v\"", 1.5)]), own("none", &[]), own("z", &[("", 0.0)])]
    };
    let text = written(&mut registry, own(), 1);
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
    assert_eq!(
        lines,
        [
            "# TYPE a counter",
            "a 1",
            "# TYPE b gauge",
            "b{k=\"v\"} 1.5",
            "# TYPE c counter",
            "c 1",
            "# TYPE m gauge",
            "m 7",
            "# TYPE z gauge",
            "z 0",
        ]
    );
    assert_eq!(written(&mut registry, own(), 1000), text);
    read_strictly(&text);
}

#[test]
fn what_comes_and_goes_during_a_scrape_leaves_it_valid() {
    let mut registry = Registry::new(RegistryConfig::default());
    let name = |n: u32| format!("f{}", n % 7);
    let ttl = |n: u32| n.is_multiple_of(3).then_some(Duration::from_secs(u64::from(n % 50)));
    for n in 0..3000 {
        resolve(&mut registry, C, &name(n), &[("n", &(n * 7919 % 3001).to_string())], ttl(n)).unwrap();
    }
    let (mut cursor, mut out, mut now) = (Cursor::new(Vec::new(), Format::Text, CLOCK), Vec::new(), NOW);
    let mut n = 3000;
    while cursor.write_slice(&mut registry, &mut out, 50, now) == Progress::More {
        now = now.after(Duration::from_secs(1));
        registry.expire(now);
        for _ in 0..20 {
            n += 1;
            resolve(&mut registry, C, &name(n), &[("n", &(n * 7919 % 100_003).to_string())], ttl(n)).unwrap();
        }
        assert!(n < 100_000, "the scrape does not end");
    }
    let samples = read_strictly(str::from_utf8(&out).unwrap());
    assert!(samples >= 2000, "series that lived all the time are there");
}

#[test]
fn a_name_that_is_forgotten_during_a_scrape_leaves_it_valid() {
    let ttl = Some(Duration::from_secs(1));
    for format in [Format::Text, Format::OpenMetrics(OpenMetricsVersion::V1_0_0)] {
        let mut registry = Registry::new(RegistryConfig::new(30, 0));
        for n in 0..30 {
            resolve(&mut registry, C, &format!("f{n:02}"), &[], ttl).unwrap();
        }
        let (mut cursor, mut out, mut now) = (Cursor::new(Vec::new(), format, CLOCK), Vec::new(), NOW);
        let mut n = 0;
        while cursor.write_slice(&mut registry, &mut out, 4, now) == Progress::More {
            now = now.after(Duration::from_secs(2));
            registry.expire(now);
            for _ in 0..30 {
                // Before and behind what is being written, in places of names that are gone.
                n += 1;
                resolve(&mut registry, C, &format!("{}{:04}", ["a", "f", "z"][n % 3], 2000 - n), &[], ttl)
                    .unwrap();
            }
            assert!(n < 1000, "the scrape does not end");
        }
        if format == Format::Text {
            assert!(read_strictly(str::from_utf8(&out).unwrap()) > 4);
        } else {
            assert!(out.ends_with(b"# EOF\n"));
        }
    }
}

/// A reader as strict as the strictest of Prometheus' parsers; returns the number of samples.
#[track_caller]
fn read_strictly(text: &str) -> usize {
    let mut types: HashMap<&str, &str> = HashMap::new();
    let mut samples = HashSet::new();
    let mut family = "";
    let mut closed = HashSet::new();
    for line in text.lines() {
        if line.starts_with("# HELP ") {
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(owner(name, &types).is_none(), "{name} belongs to an earlier family");
            assert!(types.insert(name, kind).is_none() && name > family, "{line}");
            closed.insert(family);
            family = name;
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let _: f64 = value.parse().unwrap();
        let name = sample.split('{').next().unwrap();
        assert_eq!(owner(name, &types), Some(family), "{line}");
        assert!(!sample.contains('\0') && samples.insert(sample), "{line} is there twice");
    }
    samples.len()
}

/// The family to which a parser gives a sample called `name`.
fn owner<'a>(name: &'a str, types: &HashMap<&'a str, &'a str>) -> Option<&'a str> {
    let known = |name: &'a str, kinds: &[&str]| {
        types.get(name).is_some_and(|kind| kinds.contains(kind)).then_some(name)
    };
    known(name, &["counter", "gauge", "summary", "histogram"])
        .or_else(|| name.strip_suffix("_sum").and_then(|base| known(base, &["summary", "histogram"])))
        .or_else(|| name.strip_suffix("_count").and_then(|base| known(base, &["summary", "histogram"])))
        .or_else(|| name.strip_suffix("_bucket").and_then(|base| known(base, &["histogram"])))
}

proptest! {
    #[test]
    fn no_events_make_an_exposition_that_is_refused(
        events in prop::collection::vec((0..4_usize, "x(_sum|_count|_bucket){0,2}", 0..6_usize, "[a\0\n\"]?"), 0..40),
        series_max in 1..9_usize,
    ) {
        let mut registry = Registry::new(RegistryConfig::default());
        for (kind, family, names, value) in &events {
            let labels = [("le", value.as_str()), ("a", "1"), ("quantile", value.as_str()), ("__b", "c")];
            let labels = &labels[*names / 2..][..(*names % 3).min(2)];
            record(&mut registry, FamilyKind::ALL[*kind], family, labels, 1.0);
        }
        read_strictly(&written(&mut registry, Vec::new(), series_max));
    }
}
