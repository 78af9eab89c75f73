//! Exposition text -> the daemon's own figures, and whether its ledger closes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::reference::Expected;
use crate::reference::compare::Exposition;

/// The daemon's own metrics, as one scrape shows them.
#[derive(Debug)]
pub(super) struct Figures(Exposition);

/// Which doors stand open in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) xdp: bool,
    pub(super) socket_filter: bool,
    pub(super) loopback: bool,
}

pub(super) const SHUT: Open = Open { xdp: false, socket_filter: false, loopback: false };

/// The doors, and the transports by which their rings come to userspace.
const DOORS: [(&str, &str); 3] =
    [("xdp", "ring_xdp"), ("socket_filter", "ring_socket_filter"), ("loopback", "ring_loopback")];

impl Figures {
    #[track_caller]
    pub(super) fn read(exposition: &str) -> Self {
        // Senders' families are held against the reference elsewhere, and are many.
        let mut own = String::new();
        for line in exposition.split('\n').filter(|line| is_own(line)) {
            own.push_str(line);
            own.push('\n');
        }
        Self(Exposition::read(&own).expect("the exposition can be read"))
    }

    /// The sum over all series of `family` that have these labels.
    #[track_caller]
    pub(super) fn sum(&self, family: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |have: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| have.get(*key).is_some_and(|have| have == value))
        };
        let of = |name: &String| name.as_str() == family;
        let sum: f64 =
            self.0.lines.iter().filter(|((name, have), _)| of(name) && has(have)).map(|(_, v)| v).sum();
        assert!((0.0..9e15).contains(&sum) && sum.fract() == 0.0, "{family}{labels:?} is {sum}");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        let count = sum as u64;
        count
    }

    /// Datagrams that `door` dealt with in this way.
    pub(super) fn door(&self, door: &str, verdict: &str) -> u64 {
        self.sum("rotameter_datagrams_total", &[("door", door), ("verdict", verdict)])
    }

    /// Datagrams that `door` passed for this reason.
    pub(super) fn passed(&self, door: &str, reason: &str) -> u64 {
        self.sum("rotameter_datagrams_total", &[("door", door), ("verdict", "passed"), ("reason", reason)])
    }

    pub(super) fn counted(&self) -> u64 {
        DOORS.map(|(door, _)| self.door(door, "counted")).iter().sum()
    }

    pub(super) fn ringed(&self) -> u64 {
        DOORS.map(|(door, _)| self.door(door, "ringed")).iter().sum()
    }

    pub(super) fn received(&self, transport: &str) -> u64 {
        self.sum("rotameter_received_datagrams_total", &[("transport", transport)])
    }

    pub(super) fn lost(&self) -> u64 {
        self.sum("rotameter_lost_datagrams_total", &[("where", "udp_socket_queue")])
    }

    pub(super) fn doors_open(&self) -> Open {
        let open = |door| self.sum("rotameter_door_open", &[("door", door)]) > 0;
        Open { xdp: open("xdp"), socket_filter: open("socket_filter"), loopback: open("loopback") }
    }

    /// Datagrams that have come to their end, wherever that was.
    pub(super) fn accounted(&self) -> u64 {
        self.counted() + self.ringed() + self.received("udp") + self.lost()
    }

    /// Whether every datagram of `sent` is in exactly one place.
    #[track_caller]
    pub(super) fn check_datagrams(&self, sent: u64) {
        let ledger = || self.ledger();
        assert_eq!(
            self.accounted(),
            sent,
            "sent = counted + ringed + read from the socket + lost\n{}",
            ledger()
        );
        for (door, ring) in DOORS {
            assert_eq!(
                self.door(door, "ringed"),
                self.received(ring),
                "{door}: drained = ringed\n{}",
                ledger()
            );
        }
        let consumed = |door| self.door(door, "counted") + self.door(door, "ringed");
        let before_socket = sent - consumed("xdp") - consumed("loopback");
        if self.doors_open().socket_filter {
            let seen = self.sum("rotameter_datagrams_total", &[("door", "socket_filter")]);
            assert_eq!(seen, before_socket, "the filter sees what the other doors left\n{}", ledger());
            assert_eq!(
                self.door("socket_filter", "passed"),
                self.received("udp") + self.lost(),
                "passed = read from the socket + lost\n{}",
                ledger()
            );
        }
        let read = self.counted() + self.ringed() + self.received("udp");
        assert_eq!(self.sum("statsd_exporter_udp_packets_total", &[]), read, "{}", ledger());
        assert_eq!(self.sum("rotameter_malformed_ring_records_total", &[]), 0);
        assert_eq!(self.sum("rotameter_udp_read_errors_total", &[]), 0);
    }

    /// Whether lines, samples and events are those that were sent, each in exactly one place.
    #[track_caller]
    pub(super) fn check_lines(&self, expected: &Expected) {
        let sum = |family: &str| self.sum(family, &[]);
        let by = |family: &str, label: &str, key: &str| self.sum(family, &[(label, key)]);
        assert_eq!(sum("statsd_exporter_lines_total"), expected.lines, "lines");
        assert_eq!(sum("statsd_exporter_samples_total"), expected.samples, "samples");
        assert_eq!(sum("statsd_exporter_tags_total"), expected.tagged_samples, "tagged samples");
        assert_eq!(sum("statsd_exporter_tag_errors_total"), expected.tag_errors, "tag errors");
        for (reason, count) in &expected.errors {
            assert_eq!(by("statsd_exporter_sample_errors_total", "reason", reason), *count, "{reason}");
        }
        assert_eq!(sum("statsd_exporter_sample_errors_total"), expected.errors.values().sum::<u64>());
        assert_eq!(sum("rotameter_events_total"), expected.events_parsed, "events");
        assert_eq!(sum("rotameter_events_vanished_total"), expected.vanished, "vanished");
        let refused = sum("statsd_exporter_events_error_total") + sum("rotameter_events_refused_total");
        let recorded = sum("rotameter_events_recorded_total") + sum("rotameter_events_dropped_total");
        assert_eq!(recorded + refused, expected.events_parsed, "events = recorded + refused");
        // To statsd_exporter a sampled observation is as many events as it counts.
        for (kind, count) in &expected.events {
            assert_eq!(by("statsd_exporter_events_total", "type", kind), *count, "{kind}");
        }
        let repeated = expected.events.values().chain(expected.refused.values()).sum::<u64>();
        assert_eq!(sum("statsd_exporter_events_unmapped_total"), repeated, "unmapped");
    }

    /// The figures about datagrams, for a message.
    pub(super) fn ledger(&self) -> String {
        let mut text = String::new();
        for ((name, labels), value) in &self.0.lines {
            if name.starts_with("rotameter_") && name.contains("datagrams") && *value != 0.0 {
                let _ = writeln!(text, "{name} {labels:?} {value}");
            }
        }
        text
    }
}

/// Whether a line of the text, or the comment about it, is about the daemon itself.
pub(super) fn is_own(line: &str) -> bool {
    let name = line.strip_prefix("# TYPE ").or_else(|| line.strip_prefix("# HELP ")).unwrap_or(line);
    ["rotameter_", "statsd_exporter_", "process_"].iter().any(|prefix| name.starts_with(prefix))
}
