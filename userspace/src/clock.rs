//! CLOCK_MONOTONIC -> [`Timestamp`], the one clock of the daemon and of the kernel program.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Puts timestamps on the wall clock, as it stood when this was read: a time that was told once is
/// told again, even if somebody has set the clock meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    started: Timestamp,
    unix_nanos: u64,
}

impl WallClock {
    /// To be read once, when the daemon starts.
    #[must_use]
    pub fn read() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::at(Timestamp::now(), u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The clock by which `started` was `unix_nanos` nanoseconds after 1970.
    #[must_use]
    pub const fn at(started: Timestamp, unix_nanos: u64) -> Self {
        Self { started, unix_nanos }
    }

    /// When this was read.
    #[must_use]
    pub const fn started(self) -> Timestamp {
        self.started
    }

    /// Nanoseconds since 1970; saturating.
    #[must_use]
    pub const fn unix_nanos(self, at: Timestamp) -> u64 {
        self.unix_nanos.saturating_add(at.0).saturating_sub(self.started.0)
    }

    /// Seconds since 1970, to the millisecond.
    #[must_use]
    pub fn unix_seconds(self, at: Timestamp) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
        let milliseconds = (self.unix_nanos(at) / 1_000_000) as f64;
        milliseconds / 1000.0
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

    #[test]
    fn the_wall_clock_goes_both_ways() {
        let clock = WallClock::at(Timestamp(5_000_000_000), 1_700_000_000_250_000_000);
        assert_eq!(clock.unix_nanos(clock.started()), 1_700_000_000_250_000_000);
        assert!(clock.unix_seconds(Timestamp(6_000_000_000)) == 1_700_000_001.25);
        assert!(clock.unix_seconds(Timestamp(4_750_000_000)) == 1_700_000_000.0);
        assert!(WallClock::read().unix_nanos(Timestamp::now()) > 1_700_000_000_000_000_000);
    }
}
