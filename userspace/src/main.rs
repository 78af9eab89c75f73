//! Flags -> a running daemon -> exit code.

use std::process::ExitCode;

use anyhow::Context as _;
use rotameter::{
    cli::{self, Cli},
    config::Config,
    daemon::App,
    listener::activation::Inherited,
    logging, shutdown,
};
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
    // First of all: it goes by numbers of descriptors that nobody else may have taken.
    let inherited = Inherited::take()?;
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
        let app = App::build(&config, inherited).await?;
        let signal = app.serve(&config, signals).await?;
        info!(signal, "stopped");
        Ok(())
    })
}
