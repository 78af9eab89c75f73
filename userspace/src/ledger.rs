//! Where every datagram, line and event went, in userspace.
//!
//! The kernel's half stands in `kernel/counters.rs`. Each sum below holds at any quiet moment:
//!
//! ```text
//! received = drained from rings + read from sockets and streams
//! lines    = empty + notices{kind} + refused lines{reason} + lines with samples
//! samples  = events + vanished + refused samples{reason}
//! events   = recorded{type} + dropped by rule + refused{reason}
//! ```

use std::collections::BTreeMap;

use crate::{datagram::Transport, line::Tally, mapper::MetricType, registry::Refusal};

/// Why an event was not recorded although its line was good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventError {
    /// Nothing is left of the name when its tags are taken off.
    EmptyMetricName,
    /// Counters only grow.
    IllegalNegativeCounter,
}

impl EventError {
    pub const ALL: [Self; 2] = [Self::EmptyMetricName, Self::IllegalNegativeCounter];

    /// Label value of the event error counter; statsd_exporter's.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::EmptyMetricName => "empty_metric_name",
            Self::IllegalNegativeCounter => "illegal_negative_counter",
        }
    }
}

/// What became of an event in the mapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// No rule took it.
    Unmapped,
    Mapped,
    /// A rule took it that drops.
    Dropped,
}

/// The counts of one daemon.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Times that something was taken out of rings or sockets, also if there was nothing.
    pub batches: u64,
    datagrams: [u64; TRANSPORTS.len()],
    /// What the parser counted, and the lines that came by slot or by cache.
    pub tally: Tally,
    /// Lines that are not in the other counts yet; none between two batches.
    pub warm: WarmLines,
    /// Lines of `tally` that slots counted.
    pub slot_lines: u64,
    recorded: [u64; MetricType::ALL.len()],
    errors: [u64; EventError::ALL.len()],
    /// What observers took in, each observation as often as it counts.
    pub observations: u64,
    /// Events that a mapping rule took, none, or one that drops; observations as often as they count.
    pub mapped: u64,
    pub unmapped: u64,
    pub drop_actions: u64,
    /// Events that a rule dropped, each once.
    pub dropped: u64,
    /// Events whose rule was asked for, and those whose rule was not remembered.
    pub mapping_lookups: u64,
    pub mapping_misses: u64,
    /// Events without room for their own series. An overflow series took them, so that they are
    /// recorded, too; or they were refused, as gauges are.
    overflow: [u64; MetricType::ALL.len()],
    /// Series that were to start at 0 beside another one and had no room.
    pub refused_siblings: u64,
    refused: BTreeMap<&'static str, u64>,
    /// `(type, family)` of refused events; at most [`CONFLICT_NAMES_MAX`], the rest under one name.
    conflicts: BTreeMap<(&'static str, String), u64>,
    /// Absolute gauges that were older than the value they would have replaced. Recorded, too.
    pub outdated_gauges: u64,
}

/// Known lines of one sample and one event, by all that they count under: nearly all lines are such, and
/// one number for each costs a tenth of what the counts themselves do.
#[derive(Clone, Debug, Default)]
pub struct WarmLines([u64; 4 * MetricType::ALL.len()]);

impl WarmLines {
    /// Counts one that was recorded.
    #[inline]
    pub fn count(&mut self, event: MetricType, mapped: bool, tagged: bool) {
        self.0[event as usize * 4 + usize::from(mapped) * 2 + usize::from(tagged)] += 1;
    }
}

/// The transports in the order of their counters.
pub const TRANSPORTS: [Transport; 7] = [
    Transport::Xdp,
    Transport::SocketFilter,
    Transport::Loopback,
    Transport::Udp,
    Transport::Tcp,
    Transport::Unixgram,
    Transport::Unix,
];

/// Family names that the conflict counter tells apart; a sender must not fill our memory with them.
const CONFLICT_NAMES_MAX: usize = 200;
/// Where further ones are counted.
const OTHER_NAMES: &str = "(other)";

impl Ledger {
    pub fn count_datagram(&mut self, transport: Transport) {
        self.datagrams[index(transport)] += 1;
    }

    /// Datagrams that came whole to userspace.
    #[must_use]
    pub fn datagrams(&self, transport: Transport) -> u64 {
        self.datagrams[index(transport)]
    }

    pub fn count_recorded(&mut self, event: MetricType, times: u64) {
        self.recorded[event as usize] += times;
    }

    #[must_use]
    pub fn recorded(&self, event: MetricType) -> u64 {
        self.recorded[event as usize]
    }

    /// Ends a batch: what was counted as warm goes where it belongs.
    pub fn settle(&mut self) {
        for (event, counts) in MetricType::ALL.into_iter().zip(std::mem::take(&mut self.warm).0.chunks(4)) {
            for (class, &lines) in counts.iter().enumerate().filter(|(_, lines)| **lines > 0) {
                self.tally.lines += lines;
                self.tally.samples += lines;
                self.tally.events += lines;
                self.tally.tags += if class & 1 == 1 { lines } else { 0 };
                self.count_mapping(if class & 2 == 2 { Mapping::Mapped } else { Mapping::Unmapped }, lines);
                self.count_recorded(event, lines);
                if event == MetricType::Observer {
                    self.observations = self.observations.saturating_add(lines);
                }
            }
        }
    }

    /// Counts `events` that were looked up, and what came of it.
    #[inline]
    pub fn count_mapping(&mut self, mapping: Mapping, events: u64) {
        self.count_lookups(events);
        let count = match mapping {
            Mapping::Unmapped => &mut self.unmapped,
            Mapping::Mapped => &mut self.mapped,
            Mapping::Dropped => &mut self.drop_actions,
        };
        *count = count.saturating_add(events);
    }

    /// Counts `events` that were looked up and came to no decision.
    #[inline]
    pub fn count_lookups(&mut self, events: u64) {
        self.mapping_lookups = self.mapping_lookups.saturating_add(events);
    }

    pub fn count_error(&mut self, error: EventError, times: u64) {
        self.errors[error as usize] += times;
    }

    #[must_use]
    pub fn errors(&self, error: EventError) -> u64 {
        self.errors[error as usize]
    }

    /// Counts `lines` events, each of which counts `times` times to statsd_exporter.
    pub fn count_refused(
        &mut self,
        event: MetricType,
        family: &str,
        refusal: Refusal,
        lines: u64,
        times: u64,
    ) {
        *self.refused.entry(refusal.reason()).or_default() += lines;
        if refusal.is_limit() {
            return self.count_overflow(event, lines);
        }
        let key = (event.name(), family.to_owned());
        let key = if self.conflicts.len() < CONFLICT_NAMES_MAX || self.conflicts.contains_key(&key) {
            key
        } else {
            (event.name(), OTHER_NAMES.to_owned())
        };
        let conflicts = self.conflicts.entry(key).or_default();
        *conflicts = conflicts.saturating_add(lines.saturating_mul(times));
    }

    /// Counts events that had no room for their own series.
    pub fn count_overflow(&mut self, event: MetricType, times: u64) {
        self.overflow[event as usize] += times;
    }

    #[must_use]
    pub fn overflow(&self, event: MetricType) -> u64 {
        self.overflow[event as usize]
    }

    /// Events that the registry refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.refused.iter().map(|(reason, count)| (*reason, *count))
    }

    /// Events that the registry refused for other reasons than want of room, by type and family.
    pub fn conflicts(&self) -> impl Iterator<Item = (&'static str, &str, u64)> + '_ {
        self.conflicts.iter().map(|((event, family), count)| (*event, family.as_str(), *count))
    }

    /// The right side of the events' sum: what became of them.
    #[must_use]
    pub fn events_accounted(&self) -> u64 {
        self.recorded.iter().sum::<u64>()
            + self.dropped
            + self.errors.iter().sum::<u64>()
            + self.refused.values().sum::<u64>()
    }

    /// Whether the userspace sums hold; the message names the first that does not.
    ///
    /// # Errors
    ///
    /// Both sides of that sum.
    pub fn check(&self) -> Result<(), String> {
        let tally = &self.tally;
        let fates = tally.empty + tally.notice_events + tally.service_checks + tally.refused_lines();
        if tally.lines.checked_sub(fates).is_none_or(|with_samples| with_samples > tally.samples) {
            return Err(format!(
                "lines {} != empty + notices + refused {fates} + at most {} with samples",
                tally.lines, tally.samples
            ));
        }
        let samples = tally.events + tally.vanished + tally.refused_samples();
        if tally.samples != samples {
            return Err(format!("samples {} != events + vanished + refused {samples}", tally.samples));
        }
        if tally.events != self.events_accounted() {
            return Err(format!(
                "events {} != recorded + dropped + refused {}",
                tally.events,
                self.events_accounted()
            ));
        }
        Ok(())
    }
}

fn index(transport: Transport) -> usize {
    match transport {
        Transport::Xdp => 0,
        Transport::SocketFilter => 1,
        Transport::Loopback => 2,
        Transport::Udp => 3,
        Transport::Tcp => 4,
        Transport::Unixgram => 5,
        Transport::Unix => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transport_has_its_own_counter() {
        let mut ledger = Ledger::default();
        for (n, transport) in TRANSPORTS.into_iter().enumerate() {
            for _ in 0..=n {
                ledger.count_datagram(transport);
            }
        }
        for (n, transport) in TRANSPORTS.into_iter().enumerate() {
            assert_eq!(ledger.datagrams(transport), n as u64 + 1);
        }
    }
}
