//! The model, set up like a recorded installation -> the same families, in about the same shares.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::corpus;

/// Percentage points by which the share of a type may differ.
const TYPE_TOLERANCE: f64 = 5.0;
/// Of a family that is a good part of the traffic.
const FAMILY_TOLERANCE: f64 = 6.0;
const DATAGRAMS: usize = 20_000;

/// What happens to few installations or once in a while, and may be missing on either side.
const RARE: [&str; 27] = [
    "api_server.dag_bag.cache_hit",
    "api_server.dag_bag.cache_miss",
    "api_server.dag_bag.cache_size",
    "asset.orphaned",
    "asset.triggered_dagruns",
    "asset.updates",
    "celery.execute_command.failure",
    "dag.callback_exceptions",
    "dag_processing.callback_only_count",
    "dag_processing.other_callback_count",
    "dag_processing.sla_callback_count",
    "dataset.orphaned",
    "dataset.triggered_dagruns",
    "dataset.updates",
    "job_end",
    "job_start",
    "previously_succeeded",
    "scheduler.dag_bag.cache_size",
    "scheduler.dag_bag.cache_miss",
    "scheduler.tasks.killed_externally",
    "sla_missed",
    "task_restored_to_dag",
    "task_restored_to_dag.<dag_id>",
    "triggers.blocked_main_thread",
    "zombies_killed",
    "ti.scheduled",
    "ti.scheduled.<queue>.<dag_id>.<task_id>",
];

#[derive(Default)]
struct Shape {
    families: BTreeMap<String, f64>,
    types: BTreeMap<String, f64>,
    lines: f64,
}

fn shape<'a>(datagrams: impl Iterator<Item = &'a [u8]>) -> Shape {
    let mut shape = Shape::default();
    for line in datagrams.flat_map(|datagram| datagram.split(|&byte| byte == b'\n')) {
        let line = String::from_utf8_lossy(line);
        let Some((name, sample)) = line.split_once(':') else { continue };
        let name = name.split(',').next().unwrap_or(name);
        let name = name.strip_prefix("airflow.").unwrap_or(name);
        let kind = sample.split('|').nth(1).unwrap_or("none").to_owned();
        *shape.families.entry(family::family(name).name).or_default() += 1.0;
        *shape.types.entry(kind).or_default() += 1.0;
        shape.lines += 1.0;
    }
    shape
}

impl Shape {
    fn share(of: &BTreeMap<String, f64>, key: &str, lines: f64) -> f64 {
        100.0 * of.get(key).copied().unwrap_or(0.0) / lines
    }
}

/// What the recorded installation did, beside what its name says.
struct Recording {
    name: &'static str,
    /// Tasks started in a second.
    tasks: f64,
    /// Seconds from one loop of the scheduler to the next.
    loop_seconds: f64,
    /// Whether tasks always waited for a slot, and each loop had 20 runs to look at.
    busy: bool,
}

#[track_caller]
fn check(recording: &Recording, version: Version, executor: Executor, dialect: Dialect, legacy_names: bool) {
    let slots = 4;
    let task_seconds = if recording.busy { slots as f64 / recording.tasks - 0.55 } else { 4.5 };
    let settings = Settings {
        version,
        executor,
        dialect,
        legacy_names,
        schedulers: 1,
        workers: 1,
        worker_slots: if recording.busy { slots } else { 40 },
        dags: 29,
        tasks_per_dag: 3,
        pools: if version == Version::V3_1 { 5 } else { 6 },
        task_instances_per_day: 86_400.0 * recording.tasks * if recording.busy { 2.0 } else { 1.0 },
        task_time: Duration::from_secs_f64(task_seconds),
        loop_time: Duration::from_secs_f64(recording.loop_seconds),
        ..Settings::preset(Preset::Small)
    };
    let recording = recording.name;
    let model: Vec<Datagram> = Fleet::new(settings, 3).take(DATAGRAMS).collect();
    let model = shape(model.iter().map(|datagram| datagram.bytes.as_slice()));
    let recorded = corpus::load(recording).expect("the recording is there");
    let recorded = shape(recorded.iter().map(|datagram| datagram.payload.as_slice()));

    let names = |shape: &Shape| -> BTreeSet<String> {
        shape.families.keys().filter(|name| !RARE.contains(&name.as_str())).cloned().collect()
    };
    let (here, there) = (names(&model), names(&recorded));
    let only_model: Vec<_> = here.difference(&there).collect();
    let only_recorded: Vec<_> = there.difference(&here).collect();
    assert!(
        only_model.is_empty() && only_recorded.is_empty(),
        "{recording}: only the model has {only_model:?}, only the recording {only_recorded:?}"
    );
    let mut off = Vec::new();
    for (of_model, of_recorded, tolerance) in [
        (&model.types, &recorded.types, TYPE_TOLERANCE),
        (&model.families, &recorded.families, FAMILY_TOLERANCE),
    ] {
        for key in of_recorded.keys() {
            let ours = Shape::share(of_model, key, model.lines);
            let theirs = Shape::share(of_recorded, key, recorded.lines);
            if (ours - theirs).abs() > tolerance {
                off.push(format!(
                    "{key} is {ours:.1} % of the model's lines, {theirs:.1} % of the recording's"
                ));
            }
        }
    }
    assert!(off.is_empty(), "{recording}: {off:#?}");
}

#[test]
fn airflow_2_11_is_sent_as_recorded() {
    let (celery, local) = (Executor::Celery, Executor::Local);
    let recording =
        Recording { name: "airflow-v2-celery-default", tasks: 2.05, loop_seconds: 0.65, busy: true };
    check(&recording, Version::V2_11, celery, Dialect::Plain, true);
    let recording = Recording { name: "airflow-v2-local-influx", tasks: 2.03, loop_seconds: 1.0, busy: true };
    check(&recording, Version::V2_11, local, Dialect::Influx, true);
    let recording =
        Recording { name: "airflow-v2-celery-datadog", tasks: 1.6, loop_seconds: 0.78, busy: true };
    check(&recording, Version::V2_11, celery, Dialect::Datadog, true);
}

#[test]
fn airflow_3_1_is_sent_as_recorded() {
    let recording =
        Recording { name: "airflow-v31-local-default", tasks: 2.82, loop_seconds: 0.62, busy: false };
    check(&recording, Version::V3_1, Executor::Local, Dialect::Plain, true);
}

#[test]
fn airflow_3_3_is_sent_as_recorded() {
    let (celery, local) = (Executor::Celery, Executor::Local);
    let recording =
        Recording { name: "airflow-v3-celery-default", tasks: 1.55, loop_seconds: 0.75, busy: true };
    check(&recording, Version::V3_3, celery, Dialect::Plain, true);
    let recording =
        Recording { name: "airflow-v3-local-datadog", tasks: 2.75, loop_seconds: 0.76, busy: false };
    check(&recording, Version::V3_3, local, Dialect::Datadog, true);
    let name = "airflow-v3-local-datadog-newnames";
    let recording = Recording { name, tasks: 2.28, loop_seconds: 1.19, busy: true };
    check(&recording, Version::V3_3, local, Dialect::Datadog, false);
}
