//! Ledger, kernel counters, listeners -> the daemon's own families.
//!
//! Two name spaces: `statsd_exporter_*`, with the names, types and labels that people already alert
//! on, and `rotameter_*`, which explains every datagram. `docs/self-metrics.md` has a row for each.

mod families;
mod reading;

mod statsd_exporter;

mod datagrams;
mod relay;
mod senders;

mod events;
mod kernel;

mod budgets;
mod build;
mod process;
mod web;

mod key_figures;

use crate::exposition::OwnFamily;
use crate::ledger::Ledger;
use crate::registry::{Registry, RegistryConfig};

use self::families::Families;

pub use self::budgets::OFFENDERS_SHOWN;
pub use self::datagrams::{consumed, socket_queue_losses};
pub use self::key_figures::key_figures;
pub use self::reading::{
    KernelReading, MappingReading, ProfileReading, Reading, SocketReading, StreamReading, WebReading,
};

/// Names of families that appear with their first sample only, or with the doors open only.
const SPARSE_NAMES: [&str; 31] = [
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
    "rotameter_label_budget_events_total",
    "rotameter_label_budget_refused_series",
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
    "rotameter_sender_pods",
    "rotameter_sender_pods_refused_total",
    "rotameter_sender_list_requests_total",
    "rotameter_sender_unknown_datagrams_total",
];

/// The families, each with its samples.
#[must_use]
pub fn families(reading: &Reading<'_>) -> Vec<OwnFamily> {
    let mut out = Families(flow(reading));
    web::web(&reading.web, &mut out);
    process::process(reading, &mut out);
    build::build(&mut out);
    build::profile(reading.mapping.profile, &mut out);
    out.0
}

/// Those of them that count what goes through; cheap enough to look at once a second.
#[must_use]
pub fn flow(reading: &Reading<'_>) -> Vec<OwnFamily> {
    let mut out = Families(Vec::with_capacity(64));
    statsd_exporter::statsd_exporter(reading, &mut out);
    statsd_exporter::mapping(reading, &mut out);
    datagrams::datagrams(reading, &mut out);
    relay::relay(reading.relay, &mut out);
    senders::senders(reading.senders.as_ref(), &mut out);
    events::events(reading, &mut out);
    budgets::budgets(&reading.offenders, &mut out);
    kernel::kernel(reading, &mut out);
    out.0
}

/// Names of all families that there may be. No sender may make one of them, or a scrape would show it
/// twice.
#[must_use]
pub fn names() -> Vec<String> {
    let shown = at_start().into_iter().map(|family| family.name);
    shown.chain(SPARSE_NAMES.map(str::to_owned)).collect()
}

/// What a daemon shows that has received nothing.
fn at_start() -> Vec<OwnFamily> {
    families(&Reading {
        ledger: &Ledger::default(),
        registry: Registry::new(RegistryConfig::default()).stats(),
        offenders: Vec::new(),
        cached_lines: 0,
        evicted_lines: 0,
        mapping: MappingReading {
            cached_names: Some(0),
            profile: Some(ProfileReading::default()),
            ..MappingReading::default()
        },
        kernel: None,
        sockets: SocketReading::default(),
        relay: &[],
        senders: None,
        scrapes: 0,
        malformed_records: 0,
        start_time_seconds: 0.0,
        last_line_seconds: 0.0,
        web: WebReading::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let sources = [
            include_str!("statsd_exporter.rs"),
            include_str!("datagrams.rs"),
            include_str!("relay.rs"),
            include_str!("senders.rs"),
            include_str!("events.rs"),
            include_str!("budgets.rs"),
            include_str!("kernel.rs"),
            include_str!("web.rs"),
            include_str!("process.rs"),
            include_str!("build.rs"),
        ];
        let spaces = ["rotameter_", "statsd_", "process_", "promhttp_"];
        let is_name = |text: &&str| {
            spaces.iter().any(|space| text.starts_with(space))
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let code = |source: &'static str| source.split("#[cfg(test)]").next().unwrap_or_default();
        let texts = sources.into_iter().flat_map(|source| code(source).split('"'));
        let names: Vec<&str> = texts.filter(is_name).collect();
        assert!(names.len() > 60, "the source is not read as it should be: {names:?}");
        let shown = at_start();
        for name in names {
            let reserved = SPARSE_NAMES.contains(&name) || shown.iter().any(|family| family.name == name);
            assert!(reserved, "{name}");
        }
    }
}
