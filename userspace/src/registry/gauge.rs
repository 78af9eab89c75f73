//! Absolute values, relative values -> the present value.

use crate::clock::Timestamp;

/// A gauge, with the receive time of the newest datagram that changed it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauge {
    pub(super) value: f64,
    /// Nanoseconds, and the two flags below: gauges are many, and a monotonic clock leaves them free.
    received: u64,
}

/// A relative value has changed the gauge at some time.
const ADJUSTED_EVER: u64 = 1 << 63;
/// A relative value has changed it since it was set.
const ADJUSTED: u64 = 1 << 62;
const FLAGS: u64 = ADJUSTED_EVER | ADJUSTED;

/// What [`Registry::set`](super::Registry::set) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOutcome {
    Applied,
    /// A newer datagram had changed the gauge already: rings and sockets deliver out of order.
    Older,
    /// The gauge is kept for each sender, and there is no room for one more.
    NoRoom,
}

impl Gauge {
    pub(super) fn set(&mut self, value: f64, received: Timestamp) -> SetOutcome {
        let received = received.0 & !FLAGS;
        if received < self.received & !FLAGS {
            return SetOutcome::Older;
        }
        *self = Self { value, received: received | (self.received & ADJUSTED_EVER) };
        SetOutcome::Applied
    }

    pub(super) fn adjust(&mut self, delta: f64, received: Timestamp) {
        self.value += delta;
        self.received = (received.0 & !FLAGS).max(self.received & !FLAGS) | FLAGS;
    }

    /// Adds `delta`, unless the gauge was set later and not changed since: then `delta` came before. For
    /// times that are exact.
    pub(super) fn adjust_in_time(&mut self, delta: f64, received: Timestamp) {
        if received.0 < self.received & !FLAGS && self.received & ADJUSTED == 0 {
            self.received |= ADJUSTED_EVER;
        } else {
            self.adjust(delta, received);
        }
    }

    /// Whether every value until now was an absolute one.
    pub(super) fn is_absolute(&self) -> bool {
        self.received & ADJUSTED_EVER == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_datagram_never_overwrites_a_newer_one() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.set(1.0, Timestamp(10)), SetOutcome::Applied);
        assert_eq!(gauge.set(2.0, Timestamp(9)), SetOutcome::Older);
        assert_eq!(gauge.set(3.0, Timestamp(10)), SetOutcome::Applied, "two lines of one datagram");
        gauge.adjust(0.5, Timestamp(20));
        assert_eq!(gauge.set(4.0, Timestamp(15)), SetOutcome::Older);
        gauge.adjust(-1.0, Timestamp(1));
        assert!(gauge.value == 2.5);
    }

    #[test]
    fn what_was_set_later_overrides_a_relative_value_that_comes_late() {
        let mut gauge = Gauge::default();
        gauge.set(5.0, Timestamp(10));
        assert!(gauge.is_absolute());
        gauge.adjust_in_time(1.0, Timestamp(9));
        assert!(gauge.value == 5.0 && !gauge.is_absolute());
        gauge.adjust_in_time(1.0, Timestamp(10));
        assert!(gauge.value == 6.0);
        gauge.adjust_in_time(1.0, Timestamp(9));
        assert!(gauge.value == 7.0, "in order of arrival");
        assert_eq!(gauge.set(8.0, Timestamp(10)), SetOutcome::Applied);
        assert!(gauge.value == 8.0 && !gauge.is_absolute());
    }
}
