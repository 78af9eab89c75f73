//! The daemon at work: doors, drains, readings.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::Duration;

use anyhow::Context as _;
use aya_log::EbpfLogger;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::kernel::log_changes;
use super::pages::Follow;
use super::unix_seconds;
use crate::{
    clock::Timestamp,
    config::{self, Config, EbpfMode},
    datagram::Datagram,
    exposition::OwnFamily,
    kernel::{
        doors::{Change, DoorError, Doors, Refusal},
        interfaces::Interface,
        promotion::{Promoted, Promotion},
    },
    listener::{Intake, set::Sockets},
    live::{Live, Observer, Samples},
    pipeline::Pipeline,
    relay::Relay,
    reload::MappingFile,
    self_metrics::{self, KernelReading, MappingReading, Reading},
    sender::SenderTable,
    web::{self, LiveSettings},
};

/// The running daemon, as its listeners and its pages see it.
pub(super) struct Daemon {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) mapping: Option<MappingFile>,
    pub(super) sockets: Sockets,
    pub(super) relay: Option<Arc<Relay>>,
    pub(super) relay_packet_bytes_max: Option<usize>,
    pub(super) sender: Option<config::Sender>,
    pub(super) web_addresses: String,
    pub(super) web: Arc<web::Counters>,
    pub(super) web_settings: Arc<LiveSettings>,
    /// Notified by `/-/quit`.
    pub(super) quit: Notify,
    /// `None` with the kernel side off.
    pub(super) doors: Mutex<Option<Doors>>,
    pub(super) shut_because: String,
    /// UDP sockets on which door 2 is open.
    pub(super) socket_filters_open: AtomicU64,
    pub(super) ready: AtomicBool,
    pub(super) scrapes: AtomicU64,
    pub(super) live: Live,
    pub(super) follow: Follow,
    pub(super) start_time_seconds: f64,
}

impl Daemon {
    /// Opens what can be opened. With `--ebpf=required`, each door that was asked for must open.
    pub(super) fn open_doors(
        &self,
        config: &Config,
        interfaces: Option<Vec<Interface>>,
    ) -> anyhow::Result<()> {
        let mut doors = self.doors.lock();
        let Some(doors) = doors.as_mut() else { return Ok(()) };
        let required = config.ebpf.mode == EbpfMode::Required;
        for (socket, address) in self.sockets.udp() {
            // Ring and socket deliver side by side from here on, so a gauge needs to know when its
            // datagram came, not when it was read.
            if let Err(error) = socket.stamp() {
                warn!(%error, "the kernel does not stamp datagrams; a gauge may take an older value under pressure");
            }
            let opened =
                config.ebpf.doors.socket_filter.then(|| doors.open_socket_filter(socket.as_ref(), address));
            match opened.transpose() {
                Ok(None) => info!("socket filter not attached: --ebpf.doors leaves it out"),
                Ok(Some(())) => {
                    self.socket_filters_open.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if required => return Err(error).context("--ebpf=required"),
                Err(error) => {
                    warn!(error = format!("{:#}", anyhow::Error::from(error)), "socket filter not attached")
                }
            }
        }
        let Some(interfaces) = interfaces else { return Ok(()) };
        for missing in doors.missing(&interfaces) {
            if required {
                return Err(missing).context("--ebpf=required");
            }
            warn!("{missing}; it is taken when it comes");
        }
        let changes = doors.follow(&interfaces);
        log_changes(&changes);
        for change in changes {
            if let (true, Change::Refused(Refusal { interface, reason, .. })) = (required, change) {
                return Err(DoorError::Interface { interface, reason }).context("--ebpf=required");
            }
        }
        Ok(())
    }

    /// Passes the kernel program's rare messages on to our log.
    pub(super) fn start_kernel_log(&self) -> Option<tokio::task::JoinHandle<()>> {
        let mut doors = self.doors.lock();
        let logger = EbpfLogger::init(doors.as_mut()?.object().ebpf());
        let mut logger = match logger {
            Ok(logger) => logger,
            Err(error) => {
                debug!(%error, "the kernel program's messages are not read");
                return None;
            }
        };
        Some(tokio::spawn(async move {
            let mut every = tokio::time::interval(KERNEL_LOG_INTERVAL);
            loop {
                every.tick().await;
                logger.flush();
            }
        }))
    }

    /// Shuts the doors, then takes what is still in slots, rings and socket.
    pub(super) fn drain_a_last_time(&self) {
        if let Some(doors) = self.doors.lock().as_mut() {
            doors.shut();
        }
        if let Err(error) = self.pipeline.demote_all() {
            warn!(%error, "waiting for the last programs to end");
        }
        self.drain();
        let (datagrams, lines, events) = self.pipeline.look(|core| {
            let ledger = &core.ledger;
            let datagrams: u64 = crate::ledger::TRANSPORTS.into_iter().map(|t| ledger.datagrams(t)).sum();
            (datagrams, ledger.tally.lines, ledger.tally.events)
        });
        info!(datagrams, lines, events, "drained a last time");
    }

    /// Takes everything that has arrived before now.
    pub(super) fn drain(&self) {
        self.pipeline.drain_rings();
        self.sockets.drain(self);
        self.pipeline.drain_slots();
    }

    pub(super) fn reload_mapping(&self) {
        match &self.mapping {
            // Logged and counted there.
            Some(mapping) => drop(mapping.reload(&self.pipeline)),
            None => warn!(
                "nothing to reload: neither a mapping file (--statsd.mapping-config) nor a profile is set"
            ),
        }
    }

    pub(super) fn let_profile_learn(&self) {
        if let Some(mapping) = &self.mapping {
            mapping.learn(&self.pipeline);
        }
    }

    pub(super) fn own_families(&self) -> Vec<OwnFamily> {
        self.read(self_metrics::families)
    }

    /// Looks once a second at what came, for `/live`.
    pub(super) fn observe(self: &Arc<Self>) -> std::io::Result<Observer> {
        let daemon = Arc::clone(self);
        let mut samples = Samples::default();
        Observer::start(move || {
            daemon.pipeline.drain_busy_slots();
            daemon.pipeline.take_samples(&mut samples);
            let families = daemon.read(self_metrics::flow);
            daemon.live.observe(&samples, &families, unix_seconds(), Timestamp::now());
        })
    }

    /// What the kernel counts at present, with its line. The lock is given back now and then.
    pub(super) fn promoted<T>(&self, take: impl Fn(&Promoted, Vec<u8>) -> T) -> Vec<T> {
        let mut taken = Vec::new();
        loop {
            let more = self.pipeline.look(|core| {
                let promoted = core.promotion.as_ref().map(Promotion::promoted).unwrap_or_default();
                let rest = promoted.get(taken.len()..).unwrap_or_default();
                for promoted in rest.iter().take(PROMOTED_SLICE) {
                    let line = core.cache.entry(promoted.entry).map(|entry| entry.line(""));
                    taken.push(take(promoted, line.unwrap_or_default()));
                }
                rest.len() > PROMOTED_SLICE
            });
            if !more {
                return taken;
            }
        }
    }

    /// Everything that the daemon's own families are made of, read at one moment.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Reading<'_>) -> T) -> T {
        let (xdp_interfaces, loopback_open, listen_refused) = self
            .doors
            .lock()
            .as_ref()
            .map(|doors| {
                let xdp_interfaces = doors.attached().map(str::to_owned).collect();
                (xdp_interfaces, doors.loopback_open(), doors.listen_refused)
            })
            .unwrap_or_default();
        let sockets = self.sockets.reading();
        let malformed_records = self.pipeline.malformed_records();
        let (reloads_succeeded, reloads_failed) =
            self.mapping.as_ref().map(MappingFile::counts).unwrap_or_default();
        let profile = self.mapping.as_ref().and_then(MappingFile::profile_reading);
        let tables = self.pipeline.tables();
        let last_line_seconds = self.live.last_line_seconds();
        self.pipeline.look(|core| {
            let kernel = tables.zip(core.promotion.as_ref()).map(|(tables, promotion)| KernelReading {
                counters: &tables.counters,
                promotion,
                slots: tables.sizes.slots,
                xdp_interfaces,
                loopback_open,
                listen_refused,
                socket_filters_open: self.socket_filters_open.load(Ordering::Relaxed),
            });
            look(&Reading {
                ledger: &core.ledger,
                registry: core.registry.stats(),
                offenders: core.registry.offenders(self_metrics::OFFENDERS_SHOWN),
                cached_lines: core.cache.len() as u64,
                evicted_lines: core.cache.evicted,
                mapping: MappingReading {
                    rules: core.mapper.rule_count() as u64,
                    cached_names: (core.results.entries_max() > 0).then(|| core.results.len() as u64),
                    reloads_succeeded,
                    reloads_failed,
                    profile,
                },
                kernel,
                sockets,
                relay: self.relay.as_deref().map_or(&[], Relay::targets),
                senders: core.senders.as_ref().map(SenderTable::reading),
                scrapes: self.scrapes.load(Ordering::Relaxed),
                malformed_records,
                start_time_seconds: self.start_time_seconds,
                last_line_seconds,
                web: self.web.reading(&self.web_settings),
            })
        })
    }
}

/// Promoted identities that one hold of the lock copies.
const PROMOTED_SLICE: usize = 512;

/// How often the kernel program's messages are looked for.
const KERNEL_LOG_INTERVAL: Duration = Duration::from_secs(1);

impl Intake for Daemon {
    fn ingest(&self, batch: &[Datagram<'_>]) {
        self.pipeline.ingest(batch);
    }
}
