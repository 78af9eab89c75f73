//! The built daemon -> running in the foreground, in our place.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::{self, Privilege};
use crate::setup::{self, Purpose};
use crate::{build, command, demo};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Show the main job on recorded Airflow traffic, in a network namespace of its own
    #[arg(long)]
    demo: bool,
    #[command(flatten)]
    demo_options: demo::Options,
    /// Arguments for the daemon
    #[arg(last = true)]
    daemon: Vec<OsString>,
}

pub(crate) fn main(options: &Options) -> Result<()> {
    setup::ensure(&[Purpose::Build])?;
    if options.demo {
        setup::ensure(&[Purpose::Demo])?;
    }
    build::object()?;
    let daemon = build::daemon(true)?;
    if options.demo {
        return demo::main(&options.demo_options, &daemon, &options.daemon);
    }
    let mut daemon = Command::new(daemon);
    // The user's own choice comes by its own flag; clap refuses the same flag twice.
    if !options.daemon.iter().any(|arg| arg.to_string_lossy().starts_with("--ebpf")) {
        daemon.arg("--ebpf=auto");
    }
    daemon.args(&options.daemon);
    explain_privilege(&daemon);
    eprintln!("$ {}", command::shown(&daemon));
    // Replacing ourselves: Ctrl-C and signals reach the daemon with nobody between.
    Err(daemon.exec()).with_context(|| format!("starting `{}`", command::shown(&daemon)))
}

fn explain_privilege(daemon: &Command) {
    if host::may_load_bpf() {
        return;
    }
    eprintln!(
        "run: no CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN: the doors into the kernel stay shut, every datagram takes"
    );
    eprintln!("run: the ordinary socket; /metrics shows the same, at a higher cost");
    match host::privilege() {
        Privilege::Sudo => eprintln!("run: with the doors open: sudo {} --ebpf=auto", command::shown(daemon)),
        Privilege::Root => {
            eprintln!("run: this root lacks them, as in a container: give it all three")
        }
        Privilege::None => eprintln!("run: root can start {} with them", command::shown(daemon)),
    }
}
