//! This machine -> what one must know to read its figures.

use std::{fs, time::Duration};

use anyhow::Context as _;
use serde::Serialize;

/// Where the figures were taken.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub kernel: String,
    /// Whether the CPU says that it is a virtual one.
    pub virtualised: bool,
}

impl Machine {
    /// Asks `/proc`; what is not there reads "unknown".
    #[must_use]
    pub fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            cpuinfo.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| value.trim().to_owned())
            })
        };
        Self {
            cpu: field("model name").unwrap_or_else(|| "unknown".to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
            virtualised: field("flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.virtualised { "virtualised" } else { "not virtualised" };
        write!(f, "{}, {} CPUs, {kind}, Linux {}", self.cpu, self.cpus, self.kernel)
    }
}

/// Nanoseconds that an addition takes which waits for the one before it: one clock cycle, so figures
/// of machines with other clocks, or with neighbours that take cycles away, can be put in proportion.
#[must_use]
pub fn dependent_add_ns() -> f64 {
    const ROUNDS: u32 = 2_000_000;
    const ADDS: u32 = 16;
    let mut sum = 1_u64;
    let started = thread_cpu_time();
    for round in 0..ROUNDS {
        sum = sixteen_adds(sum, u64::from(round));
    }
    std::hint::black_box(sum);
    (thread_cpu_time() - started).as_secs_f64() * 1e9 / f64::from(ROUNDS * ADDS)
}

/// Time for which the calling thread had a CPU: a neighbour that takes it away does not show.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spec` is writable and outlives the call; every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut spec) };
    Duration::from_secs(spec.tv_sec.unsigned_abs()) + Duration::from_nanos(spec.tv_nsec.unsigned_abs())
}

/// Memory that this process has now.
///
/// # Errors
///
/// `/proc` does not tell.
pub fn resident_bytes() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok())
        .context("/proc/self/status has no VmRSS")?;
    Ok(kibibytes * 1024.0)
}

/// Adds `amount` sixteen times, one after the other; the compiler would multiply.
#[inline(always)]
fn sixteen_adds(mut sum: u64, amount: u64) -> u64 {
    macro_rules! add {
        () => {
            // SAFETY: one addition of two registers, nothing else.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                std::arch::asm!("add {0}, {1}", inout(reg) sum, in(reg) amount, options(pure, nomem, nostack));
            }
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            unsafe {
                std::arch::asm!("add {0}, {0}, {1}", inout(reg) sum, in(reg) amount, options(pure, nomem, nostack));
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            {
                sum = std::hint::black_box(sum.wrapping_add(amount));
            }
        };
    }
    add!();
    add!();
    add!();
    add!();
    add!();
    add!();
    add!();
    add!();
    add!();
    add!();
    add!();
    add!();
    add!();
    add!();
    add!();
    add!();
    sum
}
