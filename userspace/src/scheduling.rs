//! A thread that reads datagrams -> one that runs soon after it is woken.
//!
//! A ring holds some milliseconds of a flood, and a thread that shares its CPU with a scrape waits as long
//! as the other's slice takes: 3 ms or more. A thread may ask for shorter slices than others have; it gets
//! no more of the CPU, but its turn comes earlier (sched_setattr(2), Linux 6.12 and later). Older
//! kernels hear the wish and do nothing. No right is needed.

#![expect(unsafe_code, reason = "system calls that no safe wrapper has")]

use std::io;

use tracing::debug;

/// The shortest slice that the kernel grants.
const SLICE_NS: u64 = 100_000;

/// Asks for the shortest slices for the calling thread; policy and nice value stay what they are. Where
/// that is not allowed, as under a tight seccomp profile, all works without it.
pub fn prefer_short_slices() {
    if let Err(error) = ask_for_short_slices() {
        debug!(%error, "no short slices for this thread; under a flood, scrapes may delay it");
    }
}

fn ask_for_short_slices() -> io::Result<()> {
    let mut attributes = attributes()?;
    // Other policies have no slices, or mean something else by that number.
    if i32::try_from(attributes.sched_policy) == Ok(libc::SCHED_OTHER) {
        attributes.sched_runtime = SLICE_NS;
        // SAFETY: the kernel reads the `size` bytes that `attributes` has and says to have.
        done(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })?;
    }
    Ok(())
}

/// What the kernel's scheduler knows of the calling thread.
fn attributes() -> io::Result<libc::sched_attr> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).map_err(io::Error::other)?;
    let mut attributes = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel writes no more than `size` bytes, which `attributes` has.
    done(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    Ok(attributes)
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_get_shorter_and_nothing_else_changes() {
        std::thread::spawn(|| {
            // SAFETY: changes the calling thread alone, which ends here.
            assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 3) }, 0);
            let before = attributes().unwrap();
            ask_for_short_slices().unwrap();
            let after = attributes().unwrap();
            assert_eq!((after.sched_policy, after.sched_nice), (before.sched_policy, 3));
            // Kernels before 6.12 show no slice.
            assert!(before.sched_runtime == 0 || after.sched_runtime == SLICE_NS, "{}", after.sched_runtime);
        })
        .join()
        .unwrap();
    }
}
