//! A recorded capture, a namespace and a veth pair -> the main job, live on a terminal.

mod metrics;
mod network;
pub(crate) mod play;
mod table;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{capture, command, host, signals};
use network::Network;
use table::Progress;

/// The recording that shows most: a fleet with a Celery executor and the plain client.
const CAPTURE: &str = "airflow-v2-celery-default.jsonl.gz";

/// How long the daemon may take from its start to its first answer.
const START_MAX: Duration = Duration::from_secs(20);

/// How long the daemon may take for its last drain.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

const SECOND: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
#[group(id = "demo_options")]
pub(crate) struct Options {
    /// With --demo: for how long
    #[arg(long, default_value_t = 30, requires = "demo")]
    seconds: u32,
    /// With --demo: how much faster than it was recorded
    #[arg(long, default_value_t = 20.0, requires = "demo")]
    speed: f64,
    /// With --demo: another capture than the default one
    #[arg(long, requires = "demo")]
    capture: Option<PathBuf>,
}

/// A process that is ended, and reaped, when the demo ends, whatever the reason.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        signals::terminate(&mut self.0, SHUTDOWN_MAX);
    }
}

pub(crate) fn main(options: &Options, daemon: &Path, daemon_args: &[OsString]) -> Result<()> {
    if !host::may_load_bpf() {
        bail!(
            "the demo makes a network namespace and attaches XDP, which needs root (CAP_NET_ADMIN, CAP_BPF, \
             CAP_SYS_ADMIN); try `sudo -E env PATH=$PATH cargo xtask run --demo`"
        );
    }
    let capture = match &options.capture {
        Some(file) => file.clone(),
        None => default_capture()?,
    };
    // Before anything exists that must be taken away again.
    signals::catch();

    // Dropped in reverse order: first the sender ends, then the daemon, then the network goes.
    let network = Network::create()?;
    let web = free_tcp_port()?;
    let statsd = SocketAddr::from((network.our_address, free_udp_port()?));
    let mut daemon = Running(start_daemon(daemon, daemon_args, &network, statsd, web)?);
    wait_until_ready(&mut daemon, web)?;

    println!();
    println!("demo: {} at {}x", capture.display(), options.speed);
    println!("demo: sent from namespace {} to {statsd}, XDP on {}", network.namespace, network.our_end);
    println!(
        "demo: http://{web}/metrics and http://{web}/promoted answer until the demo ends; Ctrl-C ends it"
    );
    println!();
    let player = Running(start_player(options, &capture, &network, statsd)?);
    let result = watch(&mut daemon, player, web, options.seconds);
    drop(daemon);
    println!("demo: daemon stopped; taking {} and {} away", network.our_end, network.namespace);
    result
}

fn default_capture() -> Result<PathBuf> {
    let captures = capture::list()?;
    let named = captures.iter().find(|file| file.ends_with(CAPTURE));
    named.or(captures.first()).cloned().context("there is no capture to play")
}

fn start_daemon(
    daemon: &Path,
    args: &[OsString],
    network: &Network,
    statsd: SocketAddr,
    web: SocketAddr,
) -> Result<Child> {
    let mut command = Command::new(daemon);
    command.arg("--ebpf=auto");
    command.arg(format!("--xdp.interface={}", network.our_end));
    command.arg(format!("--statsd.listen-udp={statsd}"));
    command.arg("--statsd.listen-tcp=");
    command.arg(format!("--web.listen-address={web}"));
    command.args(args);
    // A group of its own: on Ctrl-C we stop the sender first, and the daemon then drains the rest.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    signals::end_with_us(&mut command);
    eprintln!("$ {}", command::shown(&command));
    command.stdin(Stdio::null()).spawn().context("starting the daemon")
}

fn wait_until_ready(daemon: &mut Running, web: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START_MAX;
    while metrics::get(web, "/-/ready").is_err() {
        if let Some(status) = daemon.0.try_wait().context("asking after the daemon")? {
            bail!("the daemon ended at once ({status}); what it said stands above");
        }
        if signals::stop_requested() {
            bail!("interrupted");
        }
        if Instant::now() > deadline {
            bail!("the daemon does not answer at http://{web}/-/ready after {} s", START_MAX.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn start_player(options: &Options, capture: &Path, network: &Network, to: SocketAddr) -> Result<Child> {
    let own = std::env::current_exe().context("looking up our own path")?;
    let mut command = Command::new(host::find_program("ip").context("the command ip is missing")?);
    command.args(["netns", "exec", &network.namespace]).arg(own).arg("play").arg(capture);
    command.arg(format!("--to={to}"));
    command.arg(format!("--speed={}", options.speed)).arg(format!("--seconds={}", options.seconds));
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    signals::end_with_us(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting the sender")
}

/// Prints a line each second until the sender ends, the time is over, or Ctrl-C.
fn watch(daemon: &mut Running, mut player: Running, web: SocketAddr, seconds: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(u64::from(seconds)) + SECOND * 5;
    let mut progress = Progress::start();
    let mut next = Instant::now() + SECOND;
    loop {
        let ended = player.0.try_wait().context("asking after the sender")?;
        let over = ended.is_some() || signals::stop_requested() || Instant::now() > deadline;
        if over || Instant::now() >= next {
            next += SECOND;
            if let Some(status) = daemon.0.try_wait().context("asking after the daemon")? {
                bail!("the daemon ended while traffic flowed ({status})");
            }
            progress.print(&metrics::scrape(web)?);
            if progress.rows().is_multiple_of(5) {
                table::print_promoted(&metrics::promoted(web), 3);
            }
        }
        if let Some(status) = ended
            && !status.success()
        {
            bail!("the sender ended early ({status}); what it said stands above");
        }
        if over {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    signals::terminate(&mut player.0, SECOND);
    let sent = play::read_report(player.0.stdout.take());
    let last = metrics::scrape(web)?;
    progress.print_end(&last, sent);
    table::print_promoted(&metrics::promoted(web), 10);
    Ok(())
}

fn free_tcp_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free TCP port")?;
    listener.local_addr().context("looking for a free TCP port")
}

fn free_udp_port() -> Result<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("looking for a free UDP port")?;
    Ok(socket.local_addr().context("looking for a free UDP port")?.port())
}
