//! Recordings -> totals of each DAG, task and state, counted anew by a slow and obvious script.

use std::collections::BTreeMap;

use super::{dag_ids, is_tagged, recorded, replay, samples, settings, version_of};
use crate::corpus;
use rotameter::profile::Settings;

/// Family, plain name, label names, and what a value counts.
type Family = (&'static str, &'static str, &'static [&'static str], fn(f64) -> f64);

type Totals = BTreeMap<Vec<String>, f64>;

/// A line of a recording, taken apart as far as this needs it.
struct Line {
    name: String,
    tags: BTreeMap<String, String>,
    value: f64,
}

fn lines(recording: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for datagram in recorded(recording).iter() {
        let text = std::str::from_utf8(&datagram.payload).expect("Airflow sends UTF-8");
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            let (head, rest) = line.split_once(':').expect("a line has a colon");
            let (value, rest) = rest.split_once('|').expect("a line has a type");
            let (name, head_tags) = head.split_once(',').unwrap_or((head, ""));
            let section = rest.split_once("|#").map_or("", |(_, tags)| tags);
            let tags = head_tags.split(',').filter_map(|tag| tag.split_once('='));
            let tags = tags.chain(section.split(',').filter_map(|tag| tag.split_once(':')));
            let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            let value = value.parse().expect("a value is a number");
            lines.push(Line { name: name.to_owned(), tags, value });
        }
    }
    lines
}

/// Reads `dag.task` by the rule without a list of ids, or by the list: the longest id that fits.
fn split_ids(text: &str, known: &[String]) -> Option<(String, String)> {
    let fits = known.iter().filter_map(|id| {
        let flat = id.replace('.', "__");
        let rest =
            [id.as_str(), &flat].into_iter().find_map(|id| text.strip_prefix(id)?.strip_prefix('.'))?;
        Some((id.clone(), rest.to_owned()))
    });
    let (dag, task) = text.split_once('.')?;
    Some(fits.max_by_key(|(id, _)| id.len()).unwrap_or((dag.to_owned(), task.to_owned())))
}

/// Totals by the given ids, from the copies that have them: tags, or the name behind `named`.
fn expected(
    lines: &[Line],
    tagged: bool,
    plain: &str,
    keys: &[&str],
    known: &[String],
    count: fn(f64) -> f64,
) -> Totals {
    let mut totals = Totals::new();
    for line in lines {
        let ids: Option<Vec<String>> = if tagged {
            (line.name == plain)
                .then(|| keys.iter().map(|key| line.tags.get(*key).cloned()).collect())
                .flatten()
        } else {
            let rest = line.name.strip_prefix(plain).and_then(|rest| rest.strip_prefix('.'));
            let (rest, state) = match (rest, keys.len()) {
                (Some(rest), 3) => rest.rsplit_once('.').map_or((None, None), |(a, b)| (Some(a), Some(b))),
                (rest, _) => (rest, None),
            };
            rest.and_then(|rest| split_ids(rest, known)).map(|(dag, task)| {
                [Some(dag), Some(task), state.map(str::to_owned)].into_iter().flatten().collect()
            })
        };
        if let Some(ids) = ids {
            *totals.entry(ids).or_default() += count(line.value);
        }
    }
    totals
}

fn shown(text: &str, family: &str, keys: &[&str]) -> Totals {
    let mut totals = Totals::new();
    for sample in samples(text).filter(|sample| sample.name == family) {
        let ids: Vec<String> = keys.iter().map(|key| sample.label(key).to_owned()).collect();
        *totals.entry(ids).or_default() += sample.value;
    }
    totals
}

/// Without what is 0: Airflow 2 sends a 0 for each state of each task, and siblings begin there.
fn moved(mut totals: Totals) -> Totals {
    totals.retain(|_, total| *total != 0.0);
    totals
}

#[track_caller]
fn check(recording: &str, settings: &Settings, known: &[String]) {
    let (text, lines) = (replay("airflow", recording, settings), lines(recording));
    let tagged = is_tagged(recording);
    let same = |value: f64| value;
    let once = |_: f64| 1.0;
    let families: [Family; 3] = [
        ("airflow_task_start_total", "airflow.ti.start", &["dag_id", "task_id"], same),
        ("airflow_task_finish_total", "airflow.ti.finish", &["dag_id", "task_id", "state"], same),
        ("airflow_task_duration_seconds_count", "airflow.task.duration", &["dag_id", "task_id"], once),
    ];
    for (family, plain, keys, count) in families {
        if !tagged && plain == "airflow.task.duration" {
            continue;
        }
        let expected = moved(expected(&lines, tagged, plain, keys, known, count));
        assert!(expected.len() > 20, "{recording} {family}: the script finds next to nothing");
        assert_eq!(moved(shown(&text, family, keys)), expected, "{recording} {family}");
    }
    // What has no ids, and what had them and shows less of them here.
    let sum = |name: &str, tag: &str| -> f64 {
        let fits =
            |line: &&Line| line.name == name && (!tagged || tag.is_empty() || line.tags.contains_key(tag));
        lines.iter().filter(fits).map(|line| line.value).sum()
    };
    let all = |family: &str| {
        samples(&text).filter(|sample| sample.name == family).map(|sample| sample.value).sum::<f64>()
    };
    for (family, name, tag) in [
        ("airflow_task_successes_total", "airflow.ti_successes", "dag_id"),
        ("airflow_task_failures_total", "airflow.ti_failures", "dag_id"),
        ("airflow_operator_successes_total", "airflow.operator_successes", "task_id"),
        ("airflow_operator_failures_total", "airflow.operator_failures", "task_id"),
        ("airflow_task_instances_created_total", "airflow.task_instance_created", "task_type"),
        ("airflow_scheduler_heartbeats_total", "airflow.scheduler_heartbeat", ""),
        ("airflow_tasks_restored_to_dag_total", "airflow.task_restored_to_dag", "dag_id"),
    ] {
        assert!(
            (all(family) - sum(name, tag)).abs() < 1e-6,
            "{recording} {family}: {} {}",
            all(family),
            sum(name, tag)
        );
    }
    let count = |name: &str| lines.iter().filter(|line| line.name == name).count() as f64;
    let named =
        |name: &str| lines.iter().filter(|line| line.name.starts_with(&format!("{name}."))).count() as f64;
    for (family, name) in [
        ("airflow_dag_run_dependency_check_duration_seconds_count", "airflow.dagrun.dependency-check"),
        ("airflow_dag_run_schedule_delay_seconds_count", "airflow.dagrun.schedule_delay"),
    ] {
        let wanted = if tagged { count(name) } else { named(name) };
        assert_eq!(all(family), wanted, "{recording} {family}");
    }
    // From 3.2 on it comes twice with its id in the name, and once without.
    let family = "airflow_dag_run_first_task_scheduling_delay_seconds_count";
    assert_eq!(all(family), count("airflow.dagrun.first_task_scheduling_delay"), "{recording} {family}");
    let plain_gauges = ["airflow_pool_slots", "airflow_pool_starving_tasks"];
    let unowned = samples(&text)
        .filter(|sample| plain_gauges.contains(&sample.name) && sample.label("pool").is_empty());
    assert_eq!(unowned.count(), 0, "{recording}: a gauge without its pool");
}

#[test]
fn each_event_counts_once_under_its_ids() {
    for recording in corpus::names().expect("the corpus is there") {
        check(&recording, &settings(version_of(&recording)), &[]);
    }
}

#[test]
fn with_a_list_of_ids_each_dag_has_its_own() {
    let ids = dag_ids(include_str!("../corpus/dags.json"));
    let known: Vec<String> = ids.iter().map(|id| id.as_str().to_owned()).collect();
    for recording in ["airflow-v2-local-default", "airflow-v31-local-default", "airflow-v3-local-default"] {
        let settings = Settings { dag_ids: ids.clone(), ..settings(version_of(recording)) };
        check(recording, &settings, &known);
        let text = replay("airflow", recording, &settings);
        let dags = shown(&text, "airflow_task_start_total", &["dag_id"]);
        for dag in dags.keys() {
            assert!(known.contains(&dag[0]), "{recording}: {} is no DAG", dag[0]);
        }
    }
}

#[test]
fn timers_are_in_seconds_whatever_they_were_sent_in() {
    for recording in corpus::names().expect("the corpus is there") {
        let text = replay("airflow", &recording, &settings(version_of(&recording)));
        // What is plausible for these recordings, of a quarter of an hour at most.
        for (family, least, most) in [
            ("airflow_task_duration_seconds", 0.1, 60.0),
            ("airflow_task_scheduled_duration_seconds", 0.05, 120.0),
            ("airflow_dag_run_duration_seconds", 5.0, 300.0),
            ("airflow_dag_run_schedule_delay_seconds", 0.2, 60.0),
            ("airflow_dag_run_dependency_check_duration_seconds", 0.001, 0.1),
            ("airflow_scheduler_loop_duration_seconds", 0.05, 5.0),
            ("airflow_dag_file_processing_duration_seconds", 0.1, 5.0),
        ] {
            let part = |end: &str| {
                let name = format!("{family}{end}");
                samples(&text).filter(|sample| sample.name == name).map(|sample| sample.value).sum::<f64>()
            };
            let mean = part("_sum") / part("_count");
            // Airflow 3.1 sends nothing of the last one.
            assert!(mean.is_nan() || (least..most).contains(&mean), "{recording} {family}: {mean}");
        }
    }
}
