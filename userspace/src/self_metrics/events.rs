//! Ledger, registry -> what became of events.

use super::Reading;
use super::families::{Families, float, label, sorted};
use crate::mapper::MetricType;

pub(super) fn events(reading: &Reading<'_>, out: &mut Families) {
    let (ledger, tally) = (reading.ledger, &reading.ledger.tally);
    out.gauge(
        "rotameter_last_line_timestamp_seconds",
        "When lines were received last, since unix epoch in seconds; 0 if never.",
        reading.last_line_seconds,
    );
    out.counter("rotameter_events_total", "Events that lines gave, by all ways.", tally.events);
    let recorded = MetricType::ALL.map(|event| (label("type", event.name()), ledger.recorded(event)));
    out.labelled(
        "rotameter_events_recorded_total",
        "Events that reached their series, by type; a sampled observation is one.",
        sorted(recorded.to_vec()),
        false,
    );
    out.counter(
        "rotameter_events_dropped_total",
        "Events that a mapping rule with the action drop took; a sampled observation is one.",
        ledger.dropped,
    );
    out.counter(
        "rotameter_events_vanished_total",
        "Observations whose sample rate repeats them zero times.",
        tally.vanished,
    );
    out.counter(
        "rotameter_dogstatsd_events_total",
        "DogStatsD events, which are no metrics.",
        tally.notice_events,
    );
    out.counter(
        "rotameter_dogstatsd_service_checks_total",
        "DogStatsD service checks, which are no metrics.",
        tally.service_checks,
    );
    out.labelled(
        "rotameter_events_refused_total",
        "Events that the registry refused, by reason.",
        ledger.refused().map(|(reason, count)| (label("reason", reason), count)).collect(),
        true,
    );
    out.counter(
        "rotameter_events_outdated_total",
        "Absolute gauge values that were older than the one they would have replaced.",
        ledger.outdated_gauges,
    );
    let overflow = MetricType::ALL.map(|event| (label("type", event.name()), ledger.overflow(event)));
    out.labelled(
        "rotameter_overflow_events_total",
        "Events that had no room for their own series, by type.",
        sorted(overflow.to_vec()),
        false,
    );
    out.counter(
        "rotameter_zero_siblings_refused_total",
        "Series that had no room to start at 0 beside another one (zero_siblings).",
        ledger.refused_siblings,
    );
    out.gauge("rotameter_series", "Series in the registry.", float(reading.registry.series as u64));
    out.gauge(
        "rotameter_series_max",
        "Series that the registry may hold, overflow series aside.",
        f64::from(reading.registry.series_max),
    );
    out.gauge(
        "rotameter_overflow_series",
        "Series that stand for those that had no room.",
        f64::from(reading.registry.overflow_series),
    );
    out.gauge(
        "rotameter_sender_values",
        "Values that gauges keep for their senders (gauge_combine).",
        float(reading.registry.sender_values as u64),
    );
    out.gauge(
        "rotameter_families",
        "Metric families in the registry.",
        float(reading.registry.families as u64),
    );
    out.gauge(
        "rotameter_registry_bytes",
        "Estimate of the memory that the registry takes.",
        float(reading.registry.bytes as u64),
    );
    out.gauge("rotameter_cached_lines", "Lines whose mapping is remembered.", float(reading.cached_lines));
    out.counter(
        "rotameter_cached_lines_evicted_total",
        "Lines that were forgotten for want of room; when it grows steadily the cache is too small.",
        reading.evicted_lines,
    );
    out.counter("rotameter_scrapes_total", "Expositions written.", reading.scrapes);
}
