//! Requests over time -> which of them are too many.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A token bucket: `burst` requests at once, then one each `interval`.
#[derive(Debug)]
pub(super) struct Limiter {
    interval: Duration,
    burst: f64,
    bucket: Mutex<Option<Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Limiter {
    /// A full bucket. `interval` is not 0.
    pub(super) fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst: f64::from(burst), bucket: Mutex::new(None) }
    }

    /// Takes a token for a request at `now`, if there is one.
    pub(super) fn allows(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock();
        let bucket = bucket.get_or_insert(Bucket { tokens: self.burst, filled: now });
        let since = now.saturating_duration_since(bucket.filled);
        bucket.tokens = (bucket.tokens + since.div_duration_f64(self.interval)).min(self.burst);
        bucket.filled = bucket.filled.max(now);
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_each_interval() {
        let limiter = Limiter::new(Duration::from_secs(2), 3);
        let start = Instant::now();
        let allowed = |seconds: u64| limiter.allows(start + Duration::from_secs(seconds));
        assert_eq!([0, 0, 0, 0].map(allowed), [true, true, true, false]);
        assert_eq!([1, 2, 2].map(allowed), [false, true, false]);
        // However long it was quiet, no more than a burst has gathered.
        assert_eq!([900, 900, 900, 900].map(allowed), [true, true, true, false]);
    }
}
