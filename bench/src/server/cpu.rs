//! A process -> the CPU time that it took.

use std::{fs, io, time::Duration};

use anyhow::Context as _;

/// The kernel's clock of a process: user and system time of all its threads, ended ones included, in
/// nanoseconds. What it does in softirqs on top of a system call is in it as well, unless the kernel
/// was built to account interrupts apart (`CONFIG_IRQ_TIME_ACCOUNTING`).
#[derive(Clone, Copy, Debug)]
pub struct CpuClock(libc::clockid_t);

impl CpuClock {
    /// The calling process.
    pub const SELF: Self = Self(libc::CLOCK_PROCESS_CPUTIME_ID);
    /// The calling thread.
    pub const THREAD: Self = Self(libc::CLOCK_THREAD_CPUTIME_ID);

    /// The clock of a process of this machine.
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub fn of_process(pid: u32) -> anyhow::Result<Self> {
        let mut clock = 0;
        let pid = libc::pid_t::try_from(pid)?;
        // SAFETY: `clock` is writable and outlives the call.
        let result = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
        anyhow::ensure!(
            result == 0,
            "the CPU clock of process {pid}: {}",
            io::Error::from_raw_os_error(result)
        );
        Ok(Self(clock))
    }

    /// What it shows now.
    ///
    /// # Errors
    ///
    /// The process has ended.
    pub fn read(self) -> anyhow::Result<Duration> {
        let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `spec` is writable and outlives the call.
        let result = unsafe { libc::clock_gettime(self.0, &raw mut spec) };
        anyhow::ensure!(result == 0, "reading a CPU clock: {}", io::Error::last_os_error());
        let seconds = Duration::from_secs(spec.tv_sec.unsigned_abs());
        Ok(seconds + Duration::from_nanos(spec.tv_nsec.unsigned_abs()))
    }
}

/// The kernel's own threads for softirqs: network work that no process had time for.
#[derive(Clone, Debug)]
pub struct Softirqs(Vec<CpuClock>);

impl Softirqs {
    /// Finds them.
    ///
    /// # Errors
    ///
    /// `/proc` is not mounted, or shows no kernel threads.
    pub fn find() -> anyhow::Result<Self> {
        let mut clocks = Vec::new();
        for entry in fs::read_dir("/proc").context("listing /proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if command.starts_with("ksoftirqd/") {
                clocks.push(CpuClock::of_process(pid)?);
            }
        }
        anyhow::ensure!(
            !clocks.is_empty(),
            "/proc shows no ksoftirqd: the kernel's share of the CPU cannot be measured from inside a container"
        );
        Ok(Self(clocks))
    }

    /// What all of them took so far.
    ///
    /// # Errors
    ///
    /// As for one clock.
    pub fn read(&self) -> anyhow::Result<Duration> {
        self.0.iter().map(|clock| clock.read()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_what_was_worked() {
        let clock = CpuClock::of_process(std::process::id()).expect("we are there");
        let before = clock.read().expect("a time");
        let mut sum = 0_u64;
        while CpuClock::THREAD.read().expect("a time") < Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(clock.read().expect("a time") > before);
        assert!(CpuClock::of_process((1 << 22) + 1).is_err(), "above any pid_max");
    }
}
