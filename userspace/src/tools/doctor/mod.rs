//! A running daemon, this machine, files of Airflow's -> what is wrong, and the way out.

mod airflow;
mod daemon;
mod finding;
mod log;
mod machine;
mod mapping;
mod ports;
mod probe;
mod variables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::client::{Client, ConnectFlags};
use super::print;
use airflow::{Origin, Setting};
use finding::{Finding, Severity};
use variables::{Deployment, Surroundings};

/// Bytes of a file that are looked at; logs are read without this bound.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// A lookout for datagrams that nobody takes.
const LOOK: Duration = Duration::from_secs(2);

/// Looks for the usual mistakes between Airflow and a running daemon, each with its way out.
///
/// Exit code 0: nothing found, or notes only; 1: warnings, or a flag that does not do; 2: something does
/// not work.
#[derive(Debug, clap::Parser)]
#[command(name = "rotameter doctor", bin_name = "rotameter doctor")]
pub struct DoctorFlags {
    #[command(flatten)]
    connect: ConnectFlags,
    /// Where Airflow is to send to. [default: the host of --url and the port of the daemon's first UDP
    /// socket]
    #[arg(long, value_name = "HOST:PORT")]
    statsd: Option<String>,
    /// Process of Airflow's whose environment is looked at; repeatable. Needs the right to read it.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// File that sets variables for Airflow: an env file, a compose file, values of a chart; repeatable.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Airflow's configuration file.
    #[arg(long, value_name = "FILE")]
    airflow_cfg: Option<PathBuf>,
    /// Log of an Airflow component; repeatable.
    #[arg(long, value_name = "FILE")]
    airflow_log: Vec<PathBuf>,
    /// Mapping file to look through, as `rotameter check` does.
    #[arg(long, value_name = "FILE")]
    mapping_config: Option<PathBuf>,
    /// Minutes without a line from which that is a finding.
    #[arg(long, value_name = "MINUTES", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=10))]
    quiet_minutes: u64,
    /// Send no datagram.
    #[arg(long)]
    no_probe: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
    /// Print the variables that make Airflow send to this daemon, and nothing else. Without a MODE it goes
    /// by where this runs.
    #[arg(long, value_name = "MODE", value_enum, num_args = 0..=1, require_equals = true,
          default_missing_value = "auto", conflicts_with = "json")]
    variables: Option<Deployment>,
}

/// Findings with which somebody is about to set Airflow's variables.
const ABOUT_VARIABLES: [&str; 7] = [
    "no-lines",
    "single-underscore",
    "statsd-off",
    "old-section",
    "wrong-port",
    "localhost-in-pod",
    "host-is-url",
];
/// Where a daemon receives unless told otherwise.
const PORT_DEFAULT: u16 = 9125;

/// Prints findings, the worst first.
///
/// # Errors
///
/// A file that was named cannot be read, or `--url` is none.
pub fn doctor(flags: &DoctorFlags) -> anyhow::Result<ExitCode> {
    let client = Client::new(&flags.connect)?;
    let mut findings = Vec::new();
    let report = match client.get("/live?history").and_then(|body| {
        serde_json::from_slice(&body)
            .context("the answer is not what a rotameter says; another program serves there")
    }) {
        Ok(report) => Some(report),
        Err(error) => {
            findings.push(daemon::away(client.url(), &format!("{error:#}")));
            None
        }
    };
    let listening = report.as_ref().map(daemon::udp_ports).unwrap_or_default();
    let variables = |deployment| {
        let elsewhere = (!client.is_local()).then(|| client.host().to_owned());
        let port = listening.first().copied().unwrap_or(PORT_DEFAULT);
        print(variables::page(deployment, &Surroundings::look(elsewhere), port).trim_end());
    };
    if let Some(deployment) = flags.variables {
        variables(deployment);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(report) = &report {
        findings.extend(daemon::look(report, Duration::from_secs(flags.quiet_minutes * 60), now()));
    }
    findings.extend(
        settings(flags)?.iter().flat_map(|(origin, settings)| airflow::look(origin, settings, &listening)),
    );
    for file in &flags.airflow_log {
        findings.extend(log::look(file)?);
    }
    if let Some(file) = &flags.mapping_config {
        findings.extend(mapping::look(file));
    }
    // What this machine says is about the daemon only if it runs here.
    if client.is_local() {
        findings.extend(machine::look(&machine::Machine::read()));
        let before = ports::udp_counters(&ports::read("/proc/net/snmp"));
        if before.is_some() && report.is_some() {
            std::thread::sleep(LOOK);
        }
        let after = ports::udp_counters(&ports::read("/proc/net/snmp"));
        findings.extend(
            before.zip(after).and_then(|(before, after)| ports::unwanted(before, after, LOOK, &listening)),
        );
        findings.extend(ports::shadowed(&listening, &ports::sockets()));
    }
    if let Some(report) = report.filter(|_| !flags.no_probe) {
        let target = flags.statsd.clone().or_else(|| Some(client.beside(*listening.first()?)));
        findings.extend(target.and_then(|target| probe::look(&client, &report, &target)));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    show(&findings, flags.json);
    if !flags.json && findings.iter().any(|finding| ABOUT_VARIABLES.contains(&finding.rule)) {
        print("");
        variables(Deployment::Auto);
    }
    let worst = findings.iter().map(|finding| finding.severity).max();
    Ok(match worst {
        Some(Severity::Error) => ExitCode::from(2),
        Some(Severity::Warning) => ExitCode::from(1),
        _ => ExitCode::SUCCESS,
    })
}

/// What sets something for Airflow, place by place.
fn settings(flags: &DoctorFlags) -> anyhow::Result<Vec<(Origin, Vec<Setting>)>> {
    let mut all = Vec::new();
    let ours: Vec<Setting> =
        std::env::vars_os().filter_map(|(key, value)| Setting::of(key.to_str()?, value.to_str()?)).collect();
    if ours.iter().any(|setting| setting.key.starts_with("AIRFLOW_")) {
        all.push((Origin { shown: "the environment of this process".to_owned(), whole: true }, ours));
    }
    for pid in &flags.pid {
        let path = format!("/proc/{pid}/environ");
        let text = text(Path::new(&path))?;
        let settings = text.split('\0').filter_map(|pair| pair.split_once('='));
        let settings = settings.filter_map(|(key, value)| Setting::of(key, value)).collect();
        all.push((Origin { shown: format!("the environment of process {pid}"), whole: true }, settings));
    }
    for file in &flags.env_file {
        let origin = Origin { shown: file.display().to_string(), whole: false };
        all.push((origin, airflow::of_text(&text(file)?)));
    }
    if let Some(file) = &flags.airflow_cfg {
        let origin = Origin { shown: file.display().to_string(), whole: true };
        all.push((origin, airflow::of_cfg(&text(file)?)));
    }
    Ok(all)
}

/// The beginning of a file, whatever bytes there are.
fn text(path: &Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    let reading = || format!("reading {}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(reading)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).with_context(reading)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

fn show(findings: &[Finding], json: bool) {
    if json {
        print(&serde_json::to_string_pretty(findings).unwrap_or_default());
        return;
    }
    for finding in findings {
        print(&finding.to_string());
    }
    let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    print(&format!(
        "{}, {}, {}",
        super::counted(of(Severity::Error), "error"),
        super::counted(of(Severity::Warning), "warning"),
        super::counted(of(Severity::Note), "note")
    ));
}
