//! Arguments -> scenarios -> a report.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use rotameter_bench::{
    judge::Judge,
    lab::Lab,
    load::{self, cli::Load},
    machine::Machine,
    report::{Baseline, Report},
    scenario,
    server::{Contestant, OURS, Profile},
};

/// Measures what Rotameter costs and carries. Nothing fails because of a slow figure; a scenario
/// whose counts are not exact has no figures.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the scenarios.
    List,
    /// Sends load, and measures nothing but the sender: to this machine or any server.
    #[command(subcommand)]
    Load(Box<Load>),
}

#[derive(Debug, Args)]
struct Measure {
    /// What to measure; all scenarios if none is named. `list` shows them.
    scenarios: Vec<String>,

    /// Full sizes and more runs: figures to keep. Without, two to four minutes in all.
    #[arg(long)]
    full: bool,

    /// Runs of each measurement; the table shows their median and spread. [default: 3, with --full 7]
    #[arg(long)]
    runs: Option<usize>,

    /// Seconds of each run under load. [default: 0.3, with --full 1]
    #[arg(long)]
    seconds: Option<f64>,

    /// Seconds for which the idle daemon is watched. [default: 3, with --full 10]
    #[arg(long)]
    idle_seconds: Option<f64>,

    /// Another StatsD server to measure on the same input, alternating with ours: any binary with the
    /// flags of statsd_exporter. Can be given several times.
    #[arg(long, value_name = "PATH")]
    versus: Vec<OsString>,

    /// Mapping file for every program that is compared. What must be counted under it is worked out by
    /// code of the bench's own.
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,

    /// Built-in profile for our daemon: it is then measured with it, and in cpu and capacity without it
    /// as well.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    /// Version of Airflow for the profile. The scenarios' fleets are of 2.11.
    #[arg(long = "profile.airflow-version", value_name = "VERSION", default_value = "2.11")]
    airflow_version: String,

    /// A flag more for our daemon, such as --flag=--promotion.min-rate=10. Can be given several times.
    #[arg(long, value_name = "FLAG")]
    flag: Vec<String>,

    /// Write report.json, report.md and the plots into this folder.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,

    /// Write the report as JSON to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// The JSON of an earlier report: shows what moved since by more than the noise.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// The kernel object. [default: $ROTAMETER_BPF_OBJECT]
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,

    /// Our daemon. [default: $ROTAMETER_BIN]
    #[arg(long, value_name = "FILE")]
    binary: Option<OsString>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Load(load)) => load::cli::main(&load),
        Some(Command::List) => {
            list();
            Ok(ExitCode::SUCCESS)
        }
        None => measure(&cli.measure),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn list() {
    for scenario in scenario::ALL {
        let mut marks = Vec::new();
        if scenario.root {
            marks.push("root");
        }
        if scenario.versus {
            marks.push("--versus");
        }
        println!("{:12} {:14} {}", scenario.name, marks.join(", "), scenario.about);
    }
    println!("{:12} {:14} splitter, parser, mapper, registry and encoder, one by one", "micro", "");
}

fn measure(options: &Measure) -> anyhow::Result<ExitCode> {
    let lab = options.lab()?;
    let scenarios = scenario::named(&options.scenarios)?;
    // Before anything is measured: a baseline that cannot be read is found out at once.
    let baseline = options.baseline.as_deref().map(Baseline::load).transpose()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut report = Report {
        command: format!("cargo xtask bench {}", arguments.join(" ")).trim_end().to_owned(),
        began: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        machine: Machine::this(),
        programs: lab.ours().into_iter().chain(lab.versus.clone()).map(|one| one.program()).collect(),
        chapters: Vec::new(),
    };
    for scenario in scenarios {
        eprint!("{:12} {} ...", scenario.name, scenario.about);
        let chapter = scenario.run(&lab);
        eprintln!(" {:.0} s", chapter.conditions.seconds);
        if let Some(failure) = &chapter.failure {
            eprintln!("error: {}: {failure}", scenario.name);
        }
        report.chapters.push(chapter);
    }
    print!("{}", report.markdown());
    let comparison = baseline.map(|baseline| baseline.compare(report.rows()));
    if let Some(comparison) = &comparison {
        print!("\n{comparison}");
    }
    if let Some(path) = &options.json {
        report.write_json(path)?;
    }
    if let Some(folder) = &options.output {
        report.write_folder(folder, comparison.as_deref())?;
    }
    Ok(if report.failures().next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Measure {
    fn lab(&self) -> anyhow::Result<Lab> {
        let runs = self.runs.unwrap_or(if self.full { 7 } else { 3 });
        anyhow::ensure!(runs > 0, "--runs=0: at least one run is needed");
        let seconds = |flag: &str, given: Option<f64>, quick: f64, full: f64| {
            let seconds = given.unwrap_or(if self.full { full } else { quick });
            Duration::try_from_secs_f64(seconds).with_context(|| format!("{flag}={seconds}"))
        };
        let judge = Arc::new(self.mapping.as_deref().map(Judge::load).transpose()?.unwrap_or_default());
        let mut versus = Vec::new();
        for path in &self.versus {
            let name = PathBuf::from(path);
            let name = name.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let taken = name == OURS || versus.iter().any(|other: &Contestant| other.name == name);
            let name = if taken { format!("{name} {}", versus.len() + 2) } else { name };
            let contestant = Contestant::new(&name, path.clone(), false).context("--versus")?;
            versus.push(contestant.judged(&judge));
        }
        Ok(Lab {
            runs,
            duration: seconds("--seconds", self.seconds, 0.3, 1.0)?,
            full: self.full,
            idle: seconds("--idle-seconds", self.idle_seconds, 3.0, 10.0)?,
            object: self
                .object
                .clone()
                .or_else(|| std::env::var_os("ROTAMETER_BPF_OBJECT").map(PathBuf::from)),
            binary: self.binary.clone().or_else(|| std::env::var_os("ROTAMETER_BIN")),
            versus,
            mapping: self.mapping.clone(),
            judge,
            profile: self
                .profile
                .clone()
                .map(|name| Profile { name, airflow_version: self.airflow_version.clone() }),
            flags: self.flag.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
        let cli = Cli::parse_from(["bench", "live", "mapping", "--full", "--runs=2"]);
        assert_eq!(cli.measure.scenarios, ["live", "mapping"]);
        let lab = cli.measure.lab().expect("a lab");
        assert_eq!((lab.runs, lab.duration.as_millis(), lab.full), (2, 1000, true));
        assert!(matches!(Cli::parse_from(["bench", "list"]).command, Some(Command::List)));
    }
}
