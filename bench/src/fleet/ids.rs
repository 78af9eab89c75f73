//! Numbers of DAGs, tasks and pools -> their ids, as people name them.

use super::settings::{Settings, Version};

const TEAMS: [&str; 12] = [
    "orders",
    "billing",
    "marketing",
    "retail",
    "customer",
    "inventory",
    "finance",
    "risk",
    "ads",
    "search",
    "supply",
    "people",
];
const SUBJECTS: [&str; 10] = [
    "ingest",
    "daily_rollup",
    "features",
    "export",
    "sync",
    "snapshot",
    "quality_checks",
    "report",
    "training",
    "backfill",
];
const STEPS: [&str; 10] = [
    "extract",
    "validate",
    "load",
    "transform",
    "publish",
    "wait_for_partner",
    "notify",
    "compact",
    "branch",
    "clean",
];
const OPERATORS: [&str; 8] = [
    "PythonOperator",
    "BashOperator",
    "_PythonDecoratedOperator",
    "SparkSubmitOperator",
    "KubernetesPodOperator",
    "ExternalTaskSensor",
    "SQLExecuteQueryOperator",
    "EmptyOperator",
];

/// An id as its owner wrote it, and as it stands in a name.
#[derive(Clone, Debug)]
pub(super) struct Id {
    pub(super) real: String,
    pub(super) encoded: String,
}

impl Id {
    fn new(real: String, version: Version) -> Self {
        // From 3.2 on a dot in an id is spelt as two underscores.
        let encoded = if version == Version::V3_3 { real.replace('.', "__") } else { real.clone() };
        Self { real, encoded }
    }
}

/// All ids of a fleet.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    pub(super) dags: Vec<Id>,
    /// The same in each DAG.
    pub(super) tasks: Vec<Id>,
    /// Each DAG has a file; its stem.
    pub(super) files: Vec<String>,
    pub(super) pools: Vec<String>,
    pub(super) triggerers: Vec<Id>,
}

impl Ids {
    pub(super) fn new(settings: &Settings) -> Self {
        let dag_name = |number: usize, separator: &str| {
            let team = TEAMS[number % TEAMS.len()];
            let subject = SUBJECTS[number / TEAMS.len() % SUBJECTS.len()];
            format!("{team}{separator}{subject}_{number}")
        };
        let dag = |number: usize| {
            // One in eight has a dot in its id, as many have a dash.
            let separator = match number % 8 {
                3 => ".",
                5 => "-",
                _ => "_",
            };
            Id::new(dag_name(number, separator), settings.version)
        };
        let task = |number: usize| {
            let step = STEPS[number % STEPS.len()];
            // Task groups put a dot into every id in them.
            let group = if number % 4 == 3 { format!("group_{}.", number / 8) } else { String::new() };
            Id::new(format!("{group}{step}_{number}"), settings.version)
        };
        let pool = |number: usize| match number {
            0 => "default_pool".to_owned(),
            1 => "unlimited".to_owned(),
            _ => format!("{}_pool_{number}", TEAMS[number % TEAMS.len()]),
        };
        let triggerer = |number: usize| {
            let real = format!("airflow-triggerer-{number}.airflow-triggerer.airflow.svc.cluster.local");
            Id::new(real, settings.version)
        };
        Self {
            dags: (0..settings.dags).map(dag).collect(),
            tasks: (0..settings.tasks_per_dag).map(task).collect(),
            files: (0..settings.dags).map(|number| dag_name(number, "_")).collect(),
            pools: (0..settings.pools).map(pool).collect(),
            triggerers: (0..settings.triggerers).map(triggerer).collect(),
        }
    }
}

/// The operator class of a task.
pub(super) const fn operator(task: usize) -> &'static str {
    OPERATORS[task % OPERATORS.len()]
}

/// How many operator classes DAGs of so many tasks have.
pub(super) fn operators(tasks: usize) -> usize {
    tasks.min(OPERATORS.len())
}

/// The queue that a DAG's tasks go to.
pub(super) const fn queue(dag: usize) -> &'static str {
    if dag % 5 == 4 { "high_memory" } else { "default" }
}
