//! [`Config`] -> everything bound, loaded, attached and served, until it is told to stop.

mod kernel;
mod pages;
mod running;

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
use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tracing::info;

use self::{
    kernel::{Kernel, follow, load},
    pages::{Follow, LineSource},
    running::Daemon,
};
use crate::{
    config::{self, Config, EbpfMode, LogFormat, Mapping},
    kernel::{
        cpus::possible_cpus,
        drainer::Drainer,
        promotion::{PromotionOptions, lines_per_second_that_pay},
    },
    line::Dialects,
    listener::{Intake, activation::Inherited, set::Listeners},
    live::Live,
    mapper::{self, Mapper},
    notify::ServiceManager,
    pipeline::{Pipeline, PipelineOptions},
    relay::{Relay, RelaySenders},
    reload::{self, MappingFile},
    self_metrics,
    sender::{self, Endpoint, PodDirectory, SenderTable},
    shutdown, startup, tools,
    web::{LiveSettings, Pages, SiteOptions, WebServer},
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
        let observer = daemon.observe().context("starting the thread that looks once a second")?;
        // Whoever has seen that it is ready finds the table in the log.
        report(&daemon.status(), config.log.format);
        daemon.ready.store(true, Ordering::Relaxed);
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
    let chosen = config.promotion.lines_per_second_min;
    let worth_it = || chosen.unwrap_or_else(|| lines_per_second_that_pay(possible_cpus().unwrap_or(1)));
    let promote = if whole { f64::INFINITY } else { worth_it() };
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

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}
