//! Flags -> a running daemon -> exit code.

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;
use rotameter::{
    cli::{Cli, NoRun},
    config::Config,
    daemon::App,
    listener::activation::Inherited,
    logging, shutdown,
    tools::{self, Tool},
};
use tracing::info;

/// Threads for HTTP, TCP and timers; datagrams have threads of their own.
const WORKER_THREADS: usize = 2;
/// Expositions are written on these.
const BLOCKING_THREADS_MAX: usize = 4;

/// The static binary's; that of musl takes one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match Tool::from_arguments(&arguments) {
        Some(Ok(tool)) => return tool.run().unwrap_or_else(|error| failed(&error)),
        Some(Err(error)) => {
            // Nobody is left to tell where it is closed.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
        None => {}
    }
    let cli = match Cli::from_arguments(arguments) {
        Ok(cli) => cli,
        Err(NoRun::Print(page)) => {
            // Whoever closed standard output, as `| head` does, has read enough.
            let _ = writeln!(std::io::stdout(), "{}", page.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(error) => return failed(&error.into()),
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Exit code 1 for everything, usage included: whoever watches a `statsd_exporter` knows no other.
fn failed(error: &anyhow::Error) -> ExitCode {
    // Nobody is left to tell where standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::FAILURE
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    // First of all: it goes by numbers of descriptors that nobody else may have taken.
    let inherited = Inherited::take()?;
    let config = Config::load(cli).context("loading configuration")?;
    logging::start(config.log);
    if !config.idle_flags.is_empty() {
        info!(flags = config.idle_flags.join(","), "flags without effect here: there are no such queues");
    }
    if config.check_only {
        return tools::check::flags_and_mapping(&config);
    }
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
