//! Values of several senders -> one gauge.
//!
//! Several schedulers send the same gauge, and each overwrites what the other one said. Here each has a
//! share of its own; what the series shows is computed when it is read.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::gauge::{Gauge, SetOutcome};
use super::series::{SeriesId, Value};
use super::{FamilyKind, Registry, SeriesRequest, Stale};
use crate::clock::Timestamp;

/// How the values of several senders become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Combine {
    /// The newest.
    Last,
    Sum,
    Max,
    Min,
}

impl Combine {
    pub const ALL: [Self; 4] = [Self::Last, Self::Sum, Self::Max, Self::Min];

    /// As a mapping file spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

/// How a gauge is kept for each sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderGaugeOptions {
    pub combine: Combine,
    /// A sender that has not sent the gauge for longer has no part in it. Not zero.
    pub expiry: Duration,
}

/// Who sent a value: an address without its port, for a client that starts again has another one; or a
/// process, by its number. Senders without either are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sender([u8; 16]);

impl From<Option<IpAddr>> for Sender {
    fn from(address: Option<IpAddr>) -> Self {
        Self(match address {
            Some(IpAddr::V4(address)) => address.to_ipv6_mapped().octets(),
            Some(IpAddr::V6(address)) => address.octets(),
            None => Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets(),
        })
    }
}

impl Sender {
    /// A process of this machine.
    #[must_use]
    pub fn process(number: u32) -> Self {
        // A multicast address, from which nothing comes.
        let mut bytes = [0xff; 16];
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        Self(bytes)
    }
}

/// What a sender does to its share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    Set(f64),
    Add(f64),
}

/// What one sender says.
#[derive(Clone, Copy, Debug)]
struct Share {
    sender: Sender,
    value: f64,
    /// Receive time of the newest datagram that changed it.
    received: Timestamp,
}

/// A gauge with a share for each sender.
#[derive(Debug)]
pub(super) struct SenderGauge {
    combine: Combine,
    expiry_nanos: u64,
    /// By sender.
    shares: Vec<Share>,
    /// Who changed it last: what is read from a socket in one go has one receive time.
    newest: (Timestamp, Sender),
}

impl SenderGauge {
    pub(super) fn new(options: SenderGaugeOptions) -> Self {
        let mut gauge = Self {
            combine: options.combine,
            expiry_nanos: 0,
            shares: Vec::new(),
            newest: Default::default(),
        };
        gauge.follow(options);
        gauge
    }

    fn follow(&mut self, options: SenderGaugeOptions) {
        self.combine = options.combine;
        self.expiry_nanos = u64::try_from(options.expiry.as_nanos()).unwrap_or(u64::MAX);
    }

    fn options(&self) -> SenderGaugeOptions {
        SenderGaugeOptions { combine: self.combine, expiry: Duration::from_nanos(self.expiry_nanos) }
    }

    /// Drops the shares of silent senders, unless all are: then the series is about to leave, and says
    /// for that moment what it said.
    fn prune(&mut self, now: Timestamp) {
        let expiry_nanos = self.expiry_nanos;
        let is_alive = |share: &Share| share.received.0.saturating_add(expiry_nanos) >= now.0;
        if self.shares.iter().any(is_alive) {
            self.shares.retain(is_alive);
        }
    }

    /// What the senders that are alive come to.
    fn value(&self) -> f64 {
        let values = self.shares.iter().map(|share| share.value);
        let value = match self.combine {
            Combine::Last => {
                let newness = |share: &&Share| (share.received, share.sender == self.newest.1);
                self.shares.iter().max_by_key(newness).map(|share| share.value)
            }
            Combine::Sum => Some(values.sum()),
            Combine::Max => values.reduce(f64::max),
            Combine::Min => values.reduce(f64::min),
        };
        value.unwrap_or_default()
    }

    pub(super) fn shares(&self) -> usize {
        self.shares.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.shares.capacity() * size_of::<Share>()
    }
}

/// All shares that there are.
#[derive(Debug, Default)]
pub(super) struct Shares {
    pub(super) live: usize,
}

impl Registry {
    /// Changes the share that `sender` has in a gauge, unless a newer datagram of that sender has set it.
    ///
    /// # Errors
    ///
    /// [`Stale`] if the series expired or is no gauge.
    pub fn change_share(
        &mut self,
        id: SeriesId,
        sender: Sender,
        change: Change,
        received: Timestamp,
        now: Timestamp,
    ) -> Result<SetOutcome, Stale> {
        let series = self.slots.get_mut(id).ok_or(Stale)?;
        let gauge = match &mut series.value {
            Value::SenderGauge(gauge) => gauge,
            // A rule for the same series that says nothing of senders came later.
            Value::Gauge(_) => {
                return match change {
                    Change::Set(value) => self.set(id, value, received, now),
                    Change::Add(delta) => self.adjust(id, delta, received, now).map(|()| SetOutcome::Applied),
                };
            }
            Value::Counter(..) | Value::Summary(_) | Value::Histogram(_) | Value::Vacant => {
                return Err(Stale);
            }
        };
        let outcome = match gauge.shares.binary_search_by_key(&sender, |share| share.sender) {
            Ok(place) => {
                let share = &mut gauge.shares[place];
                match change {
                    Change::Set(_) if received < share.received => SetOutcome::Older,
                    Change::Set(value) => {
                        (share.value, share.received) = (value, received);
                        SetOutcome::Applied
                    }
                    Change::Add(delta) => {
                        // A sender that comes back begins anew, also if nobody looked meanwhile.
                        let is_over = share.received.0.saturating_add(gauge.expiry_nanos) < received.0;
                        share.value = if is_over { delta } else { share.value + delta };
                        share.received = share.received.max(received);
                        SetOutcome::Applied
                    }
                }
            }
            Err(_) => {
                let (bytes, shares) = (gauge.heap_bytes(), gauge.shares());
                if shares >= self.config.senders_per_gauge_max || self.shares.live >= self.config.shares_max {
                    gauge.prune(now);
                }
                self.shares.live = (self.shares.live + gauge.shares()).saturating_sub(shares);
                if gauge.shares() >= self.config.senders_per_gauge_max
                    || self.shares.live >= self.config.shares_max
                {
                    return Ok(SetOutcome::NoRoom);
                }
                let (Change::Set(value) | Change::Add(value)) = change;
                let place = gauge.shares.partition_point(|share| share.sender < sender);
                gauge.shares.insert(place, Share { sender, value, received });
                self.shares.live += 1;
                self.owned_bytes = (self.owned_bytes + gauge.heap_bytes()).saturating_sub(bytes);
                SetOutcome::Applied
            }
        };
        if received >= gauge.newest.0 {
            gauge.newest = (received, sender);
        }
        self.deadlines.touch(series.deadline, now);
        Ok(outcome)
    }

    /// Makes a gauge that is there what the rule of `request` wants: kept for each sender, or not.
    pub(super) fn follow_rule(&mut self, id: SeriesId, request: &SeriesRequest<'_>, now: Timestamp) {
        if request.kind != FamilyKind::Gauge {
            return;
        }
        let Some(series) = self.slots.get_mut(id) else { return };
        match (&mut series.value, request.sender_gauge) {
            // What all senders together said belongs to none; the event that comes next says it anew.
            (Value::Gauge(_), Some(options)) => {
                let gauge = Box::new(SenderGauge::new(options));
                self.owned_bytes += gauge.heap_bytes();
                series.value = Value::SenderGauge(gauge);
            }
            (Value::SenderGauge(gauge), None) => {
                gauge.prune(now);
                let mut plain = Gauge::default();
                let newest = gauge.shares.iter().map(|share| share.received).max().unwrap_or_default();
                plain.set(gauge.value(), newest);
                self.shares.live = self.shares.live.saturating_sub(gauge.shares());
                self.owned_bytes = self.owned_bytes.saturating_sub(gauge.heap_bytes());
                series.value = Value::Gauge(plain);
            }
            (Value::SenderGauge(gauge), Some(options)) if gauge.options() != options => gauge.follow(options),
            _ => return,
        }
        series.deadline = self.deadlines.change(series.deadline, id, request.lifetime(), now);
    }
}

/// The value of a gauge at `now`, for who reads it. Silent senders leave.
pub(super) fn read(gauge: &mut SenderGauge, shares: &mut Shares, now: Timestamp) -> f64 {
    let before = gauge.shares();
    gauge.prune(now);
    shares.live = (shares.live + gauge.shares()).saturating_sub(before);
    gauge.value()
}

#[cfg(test)]
#[path = "sender_gauge_tests.rs"]
mod tests;
