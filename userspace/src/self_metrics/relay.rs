//! Counters of the relay's targets -> families.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::families::{Families, label, sorted};
use crate::relay::{RelayCounters, RelayTarget};

/// What was relayed. Without a relay there is none of these, as in statsd_exporter.
pub(super) fn relay(targets: &[Arc<RelayTarget>], out: &mut Families) {
    let by_target = |count: fn(&RelayCounters) -> &AtomicU64| {
        let samples = targets
            .iter()
            .map(|target| (label("target", &target.name), count(&target.counters).load(Ordering::Relaxed)));
        sorted(samples.collect())
    };
    out.labelled(
        "statsd_exporter_relay_packets_total",
        "The number of StatsD packets relayed.",
        by_target(|counters| &counters.packets),
        false,
    );
    out.labelled(
        "statsd_exporter_relay_lines_relayed_total",
        "The number of lines that were buffered to be relayed.",
        by_target(|counters| &counters.lines),
        false,
    );
    out.labelled(
        "statsd_exporter_relay_long_lines_total",
        // Without its "of", as statsd_exporter writes it.
        "The number lines that were too long to relay.",
        by_target(|counters| &counters.long_lines),
        false,
    );
    let mut dropped = Vec::new();
    for target in targets {
        let counters = &target.counters;
        for (reason, count) in [
            ("queue_full", &counters.queue_full),
            ("refused", &counters.refused),
            ("send_failed", &counters.send_failed),
        ] {
            let labels = format!("{},{}", label("reason", reason), label("target", &target.name));
            dropped.push((labels, count.load(Ordering::Relaxed)));
        }
    }
    out.labelled(
        "rotameter_relay_lines_dropped_total",
        "Lines that were to be relayed and given up, by reason.",
        sorted(dropped),
        false,
    );
}
