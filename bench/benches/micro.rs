//! One stage at a time -> what a call costs: splitter, parser, mapper, registry, encoder.
//!
//! `cargo xtask bench micro`, or `cargo bench -p rotameter-bench`; a word behind it picks by name.

use std::{hint::black_box, ops::ControlFlow};

use divan::{Bencher, counter::ItemsCount};
use rotameter::{
    clock::{Timestamp, WallClock},
    exposition::{Cursor, Format, OpenMetricsVersion, Progress, Sink},
    kernel::identities::identity_of,
    line::{Dialects, Parser, Tally},
    mapper::{Captures, MetricType},
    registry::{FamilyKind, HistogramOptions, Registry, RegistryConfig, SeriesRequest, SummaryOptions},
};
use rotameter_bench::{
    fleet::{Dialect, Fleet, Preset, Settings},
    load::Payloads,
    scenario::mapping,
};

const LINES: usize = 1_000;
const NOW: Timestamp = Timestamp(1_000_000_000);
const GLOBS: usize = 100;
const REGEXES: usize = 20;

fn main() {
    divan::main();
}

/// What a large fleet sends, one line each.
fn lines(dialect: Dialect) -> Vec<Vec<u8>> {
    let fleet = Fleet::new(Settings { dialect, ..Settings::preset(Preset::Large) }, 1);
    let payloads = Payloads::collect(fleet, LINES);
    let first = |bytes: &[u8]| bytes.split(|&byte| byte == b'\n').next().unwrap_or_default().to_vec();
    payloads.iter().map(|payload| first(payload.bytes)).collect()
}

/// Lines of counters, which the kernel's splitter takes.
#[divan::bench]
fn splitter(bencher: Bencher<'_, '_>) {
    let mut lines = lines(Dialect::Plain);
    lines.retain(|line| identity_of(line, 1).is_some());
    assert!(lines.len() > LINES / 10, "a fleet sends lines with whole numbers");
    bencher.counter(ItemsCount::new(lines.len())).bench_local(|| {
        for line in &lines {
            black_box(identity_of(black_box(line), 1));
        }
    });
}

#[divan::bench(args = [Dialect::Plain, Dialect::Influx, Dialect::Datadog])]
fn parser(bencher: Bencher<'_, '_>, dialect: Dialect) {
    let lines = lines(dialect);
    let mut parser = Parser::new(Dialects::default());
    bencher.counter(ItemsCount::new(lines.len())).bench_local(|| {
        let mut tally = Tally::default();
        for line in &lines {
            parser.parse_line(black_box(line), &mut tally, &mut |event| {
                black_box(event.value());
            });
        }
        assert!(tally.events > 0);
    });
}

/// Names that a glob takes, that a regular expression takes, and that nothing takes.
#[divan::bench(args = ["airflow.ti.finish.dag_1.task_1.success", "airflow.operator_7_BashOperator.x", "airflow.none.of.them"])]
fn mapper(bencher: Bencher<'_, '_>, name: &str) {
    let mapper = mapping::mapper(&mapping::airflow_file(GLOBS, REGEXES)).expect("a file of our own");
    let mut captures = Captures::default();
    bencher.bench_local(|| {
        captures.clear();
        black_box(mapper.find(MetricType::Counter, black_box(name), &mut captures).is_some())
    });
}

/// A value for a series that is there.
#[divan::bench(args = ["counter", "gauge", "summary", "histogram"])]
fn registry_record(bencher: Bencher<'_, '_>, kind: &str) {
    let kind = match kind {
        "counter" => FamilyKind::Counter,
        "gauge" => FamilyKind::Gauge,
        "summary" => FamilyKind::Summary,
        _ => FamilyKind::Histogram,
    };
    let mut registry = Registry::new(RegistryConfig::default());
    let ids: Vec<_> = (0..LINES).map(|n| resolve(&mut registry, kind, n)).collect();
    bencher.counter(ItemsCount::new(ids.len())).bench_local(|| {
        for (n, &id) in ids.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
            let value = n as f64;
            let recorded = match kind {
                FamilyKind::Counter => registry.add(id, value, NOW),
                FamilyKind::Gauge => registry.set(id, value, NOW, NOW).map(drop),
                FamilyKind::Summary | FamilyKind::Histogram => registry.observe(id, value, 1, NOW),
            };
            assert!(recorded.is_ok());
        }
    });
}

/// Room for series that are not there yet.
#[divan::bench]
fn registry_resolve_new(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(LINES))
        .with_inputs(|| Registry::new(RegistryConfig::default()))
        .bench_local_values(|mut registry| {
            for n in 0..LINES {
                black_box(resolve(&mut registry, FamilyKind::Counter, n));
            }
            registry
        });
}

/// Throws away what is written.
struct Nowhere(usize);

impl Sink for Nowhere {
    fn take(&mut self, part: &mut Vec<u8>) -> ControlFlow<()> {
        self.0 += part.len();
        part.clear();
        ControlFlow::Continue(())
    }
}

/// A thousand counters with five labels.
#[divan::bench(args = ["text", "openmetrics"])]
fn encoder(bencher: Bencher<'_, '_>, format: &str) {
    let mut registry = Registry::new(RegistryConfig::default());
    for n in 0..LINES {
        let id = resolve(&mut registry, FamilyKind::Counter, n);
        assert!(registry.add(id, 1.0, NOW).is_ok());
    }
    let format =
        if format == "text" { Format::Text } else { Format::OpenMetrics(OpenMetricsVersion::V1_0_0) };
    let mut part = Vec::new();
    bencher.counter(ItemsCount::new(LINES)).bench_local(|| {
        let mut sink = Nowhere(0);
        let mut cursor = Cursor::new(Vec::new(), format, WallClock::at(NOW, 0));
        while cursor.write_slice(&mut registry, &mut part, 256, NOW) != Progress::Done {}
        let _ = sink.take(&mut part);
        assert!(sink.0 > LINES);
    });
}

fn resolve(registry: &mut Registry, kind: FamilyKind, n: usize) -> rotameter::registry::SeriesId {
    let (dag, task) = (format!("customer_{:04}", n / 100), format!("transform_{:02}", n % 100));
    let request = SeriesRequest {
        family: "airflow_ti_finish",
        kind,
        labels: &[
            ("dag_id", &dag),
            ("operator", "PythonOperator"),
            ("queue", "default"),
            ("state", "success"),
            ("task_id", &task),
        ],
        help: "Metric autogenerated by statsd_exporter.",
        ttl: None,
        max_series: None,
        summary: &SummaryOptions::default(),
        histogram: &HistogramOptions::default(),
        label_budget: None,
        sender_gauge: None,
    };
    registry.resolve(&request, NOW).expect("there is room").id
}
