//! Flags -> what to send, how fast, and for how long.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{ArgAction, Args};

use super::{
    pace::{Limits, Pace},
    payloads::Payloads,
    replay, stop,
};
use crate::fleet::{Dialect, Executor, Fleet, Preset, Settings, Version};

/// Without --count and --duration.
const SECONDS: f64 = 10.0;
/// Datagrams of a table.
const TABLE: usize = 65_536;

/// An Airflow fleet, or lines as given.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to send")]
pub struct FleetOptions {
    /// A ready-made fleet; the other flags change it.
    #[arg(long, value_enum, default_value = "large")]
    pub preset: Preset,
    /// Version of Airflow. [default: 2.11; burst: 3.3]
    #[arg(long, value_enum)]
    pub airflow: Option<Version>,
    #[arg(long, value_enum)]
    pub executor: Option<Executor>,
    /// How tags are written.
    #[arg(long, value_enum)]
    pub dialect: Option<Dialect>,
    /// Whether 3.3 sends its old names, too.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    pub legacy_names: Option<bool>,
    #[arg(long)]
    pub prefix: Option<String>,
    #[arg(long)]
    pub schedulers: Option<usize>,
    #[arg(long)]
    pub workers: Option<usize>,
    #[arg(long)]
    pub dags: Option<usize>,
    #[arg(long)]
    pub tasks_per_dag: Option<usize>,
    #[arg(long)]
    pub pools: Option<usize>,
    #[arg(long)]
    pub task_instances_per_day: Option<f64>,
    /// The same seed gives the same datagrams.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Datagrams of the table, which is sent over and over.
    #[arg(long, default_value_t = TABLE)]
    pub table: usize,
    /// Send this payload instead of a fleet's; can be given several times. \n stands for a line feed.
    #[arg(long, value_name = "TEXT")]
    pub line: Vec<String>,
}

impl FleetOptions {
    /// The settings that the flags name.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::preset(self.preset);
        set(&mut settings.version, self.airflow);
        set(&mut settings.executor, self.executor);
        set(&mut settings.dialect, self.dialect);
        set(&mut settings.legacy_names, self.legacy_names);
        set(&mut settings.prefix, self.prefix.clone());
        set(&mut settings.schedulers, self.schedulers);
        set(&mut settings.workers, self.workers);
        set(&mut settings.dags, self.dags);
        set(&mut settings.tasks_per_dag, self.tasks_per_dag);
        set(&mut settings.pools, self.pools);
        set(&mut settings.task_instances_per_day, self.task_instances_per_day);
        settings
    }

    /// The table to send.
    ///
    /// # Errors
    ///
    /// It would be empty.
    pub fn payloads(&self) -> anyhow::Result<Payloads> {
        if !self.line.is_empty() {
            let lines: Vec<String> = self.line.iter().map(|line| line.replace("\\n", "\n")).collect();
            return Ok(Payloads::of(lines.iter().map(String::as_bytes)));
        }
        anyhow::ensure!(self.table > 0, "--table=0: nothing to send");
        let fleet = Fleet::new(self.settings(), self.seed).take_while(|_| !stop::requested());
        let payloads = Payloads::collect(fleet, self.table);
        anyhow::ensure!(!stop::requested(), "a signal came before anything was sent");
        Ok(payloads)
    }
}

fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

/// A recording.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to send")]
pub struct RecordingOptions {
    /// Datagrams as JSON, one `{"t": seconds, "p": port, "b": base64}` a line; .gz is unpacked.
    pub file: PathBuf,
    /// Makes a fleet: so many copies, each with DAGs, files and hosts of its own.
    #[arg(long, default_value_t = 1)]
    pub copies: usize,
    /// Plays it so many times.
    #[arg(long, default_value_t = 1)]
    pub times: u64,
    /// What stands before Airflow's names, and a dot.
    #[arg(long, default_value = "airflow")]
    pub prefix: String,
}

impl RecordingOptions {
    /// The table to send.
    ///
    /// # Errors
    ///
    /// The recording cannot be read, or is too large.
    pub fn payloads(&self) -> anyhow::Result<Payloads> {
        anyhow::ensure!(self.copies > 0 && self.times > 0, "--copies and --times begin at 1");
        let datagrams = replay::read(&self.file, self.copies, &self.prefix)?;
        let count = datagrams.len();
        let payloads = Payloads::collect(datagrams, usize::MAX);
        anyhow::ensure!(payloads.len() == count, "more than a gigabyte of payload; make fewer --copies");
        Ok(payloads)
    }
}

/// How fast and how long.
#[derive(Debug, Args)]
#[command(next_help_heading = "How fast, how long")]
pub(super) struct PaceOptions {
    /// Datagrams per second.
    #[arg(long, conflicts_with_all = ["flat_out", "speed"])]
    rate: Option<f64>,
    /// As fast as it goes.
    #[arg(long, conflicts_with = "speed")]
    flat_out: bool,
    /// As fast as the fleet sends, or as it was recorded, so many times over. [default: 1]
    #[arg(long)]
    speed: Option<f64>,
    /// Datagrams to send.
    #[arg(long)]
    count: Option<u64>,
    /// Seconds to send for. [default: 10, without --count]
    #[arg(long)]
    duration: Option<f64>,
}

impl PaceOptions {
    pub(super) fn pace(&self) -> Pace {
        match (self.flat_out, self.rate) {
            (true, _) => Pace::FlatOut,
            (false, Some(rate)) => Pace::PerSecond(rate),
            (false, None) => Pace::Recorded(self.speed.unwrap_or(1.0)),
        }
    }

    /// When to end. `most`, of a recording, is its length.
    ///
    /// # Errors
    ///
    /// The duration is none.
    pub(super) fn limits(&self, most: Option<u64>) -> anyhow::Result<Limits> {
        let datagrams = match (self.count, most) {
            (Some(count), Some(most)) => Some(count.min(most)),
            (count, most) => count.or(most),
        };
        let seconds = self.duration.or(if datagrams.is_none() { Some(SECONDS) } else { None });
        let duration = seconds
            .map(|seconds| {
                Duration::try_from_secs_f64(seconds).with_context(|| format!("--duration={seconds}"))
            })
            .transpose()?;
        Ok(Limits { datagrams, duration })
    }
}
