//! CLOCK_MONOTONIC -> [`Timestamp`], the one clock of the daemon and of the kernel program.

use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock that `bpf_ktime_get_ns` reads; so the receive time
/// in a ring record and the daemon's own "now" can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The present moment. Only the edges of the program call this (threads, listeners, `main`);
    /// everything else takes a timestamp as an argument.
    #[must_use]
    pub fn now() -> Self {
        let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `spec` is a valid, writable timespec that outlives the call; CLOCK_MONOTONIC
        // exists on every Linux, so the call cannot fail and the fields are never negative.
        #[expect(unsafe_code, reason = "std::time::Instant hides the number that the kernel's records carry")]
        unsafe {
            libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut spec);
        }
        Self(spec.tv_sec.unsigned_abs() * 1_000_000_000 + spec.tv_nsec.unsigned_abs())
    }

    /// This moment plus `duration`, saturating.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Time since `earlier`; zero if `earlier` is in fact later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_arithmetic_saturates() {
        let (a, b) = (Timestamp::now(), Timestamp::now());
        assert!(b >= a && a.0 > 0);
        assert_eq!(a.since(a.after(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(a.after(Duration::from_secs(1)).since(a), Duration::from_secs(1));
        assert_eq!(Timestamp(u64::MAX).after(Duration::MAX), Timestamp(u64::MAX));
    }
}
