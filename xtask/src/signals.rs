//! Ctrl-C and SIGTERM -> a flag that loops look at, so that guards get to clean up.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP set a flag instead of ending the process.
pub(crate) fn catch() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: `signal` is a valid signal number, and the handler has the signature that
        // signal(2) asks for. It only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Has the process that `command` becomes told to end when ours ends, even by SIGKILL. It is to be started by the main
/// thread: the kernel goes by the end of the thread.
pub(crate) fn end_with_us(command: &mut Command) {
    let ask = || {
        // SAFETY: PR_SET_PDEATHSIG takes one number, and concerns nobody but the process that calls.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec, `ask` makes one system call, which is async-signal-safe, and reads errno.
    unsafe { command.pre_exec(ask) };
}

/// Whether a signal has asked us to stop since [`catch`].
pub(crate) fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Asks the child to end by SIGTERM, waits for `grace`, then kills it. It is reaped in any case.
pub(crate) fn terminate(child: &mut Child, grace: Duration) {
    let deadline = Instant::now() + grace;
    if let Ok(pid) = libc::pid_t::try_from(child.id())
        && matches!(child.try_wait(), Ok(None))
    {
        // SAFETY: the child has not been reaped, so the number still means it; kill(2) has no
        // other precondition.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            // Failing means that it has ended by itself meanwhile; both ways it is over.
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ignores_sigterm_is_killed() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; while :; do sleep 0.05; done"])
            .spawn()
            .expect("sh starts");
        terminate(&mut child, Duration::from_millis(100));
        assert!(child.try_wait().expect("the child was ours").is_some());
    }
}
