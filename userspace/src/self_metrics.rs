//! Ledger, kernel counters, listeners -> the daemon's own families.
//!
//! Two name spaces: `statsd_exporter_*`, with the names, types and labels that people already alert
//! on, and `rotameter_*`, which explains every datagram. `docs/self-metrics.md` has a row for each.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ingest_ebpf::verdict::{Door, Outcome, Verdict};

use crate::{
    datagram::Transport,
    exposition::OwnFamily,
    kernel::{counters::Counters, promotion::Promotion},
    ledger::{EventError, Ledger, TRANSPORTS},
    line::LineError,
    mapper::MetricType,
    process,
    registry::{FamilyKind, Stats},
    relay::{RelayCounters, RelayTarget},
};

/// Everything that the families below are made of, read at one moment.
#[derive(Debug)]
pub struct Reading<'a> {
    pub ledger: &'a Ledger,
    pub registry: Stats,
    pub cached_lines: u64,
    pub evicted_lines: u64,
    pub mapping: MappingReading,
    /// `None` with the doors shut.
    pub kernel: Option<KernelReading<'a>>,
    pub sockets: SocketReading,
    /// Empty without a relay.
    pub relay: &'a [Arc<RelayTarget>],
    pub scrapes: u64,
    pub malformed_records: u64,
    pub start_time_seconds: f64,
    pub web: WebReading,
}

/// The mapping file and what is remembered of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MappingReading {
    pub rules: u64,
    /// `None` with `--statsd.cache-size=0`.
    pub cached_names: Option<u64>,
    pub reloads_succeeded: u64,
    pub reloads_failed: u64,
}

/// The kernel's side of a reading.
#[derive(Debug)]
pub struct KernelReading<'a> {
    pub counters: &'a Counters,
    pub promotion: &'a Promotion,
    pub slots: u32,
    pub xdp_interfaces: Vec<String>,
    /// Destinations that the kernel's listen set had no room for.
    pub listen_refused: u64,
    pub socket_filter_open: bool,
}

/// What the listeners counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketReading {
    pub udp_read_errors: u64,
    /// Datagrams that the kernel dropped at our UDP sockets, what the socket filter consumed included.
    pub udp_socket_drops: u64,
    pub udp_receive_buffer_bytes: u64,
    pub unixgram_read_errors: u64,
    /// Unix datagrams that were longer than a buffer.
    pub unixgram_cut: u64,
    pub tcp: StreamReading,
    pub unix: StreamReading,
}

/// What the stream listeners of one kind counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamReading {
    pub connections: u64,
    pub connection_errors: u64,
    pub too_long_lines: u64,
    pub refused: u64,
    pub accept_errors: u64,
    pub lines_cut_by_shutdown: u64,
}

/// What the web server counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct WebReading {
    pub scrapes_in_flight: u64,
    pub scrapes_200: u64,
    pub scrapes_500: u64,
    pub scrapes_503: u64,
    pub unauthorized: u64,
    pub busy: u64,
    pub rate_limited: u64,
    pub handshake_errors: u64,
    /// Times that the web configuration was read anew, and that it did not do.
    pub reloads: u64,
    pub reload_failures: u64,
}

/// Names of families that appear with their first sample only, or with the doors open only.
pub const SPARSE_NAMES: [&str; 25] = [
    "statsd_exporter_config_reloads_total",
    "statsd_metric_mapper_cache_length",
    "statsd_metric_mapper_cache_gets_total",
    "statsd_metric_mapper_cache_hits_total",
    "statsd_exporter_sample_errors_total",
    "statsd_exporter_events_total",
    "statsd_exporter_events_actions_total",
    "statsd_exporter_events_error_total",
    "statsd_exporter_events_conflict_total",
    "statsd_exporter_metrics_total",
    "rotameter_datagrams_total",
    "rotameter_events_refused_total",
    "rotameter_overflow_counter_total",
    "rotameter_overflow_observations",
    "rotameter_promoted_identities",
    "rotameter_slots",
    "rotameter_promotions_total",
    "rotameter_demotions_total",
    "rotameter_promotions_refused_total",
    "rotameter_slot_lines_total",
    "rotameter_listen_refused_total",
    "statsd_exporter_relay_packets_total",
    "statsd_exporter_relay_lines_relayed_total",
    "statsd_exporter_relay_long_lines_total",
    "rotameter_relay_lines_dropped_total",
];

/// The families, each with its samples.
#[must_use]
pub fn families(reading: &Reading<'_>) -> Vec<OwnFamily> {
    let mut out = Families(Vec::with_capacity(64));
    statsd_exporter(reading, &mut out);
    mapping(reading, &mut out);
    datagrams(reading, &mut out);
    relay(reading.relay, &mut out);
    events(reading, &mut out);
    kernel(reading, &mut out);
    web(&reading.web, &mut out);
    process(reading, &mut out);
    out.0
}

/// Datagrams that were lost at our UDP sockets: dropped there, less what the filter consumed, which
/// the kernel counts in the same place. The kernel's counter has 32 bits.
#[must_use]
pub fn socket_queue_losses(socket_drops: u64, consumed_by_filter: u64) -> u64 {
    let difference = socket_drops.wrapping_sub(consumed_by_filter) & 0xffff_ffff;
    // The two are read one after the other: a consumed datagram may be in only one of them yet.
    if difference > u64::from(u32::MAX / 2) { 0 } else { difference }
}

/// Datagrams that `door` consumed.
#[must_use]
pub fn consumed(counters: &Counters, door: Door) -> u64 {
    Verdict::ALL
        .into_iter()
        .filter(|verdict| verdict.outcome() != Outcome::Passed)
        .map(|verdict| counters.datagrams(door, verdict))
        .sum()
}

struct Families(Vec<OwnFamily>);

impl Families {
    fn add(&mut self, kind: FamilyKind, name: &str, help: &str, samples: Vec<(String, f64)>) {
        self.0.push(OwnFamily { name: name.to_owned(), help: help.to_owned(), kind, samples });
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.add(FamilyKind::Counter, name, help, vec![(String::new(), float(value))]);
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.add(FamilyKind::Gauge, name, help, vec![(String::new(), value)]);
    }

    /// A counter with labels; samples of value 0 are left out if `sparse`, as statsd_exporter does.
    fn labelled(&mut self, name: &str, help: &str, samples: Vec<(String, u64)>, sparse: bool) {
        let samples: Vec<_> = samples
            .into_iter()
            .filter(|(_, value)| !sparse || *value > 0)
            .map(|(labels, value)| (labels, float(value)))
            .collect();
        if !samples.is_empty() {
            self.add(FamilyKind::Counter, name, help, samples);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "an exposition holds floats; exact below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

fn statsd_exporter(reading: &Reading<'_>, out: &mut Families) {
    let (ledger, tally) = (reading.ledger, &reading.ledger.tally);
    let counted = reading.kernel.as_ref().map_or(0, |kernel| {
        Door::ALL.into_iter().map(|door| kernel.counters.datagrams(door, Verdict::Counted)).sum()
    });
    let udp: u64 =
        [Transport::Xdp, Transport::SocketFilter, Transport::Udp].map(|t| ledger.datagrams(t)).iter().sum();
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
fn mapping(reading: &Reading<'_>, out: &mut Families) {
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

/// The ledger of datagrams: seen by a door, received by userspace, lost.
fn datagrams(reading: &Reading<'_>, out: &mut Families) {
    if let Some(kernel) = &reading.kernel {
        let mut samples = Vec::new();
        for door in Door::ALL {
            for verdict in Verdict::ALL {
                let labels = format!(
                    "{},{},{}",
                    label("door", door.name()),
                    label("reason", verdict.reason()),
                    label("verdict", verdict.outcome().name())
                );
                samples.push((labels, kernel.counters.datagrams(door, verdict)));
            }
        }
        out.labelled(
            "rotameter_datagrams_total",
            "Datagrams that a door saw, by what became of them: counted in slots, ringed whole, or passed to the stack.",
            sorted(samples),
            false,
        );
    }
    let received = TRANSPORTS
        .map(|transport| (label("transport", transport.name()), reading.ledger.datagrams(transport)));
    out.labelled(
        "rotameter_received_datagrams_total",
        "Datagrams that came whole to userspace, by transport.",
        sorted(received.to_vec()),
        false,
    );
    let consumed = reading.kernel.as_ref().map_or(0, |kernel| consumed(kernel.counters, Door::SocketFilter));
    out.labelled(
        "rotameter_lost_datagrams_total",
        "Datagrams that nobody has any more, by the place where they were lost.",
        vec![(
            label("where", "udp_socket_queue"),
            socket_queue_losses(reading.sockets.udp_socket_drops, consumed),
        )],
        false,
    );
    out.gauge(
        "rotameter_udp_receive_buffer_bytes",
        "Receive buffer of the UDP socket, as the kernel counts it.",
        float(reading.sockets.udp_receive_buffer_bytes),
    );
    out.counter(
        "rotameter_udp_read_errors_total",
        "Reads of a UDP socket that failed; the reader goes on.",
        reading.sockets.udp_read_errors,
    );
    out.labelled(
        "rotameter_tcp_connections_refused_total",
        "TCP connections that were closed at once, by reason.",
        vec![
            (label("reason", "accept_error"), reading.sockets.tcp.accept_errors),
            (label("reason", "too_many"), reading.sockets.tcp.refused),
        ],
        false,
    );
    out.counter(
        "rotameter_tcp_lines_cut_total",
        "Half lines that the shutdown cut off TCP connections.",
        reading.sockets.tcp.lines_cut_by_shutdown,
    );
    unix_sockets(&reading.sockets, out);
    out.counter(
        "rotameter_malformed_ring_records_total",
        "Ring records that are not of our layout. Always 0.",
        reading.malformed_records,
    );
}

fn unix_sockets(sockets: &SocketReading, out: &mut Families) {
    out.counter(
        "rotameter_unixgram_read_errors_total",
        "Reads of a Unix datagram socket that failed; the reader goes on.",
        sockets.unixgram_read_errors,
    );
    out.counter(
        "rotameter_unixgram_datagrams_cut_total",
        "Unix datagrams of more than 65536 bytes; the lines that fit count.",
        sockets.unixgram_cut,
    );
    let unix = &sockets.unix;
    out.counter(
        "rotameter_unix_connections_total",
        "Connections to the Unix stream socket.",
        unix.connections,
    );
    out.counter(
        "rotameter_unix_connection_errors_total",
        "Connections to the Unix stream socket that ended by a read error.",
        unix.connection_errors,
    );
    out.counter(
        "rotameter_unix_too_long_lines_total",
        "Lines over the Unix stream socket that were too long, and skipped.",
        unix.too_long_lines,
    );
    out.labelled(
        "rotameter_unix_connections_refused_total",
        "Connections to the Unix stream socket that were closed at once, by reason.",
        vec![
            (label("reason", "accept_error"), unix.accept_errors),
            (label("reason", "too_many"), unix.refused),
        ],
        false,
    );
    out.counter(
        "rotameter_unix_lines_cut_total",
        "Half lines that the shutdown cut off connections to the Unix stream socket.",
        unix.lines_cut_by_shutdown,
    );
}

/// What was relayed. Without a relay there is none of these, as in statsd_exporter.
fn relay(targets: &[Arc<RelayTarget>], out: &mut Families) {
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
        "The number of lines that were too long to relay.",
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

fn events(reading: &Reading<'_>, out: &mut Families) {
    let (ledger, tally) = (reading.ledger, &reading.ledger.tally);
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

fn kernel(reading: &Reading<'_>, out: &mut Families) {
    let doors = reading
        .kernel
        .as_ref()
        .map_or((0, false), |kernel| (kernel.xdp_interfaces.len(), kernel.socket_filter_open));
    out.add(
        FamilyKind::Gauge,
        "rotameter_door_open",
        "Interfaces (XDP) or sockets (socket filter) on which a door is open.",
        vec![
            (label("door", Door::SocketFilter.name()), f64::from(u8::from(doors.1))),
            (label("door", Door::Xdp.name()), float(doors.0 as u64)),
        ],
    );
    let Some(kernel) = &reading.kernel else { return };
    let promotion = kernel.promotion;
    out.gauge(
        "rotameter_promoted_identities",
        "Identities that the kernel counts at present.",
        float(promotion.promoted().len() as u64),
    );
    out.gauge("rotameter_slots", "Slots there are.", f64::from(kernel.slots));
    out.counter("rotameter_promotions_total", "Identities promoted.", promotion.promotions);
    out.counter("rotameter_demotions_total", "Identities demoted.", promotion.demotions);
    out.counter(
        "rotameter_promotions_refused_total",
        "Identities that found no place in the kernel's table.",
        promotion.refused,
    );
    out.counter(
        "rotameter_listen_refused_total",
        "Destinations that found no room in the kernel's listen set; XDP passes what goes there.",
        kernel.listen_refused,
    );
    out.counter(
        "rotameter_slot_lines_total",
        "Lines that were counted in slots and drained from there.",
        reading.ledger.slot_lines,
    );
}

/// What client_golang exports of its handler, and what becomes of requests and connections.
fn web(reading: &WebReading, out: &mut Families) {
    out.gauge(
        "promhttp_metric_handler_requests_in_flight",
        "Current number of scrapes being served.",
        float(reading.scrapes_in_flight),
    );
    out.labelled(
        "promhttp_metric_handler_requests_total",
        "Total number of scrapes by HTTP status code.",
        vec![
            (label("code", "200"), reading.scrapes_200),
            (label("code", "500"), reading.scrapes_500),
            (label("code", "503"), reading.scrapes_503),
        ],
        false,
    );
    out.labelled(
        "rotameter_web_requests_refused_total",
        "HTTP requests that the web configuration did not let in, by reason.",
        vec![
            (label("reason", "busy"), reading.busy),
            (label("reason", "rate_limit"), reading.rate_limited),
            (label("reason", "unauthorized"), reading.unauthorized),
        ],
        false,
    );
    out.counter(
        "rotameter_web_tls_handshake_errors_total",
        "Connections to the TLS port on which no handshake came about.",
        reading.handshake_errors,
    );
    out.labelled(
        "rotameter_web_settings_reloads_total",
        "Times that the web configuration's files had changed, by what came of reading them.",
        vec![
            (label("outcome", "failure"), reading.reload_failures),
            (label("outcome", "success"), reading.reloads),
        ],
        false,
    );
}

/// What every Prometheus client exports of its process.
fn process(reading: &Reading<'_>, out: &mut Families) {
    let counter = |out: &mut Families, name, help, value| {
        out.add(FamilyKind::Counter, name, help, vec![(String::new(), value)]);
    };
    out.gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        reading.start_time_seconds,
    );
    if let Some(usage) = process::usage() {
        counter(
            out,
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            usage.cpu_seconds,
        );
        out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", usage.resident_bytes);
        out.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", usage.virtual_bytes);
    }
    out.gauge(
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
        process::virtual_bytes_max(),
    );
    if let Some(open) = process::open_fds() {
        out.gauge("process_open_fds", "Number of open file descriptors.", open);
    }
    out.gauge("process_max_fds", "Maximum number of open file descriptors.", process::fds_max());
    if let Some((received, sent)) = process::network_bytes() {
        counter(
            out,
            "process_network_receive_bytes_total",
            "Number of bytes received by the process over the network.",
            received,
        );
        counter(
            out,
            "process_network_transmit_bytes_total",
            "Number of bytes sent by the process over the network.",
            sent,
        );
    }
    out.add(
        FamilyKind::Gauge,
        "rotameter_build_info",
        "A metric with a constant '1' value labeled by the version of this binary.",
        vec![(label("version", env!("CARGO_PKG_VERSION")), 1.0)],
    );
    out.add(
        FamilyKind::Gauge,
        "statsd_exporter_build_info",
        "A metric with a constant '1' value labeled by version, revision, branch, goversion from which \
         statsd_exporter was built, and the goos and goarch for the build.",
        vec![(build_labels(), 1.0)],
    );
}

/// The labels that a program in Go has; of Go itself there is nothing to say.
fn build_labels() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    [
        ("branch", ""),
        ("goarch", architecture),
        ("goos", std::env::consts::OS),
        ("goversion", ""),
        ("revision", option_env!("ROTAMETER_REVISION").unwrap_or("unknown")),
        ("tags", ""),
        ("version", env!("CARGO_PKG_VERSION")),
    ]
    .map(|(name, value)| label(name, value))
    .join(",")
}

/// What the landing page shows, and as which.
const KEY_FIGURES: [(&str, &str); 8] = [
    ("statsd_exporter_lines_total", "lines received"),
    ("rotameter_events_total", "events in them"),
    ("statsd_exporter_sample_errors_total", "samples that did not parse"),
    ("rotameter_lost_datagrams_total", "datagrams lost"),
    ("rotameter_series", "series"),
    ("rotameter_promoted_identities", "identities counted in the kernel"),
    ("statsd_exporter_loaded_mappings", "mapping rules"),
    ("process_resident_memory_bytes", "bytes of memory"),
];

/// The sum of each key figure that is among `families`, under its name for people.
#[must_use]
pub fn key_figures(families: &[OwnFamily]) -> Vec<(&'static str, f64)> {
    let sum = |name: &str| {
        let family = families.iter().find(|family| family.name == name)?;
        Some(family.samples.iter().map(|(_, value)| value).sum())
    };
    KEY_FIGURES.iter().filter_map(|(name, text)| Some((*text, sum(name)?))).collect()
}

fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn sorted(mut samples: Vec<(String, u64)>) -> Vec<(String, u64)> {
    samples.sort();
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_drops_less_what_the_filter_consumed() {
        assert_eq!(socket_queue_losses(10, 4), 6);
        assert_eq!(socket_queue_losses(3, 4), 0);
        assert_eq!(socket_queue_losses(2, u64::from(u32::MAX)), 3);
        assert_eq!(socket_queue_losses(5, 5), 0);
    }

    /// What a daemon shows that has received nothing.
    fn at_start() -> Vec<OwnFamily> {
        families(&Reading {
            ledger: &Ledger::default(),
            registry: crate::registry::Registry::new(crate::registry::RegistryConfig::default()).stats(),
            cached_lines: 0,
            evicted_lines: 0,
            mapping: MappingReading { cached_names: Some(0), ..MappingReading::default() },
            kernel: None,
            sockets: SocketReading::default(),
            relay: &[],
            scrapes: 0,
            malformed_records: 0,
            start_time_seconds: 0.0,
            web: WebReading::default(),
        })
    }

    #[test]
    fn counters_without_labels_begin_at_0_and_those_of_statsd_exporter_with_labels_are_absent() {
        let families = at_start();
        let of_statsd_exporter = |family: &&OwnFamily| family.name.starts_with("statsd_exporter_");
        for family in families.iter().filter(of_statsd_exporter) {
            let Some(name) = family.name.strip_suffix("_total") else { continue };
            assert_eq!(family.samples, [(String::new(), 0.0)], "{name}");
        }
        let promhttp = families.iter().find(|f| f.name == "promhttp_metric_handler_requests_total");
        let codes: Vec<&str> =
            promhttp.iter().flat_map(|f| &f.samples).map(|(labels, _)| labels.as_str()).collect();
        assert_eq!(codes, ["code=\"200\"", "code=\"500\"", "code=\"503\""]);
    }

    /// The daemon reserves what it shows at start, and [`SPARSE_NAMES`]. A name of ours that was in
    /// neither could be taken by a sender before we first show it.
    #[test]
    fn every_name_is_reserved() {
        let source = include_str!("self_metrics.rs");
        let source = &source[..source.find("#[cfg(test)]").expect("this is a test")];
        let spaces = ["rotameter_", "statsd_", "process_", "promhttp_"];
        let is_name = |text: &&str| {
            spaces.iter().any(|space| text.starts_with(space))
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let names: Vec<&str> = source.split('"').filter(is_name).collect();
        assert!(names.len() > 60, "the source is not read as it should be: {names:?}");
        let shown = at_start();
        for name in names {
            let reserved = SPARSE_NAMES.contains(&name) || shown.iter().any(|family| family.name == name);
            assert!(reserved, "{name}");
        }
    }

    #[test]
    fn a_key_figure_is_the_sum_of_its_family() {
        let mut out = Families(Vec::new());
        let samples = vec![(label("reason", "a"), 1), (label("reason", "b"), 2)];
        out.labelled("statsd_exporter_sample_errors_total", "", samples, true);
        out.gauge("rotameter_series", "", 7.0);
        assert_eq!(key_figures(&out.0), [("samples that did not parse", 3.0), ("series", 7.0)]);
    }

    #[test]
    fn the_build_has_the_labels_of_a_go_program() {
        let labels = build_labels();
        let names: Vec<&str> =
            labels.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name).collect();
        assert_eq!(names, ["branch", "goarch", "goos", "goversion", "revision", "tags", "version"]);
    }
}
