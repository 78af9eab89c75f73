//! The built daemon -> running in the foreground, in our place.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
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
    let mut daemon = with_rights(daemon);
    eprintln!("$ {}", command::shown(&daemon));
    // Replacing ourselves: Ctrl-C and signals reach the daemon with nobody between.
    Err(daemon.exec()).with_context(|| format!("starting `{}`", command::shown(&daemon)))
}

/// The daemon with the capabilities that its doors need, if we or sudo have them; else as it is, and it is said
/// what that means.
fn with_rights(daemon: Command) -> Command {
    let shut = daemon.get_args().any(|arg| arg == "--ebpf=off");
    if shut || host::may_load_bpf() {
        return daemon;
    }
    let privilege = host::privilege();
    if privilege == Privilege::Sudo
        && let (Some(sudo), Some(setpriv)) = (host::find_in_path("sudo"), host::find_in_path("setpriv"))
        && let Some((user, group)) = host::user_and_group()
    {
        eprintln!(
            "run: by sudo, for the doors into the kernel; the daemon stays {user}:{group} and gets three rights"
        );
        return by_sudo(&sudo, &setpriv, (user, group), &daemon);
    }
    eprintln!(
        "run: no CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN: the doors into the kernel stay shut, every datagram takes"
    );
    eprintln!("run: the ordinary socket; /metrics shows the same, at a higher cost");
    match privilege {
        Privilege::Sudo => eprintln!("run: with the doors open: sudo {}", command::shown(&daemon)),
        Privilege::Root => {
            eprintln!("run: this root lacks them, as in a container: give it all three")
        }
        Privilege::None => eprintln!("run: root can start {} with them", command::shown(&daemon)),
    }
    daemon
}

/// `daemon` under its own user, with what the doors need and nothing else of root.
fn by_sudo(sudo: &Path, setpriv: &Path, (user, group): (u32, u32), daemon: &Command) -> Command {
    let rights = "-all,+bpf,+perfmon,+net_admin";
    let mut command = Command::new(sudo);
    command.arg(setpriv).arg(format!("--reuid={user}")).arg(format!("--regid={group}"));
    command.arg("--init-groups").arg(format!("--inh-caps={rights}")).arg(format!("--ambient-caps={rights}"));
    command.arg("--").arg(daemon.get_program()).args(daemon.get_args());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_sudo_the_daemon_keeps_its_user_and_gets_three_capabilities() {
        let mut daemon = Command::new("target/release/rotameter");
        daemon.arg("--ebpf=auto");
        let command = by_sudo(Path::new("sudo"), Path::new("setpriv"), (1000, 1001), &daemon);
        assert_eq!(
            command::shown(&command),
            "sudo setpriv --reuid=1000 --regid=1001 --init-groups --inh-caps=-all,+bpf,+perfmon,+net_admin \
             --ambient-caps=-all,+bpf,+perfmon,+net_admin -- target/release/rotameter --ebpf=auto"
        );
    }
}
