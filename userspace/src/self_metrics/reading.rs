//! Counters of all stages -> one [`Reading`] of them.

use std::sync::Arc;

use crate::{
    kernel::{counters::Counters, promotion::Promotion},
    ledger::Ledger,
    registry::{Offender, Stats},
    relay::RelayTarget,
    sender::SenderReading,
};

/// Everything that the families below are made of, read at one moment.
#[derive(Debug)]
pub struct Reading<'a> {
    pub ledger: &'a Ledger,
    pub registry: Stats,
    /// Label values over their budgets, worst first.
    pub offenders: Vec<Offender<'a>>,
    pub cached_lines: u64,
    pub evicted_lines: u64,
    pub mapping: MappingReading,
    /// `None` with the doors shut.
    pub kernel: Option<KernelReading<'a>>,
    pub sockets: SocketReading,
    /// Empty without a relay.
    pub relay: &'a [Arc<RelayTarget>],
    /// `None` without labels of senders.
    pub senders: Option<SenderReading>,
    pub scrapes: u64,
    pub malformed_records: u64,
    pub start_time_seconds: f64,
    /// Since 1970, to the second; 0 if none has come.
    pub last_line_seconds: f64,
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
    /// `None` without `--profile`.
    pub profile: Option<ProfileReading>,
}

/// The profile in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProfileReading {
    pub profile: &'static str,
    /// Releases whose rules are in force.
    pub airflow_version: &'static str,
    /// Where that comes from.
    pub version_from: &'static str,
    pub client: &'static str,
}

/// The kernel's side of a reading.
#[derive(Debug)]
pub struct KernelReading<'a> {
    pub counters: &'a Counters,
    pub promotion: &'a Promotion,
    pub slots: u32,
    pub xdp_interfaces: Vec<String>,
    pub loopback_open: bool,
    /// Destinations that the kernel's listen set had no room for.
    pub listen_refused: u64,
    /// UDP sockets on which door 2 is open.
    pub socket_filters_open: u64,
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
