//! The kernel's running programs -> a moment at which each of them has ended.
//!
//! Programs run inside RCU read sections, so that moment is the end of an RCU grace period.

use std::io;

use aya::maps::{ArrayOfMaps, MapData, MapError};
use parking_lot::Mutex;

/// Waits for grace periods.
#[derive(Debug)]
pub struct Grace {
    /// The map that holds the doorbell, and the doorbell. Writing it to where it already is changes
    /// nothing, but an update of a map of maps returns only after a grace period
    /// (`maybe_wait_bpf_programs` in `kernel/bpf/syscall.c`).
    doorbell: Mutex<(ArrayOfMaps<MapData, MapData>, MapData)>,
}

impl Grace {
    pub(super) fn new(outer: ArrayOfMaps<MapData, MapData>, bell: MapData) -> Self {
        Self { doorbell: Mutex::new((outer, bell)) }
    }

    /// Returns when every program that runs now, on any CPU, has ended. Takes milliseconds.
    ///
    /// # Errors
    ///
    /// The kernel offers neither way. Then nothing may be assumed to have ended.
    pub fn wait(&self) -> io::Result<()> {
        // Kernels with `nohz_full=` do not have this command.
        membarrier().or_else(|_| self.wait_by_map())
    }

    /// The other way, which is there wherever the programs are.
    ///
    /// # Errors
    ///
    /// What bpf(2) says.
    pub fn wait_by_map(&self) -> io::Result<()> {
        let mut doorbell = self.doorbell.lock();
        let (outer, bell) = &mut *doorbell;
        outer.set(0, bell, 0).map_err(|error| match error {
            MapError::SyscallError(error) => error.io_error,
            error => io::Error::other(error),
        })
    }
}

/// `MEMBARRIER_CMD_GLOBAL`, which is `synchronize_rcu()`.
fn membarrier() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: membarrier takes three integers and touches no memory of ours.
    #[expect(unsafe_code, reason = "no safe wrapper among our dependencies")]
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
