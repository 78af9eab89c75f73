//! Ctrl-C and SIGTERM -> a flag that the generators look at, so that they end with an account.

use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP set a flag instead of ending the process.
pub fn catch() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: a valid signal number, and a handler of the signature that signal(2) asks for,
        // which does nothing but store to an atomic.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Whether a signal has come since [`catch`].
#[must_use]
pub fn requested() -> bool {
    STOP.load(Ordering::Relaxed)
}
