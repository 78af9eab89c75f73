//! Arguments -> scenarios -> a table.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use rotameter_bench::{
    exposition, idle, kernel_cost, live, machine, mapping, registry,
    report::{Report, Row},
    userspace,
};

/// Measures what Rotameter costs and carries; needs root. Nothing fails because of a slow figure.
#[derive(Debug, Parser)]
struct Cli {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    scenario: Scenario,

    /// Runs of each measurement; the table shows their median and spread.
    #[arg(long, default_value_t = 7)]
    runs: usize,

    /// Seconds of each run with live frames.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,

    /// Seconds for which the idle daemon is watched.
    #[arg(long, default_value_t = 10.0)]
    idle_seconds: f64,

    /// Write the figures to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// The kernel object. [default: $ROTAMETER_BPF_OBJECT]
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,

    /// The daemon. [default: $ROTAMETER_BIN]
    #[arg(long, value_name = "FILE")]
    binary: Option<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    All,
    /// The kernel program's nanoseconds, by BPF_PROG_TEST_RUN.
    KernelCost,
    /// From ring to registry, and merely walking the ring.
    Userspace,
    /// What a mapping file costs; needs no root.
    Mapping,
    /// Resident memory per series, by type.
    Registry,
    /// A scrape of half a million series; needs no root.
    Exposition,
    /// Rates of live frames over a veth pair.
    Live,
    /// CPU and memory of a daemon that nobody talks to.
    Idle,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    anyhow::ensure!(cli.runs > 0, "--runs=0: at least one run is needed");
    let duration = Duration::try_from_secs_f64(cli.seconds).context("--seconds")?;
    let idle_duration = Duration::try_from_secs_f64(cli.idle_seconds).context("--idle-seconds")?;
    let wants = |scenario| cli.scenario == scenario || cli.scenario == Scenario::All;

    let mut rows = vec![calibration(cli.runs)];
    if wants(Scenario::KernelCost) {
        rows.extend(kernel_cost::measure(&object(&cli)?, cli.runs).context("scenario kernel-cost")?);
    }
    if wants(Scenario::Userspace) {
        rows.extend(userspace::measure(&object(&cli)?, cli.runs).context("scenario userspace")?);
    }
    if wants(Scenario::Mapping) {
        rows.extend(mapping::measure(cli.runs).context("scenario mapping")?);
    }
    if wants(Scenario::Registry) {
        rows.extend(registry::measure().context("scenario registry")?);
    }
    if wants(Scenario::Exposition) {
        rows.extend(exposition::measure(cli.runs).context("scenario exposition")?);
    }
    if wants(Scenario::Live) {
        rows.extend(live::measure(&object(&cli)?, cli.runs, duration).context("scenario live")?);
    }
    if wants(Scenario::Idle) {
        let binary = cli.binary.clone().or_else(|| std::env::var_os("ROTAMETER_BIN"));
        let binary = binary.context(
            "which daemon? --binary or ROTAMETER_BIN names it; `cargo xtask bench` builds one and sets it",
        )?;
        rows.extend(idle::measure(&binary, idle_duration).context("scenario idle")?);
    }

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("cargo xtask bench {}", arguments.join(" ")).trim_end().to_owned();
    let report = Report { command, machine: machine::Machine::this(), rows };
    print!("{}", report.table());
    if let Some(path) = &cli.json {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn calibration(runs: usize) -> Row {
    let values: Vec<f64> = (0..runs).map(|_| machine::dependent_add_ns()).collect();
    Row::new("calibration", "one dependent addition", "ns", &values)
}

fn object(cli: &Cli) -> anyhow::Result<Vec<u8>> {
    let path = cli.object.clone().or_else(|| std::env::var_os("ROTAMETER_BPF_OBJECT").map(PathBuf::from));
    let path = path.context(
        "which kernel object? --object or ROTAMETER_BPF_OBJECT names it; `cargo xtask bench` builds one and sets it",
    )?;
    std::fs::read(&path).with_context(|| format!("reading the kernel object {}", path.display()))
}
