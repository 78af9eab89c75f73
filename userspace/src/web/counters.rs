//! What the web server counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::LiveSettings;
use crate::self_metrics::WebReading;

/// Counts of one web server.
#[derive(Debug, Default)]
pub struct Counters {
    /// A gauge: expositions that are asked for and not written yet.
    pub scrapes_in_flight: AtomicU64,
    /// Expositions, by the status of the answer.
    pub scrapes_200: AtomicU64,
    pub scrapes_500: AtomicU64,
    pub scrapes_503: AtomicU64,
    /// Requests without user and password that are taken.
    pub unauthorized: AtomicU64,
    /// Requests that were not checked because too many others were waiting.
    pub busy: AtomicU64,
    /// Requests beyond the rate limit.
    pub rate_limited: AtomicU64,
    /// TLS handshakes that came to nothing, plain HTTP included.
    pub handshake_errors: AtomicU64,
}

impl Counters {
    /// The counts now, with those of the web configuration.
    #[must_use]
    pub fn reading(&self, settings: &LiveSettings) -> WebReading {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WebReading {
            scrapes_in_flight: read(&self.scrapes_in_flight),
            scrapes_200: read(&self.scrapes_200),
            scrapes_500: read(&self.scrapes_500),
            scrapes_503: read(&self.scrapes_503),
            unauthorized: read(&self.unauthorized),
            busy: read(&self.busy),
            rate_limited: read(&self.rate_limited),
            handshake_errors: read(&self.handshake_errors),
            reloads: read(&settings.reloads),
            reload_failures: read(&settings.failures),
        }
    }
}

/// Counts as in flight until it is dropped, which it also is when the client goes away.
pub(super) struct InFlight<'a>(&'a AtomicU64);

impl<'a> InFlight<'a> {
    pub(super) fn new(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
