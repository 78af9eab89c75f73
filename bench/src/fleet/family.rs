//! A metric name -> its family: the name with every id replaced by what kind of id it is.
//!
//! Old names hold ids of free form, so this knows what may stand before and behind them.

/// A name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// As `ti.start.<dag_id>.<task_id>`.
    pub name: String,
    /// Where in the metric name the id begins by which installations differ: of a DAG, file or host.
    pub id_at: Option<usize>,
}

/// Beginning, what the ids behind it are, and how many parts stand before the DAG's id.
const BY_PREFIX: [(&str, &str, Option<usize>); 32] = [
    ("ti.start.", "<dag_id>.<task_id>", Some(0)),
    ("ti.finish.", "<dag_id>.<task_id>.<state>", Some(0)),
    ("ti.running.", "<queue>.<dag_id>.<task_id>", Some(1)),
    ("ti.queued.", "<queue>.<dag_id>.<task_id>", Some(1)),
    ("ti.scheduled.", "<queue>.<dag_id>.<task_id>", Some(1)),
    ("ti.deferred.", "<queue>.<dag_id>.<task_id>", Some(1)),
    ("task.cpu_usage.", "<dag_id>.<task_id>", Some(0)),
    ("task.mem_usage.", "<dag_id>.<task_id>", Some(0)),
    ("local_task_job.task_exit.", "<job_id>.<dag_id>.<task_id>.<return_code>", Some(1)),
    ("dagrun.duration.success.", "<dag_id>", Some(0)),
    ("dagrun.duration.failed.", "<dag_id>", Some(0)),
    ("dagrun.schedule_delay.", "<dag_id>", Some(0)),
    ("dagrun.dependency-check.", "<dag_id>", Some(0)),
    ("task_restored_to_dag.", "<dag_id>", Some(0)),
    ("task_removed_from_dag.", "<dag_id>", Some(0)),
    ("dag_processing.last_duration.", "<file>", Some(0)),
    ("dag_processing.last_run.seconds_ago.", "<file>", Some(0)),
    ("dag_processing.last_num_of_db_queries.", "<file>", Some(0)),
    ("triggers.running.", "<hostname>", Some(0)),
    ("triggerer.capacity_left.", "<hostname>", Some(0)),
    ("operator_successes_", "<operator>", None),
    ("operator_failures_", "<operator>", None),
    ("task_instance_created_", "<operator>", None),
    ("executor.open_slots.", "<executor>", None),
    ("executor.queued_tasks.", "<executor>", None),
    ("executor.running_tasks.", "<executor>", None),
    ("pool.open_slots.", "<pool>", None),
    ("pool.queued_slots.", "<pool>", None),
    ("pool.running_slots.", "<pool>", None),
    ("pool.deferred_slots.", "<pool>", None),
    ("pool.scheduled_slots.", "<pool>", None),
    ("pool.starving_tasks.", "<pool>", None),
];
/// Beginning and end around `<dag_id>.<task_id>`, or `<dag_id>`; the longer ends first.
const AROUND: [(&str, &str, &str); 4] = [
    ("dag.", ".queued_duration", "<dag_id>.<task_id>"),
    ("dag.", ".scheduled_duration", "<dag_id>.<task_id>"),
    ("dag.", ".duration", "<dag_id>.<task_id>"),
    ("dagrun.", ".first_task_scheduling_delay", "<dag_id>"),
];

/// The family of a name without its prefix and tags.
#[must_use]
pub fn family(name: &str) -> Family {
    for (begin, ids, before) in BY_PREFIX {
        if let Some(rest) = name.strip_prefix(begin) {
            let skipped: usize = rest.split('.').take(before.unwrap_or(0)).map(|part| part.len() + 1).sum();
            let id_at = before.map(|_| (begin.len() + skipped).min(name.len()));
            return Family { name: format!("{begin}{ids}"), id_at };
        }
    }
    for (begin, end, ids) in AROUND {
        let inner = name.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
        if inner.is_some_and(|inner| !inner.is_empty()) {
            return Family { name: format!("{begin}{ids}{end}"), id_at: Some(begin.len()) };
        }
    }
    Family { name: name.to_owned(), id_at: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: &str, id: &str) {
        let found = family(name);
        assert_eq!(found.name, expected);
        assert_eq!(found.id_at.map_or("", |at| &name[at..]), id);
    }

    #[test]
    fn names_are_taken_apart() {
        check("ti.start.a.b.t", "ti.start.<dag_id>.<task_id>", "a.b.t");
        check("ti.running.default.a.t", "ti.running.<queue>.<dag_id>.<task_id>", "a.t");
        check("dag.a.b.queued_duration", "dag.<dag_id>.<task_id>.queued_duration", "a.b.queued_duration");
        check("dag.callback_exceptions", "dag.callback_exceptions", "");
        check("dagrun.first_task_scheduling_delay", "dagrun.first_task_scheduling_delay", "");
        check(
            "local_task_job.task_exit.7.a.t.0",
            "local_task_job.task_exit.<job_id>.<dag_id>.<task_id>.<return_code>",
            "a.t.0",
        );
        check("pool.open_slots.default_pool", "pool.open_slots.<pool>", "");
        check("scheduler_heartbeat", "scheduler_heartbeat", "");
        check("ti.running.", "ti.running.<queue>.<dag_id>.<task_id>", "");
    }
}
