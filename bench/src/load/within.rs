//! A command -> a server in the generator's namespace, ready to receive; ended with the run.

use std::{
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::stop;
use crate::{
    network::{self, Pair},
    raw_program::{Action, Attached, RawProgram},
    server::http,
};

/// Where the frames go.
const PORT: u16 = 9125;
const READY_WITHIN: Duration = Duration::from_secs(15);
/// For an XDP program to be loaded and attached.
const UNKNOWN_READY_AFTER: Duration = Duration::from_millis(1500);
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

/// The receiving end, with a server or with a program that drops.
#[derive(Debug)]
pub(super) struct Inside {
    child: Option<Child>,
    /// A veth end without any program of its own gets no frames from test runs.
    _attached: Option<Attached>,
}

impl Inside {
    /// Starts `command`, if there is one, in the calling thread's namespace, and puts the thread on
    /// `cpu`; the server may use any.
    /// It is ready when it answers at `web`; without an address, a while after it has its UDP port.
    pub(super) fn begin(
        pair: Pair,
        command: &[OsString],
        cpu: usize,
        web: Option<&str>,
    ) -> anyhow::Result<Self> {
        let Some((program, arguments)) = command.split_first() else {
            network::pin(cpu)?;
            let attached = RawProgram::load(Action::Drop)?.attach(pair.receiving)?;
            return Ok(Self { child: None, _attached: Some(attached) });
        };
        let name = program.to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        // Standard output is for the account. A process group of its own, so that Ctrl-C ends the
        // generator first, and the server has time to show what it has.
        command.stdout(std::io::stderr()).process_group(0);
        // SAFETY: prctl is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| {
                // It must not outlive us, however we end.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        let mut inside = Self { child: Some(child), _attached: None };
        inside.wait_until_ready(&name, web)?;
        network::pin(cpu)?;
        // The server's own program, if it has one there, does as well.
        inside._attached = RawProgram::load(Action::Pass)?.attach(pair.receiving).ok();
        Ok(inside)
    }

    fn wait_until_ready(&mut self, name: &str, web: Option<&str>) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < READY_WITHIN {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                anyhow::bail!("{name} ended at once, with {status}");
            }
            anyhow::ensure!(!stop::requested(), "a signal came before {name} was ready");
            if listening() && web.is_none_or(|web| http::status(web, "/-/ready").is_ok()) {
                if web.is_none() {
                    // It opens its socket before the rest of it is ready.
                    thread::sleep(UNKNOWN_READY_AFTER);
                }
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("{name} does not listen on UDP port {PORT} after {} s", READY_WITHIN.as_secs())
    }

    /// Asks the server to end, and waits for it.
    pub(super) fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Ok(number) = libc::pid_t::try_from(child.id()) {
            // SAFETY: the child has not been reaped, so the number still means it.
            unsafe { libc::kill(number, libc::SIGTERM) };
        }
        let began = Instant::now();
        while began.elapsed() < STOPPED_WITHIN {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // It had its time. Failing means that it has just ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether anybody in this namespace has the UDP port.
fn listening() -> bool {
    let wanted = format!(":{PORT:04X}");
    for table in ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"] {
        // Without IPv6 there is no second table.
        let Ok(text) = fs::read_to_string(table) else { continue };
        let local = text.lines().filter_map(|line| line.split_whitespace().nth(1));
        if local.into_iter().any(|address| address.ends_with(&wanted)) {
            return true;
        }
    }
    false
}
