//! Mapping file -> what it costs: to load, to use on a warm cache, and for names never seen.

use std::{fmt::Write as _, hint::black_box, sync::Arc, time::Duration};

use anyhow::Context as _;
use rotameter::{
    clock::Timestamp,
    datagram::{Datagram, Source, Transport},
    mapper::{LoadOptions, Loaded, Mapper},
    pipeline::{Pipeline, PipelineOptions},
};

use super::userspace::cold_payloads;
use crate::{
    machine::{resident_bytes, thread_cpu_time},
    report::Row,
};

/// Globs and regular expressions of the mapping file in the warm measurement.
pub const GLOBS: usize = 100;
pub const REGEXES: usize = 20;
/// Rules of the large file.
const LARGE_GLOBS: usize = 2000;
/// Names that were never seen before, in one run.
const NEW_NAMES: usize = 50_000;
/// Lines of a batch, as the rings hand them over.
const BATCH: usize = 64;

/// Every figure of this scenario.
///
/// # Errors
///
/// A mapping file of this module's own does not load, or the recording is missing.
pub fn measure(runs: usize) -> anyhow::Result<Vec<Row>> {
    // First, for memory that others have given back would not show.
    let mut rows = load_large(runs)?;
    rows.extend(warm(runs)?);
    rows.extend(cold(runs)?);
    Ok(rows)
}

/// Recorded timers and gauges, with and without a mapping file that takes most of them.
fn warm(runs: usize) -> anyhow::Result<Vec<Row>> {
    let payloads = cold_payloads()?;
    let (plain, mapped) = (pipeline(Mapper::default()), pipeline(mapper(&usual_file())?));
    for pipeline in [&plain, &mapped] {
        ingest(pipeline, &payloads);
    }
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let (plain, mapped) = (ingest(&plain, &payloads), ingest(&mapped, &payloads));
        without.push(plain);
        with.push(mapped);
        ratios.push(mapped / plain);
    }
    let share = mapped.look(|core| {
        let ledger = &core.ledger;
        100.0 * ledger.mapped as f64 / (ledger.mapped + ledger.unmapped) as f64
    });
    Ok(vec![
        Row::new("mapping", "warm line, no mapping file", "ns/line", &without),
        Row::new(
            "mapping",
            format!("warm line, {GLOBS} globs and {REGEXES} regexes, {share:.0} % mapped"),
            "ns/line",
            &with,
        ),
        Row::new("mapping", "warm, with a mapping file / without", "times", &ratios).at_most(1.3),
    ])
}

/// The mapping file of the figures for known and new lines.
#[must_use]
pub fn usual_file() -> String {
    airflow_file(GLOBS, REGEXES)
}

/// Lines with names of their own, which no other run has; a glob of [`usual_file`] takes them.
#[must_use]
pub fn new_names(run: usize) -> Vec<Vec<u8>> {
    let name = |n| format!("airflow.ti.finish.dag_{run}_{}.task_{n}.success:1|c", n % 500).into_bytes();
    (0..NEW_NAMES).map(name).collect()
}

/// Names of which each is new, taken by a glob that makes its segments labels; and the same ones known, which
/// is less than a usual line costs: all are counters, and a thousand stay in the cache.
fn cold(runs: usize) -> anyhow::Result<Vec<Row>> {
    let (mut warm, mut cold, mut orders, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        // A pipeline for each run, or the registry would grow from run to run.
        let pipeline = pipeline(mapper(&usual_file())?);
        let names = new_names(run);
        let known: Vec<Vec<u8>> = (0..NEW_NAMES).map(|n| names[n % 1000].clone()).collect();
        let new = ingest(&pipeline, &names);
        let started = thread_cpu_time();
        pipeline.settle_order(1);
        orders.push(nanoseconds_each(started, names.len()));
        ingest(&pipeline, &known);
        let again = ingest(&pipeline, &known);
        cold.push(new);
        warm.push(again);
        ratios.push(new / again);
    }
    Ok(vec![
        Row::new("mapping", "line of a known name", "ns/line", &warm),
        Row::new("mapping", "line of a new name, by glob into a new series", "ns/line", &cold),
        Row::new("mapping", "putting a new series in its place in the exposition", "ns/series", &orders),
        Row::new("mapping", "new name / the same name known", "times", &ratios),
    ])
}

fn load_large(runs: usize) -> anyhow::Result<Vec<Row>> {
    let text = airflow_file(LARGE_GLOBS, 0);
    let (mut milliseconds, mut mebibytes) = (Vec::new(), Vec::new());
    let mut kept = Vec::new();
    for _ in 0..runs {
        let before = resident_bytes()?;
        let started = thread_cpu_time();
        kept.push(black_box(mapper(&text)?));
        milliseconds.push((thread_cpu_time() - started).as_secs_f64() * 1e3);
        mebibytes.push((resident_bytes()? - before) / f64::from(1 << 20));
    }
    Ok(vec![
        Row::new("mapping", format!("loading {LARGE_GLOBS} globs"), "ms", &milliseconds).at_most(100.0),
        Row::new("mapping", format!("{LARGE_GLOBS} globs in memory"), "MiB", &mebibytes).at_most(20.0),
    ])
}

fn pipeline(mapper: Mapper) -> Pipeline {
    Pipeline::new(PipelineOptions { mapper: Arc::new(mapper), ..PipelineOptions::default() }, None)
}

/// The rules of a mapping file's text.
///
/// # Errors
///
/// It does not load.
pub fn mapper(text: &str) -> anyhow::Result<Mapper> {
    let Loaded { mapper, .. } = Mapper::from_text(text.as_bytes(), "generated.yml", LoadOptions::default())
        .context("the generated mapping file")?;
    Ok(mapper)
}

/// Takes all payloads; returns the nanoseconds that each cost.
fn ingest(pipeline: &Pipeline, payloads: &[Vec<u8>]) -> f64 {
    let received = Timestamp::now();
    let started = thread_cpu_time();
    let mut batch = Vec::with_capacity(BATCH);
    for payloads in payloads.chunks(BATCH) {
        batch.clear();
        batch.extend(payloads.iter().map(|payload| Datagram {
            payload,
            received,
            source: Source::Nameless,
            transport: Transport::Udp,
        }));
        pipeline.ingest(&batch);
    }
    nanoseconds_each(started, payloads.len())
}

/// A file in the style of Airflow's charts: rules that take what the recordings hold, and more of
/// their kind up to the numbers asked for.
#[must_use]
pub fn airflow_file(globs: usize, regexes: usize) -> String {
    let real = [
        ("airflow.dagrun.dependency-check.*", "airflow_dagrun_dependency_check", "dag_id"),
        ("airflow.pool.open_slots.*", "airflow_pool_open_slots", "pool"),
        ("airflow.pool.queued_slots.*", "airflow_pool_queued_slots", "pool"),
        ("airflow.pool.running_slots.*", "airflow_pool_running_slots", "pool"),
        ("airflow.pool.starving_tasks.*", "airflow_pool_starving_tasks", "pool"),
        ("airflow.executor.open_slots.*", "airflow_executor_open_slots", "executor"),
        ("airflow.executor.queued_tasks.*", "airflow_executor_queued_tasks", "executor"),
        ("airflow.executor.running_tasks.*", "airflow_executor_running_tasks", "executor"),
        ("airflow.triggers.running.*", "airflow_triggers_running", "hostname"),
        ("airflow.triggerer.capacity_left.*", "airflow_triggerer_capacity_left", "hostname"),
        ("airflow.ti.finish.*.*.*", "airflow_ti_finish", "dag_id"),
        ("airflow.dag.*.*.duration", "airflow_task_duration", "dag_id"),
    ];
    let mut text = String::from("mappings:\n");
    for (pattern, name, label) in real.into_iter().take(globs) {
        // Writing to a string does not fail.
        let _ = write!(text, "- match: {pattern}\n  name: {name}\n  labels:\n    {label}: \"$1\"\n");
        for star in 2..=pattern.matches('*').count() {
            let _ = writeln!(text, "    part_{star}: \"${star}\"");
        }
    }
    for n in real.len()..globs {
        let _ = write!(
            text,
            "- match: airflow.family_{}.*.event_{n}.*\n  name: airflow_event_{n}\n  labels:\n    dag_id: \"$1\"\n    task_id: \"$2\"\n",
            n % 40,
        );
    }
    for n in 0..regexes {
        let _ = write!(
            text,
            "- match: '^airflow\\.operator_{n}_([A-Za-z]+)\\.(.+)$'\n  match_type: regex\n  name: airflow_operator_{n}\n  labels:\n    operator: \"$1\"\n    rest: \"$2\"\n",
        );
    }
    text
}

fn nanoseconds_each(started: Duration, count: usize) -> f64 {
    (thread_cpu_time() - started).as_secs_f64() * 1e9 / count as f64
}
