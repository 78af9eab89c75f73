//! [`Config`] -> everything bound, loaded, attached and served, until it is told to stop.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use aya_log::EbpfLogger;
use hyper::body::Bytes;
use ingest_ebpf::layout::{BUCKET_PLACES, NetworkV4, NetworkV6, address_words};
use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use crate::{
    clock::Timestamp,
    config::{self, Cidr, Config, EbpfMode, LogFormat, Mapping},
    datagram::Datagram,
    exposition::{Format, OwnFamily, Sink},
    kernel::{
        doors::{Change, DoorError, Doors},
        drainer::Drainer,
        interfaces::{self, Interface},
        object::{EMBEDDED, LoadOptions, Object, ObjectError, Sizes, Tables},
        promotion::{Promotion, PromotionOptions},
        ring::Ring,
    },
    line::Dialects,
    listener::{
        Intake,
        activation::Inherited,
        set::{Listeners, Sockets},
    },
    live::{
        Live, Observer, PromotedRates, Samples,
        tail::{self, Tails},
        tap::Batch,
    },
    mapper::{self, Mapper},
    notify::ServiceManager,
    pipeline::{Pipeline, PipelineOptions},
    relay::{Relay, RelaySenders},
    reload::{self, MappingFile},
    self_metrics::{self, KernelReading, MappingReading, Reading},
    sender::{self, Endpoint, PodDirectory, SenderTable},
    shutdown, startup, tools, version,
    web::{self, LiveSettings, Pages, SiteOptions, WebServer},
};

/// Lines whose mapping is remembered; about 200 bytes each.
const CACHED_LINES_MAX: usize = 131_072;

/// Everything that is bound and loaded; nothing is read or served yet.
pub struct App {
    mapping: Option<(MappingFile, Arc<Mapper>)>,
    /// Caught from the beginning, so that an early one does not end the daemon.
    hangups: Signal,
    listeners: Listeners,
    relay: Option<RelaySenders>,
    pods: Option<Endpoint>,
    web: WebServer,
    kernel: Kernel,
}

/// The kernel side, or why there is none.
enum Kernel {
    Loaded {
        doors: Box<Doors>,
        tables: Arc<Tables>,
        rings: Vec<Ring>,
        interfaces: Option<watch::Receiver<Vec<Interface>>>,
    },
    Shut {
        why: String,
    },
}

impl App {
    /// Binds the listeners, or takes over those that were passed, and loads the kernel object. On an
    /// error nothing stays behind.
    ///
    /// # Errors
    ///
    /// The mapping file does not load; an address cannot be had; a target of the relay has none; or, with `--ebpf=required`, the kernel
    /// side cannot.
    pub async fn build(config: &Config, mut inherited: Inherited) -> anyhow::Result<Self> {
        let hangups = signal(SignalKind::hangup()).context("catching SIGHUP")?;
        let mapping = open_mapping(&config.mapping)?;
        let settings = LiveSettings::load(config.web.config_file.as_deref())?;
        let web = std::mem::take(&mut inherited.web);
        let listeners = Listeners::bind(&config.statsd, inherited)?;
        let sockets: Vec<SocketAddr> = listeners.sockets.udp().map(|(_, address)| address).collect();
        let relay = RelaySenders::start(&config.statsd.relay, &sockets)?;
        let pods = config.sender.as_ref().map(open_pods).transpose()?;
        let by_sender = mapping.as_ref().is_some_and(|(_, mapper)| mapper.keeps_senders_apart());
        if pods.is_some() || by_sender {
            listeners.sockets.report_processes().context("asking who sends to the Unix socket")?;
        }
        let web = if web.is_empty() {
            WebServer::bind(&config.web.addresses, settings)?
        } else {
            WebServer::adopt(web, settings).context("taking over a web socket of LISTEN_FDS")?
        };
        let kernel = match config.ebpf.mode {
            EbpfMode::Off => Kernel::Shut { why: "--ebpf=off".to_owned() },
            EbpfMode::Auto => match load(config, sockets).await {
                Ok(kernel) => kernel,
                Err(error) => {
                    let why = format!("{error:#}");
                    info!(why, "the kernel does not count; everything goes by the sockets");
                    Kernel::Shut { why }
                }
            },
            EbpfMode::Required => load(config, sockets).await.context("--ebpf=required")?,
        };
        Ok(Self { mapping, hangups, listeners, relay, pods, web, kernel })
    }

    /// Runs until `signals` ends; then shuts the doors, drains a last time, and lets scrapes under
    /// way end. Returns the signal's name.
    ///
    /// # Errors
    ///
    /// A thread cannot be had; or, with `--ebpf=required`, a door cannot be opened.
    pub async fn serve(
        self,
        config: &Config,
        signals: impl Future<Output = &'static str>,
    ) -> anyhow::Result<&'static str> {
        let Self { mapping, hangups, listeners, relay: relay_senders, pods, web, kernel } = self;
        let (mapping, mapper) = mapping.unzip();
        let (doors, kernel, interfaces, why) = match kernel {
            Kernel::Loaded { doors, tables, rings, interfaces } => {
                (Some(*doors), Some((tables, rings)), interfaces, String::new())
            }
            Kernel::Shut { why } => (None, None, None, why),
        };
        let relay = relay_senders.as_ref().map(|senders| Arc::clone(senders.relay()));
        let directory = Arc::new(PodDirectory::default());
        let senders = config
            .sender
            .as_ref()
            .map(|sender| SenderTable::new(sender.labels.clone(), Arc::clone(&directory)));
        let pipeline = Arc::new(Pipeline::new(
            pipeline_options(config, mapper.unwrap_or_default(), relay.clone(), senders),
            kernel,
        ));
        let daemon = Arc::new(Daemon {
            pipeline: Arc::clone(&pipeline),
            mapping,
            sockets: listeners.sockets.clone(),
            relay,
            relay_packet_bytes_max: config.statsd.relay.packet_bytes_max,
            sender: config.sender.clone(),
            web_addresses: web_addresses(&web, &config.web.telemetry_path),
            web: Arc::clone(web.counters()),
            web_settings: Arc::clone(web.settings()),
            quit: Notify::new(),
            doors: Mutex::new(doors),
            shut_because: why,
            socket_filters_open: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            scrapes: AtomicU64::new(0),
            live: Live::default(),
            follow: Follow {
                tails: Arc::default(),
                source: Arc::new(LineSource { pipeline: Arc::clone(&pipeline), dialects: dialects(config) }),
            },
            start_time_seconds: unix_seconds(),
        });
        pipeline.reserve(self_metrics::names().iter().map(String::as_str));

        let drainer = Drainer::start(Arc::clone(&pipeline), config.promotion.interval)
            .context("starting the drain thread")?;
        let intake: Arc<dyn Intake> = Arc::clone(&daemon) as _;
        let readers = listeners.sockets.start(&intake).context("starting a reader thread")?;
        daemon.open_doors(config, interfaces.as_ref().map(|receiver| receiver.borrow().clone()))?;
        let logger = daemon.start_kernel_log();
        let follower = interfaces.map(|receiver| tokio::spawn(follow(Arc::clone(&daemon), receiver)));

        let reloader = tokio::spawn(reload_when_asked(Arc::clone(&daemon), hangups));
        let pods = config.sender.as_ref().zip(pods).map(|(sender, endpoint)| {
            tokio::spawn(sender::follow(sender.source, endpoint, sender.scope.clone(), directory))
        });

        let (stop_streams, stop) = shutdown::channel();
        let (streams, socket_files) = listeners.into_parts();
        let streams: Vec<_> = streams
            .into_iter()
            .map(|stream| tokio::spawn(stream.serve(Arc::clone(&intake), stop.clone())))
            .collect();
        let (stop_web, stop) = shutdown::channel();
        let site = SiteOptions {
            telemetry_path: config.web.telemetry_path.clone(),
            lifecycle: config.web.lifecycle,
            openmetrics: config.web.openmetrics,
            tail: config.web.tail,
        };
        let web = tokio::spawn(web.serve(Arc::clone(&daemon) as _, site, stop));
        daemon.ready.store(true, Ordering::Relaxed);
        let observer = daemon.observe().context("starting the thread that looks once a second")?;
        report(&daemon.status(), config.log.format);
        let service_manager = ServiceManager::from_environment();
        service_manager.ready();

        let signal = tokio::select! {
            signal = signals => signal,
            () = daemon.quit.notified() => "/-/quit",
        };
        info!(signal, "stopping");
        service_manager.stopping();
        daemon.ready.store(false, Ordering::Relaxed);
        // Their answers have no other end.
        daemon.follow.tails.close();
        // From here on a Unix sender finds nobody, rather than a queue that nobody reads.
        drop(socket_files);
        stop_streams.stop();
        reloader.abort();
        if let Some(pods) = pods {
            pods.abort();
        }
        if let Some(follower) = follower {
            follower.abort();
        }
        if let Some(logger) = logger {
            logger.abort();
        }
        for stream in streams {
            stream.await.context("serving streams")?;
        }
        drop(readers);
        drop(observer);
        daemon.drain_a_last_time();
        if let Some(senders) = relay_senders {
            senders.finish();
        }
        drainer.stop();
        stop_web.stop();
        web.await.context("serving HTTP")?;
        Ok(signal)
    }
}

/// Where the exposition is, and who may have it, for the start-up table.
fn web_addresses(web: &WebServer, telemetry_path: &str) -> String {
    let addresses: Vec<String> =
        web.local_addresses().iter().map(|address| format!("{address}{telemetry_path}")).collect();
    [addresses.join(", "), web.settings().summary()].concat()
}

fn open_mapping(config: &Mapping) -> anyhow::Result<Option<(MappingFile, Arc<Mapper>)>> {
    if config.file.is_none() && config.profile.is_none() {
        return Ok(None);
    }
    let options = mapper::LoadOptions { strict: config.strict };
    let opened = MappingFile::open(config.file.as_deref(), config.profile.clone(), options);
    let (file, mapper) = opened.context("error loading config")?;
    tools::check::dump_automaton(config, &mapper);
    Ok(Some((file, Arc::new(mapper))))
}

/// Where the list of pods is. Only what is set is looked at: a server that is away is tried again later.
fn open_pods(sender: &config::Sender) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::new(&sender.url, &sender.trust, sender.token_file.clone());
    endpoint.context("labels of senders (--sender.labels) need the list of pods (docs/senders.md)")
}

/// Reloads the mapping file at each SIGHUP, and whenever it has changed.
async fn reload_when_asked(daemon: Arc<Daemon>, mut hangups: Signal) {
    let mut look = tokio::time::interval(reload::LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            hangup = hangups.recv() => hangup.is_some(),
            _ = look.tick() => false,
        };
        let has_changed = || daemon.mapping.as_ref().is_some_and(MappingFile::has_changed);
        if asked || has_changed() {
            let daemon = Arc::clone(&daemon);
            // Reads a file and waits for the kernel, so not on this thread. It logs what goes wrong.
            let _ = tokio::task::spawn_blocking(move || daemon.reload_mapping()).await;
        } else if daemon.mapping.as_ref().is_some_and(MappingFile::learns) {
            let daemon = Arc::clone(&daemon);
            let _ = tokio::task::spawn_blocking(move || daemon.let_profile_learn()).await;
        }
    }
}

fn pipeline_options(
    config: &Config,
    mapper: Arc<Mapper>,
    relay: Option<Arc<Relay>>,
    senders: Option<SenderTable>,
) -> PipelineOptions {
    // What a slot counts has no bytes that could be relayed, and no sender, so nothing may get one.
    let whole = relay.is_some() || senders.is_some();
    let promote = if whole { f64::INFINITY } else { config.promotion.lines_per_second_min };
    PipelineOptions {
        dialects: dialects(config),
        registry: config.registry,
        mapper,
        result_cache: (config.mapping.cache_type, config.mapping.cache_names_max),
        cached_lines_max: CACHED_LINES_MAX,
        promotion: PromotionOptions {
            promote_lines_per_second: promote,
            // Hysteresis: what was worth promoting stays until it has nearly stopped.
            demote_lines_per_second: promote / 10.0,
            ..PromotionOptions::default()
        },
        relay,
        senders,
    }
}

fn dialects(config: &Config) -> Dialects {
    Dialects {
        dogstatsd: config.dialects.dogstatsd,
        influx: config.dialects.influxdb,
        librato: config.dialects.librato,
        signalfx: config.dialects.signalfx,
        graphite: config.dialects.graphite,
        packing: config.dialects.packing,
    }
}

/// Loads the object for the sockets' ports. No door is opened yet.
async fn load(config: &Config, sockets: Vec<SocketAddr>) -> anyhow::Result<Kernel> {
    let object = EMBEDDED.ok_or(ObjectError::NotBuiltIn)?;
    if sockets.is_empty() {
        anyhow::bail!("there is no UDP socket, and the doors serve nothing else (--statsd.listen-udp)");
    }
    let (allowed_v4, allowed_v6) = allowed(&config.xdp.allow_sources);
    let options = LoadOptions {
        sizes: Sizes {
            slots: config.ebpf.slots,
            buckets: config.ebpf.identities.div_ceil(BUCKET_PLACES).next_power_of_two(),
            ring_bytes: config.ebpf.ring_bytes,
        },
        seed: random_seed(),
        ports: sockets.iter().map(SocketAddr::port).collect(),
        allowed_v4,
        allowed_v6,
    };
    let mut object = Object::load(object, &options)?;
    let tables = Arc::clone(&object.tables);
    let rings = std::mem::take(&mut object.rings);
    let doors = Doors::new(object, config.xdp.interfaces.clone(), sockets)?;
    let xdp = config.ebpf.doors.xdp && !config.xdp.interfaces.is_empty();
    let interfaces = if xdp { Some(interfaces::follow().await?) } else { None };
    Ok(Kernel::Loaded { doors: Box::new(doors), tables, rings, interfaces })
}

/// The allow-list in the form in which the program compares it.
fn allowed(sources: &[Cidr]) -> (Vec<NetworkV4>, Vec<NetworkV6>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for source in sources {
        let bits = u32::from(source.prefix_bits());
        match source.network() {
            std::net::IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                v4.push(NetworkV4 { address: u32::from_ne_bytes(address.octets()), mask: mask.to_be() });
            }
            std::net::IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                v6.push(NetworkV6 {
                    address: address_words(address.octets()),
                    mask: address_words(mask.to_be_bytes()),
                });
            }
        }
    }
    (v4, v6)
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Prints the start-up table for people, or the same as events for machines; neither where the log
/// is to hold nothing but trouble.
fn report(rows: &[startup::Row], format: LogFormat) {
    match format {
        LogFormat::Logfmt if !tracing::enabled!(tracing::Level::INFO) => {}
        LogFormat::Logfmt => {
            // Nobody is left to tell where standard error is closed, and it stands at `/` as well.
            let _ = std::io::stderr().write_all(startup::table(rows).as_bytes());
        }
        LogFormat::Json => {
            for (feature, state, why) in rows {
                info!(feature, state, why, "start-up");
            }
        }
    }
}

/// Keeps door 1 on what the interfaces are now. Also looks without a change now and then: another
/// XDP program that was in the way goes without one.
async fn follow(daemon: Arc<Daemon>, mut interfaces: watch::Receiver<Vec<Interface>>) {
    loop {
        tokio::select! {
            changed = interfaces.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        let present = interfaces.borrow_and_update().clone();
        if let Some(doors) = daemon.doors.lock().as_mut() {
            log_changes(&doors.follow(&present));
        }
    }
}

/// How long an interface that could not be had waits for another try.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

fn log_changes(changes: &[Change]) {
    for change in changes {
        match change {
            Change::Attached { interface } => info!(interface, "XDP attached"),
            Change::Detached { interface } => info!(interface, "XDP detached"),
            Change::Refused { interface, reason } => warn!(interface, reason, "XDP not attached"),
        }
    }
}

/// The running daemon, as its listeners and its pages see it.
struct Daemon {
    pipeline: Arc<Pipeline>,
    mapping: Option<MappingFile>,
    sockets: Sockets,
    relay: Option<Arc<Relay>>,
    relay_packet_bytes_max: Option<usize>,
    sender: Option<config::Sender>,
    web_addresses: String,
    web: Arc<web::Counters>,
    web_settings: Arc<LiveSettings>,
    /// Notified by `/-/quit`.
    quit: Notify,
    /// `None` with the kernel side off.
    doors: Mutex<Option<Doors>>,
    shut_because: String,
    /// UDP sockets on which door 2 is open.
    socket_filters_open: AtomicU64,
    ready: AtomicBool,
    scrapes: AtomicU64,
    live: Live,
    follow: Follow,
    start_time_seconds: f64,
}

impl Daemon {
    /// Opens what can be opened. With `--ebpf=required`, each door that was asked for must open.
    fn open_doors(&self, config: &Config, interfaces: Option<Vec<Interface>>) -> anyhow::Result<()> {
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
            if let (true, Change::Refused { interface, reason }) = (required, change) {
                return Err(DoorError::Xdp { interface, reason }).context("--ebpf=required");
            }
        }
        Ok(())
    }

    /// Passes the kernel program's rare messages on to our log.
    fn start_kernel_log(&self) -> Option<tokio::task::JoinHandle<()>> {
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
    fn drain_a_last_time(&self) {
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
    fn drain(&self) {
        self.pipeline.drain_rings();
        self.sockets.drain(self);
        self.pipeline.drain_slots();
    }

    fn reload_mapping(&self) {
        match &self.mapping {
            // Logged and counted there.
            Some(mapping) => drop(mapping.reload(&self.pipeline)),
            None => warn!(
                "nothing to reload: neither a mapping file (--statsd.mapping-config) nor a profile is set"
            ),
        }
    }

    fn let_profile_learn(&self) {
        if let Some(mapping) = &self.mapping {
            mapping.learn(&self.pipeline);
        }
    }

    fn own_families(&self) -> Vec<OwnFamily> {
        self.read(self_metrics::families)
    }

    /// Looks once a second at what came, for `/live`.
    fn observe(self: &Arc<Self>) -> std::io::Result<Observer> {
        let daemon = Arc::clone(self);
        let mut samples = Samples::default();
        Observer::start(move || {
            daemon.pipeline.drain_slots();
            daemon.pipeline.take_samples(&mut samples);
            let families = daemon.read(self_metrics::flow);
            daemon.live.observe(&samples, &families, unix_seconds(), Timestamp::now());
        })
    }

    /// What the kernel counts at present. The lock is given back now and then.
    fn promoted_rates(&self) -> PromotedRates {
        let mut rates = Vec::new();
        loop {
            let more = self.pipeline.look(|core| {
                let promoted = core.promotion.as_ref().map(Promotion::promoted).unwrap_or_default();
                let rest = promoted.get(rates.len()..).unwrap_or_default();
                for promoted in rest.iter().take(PROMOTED_SLICE) {
                    let line = core.cache.entry(promoted.entry).map(|entry| entry.line(""));
                    rates.push((line.unwrap_or_default(), promoted.lines_per_second));
                }
                rest.len() > PROMOTED_SLICE
            });
            if !more {
                return rates;
            }
        }
    }

    /// Everything that the daemon's own families are made of, read at one moment.
    fn read<T>(&self, look: impl FnOnce(&Reading<'_>) -> T) -> T {
        let (xdp_interfaces, listen_refused) = self
            .doors
            .lock()
            .as_ref()
            .map(|doors| (doors.attached().map(str::to_owned).collect(), doors.listen_refused))
            .unwrap_or_default();
        let sockets = self.sockets.reading();
        let malformed_records = self.pipeline.malformed_records();
        let (reloads_succeeded, reloads_failed) =
            self.mapping.as_ref().map(MappingFile::counts).unwrap_or_default();
        let tables = self.pipeline.tables();
        self.pipeline.look(|core| {
            let kernel = tables.zip(core.promotion.as_ref()).map(|(tables, promotion)| KernelReading {
                counters: &tables.counters,
                promotion,
                slots: tables.sizes.slots,
                xdp_interfaces,
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
                },
                kernel,
                sockets,
                relay: self.relay.as_deref().map_or(&[], Relay::targets),
                senders: core.senders.as_ref().map(SenderTable::reading),
                scrapes: self.scrapes.load(Ordering::Relaxed),
                malformed_records,
                start_time_seconds: self.start_time_seconds,
                web: self.web.reading(&self.web_settings),
            })
        })
    }
}

/// Promoted identities that one hold of the lock copies.
const PROMOTED_SLICE: usize = 512;

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// How often the kernel program's messages are looked for.
const KERNEL_LOG_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Who follows lines, and where they come from.
struct Follow {
    tails: Arc<Tails>,
    source: Arc<dyn tail::Source>,
}

struct LineSource {
    pipeline: Arc<Pipeline>,
    dialects: Dialects,
}

impl tail::Source for LineSource {
    fn fetch(&self, batch: &mut Batch, open: bool) {
        self.pipeline.take_copies(batch, open);
    }

    fn kernel_lines(&self) -> u64 {
        self.pipeline.look(|core| core.ledger.slot_lines)
    }

    fn come_whole(&self, whole: bool) {
        self.pipeline.take_whole(whole);
    }

    fn series(&self, line: &[u8]) -> Vec<String> {
        let mapper = self.pipeline.look(|core| Arc::clone(&core.mapper));
        let outcome = tools::outcome::of_line_in(&mapper, self.dialects, line);
        let refused = outcome.refused.iter().map(|(reason, _)| format!("refused: {reason}"));
        outcome.series.into_iter().chain(refused).collect()
    }
}

impl Intake for Daemon {
    fn ingest(&self, batch: &[Datagram<'_>]) {
        self.pipeline.ingest(batch);
    }
}

impl Pages for Daemon {
    fn exposition(&self, format: Format, sink: &mut dyn Sink) {
        self.drain();
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        let own = self.own_families();
        self.pipeline.write_exposition(own, format, sink);
    }

    fn promoted_json(&self) -> String {
        let rows: Vec<serde_json::Value> = self.pipeline.look(|core| {
            let Some(promotion) = &core.promotion else { return Vec::new() };
            let mut promoted = promotion.promoted().to_vec();
            promoted.sort_by(|a, b| b.lines_per_second.total_cmp(&a.lines_per_second));
            promoted
                .iter()
                .map(|promoted| {
                    let line =
                        core.cache.entry(promoted.entry).map(|entry| entry.line("")).unwrap_or_default();
                    serde_json::json!({
                        "identity": String::from_utf8_lossy(&line),
                        "slot": promoted.slot,
                        "rate": promoted.lines_per_second,
                    })
                })
                .collect()
        });
        serde_json::Value::Array(rows).to_string()
    }

    fn cardinality_json(&self) -> String {
        self.pipeline.cardinality().to_json()
    }

    fn live_json(&self, history: bool) -> String {
        let mut report = self.live.report(&self.promoted_rates(), history);
        report.version = version::VERSION.to_owned();
        report.time = unix_seconds();
        report.uptime_seconds = report.time - self.start_time_seconds;
        report.ready = self.ready();
        report.startup = self.status();
        // It holds numbers and text, which all have a form in JSON.
        serde_json::to_string(&report).unwrap_or_default()
    }

    fn follow(&self, request: tail::Request) -> Result<Receiver<Bytes>, tail::Refused> {
        self.follow.tails.follow(&self.follow.source, request)
    }

    fn status(&self) -> Vec<startup::Row> {
        let row = |feature: &str, on: bool, why: String| {
            (feature.to_owned(), if on { "on" } else { "off" }.to_owned(), why)
        };
        let mut rows = self.sockets.rows();
        rows.push(row("http", true, self.web_addresses.clone()));
        if let Some(relay) = &self.relay {
            let packets = match self.relay_packet_bytes_max {
                Some(bytes) => format!("packets of {bytes} bytes at most"),
                None => "each line alone".to_owned(),
            };
            for target in relay.targets() {
                rows.push(row("relay", true, format!("{}, {packets}", target.name)));
            }
            let why = "a relay needs every line whole, so the kernel counts none (--statsd.relay.address)";
            rows.push(row("promotion", false, why.to_owned()));
        }
        if let Some(sender) = &self.sender {
            rows.push(row("sender labels", true, format!("{}, from {}", sender.labels, sender.url)));
            let why = "a slot does not know who sent what it counts (--sender.labels)";
            rows.push(row("promotion", false, why.to_owned()));
        }
        let doors = self.doors.lock();
        let Some(doors) = doors.as_ref() else {
            rows.push(row("socket filter", false, self.shut_because.clone()));
            rows.push(row("xdp", false, self.shut_because.clone()));
            return rows;
        };
        let open = self.socket_filters_open.load(Ordering::Relaxed);
        let why = match (open, self.sockets.udp().count()) {
            (0, _) => "not attached; the log says why".to_owned(),
            (1, 1) => "on the UDP socket; needs CAP_BPF and CAP_PERFMON".to_owned(),
            (open, sockets) => format!("on {open} of {sockets} UDP sockets; needs CAP_BPF and CAP_PERFMON"),
        };
        rows.push(row("socket filter", open > 0, why));
        let attached: Vec<&str> = doors.attached().collect();
        if !attached.is_empty() {
            rows.push(row("xdp", true, format!("native mode on {}", attached.join(", "))));
        }
        for (name, reason) in doors.refused() {
            rows.push(row("xdp", false, format!("{name}: {reason}")));
        }
        if attached.is_empty() && doors.refused().next().is_none() {
            let why = doors
                .xdp_refused()
                .unwrap_or("no interface is named, or none of that name is there (--xdp.interface)");
            rows.push(row("xdp", false, why.to_owned()));
        }
        rows
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        self_metrics::key_figures(&self.own_families())
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn reload(&self) {
        self.reload_mapping();
    }

    fn quit(&self) {
        self.quit.notify_one();
    }
}
