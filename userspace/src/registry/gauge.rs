//! Absolute values, relative values -> the present value.

use crate::clock::Timestamp;

/// A gauge, with the receive time of the newest datagram that changed it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauge {
    pub(super) value: f64,
    received: Timestamp,
}

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
        if received < self.received {
            return SetOutcome::Older;
        }
        *self = Self { value, received };
        SetOutcome::Applied
    }

    pub(super) fn adjust(&mut self, delta: f64, received: Timestamp) {
        self.value += delta;
        self.received = self.received.max(received);
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
}
