//! Ledger, listeners -> the families of `statsd_exporter`.

use ingest_ebpf::verdict::{Door, Verdict};

use super::Reading;
use super::families::{Families, float, label, sorted};
use crate::{
    datagram::Transport, ledger::EventError, line::LineError, mapper::MetricType, registry::FamilyKind,
};

pub(super) fn statsd_exporter(reading: &Reading<'_>, out: &mut Families) {
    let (ledger, tally) = (reading.ledger, &reading.ledger.tally);
    let counted = reading.kernel.as_ref().map_or(0, |kernel| {
        Door::ALL.into_iter().map(|door| kernel.counters.datagrams(door, Verdict::Counted)).sum()
    });
    let udp: u64 = [Transport::Xdp, Transport::SocketFilter, Transport::Loopback, Transport::Udp]
        .map(|t| ledger.datagrams(t))
        .iter()
        .sum();
    out.counter(
        "statsd_exporter_udp_packets_total",
        "The total number of StatsD packets received over UDP.",
        udp + counted,
    );
    out.counter(
        "statsd_exporter_udp_packet_drops_total",
        "The total number of dropped StatsD packets which received over UDP.",
        0,
    );
    out.counter(
        "statsd_exporter_unixgram_packets_total",
        "The total number of StatsD packets received over Unixgram.",
        ledger.datagrams(Transport::Unixgram),
    );
    out.counter(
        "statsd_exporter_tcp_connections_total",
        "The total number of TCP connections handled.",
        reading.sockets.tcp.connections,
    );
    out.counter(
        "statsd_exporter_tcp_connection_errors_total",
        "The number of errors encountered reading from TCP.",
        reading.sockets.tcp.connection_errors,
    );
    out.counter(
        "statsd_exporter_tcp_too_long_lines_total",
        "The number of lines discarded due to being too long.",
        reading.sockets.tcp.too_long_lines,
    );
    let empty = reading.kernel.as_ref().map_or(0, |kernel| kernel.counters.empty_lines());
    out.counter(
        "statsd_exporter_lines_total",
        "The total number of StatsD lines received.",
        tally.lines + empty,
    );
    out.counter(
        "statsd_exporter_samples_total",
        "The total number of StatsD samples received.",
        tally.samples,
    );
    let errors = LineError::ALL.map(|error| (label("reason", error.reason()), tally.error(error)));
    out.labelled(
        "statsd_exporter_sample_errors_total",
        "The total number of errors parsing StatsD samples.",
        sorted(errors.to_vec()),
        true,
    );
    out.counter("statsd_exporter_tags_total", "The total number of DogStatsD tags processed.", tally.tags);
    out.counter(
        "statsd_exporter_tag_errors_total",
        "The number of errors parsing DogStatsD tags.",
        tally.tag_errors,
    );
    // To statsd_exporter a sampled observation is as many events as it counts.
    let types = MetricType::ALL.map(|event| {
        let count = if event == MetricType::Observer { ledger.observations } else { ledger.recorded(event) };
        (label("type", event.name()), count)
    });
    out.labelled(
        "statsd_exporter_events_total",
        "The total number of StatsD events seen.",
        sorted(types.to_vec()),
        true,
    );
    out.counter(
        "statsd_exporter_events_unmapped_total",
        "The total number of StatsD events no mapping was found for.",
        ledger.unmapped,
    );
    out.labelled(
        "statsd_exporter_events_actions_total",
        "The total number of StatsD events by action.",
        vec![(label("action", "drop"), ledger.drop_actions), (label("action", "map"), ledger.mapped)],
        true,
    );
    let errors = EventError::ALL.map(|error| (label("reason", error.reason()), ledger.errors(error)));
    out.labelled(
        "statsd_exporter_events_error_total",
        "The total number of StatsD events discarded due to errors.",
        sorted(errors.to_vec()),
        true,
    );
    let conflicts = ledger.conflicts().map(|(event, family, count)| {
        (format!("{},{}", label("metric_name", family), label("type", event)), count)
    });
    out.labelled(
        "statsd_exporter_events_conflict_total",
        "The total number of StatsD events with conflicting names.",
        sorted(conflicts.collect()),
        true,
    );
    out.counter(
        "statsd_exporter_event_queue_flushed_total",
        "Number of times events were flushed to exporter",
        ledger.batches,
    );
    // By the label's value.
    let kinds = [FamilyKind::Counter, FamilyKind::Gauge, FamilyKind::Histogram, FamilyKind::Summary];
    let vectors = kinds
        .map(|kind| (label("type", kind.name()), float(reading.registry.vectors(kind))))
        .into_iter()
        .filter(|(_, count)| *count > 0.0)
        .collect::<Vec<_>>();
    if !vectors.is_empty() {
        out.add(FamilyKind::Gauge, "statsd_exporter_metrics_total", "The total number of metrics.", vectors);
    }
}

/// The mapping file and its cache.
pub(super) fn mapping(reading: &Reading<'_>, out: &mut Families) {
    let mapping = &reading.mapping;
    out.gauge(
        "statsd_exporter_loaded_mappings",
        "The current number of configured metric mappings.",
        float(mapping.rules),
    );
    out.labelled(
        "statsd_exporter_config_reloads_total",
        "The number of configuration reloads.",
        vec![
            (label("outcome", "failure"), mapping.reloads_failed),
            (label("outcome", "success"), mapping.reloads_succeeded),
        ],
        true,
    );
    let Some(cached_names) = mapping.cached_names else { return };
    out.gauge(
        "statsd_metric_mapper_cache_length",
        "The count of unique metrics currently cached.",
        float(cached_names),
    );
    let (lookups, misses) = (reading.ledger.mapping_lookups, reading.ledger.mapping_misses);
    out.counter("statsd_metric_mapper_cache_gets_total", "The count of total metric cache gets.", lookups);
    out.counter(
        "statsd_metric_mapper_cache_hits_total",
        "The count of total metric cache hits.",
        lookups.saturating_sub(misses),
    );
}
