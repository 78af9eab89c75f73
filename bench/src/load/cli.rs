//! `bench load ...` -> a generator at work, then its account.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use rotameter::profile::{Profile, Settings};
use serde::Serialize;

use super::{
    options::{FleetOptions, PaceOptions, RecordingOptions},
    pace::{Limits, Pace},
    payloads::Payloads,
    sent::{Sent, per_second},
    socket::{self, Target},
    stop,
    totals::LineType,
    wire,
    within::Inside,
};
use crate::{
    judge::{Expected, Judge},
    network,
    server::http,
};

/// Differences from the exposition that are shown.
const DIFFERENCES_SHOWN: usize = 20;
/// How long a server may take until it shows all; it is asked again and again.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub enum Load {
    /// Sends a fleet's datagrams to any StatsD server, over UDP, TCP or a Unix socket. Needs no rights.
    Socket {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        fleet: FleetOptions,
        #[command(flatten)]
        how: How,
    },
    /// Sends a fleet's datagrams as live frames over a veth pair in a network namespace of its own:
    /// millions a second from one core. Needs root.
    Wire {
        #[command(flatten)]
        fleet: FleetOptions,
        #[command(flatten)]
        how: How,
        /// CPU of the generator, and of the receiving end.
        #[arg(long, default_value_t = 0)]
        cpu: usize,
        /// A server to start in the namespace: it receives at 10.77.0.1:9125, on the interface rmdoor.
        /// Without one the frames are dropped where they arrive.
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<std::ffi::OsString>,
    },
    /// Sends a recording, at its own speed or any other.
    Replay {
        #[command(flatten)]
        recording: RecordingOptions,
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        how: How,
    },
    /// Shows what a fleet sends, without sending it: totals, or with --lines the lines themselves.
    Show {
        #[command(flatten)]
        fleet: FleetOptions,
        /// Print each datagram's time, sender and payload.
        #[arg(long)]
        lines: bool,
    },
}

#[derive(Debug, Args)]
pub struct To {
    /// udp:ADDRESS:PORT, tcp:ADDRESS:PORT, unixgram:PATH or unix:PATH.
    #[arg(long, default_value = "udp:127.0.0.1:9125")]
    to: Target,
    /// Sockets, so source ports or connections, that the senders share.
    #[arg(long, default_value_t = socket::SOURCES)]
    sources: usize,
}

#[derive(Debug, Args)]
pub struct How {
    #[command(flatten)]
    pace: PaceOptions,
    /// Afterwards, compare the server's exposition with what was sent: ADDRESS:PORT of its /metrics.
    /// The server has to be fresh.
    #[arg(long, value_name = "ADDRESS")]
    check: Option<String>,
    /// For --check: the mapping file that the server has.
    #[arg(long, value_name = "FILE", requires = "check")]
    mapping: Option<PathBuf>,
    /// For --check: the built-in profile that it has, beneath that file.
    #[arg(long, value_name = "NAME", requires = "check")]
    profile: Option<String>,
    /// For --check: the version of Airflow that the profile was given.
    #[arg(long = "profile.airflow-version", value_name = "VERSION", requires = "profile")]
    airflow_version: Option<String>,
    /// Print the account as JSON.
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Serialize)]
struct Account<'a> {
    generator: &'a str,
    #[serde(flatten)]
    sent: &'a Sent,
    rate: f64,
    /// Different datagrams of the table.
    table: usize,
    /// Frames that came to the other end of the wire.
    received: Option<u64>,
    /// Series compared with the exposition, and those that differ.
    checked: Option<usize>,
    differences: Option<Vec<String>>,
}

/// Runs a generator.
///
/// # Errors
///
/// What the generator says; flags that make no sense.
pub fn main(load: &Load) -> anyhow::Result<ExitCode> {
    stop::catch();
    match load {
        Load::Socket { to, fleet, how } => {
            let payloads = fleet.payloads()?;
            let limits = how.pace.limits(None)?;
            let sent = by_socket(to, &payloads, how.pace.pace(), limits)?;
            how.report("socket", &payloads, &sent, sent.datagrams, None)
        }
        Load::Replay { recording, to, how } => {
            let payloads = recording.payloads()?;
            let most = (payloads.len() as u64).saturating_mul(recording.times);
            let limits = how.pace.limits(Some(most))?;
            let sent = by_socket(to, &payloads, how.pace.pace(), limits)?;
            how.report("replay", &payloads, &sent, sent.datagrams, None)
        }
        Load::Wire { fleet, how, cpu, command } => {
            let payloads = fleet.payloads()?;
            let limits = how.pace.limits(None)?;
            network::within(|pair| {
                let mut inside = Inside::begin(pair, command, *cpu, how.check.as_deref())?;
                let mut wire = wire::Wire::new(pair, &payloads)?;
                let bar = bar(limits);
                let before = network::received(network::RECEIVING)?.frames;
                let mut watch = |sent| show(&bar, limits, sent);
                let sent = wire.send_watched(&payloads, how.pace.pace(), limits, &mut watch)?;
                bar.finish_and_clear();
                let received = network::received(network::RECEIVING)?.frames.saturating_sub(before);
                let code = how.report("wire", &payloads, &sent, wire.frames(), Some(received));
                inside.end();
                code
            })
        }
        Load::Show { fleet, lines } => {
            show_fleet(fleet, *lines)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn by_socket(to: &To, payloads: &Payloads, pace: Pace, limits: Limits) -> anyhow::Result<Sent> {
    let bar = bar(limits);
    let mut watch = |sent| show(&bar, limits, sent);
    let sent = socket::send_watched(&to.to, to.sources, payloads, pace, limits, &mut watch)?;
    bar.finish_and_clear();
    Ok(sent)
}

/// On standard error, and only if that is a terminal.
fn bar(limits: Limits) -> ProgressBar {
    let (length, template) = match limits {
        Limits { datagrams: Some(count), .. } => (count, "{bar:40} {pos} of {len} datagrams, {per_sec}"),
        Limits { duration: Some(duration), .. } => {
            (u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), "{bar:40} {msg}, {elapsed} ")
        }
        Limits { .. } => (u64::MAX, "{msg}"),
    };
    let bar = ProgressBar::new(length);
    // The templates are ours; one that did not parse would leave the default.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, limits: Limits, sent: u64) -> bool {
    if limits.datagrams.is_some() {
        bar.set_position(sent);
    } else {
        bar.set_position(u64::try_from(bar.elapsed().as_millis()).unwrap_or(u64::MAX));
        bar.set_message(format!("{sent} datagrams"));
    }
    true
}

impl How {
    /// What the server does with lines, by what was said of it.
    fn judge(&self) -> anyhow::Result<Judge> {
        let file = self.mapping.as_deref().map(Judge::load).transpose()?.unwrap_or_default();
        let Some(name) = &self.profile else { return Ok(file) };
        let profile = Profile::named(name).with_context(|| {
            format!("--profile={name}: no such profile; `rotameter profile list` names all")
        })?;
        let mut settings = Settings::default();
        if let Some(version) = &self.airflow_version {
            settings.version = version.parse().map_err(anyhow::Error::msg)?;
        }
        Ok(file.over(&Judge::read(&profile.render(&settings))?))
    }

    fn report(
        &self,
        generator: &str,
        payloads: &Payloads,
        sent: &Sent,
        in_all: u64,
        received: Option<u64>,
    ) -> anyhow::Result<ExitCode> {
        let found = self.check.as_deref().map(|address| {
            // Without an answer the account is worth printing all the same.
            let found = self.judge().and_then(|judge| {
                // By socket all come from this machine; on the wire each sender has an address.
                let by_wire = received.is_some();
                let number = |sender| if by_wire { wire::address(sender).to_bits() } else { 0 };
                check(address, &payloads.totals_between(0, in_all, number).expected(&judge))
            });
            found.unwrap_or_else(|error| (0, vec![format!("{error:#}")]))
        });
        let (checked, differences) =
            found.map_or((None, None), |(checked, found)| (Some(checked), Some(found)));
        let failed = differences.as_ref().is_some_and(|differences| !differences.is_empty());
        let table = payloads.len();
        if self.json {
            let rate = sent.rate();
            let account = Account { generator, sent, rate, table, received, checked, differences };
            println!("{}", serde_json::to_string_pretty(&account)?);
        } else {
            print!("{sent}");
            println!("table       {table} different datagrams");
            if let Some(received) = received {
                println!("received    {received} frames at the other end");
            }
            if let (Some(checked), Some(differences)) = (checked, differences) {
                println!("checked     {checked} series, {} differ", differences.len());
                for difference in differences.iter().take(DIFFERENCES_SHOWN) {
                    println!("            {difference}");
                }
            }
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Compares until all is there, or the time is up: what was sent may still be on its way.
fn check(address: &str, expected: &Expected) -> anyhow::Result<(usize, Vec<String>)> {
    let checked = expected.samples().len();
    let began = std::time::Instant::now();
    loop {
        let scrape =
            http::get(address, "/metrics").with_context(|| format!("asking http://{address}/metrics"))?;
        let differences = expected.differences(&scrape.text(), usize::MAX);
        if differences.is_empty() || began.elapsed() > SETTLE {
            return Ok((checked, differences));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn show_fleet(fleet: &FleetOptions, lines: bool) -> anyhow::Result<()> {
    let payloads = fleet.payloads()?;
    if lines {
        for payload in payloads.iter() {
            let (at, sender) = (payload.at.as_secs_f64(), payload.sender);
            println!("{at:.6} {}:{} {}", sender.host, sender.port, payload.bytes.escape_ascii());
            if stop::requested() {
                break;
            }
        }
        return Ok(());
    }
    let count = payloads.len() as u64;
    let totals = payloads.totals(count);
    let seconds = payloads.span().as_secs_f64();
    println!("datagrams   {count}");
    println!("lines       {}", totals.lines());
    println!("bytes       {}", payloads.bytes(count));
    println!("seconds     {seconds:.3} of the fleet's time");
    if !payloads.span().is_zero() {
        println!("rate        {:.0} datagrams/s", per_second(count, payloads.span()));
    }
    println!("identities  {}", totals.len());
    for (name, line_type) in
        [("counters", LineType::Counter), ("gauges", LineType::Gauge), ("timers", LineType::Observer)]
    {
        println!("{name:11} {} lines", totals.lines_of(line_type));
    }
    Ok(())
}
