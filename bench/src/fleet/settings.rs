//! The size and kind of an Airflow fleet -> numbers that the model runs on.

use std::time::Duration;

/// Which Airflow sends; they differ in families, tags and units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    #[value(name = "2.11")]
    V2_11,
    #[value(name = "3.1")]
    V3_1,
    #[value(name = "3.3")]
    V3_3,
}

/// Where tasks run, and with that, which addresses and ports send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Executor {
    /// In processes of the schedulers' hosts.
    Local,
    /// On workers with a fixed number of slots.
    Celery,
    /// Each in a pod with an address of its own.
    Kubernetes,
}

impl Executor {
    /// The class name that Airflow puts into names and tags.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Local => "LocalExecutor",
            Self::Celery => "CeleryExecutor",
            Self::Kubernetes => "KubernetesExecutor",
        }
    }
}

/// How tags are written, if they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// No tags: what is not in the name is lost.
    Plain,
    /// `name,key=value:1|c`
    Influx,
    /// `name:1|c|#key:value`, with constant tags and a line feed.
    Datadog,
}

/// Times at which more tasks start than on the mean, as at the full hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Times the mean of the day.
    pub factor: f64,
    pub lasts: Duration,
    pub every: Duration,
    /// Of the first peak.
    pub first: Duration,
}

/// A fleet. What is not said here follows from what Airflow was seen to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub version: Version,
    pub executor: Executor,
    pub dialect: Dialect,
    /// Whether 3.3 sends its old names beside the new ones; the others always do.
    pub legacy_names: bool,
    pub prefix: String,
    pub schedulers: usize,
    pub triggerers: usize,
    pub workers: usize,
    /// Tasks that a worker, or a scheduler's host with the local executor, runs at a time.
    pub worker_slots: usize,
    pub dags: usize,
    pub tasks_per_dag: usize,
    pub pools: usize,
    pub task_instances_per_day: f64,
    /// Mean time that a task takes.
    pub task_time: Duration,
    pub peak: Option<Peak>,
    /// Mean time from one loop of a scheduler to the next.
    pub loop_time: Duration,
    /// Tasks that one loop of a scheduler may queue: `max_tis_per_query`.
    pub tasks_per_loop: usize,
    /// From one report of all files, and of all task states, to the next.
    pub report_every: Duration,
    /// Whether all processes report at the same moment, which makes the largest bursts.
    pub aligned: bool,
    /// A process's datagrams per second within a burst: from, to.
    pub burst_rate: (f64, f64),
}

/// Ready-made fleets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// 100 DAGs, one scheduler.
    Small,
    /// 2,000 DAGs, a million task instances a day.
    Large,
    /// 10,000 DAGs, 1,000 Celery workers, ten million task instances a day, peaks of 20 times the mean.
    Huge,
    /// Four schedulers that report thousands of gauges each, without a pause and at the same moment.
    Burst,
}

impl Settings {
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        let small = Self {
            version: Version::V2_11,
            executor: Executor::Celery,
            dialect: Dialect::Plain,
            legacy_names: true,
            prefix: "airflow".to_owned(),
            schedulers: 1,
            triggerers: 1,
            workers: 5,
            worker_slots: 16,
            dags: 100,
            tasks_per_dag: 10,
            pools: 5,
            task_instances_per_day: 30_000.0,
            task_time: Duration::from_secs(60),
            peak: None,
            loop_time: Duration::from_secs(1),
            tasks_per_loop: 32,
            report_every: Duration::from_secs(30),
            aligned: false,
            burst_rate: (20_000.0, 140_000.0),
        };
        match preset {
            Preset::Small => small,
            Preset::Large => Self {
                schedulers: 3,
                triggerers: 2,
                workers: 200,
                dags: 2_000,
                tasks_per_dag: 20,
                pools: 50,
                task_instances_per_day: 1e6,
                task_time: Duration::from_secs(150),
                loop_time: Duration::from_millis(600),
                tasks_per_loop: 128,
                ..small
            },
            Preset::Huge => Self {
                schedulers: 4,
                triggerers: 4,
                workers: 1_000,
                dags: 10_000,
                tasks_per_dag: 20,
                pools: 200,
                task_instances_per_day: 1e7,
                task_time: Duration::from_secs(90),
                peak: Some(Peak {
                    factor: 20.0,
                    lasts: Duration::from_secs(60),
                    every: Duration::from_secs(3600),
                    first: Duration::from_secs(20),
                }),
                loop_time: Duration::from_millis(400),
                tasks_per_loop: 1024,
                ..small
            },
            Preset::Burst => Self {
                version: Version::V3_3,
                schedulers: 4,
                workers: 500,
                dags: 5_000,
                tasks_per_dag: 20,
                pools: 100,
                task_instances_per_day: 2e6,
                task_time: Duration::from_secs(300),
                loop_time: Duration::from_secs(1),
                tasks_per_loop: 512,
                report_every: Duration::from_secs(5),
                aligned: true,
                ..small
            },
        }
    }

    /// Tasks that can run at a time.
    #[must_use]
    pub fn slots(&self) -> usize {
        let hosts = match self.executor {
            Executor::Local => self.schedulers,
            Executor::Celery | Executor::Kubernetes => self.workers,
        };
        hosts.saturating_mul(self.worker_slots).max(1)
    }

    /// Whether old names, which hold the ids, are sent beside the new ones.
    pub(super) fn encodes_names(&self) -> bool {
        self.version != Version::V3_3 || self.legacy_names
    }

    /// Task instances that become due in a second, at that time.
    pub(super) fn task_rate(&self, at: Duration) -> f64 {
        let mean = self.task_instances_per_day / 86_400.0;
        let Some(peak) = self.peak else { return mean };
        let since = at.as_secs_f64() - peak.first.as_secs_f64();
        let every = peak.every.as_secs_f64().max(1.0);
        let share = (peak.lasts.as_secs_f64() / every).min(1.0);
        if since >= 0.0 && since % every < peak.lasts.as_secs_f64() {
            return mean * peak.factor;
        }
        // What is left of the day's tasks for the rest of the time.
        mean * ((1.0 - share * peak.factor) / (1.0 - share)).max(0.1)
    }

    /// The same fleet with nothing that would make the model stand still or grow without bound.
    pub(super) fn bounded(mut self) -> Self {
        const MANY: usize = 1_000_000;
        for count in [&mut self.schedulers, &mut self.dags, &mut self.tasks_per_dag, &mut self.pools] {
            *count = (*count).clamp(1, MANY);
        }
        for count in [&mut self.workers, &mut self.worker_slots, &mut self.triggerers] {
            *count = (*count).clamp(1, MANY);
        }
        self.tasks_per_dag = self.tasks_per_dag.min(10_000);
        self.tasks_per_loop = self.tasks_per_loop.max(1);
        self.task_instances_per_day = self.task_instances_per_day.clamp(1.0, 1e10);
        self.task_time = self.task_time.clamp(Duration::from_millis(1), Duration::from_secs(86_400));
        self.loop_time = self.loop_time.clamp(Duration::from_millis(10), Duration::from_secs(60));
        self.report_every = self.report_every.max(Duration::from_millis(100));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_leave_the_mean_of_the_day_as_it_is() {
        let settings = Settings {
            peak: Some(Peak {
                factor: 20.0,
                lasts: Duration::from_secs(60),
                every: Duration::from_secs(3600),
                first: Duration::from_secs(20),
            }),
            ..Settings::preset(Preset::Huge)
        };
        let total: f64 = (0..86_400).map(|second| settings.task_rate(Duration::from_secs(second))).sum();
        assert!((total / settings.task_instances_per_day - 1.0).abs() < 0.02, "{total}");
        assert!(settings.task_rate(Duration::from_secs(30)) > 2_000.0);
    }
}
