//! `/proc` -> what every Prometheus client exports of its process.

use super::Reading;
use super::families::Families;
use crate::{process, registry::FamilyKind};

/// What every Prometheus client exports of its process.
pub(super) fn process(reading: &Reading<'_>, out: &mut Families) {
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
}
