//! Flags -> a running daemon -> exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use rotameter::cli::{self, Cli};
use rotameter::config::{Config, EbpfMode, LogFormat};
use rotameter::datagram::Datagram;
use rotameter::listener::Intake;
use rotameter::listener::tcp::{self, TcpListener};
use rotameter::listener::udp::{UdpListener, UdpOptions, UdpReader};
use rotameter::web::{Pages, WebServer};
use rotameter::{logging, shutdown, startup};
use tracing::info;

/// Threads for HTTP, TCP and timers; datagrams have threads of their own.
const WORKER_THREADS: usize = 2;
/// Expositions are written on these.
const BLOCKING_THREADS_MAX: usize = 4;

fn main() -> ExitCode {
    let cli = match Cli::from_arguments(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(cli::finish(&error)),
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let config = Config::load(cli).context("loading configuration")?;
    logging::start(config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("rotameter-io")
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let signals = shutdown::signals().context("catching SIGTERM and SIGINT")?;
        let app = App::build(&config)?;
        let signal = app.serve(&config, signals).await?;
        info!(signal, "stopped");
        Ok(())
    })
}

/// Everything that is bound; nothing is read or served yet.
struct App {
    udp: Option<Arc<UdpListener>>,
    tcp: Option<TcpListener>,
    web: WebServer,
}

impl App {
    fn build(config: &Config) -> anyhow::Result<Self> {
        let options =
            UdpOptions { receive_buffer_bytes: config.statsd.receive_buffer_bytes, ..UdpOptions::default() };
        let udp =
            config.statsd.udp.as_ref().map(|address| UdpListener::bind(address, options)).transpose()?;
        let tcp = config.statsd.tcp.as_ref();
        let tcp = tcp.map(|address| TcpListener::bind(address, tcp::CONNECTIONS_MAX)).transpose()?;
        let web = WebServer::bind(&config.web.address)?;
        Ok(Self { udp: udp.map(Arc::new), tcp, web })
    }

    /// Runs until `signals` ends; then stops the listeners, drains a last time, and lets scrapes
    /// under way end. Returns the signal's name.
    async fn serve(
        self,
        config: &Config,
        signals: impl Future<Output = &'static str>,
    ) -> anyhow::Result<&'static str> {
        let rows = self.rows(config);
        report(&rows, config.log.format);
        let counted = Arc::new(Counted { udp: self.udp.clone(), rows, ..Counted::default() });
        let reader: Option<UdpReader> = match &self.udp {
            Some(udp) => Some(udp.start(Arc::clone(&counted) as _).context("starting the UDP reader")?),
            None => None,
        };
        let (stop_streams, stop) = shutdown::channel();
        let tcp = self.tcp.map(|tcp| tokio::spawn(tcp.serve(Arc::clone(&counted) as _, stop)));
        let (stop_web, stop) = shutdown::channel();
        let telemetry_path = config.web.telemetry_path.clone();
        let web = tokio::spawn(self.web.serve(Arc::clone(&counted) as _, telemetry_path, stop));

        let signal = signals.await;
        info!(signal, "stopping");
        stop_streams.stop();
        if let Some(tcp) = tcp {
            tcp.await.context("serving TCP")?;
        }
        drop(reader);
        if let Some(udp) = &self.udp {
            udp.drain(&*counted);
        }
        stop_web.stop();
        web.await.context("serving HTTP")?;
        Ok(signal)
    }

    fn rows(&self, config: &Config) -> Vec<startup::Row> {
        let row = |feature: &str, on: bool, why: String| {
            (feature.to_owned(), if on { "on" } else { "off" }.to_owned(), why)
        };
        let off = |flag: &str| format!("--{flag}=\"\"");
        vec![
            match &self.udp {
                Some(udp) => {
                    let buffer = udp.receive_buffer_bytes() >> 10;
                    row("udp", true, format!("{}, receive buffer {buffer} KiB", udp.local_address()))
                }
                None => row("udp", false, off("statsd.listen-udp")),
            },
            match &self.tcp {
                Some(tcp) => row("tcp", true, tcp.local_address().to_string()),
                None => row("tcp", false, off("statsd.listen-tcp")),
            },
            row("http", true, format!("{}{}", self.web.local_address(), config.web.telemetry_path)),
            match config.ebpf.mode {
                EbpfMode::Off => row("ebpf", false, "--ebpf=off".to_owned()),
                EbpfMode::Auto | EbpfMode::Required => {
                    row("ebpf", false, "this build carries no kernel object".to_owned())
                }
            },
        ]
    }
}

/// Prints the table for people, or the same as events for machines.
fn report(rows: &[startup::Row], format: LogFormat) {
    match format {
        LogFormat::Logfmt => eprint!("{}", startup::table(rows)),
        LogFormat::Json => {
            for (feature, state, why) in rows {
                info!(feature, state, why, "start-up");
            }
        }
    }
}

/// Counts what comes in, until the stages behind the listeners stand.
#[derive(Default)]
struct Counted {
    udp: Option<Arc<UdpListener>>,
    rows: Vec<startup::Row>,
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

impl Intake for Counted {
    fn ingest(&self, batch: &[Datagram<'_>]) {
        let bytes: usize = batch.iter().map(|d| d.payload.len()).sum();
        self.datagrams.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Pages for Counted {
    fn exposition(&self, out: &mut Vec<u8>) {
        if let Some(udp) = &self.udp {
            udp.drain(self);
        }
        for (name, counter) in [("datagrams", &self.datagrams), ("bytes", &self.bytes)] {
            let value = counter.load(Ordering::Relaxed);
            let text = format!("# TYPE rotameter_{name}_total counter\nrotameter_{name}_total {value}\n");
            out.extend_from_slice(text.as_bytes());
        }
    }

    fn promoted_json(&self) -> String {
        "[]".to_owned()
    }

    fn status(&self) -> Vec<startup::Row> {
        self.rows.clone()
    }

    fn ready(&self) -> bool {
        true
    }
}
