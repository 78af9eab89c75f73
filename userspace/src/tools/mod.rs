//! Files -> what the daemon would make of them; a running daemon -> what goes on in it.

pub mod capture;
pub mod check;
pub mod client;
pub mod diff;
pub mod doctor;
pub mod explain;
mod follow;
pub mod healthcheck;
pub(crate) mod outcome;
pub mod profile;
pub mod tail;
pub mod top;

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;

/// A command beside the daemon.
#[derive(Debug)]
pub enum Tool {
    Check(check::CheckFlags),
    Explain(explain::ExplainFlags),
    Diff(diff::DiffFlags),
    Profile(profile::ProfileCommand),
    Top(top::TopFlags),
    Doctor(doctor::DoctorFlags),
    Tail(tail::TailFlags),
    Capture(capture::CaptureFlags),
    Replay(capture::ReplayFlags),
    Healthcheck(healthcheck::HealthcheckFlags),
}

impl Tool {
    /// The tool that the first argument behind the program's name asks for; `None` is the daemon.
    #[must_use]
    pub fn from_arguments(arguments: &[OsString]) -> Option<Result<Self, clap::Error>> {
        let (command, rest) = arguments.get(1..)?.split_first()?;
        let arguments = || std::iter::once(command).chain(rest);
        Some(match command.to_str()? {
            "check" => check::CheckFlags::try_parse_from(arguments()).map(Self::Check),
            "explain" => explain::ExplainFlags::try_parse_from(arguments()).map(Self::Explain),
            "diff" => diff::DiffFlags::try_parse_from(arguments()).map(Self::Diff),
            "profile" => profile::ProfileCommand::try_parse_from(arguments()).map(Self::Profile),
            "top" => top::TopFlags::try_parse_from(arguments()).map(Self::Top),
            "doctor" => doctor::DoctorFlags::try_parse_from(arguments()).map(Self::Doctor),
            "tail" => tail::TailFlags::try_parse_from(arguments()).map(Self::Tail),
            "capture" => capture::CaptureFlags::try_parse_from(arguments()).map(Self::Capture),
            "replay" => capture::ReplayFlags::try_parse_from(arguments()).map(Self::Replay),
            "healthcheck" => {
                healthcheck::HealthcheckFlags::try_parse_from(arguments()).map(Self::Healthcheck)
            }
            _ => return None,
        })
    }

    /// Does what was asked for, on standard output.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or findings that are errors.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check(flags) => check::check(flags),
            Self::Explain(flags) => explain::explain(flags),
            Self::Diff(flags) => diff::diff(flags),
            Self::Profile(command) => profile::profile(command),
            Self::Top(flags) => top::top(flags),
            Self::Tail(flags) => tail::tail(flags),
            Self::Capture(flags) => capture::capture(flags),
            Self::Replay(flags) => capture::replay(flags),
            Self::Doctor(flags) => return doctor::doctor(flags),
            Self::Healthcheck(flags) => healthcheck::healthcheck(flags),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// A number of things, in words: `1 rule`, `2 rules`.
fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Tells whether somebody has pressed Ctrl-C or sent SIGTERM since.
fn asked_to_end() -> anyhow::Result<impl Fn() -> bool> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let signals = {
        let _inside = runtime.enter();
        crate::shutdown::signals().context("catching SIGTERM and SIGINT")?
    };
    let (asked, seen) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("rotameter-signal".to_owned())
        .spawn(move || {
            runtime.block_on(signals);
            // Nobody looks any more once it has ended by itself.
            let _ = asked.send(());
        })
        .context("starting a thread")?;
    Ok(move || seen.try_recv().is_ok())
}

fn print(line: &str) {
    // Whoever closed standard output, as `| head` does, has read enough.
    let _ = writeln!(std::io::stdout(), "{line}");
}
