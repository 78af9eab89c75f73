//! A daemon that nobody talks to -> its share of a CPU, its memory.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ingest_ebpf::{
    layout::{SEGMENT_BYTES, Segment, Slot},
    verdict::COUNTERS_PER_CPU,
};
use rotameter::{cli::Cli, config::Config};

use crate::{
    network::{self, RECEIVING},
    report::Row,
};

const WEB: &str = "127.0.0.1:9102";
const READY_WITHIN: Duration = Duration::from_secs(10);
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Starts `binary` with both doors open and watches it for `duration`.
///
/// # Errors
///
/// The daemon does not start, or ends.
pub fn measure(binary: &OsStr, duration: Duration) -> anyhow::Result<Vec<Row>> {
    let config = Config::load(&Cli::from_arguments(["rotameter"])?)?;
    let (memory, share) = network::within(|_| {
        let mut daemon = Daemon::start(binary)?;
        daemon.wait_until_ready()?;
        let memory = daemon.resident_bytes()?;
        let before = daemon.cpu_time()?;
        let started = Instant::now();
        std::thread::sleep(duration);
        let used = daemon.cpu_time()?.saturating_sub(before);
        Ok((memory, used.as_secs_f64() / started.elapsed().as_secs_f64()))
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let ring = f64::from(config.ebpf.ring_bytes) / SEGMENT_BYTES as f64 * size_of::<Segment>() as f64;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let rows = f64::from(config.ebpf.slots) * size_of::<Slot>() as f64 + f64::from(COUNTERS_PER_CPU) * 8.0;
    Ok(vec![
        Row::new("idle", "both doors open, nothing comes", "% of a CPU", &[share * 100.0]).at_most(0.5),
        Row::new("idle", "resident memory after start", "MiB", &[memory / MEBIBYTE]).at_most(40.0),
        Row::new("idle", "of a ring, for each CPU", "MiB", &[ring / MEBIBYTE]),
        Row::new("idle", "of slots and counters, for each CPU", "MiB", &[rows / MEBIBYTE]),
    ])
}

/// A running daemon; dropping it ends it.
struct Daemon(Child);

impl Daemon {
    fn start(binary: &OsStr) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        command.args(["--ebpf=required", &format!("--xdp.interface={RECEIVING}"), "--log.level=error"]);
        command.arg(format!("--web.listen-address={WEB}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: prctl is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| {
                // It must not outlive us, however we end.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| {
            format!("starting {}; ROTAMETER_BIN or --binary names the daemon", binary.to_string_lossy())
        })?;
        Ok(Self(child))
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            if let Some(status) = self.0.try_wait()? {
                anyhow::bail!(
                    "the daemon ended at once, with {status}; try it by hand with --ebpf=required \
                     (a daemon for this must be built by `cargo xtask build`)"
                );
            }
            if is_ready().unwrap_or(false) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("the daemon was not ready within {} s", READY_WITHIN.as_secs())
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.0.id())
    }

    fn resident_bytes(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(self.proc("status")).context("reading the daemon's status")?;
        let kibibytes = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
        });
        Ok(kibibytes.context("the daemon's status holds no VmRSS")? * 1024.0)
    }

    /// Of all its threads, to the nanosecond; `/proc/<pid>/stat` counts in hundredths of a second.
    fn cpu_time(&self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(self.proc("task")).context("listing the daemon's threads")? {
            let text = fs::read_to_string(task?.path().join("schedstat")).context("reading schedstat")?;
            let first = text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok());
            nanoseconds += first.context("an odd schedstat")?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(pid) = libc::pid_t::try_from(self.0.id()) {
            // SAFETY: a signal to our own child, which we have not waited for, so the id is still its.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        let asked = Instant::now();
        while asked.elapsed() < READY_WITHIN {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Nothing is left to do about a child that cannot be killed or waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_ready() -> anyhow::Result<bool> {
    let mut stream = TcpStream::connect(WEB)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /-/ready HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(head.ends_with(b" 200"))
}
