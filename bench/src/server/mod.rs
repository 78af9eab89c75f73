//! A StatsD server's binary -> a running server, what it costs, what it shows.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    judge::Judge,
    network::{self, RECEIVING},
    report::Program,
};

mod cpu;
pub use cpu::{CpuClock, Softirqs};

mod figures;
pub use figures::{Figures, is_own};

pub(crate) mod http;
pub use http::Scrape;

/// Name of our own daemon in a report.
pub const OURS: &str = "rotameter";
/// Where servers take StatsD: the receiving end of the pair, and loopback.
pub const STATSD: &str = "0.0.0.0:9125";
/// The same over TCP, where a setup says so.
pub const STATSD_TCP: &str = "127.0.0.1:9125";
/// Where they show what they have.
const WEB: &str = "127.0.0.1:9102";
const READY_WITHIN: Duration = Duration::from_secs(15);
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
/// How often the scraper looks whether it is due, or the work done.
const SCRAPER_LOOKS: Duration = Duration::from_millis(5);
/// The shortest interval that Prometheus is commonly given.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);
/// User and group without any rights, by custom.
const NOBODY: u32 = 65_534;
/// A server that does nothing for this long has done all that it was sent.
const QUIET: Duration = Duration::from_millis(60);
const QUIET_WITHIN: Duration = Duration::from_secs(20);
/// Of `QUIET`, what timers and the like may take.
const QUIET_SHARE: f64 = 0.1;

/// A program that takes part.
#[derive(Clone, Debug)]
pub struct Contestant {
    pub name: String,
    pub path: OsString,
    /// Whether it knows our flags and doors.
    pub ours: bool,
    pub version: String,
    /// What it is always started with, if it is ours.
    pub flags: Vec<String>,
    /// What it must make of lines.
    pub judge: Arc<Judge>,
}

/// A profile of our daemon.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    pub airflow_version: String,
}

/// Which of our doors are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doors {
    /// Both, XDP at the receiving end of the pair.
    Xdp,
    /// At another interface.
    XdpAt(&'static str),
    SocketFilter,
    /// At the loopback device, and the socket filter behind it.
    Loopback,
    /// The socket alone.
    None,
    /// What the daemon may open, as it is by default.
    Auto,
}

/// How a server is started; what is not ours ignores doors.
#[derive(Clone, Debug)]
pub struct Setup {
    pub doors: Doors,
    /// Receive buffer of the UDP socket; each program's own default without.
    pub read_buffer_bytes: Option<u64>,
    pub mapping: Option<PathBuf>,
    /// Flags for ours only.
    pub flags: Vec<String>,
    /// Takes lines over TCP as well, where nothing gets lost.
    pub tcp: bool,
    pub unprivileged: bool,
}

/// A share of the time, as a container with a tight CPU limit gets it.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    pub stopped: Duration,
    pub running: Duration,
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    clock: CpuClock,
    /// From the start of the process until it was ready.
    pub ready_after: Duration,
}

impl Contestant {
    /// Asks the program for its version.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn new(name: &str, path: OsString, ours: bool) -> anyhow::Result<Self> {
        let output = Command::new(&path)
            .arg("--version")
            .output()
            .with_context(|| format!("starting {} --version", path.to_string_lossy()))?;
        // The peer says it on standard error.
        let said = [output.stdout, output.stderr].concat();
        let version = String::from_utf8_lossy(&said).lines().next().unwrap_or("unknown").to_owned();
        Ok(Self { name: name.to_owned(), path, ours, version, flags: Vec::new(), judge: Arc::default() })
    }

    /// The same, under a mapping file that is read by this judge.
    #[must_use]
    pub fn judged(mut self, judge: &Arc<Judge>) -> Self {
        self.judge = Arc::clone(judge);
        self
    }

    /// The same, with flags of its own.
    #[must_use]
    pub fn flags(mut self, flags: &[String]) -> Self {
        self.flags.extend_from_slice(flags);
        self
    }

    /// Ours, with a built-in profile, whose rules stand beneath those of the mapping file.
    ///
    /// # Errors
    ///
    /// There is no such profile, or no such version of Airflow.
    pub fn with_profile(mut self, profile: &Profile) -> anyhow::Result<Self> {
        let version = format!("--airflow-version={}", profile.airflow_version);
        let output = Command::new(&self.path)
            .args(["profile", "show", &profile.name, &version])
            .output()
            .with_context(|| format!("starting {} profile show", self.path.to_string_lossy()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "--profile={}: {}", profile.name, said.trim());
        let rules = Judge::read(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("reading the rules of profile {}", profile.name))?;
        self.judge = Arc::new(Judge::clone(&self.judge).over(&rules));
        self.name = format!("{}, profile {}", self.name, profile.name);
        self.flags.push(format!("--profile={}", profile.name));
        self.flags.push(format!("--profile.airflow-version={}", profile.airflow_version));
        Ok(self)
    }

    /// For the report.
    #[must_use]
    pub fn program(&self) -> Program {
        Program {
            name: self.name.clone(),
            path: self.path.to_string_lossy().into_owned(),
            version: self.version.clone(),
        }
    }
}

impl Setup {
    #[must_use]
    pub fn new(doors: Doors) -> Self {
        Self {
            doors,
            read_buffer_bytes: None,
            mapping: None,
            flags: Vec::new(),
            tcp: false,
            unprivileged: false,
        }
    }

    #[must_use]
    pub fn read_buffer(mut self, bytes: u64) -> Self {
        self.read_buffer_bytes = Some(bytes);
        self
    }

    #[must_use]
    pub fn mapping(mut self, file: Option<PathBuf>) -> Self {
        self.mapping = file;
        self
    }

    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// As a user without any rights.
    #[must_use]
    pub fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    fn arguments(&self, contestant: &Contestant) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            format!("--statsd.listen-udp={STATSD}").into(),
            format!("--statsd.listen-tcp={}", if self.tcp { STATSD_TCP } else { "" }).into(),
            format!("--web.listen-address={WEB}").into(),
            "--log.level=error".into(),
        ];
        if let Some(bytes) = self.read_buffer_bytes {
            arguments.push(format!("--statsd.read-buffer={bytes}").into());
        }
        if let Some(file) = &self.mapping {
            let mut flag = OsString::from("--statsd.mapping-config=");
            flag.push(file);
            arguments.push(flag);
        }
        let xdp = |at| vec!["--ebpf=required".into(), format!("--xdp.interface={at}").into()];
        if contestant.ours {
            arguments.extend(match self.doors {
                Doors::Xdp => xdp(RECEIVING),
                Doors::XdpAt(interface) => xdp(interface),
                Doors::SocketFilter => vec!["--ebpf=required".into()],
                Doors::Loopback => vec!["--ebpf=required".into(), "--ebpf.loopback".into()],
                Doors::None => vec!["--ebpf=off".into()],
                Doors::Auto => Vec::new(),
            });
            arguments.extend(contestant.flags.iter().chain(&self.flags).map(OsString::from));
        }
        arguments
    }
}

impl Server {
    /// Starts it in the calling thread's network namespace and waits until it is ready.
    ///
    /// # Errors
    ///
    /// It does not start, ends, or is not ready in time.
    pub fn start(contestant: &Contestant, setup: &Setup) -> anyhow::Result<Self> {
        let mut command = Command::new(&contestant.path);
        command.args(setup.arguments(contestant));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if setup.unprivileged {
            command.uid(NOBODY).gid(NOBODY);
        }
        // Whoever starts it may be kept on one CPU.
        let cpus = network::all_cpus();
        // SAFETY: prctl and sched_setaffinity are plain system calls; they read `cpus`, which the
        // closure owns, and write no memory.
        unsafe {
            command.pre_exec(move || {
                // It must not outlive us, however we end.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cpus);
                Ok(())
            });
        }
        let began = Instant::now();
        let child =
            command.spawn().with_context(|| format!("starting {}", contestant.path.to_string_lossy()))?;
        let clock = CpuClock::of_process(child.id());
        let mut server = Self { child, clock: CpuClock::SELF, ready_after: Duration::ZERO };
        server.clock = clock?;
        while began.elapsed() < READY_WITHIN {
            if let Some(status) = server.child.try_wait()? {
                let arguments: Vec<String> = setup
                    .arguments(contestant)
                    .iter()
                    .map(|argument| argument.to_string_lossy().into_owned())
                    .collect();
                anyhow::bail!(
                    "{} ended at once, with {status}; try by hand: {} {}",
                    contestant.name,
                    contestant.path.to_string_lossy(),
                    arguments.join(" ")
                );
            }
            if http::status(WEB, "/-/ready").is_ok_and(|status| status == 200) {
                server.ready_after = began.elapsed();
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        anyhow::bail!("{} was not ready within {} s", contestant.name, READY_WITHIN.as_secs())
    }

    /// User and system time of all its threads so far, to the nanosecond.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        self.clock.read().context("reading the server's CPU time; has it ended?")
    }

    /// Memory that it has now.
    ///
    /// # Errors
    ///
    /// `/proc` does not tell.
    pub fn resident_bytes(&self) -> anyhow::Result<f64> {
        self.status("VmRSS:")
    }

    /// The most memory that it ever had.
    ///
    /// # Errors
    ///
    /// `/proc` does not tell.
    pub fn resident_bytes_max(&self) -> anyhow::Result<f64> {
        self.status("VmHWM:")
    }

    /// Starts `resident_bytes_max` again from what it has now.
    ///
    /// # Errors
    ///
    /// `/proc` does not let us.
    pub fn forget_resident_max(&self) -> anyhow::Result<()> {
        let file = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(&file, "5").with_context(|| format!("writing {file}"))
    }

    fn status(&self, field: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .context("reading the server's status")?;
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
        Ok(kibibytes.with_context(|| format!("the server's status holds no {field}"))? * 1024.0)
    }

    /// GETs `/metrics`, as Prometheus does without compression.
    ///
    /// # Errors
    ///
    /// No answer, or not 200.
    pub fn scrape(&self) -> anyhow::Result<Scrape> {
        http::get(WEB, "/metrics")
    }

    /// Does `work` while the server is scraped once a second, from the first moment on.
    ///
    /// # Errors
    ///
    /// What `work` says, or a scrape that fails.
    pub fn scraped<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let scraper = scope.spawn(|| {
                network::unpin();
                let mut due = Instant::now();
                while !done.load(Ordering::Relaxed) {
                    if Instant::now() >= due {
                        http::discard(WEB, "/metrics")?;
                        due += SCRAPE_INTERVAL;
                    }
                    std::thread::sleep(SCRAPER_LOOKS);
                }
                anyhow::Ok(())
            });
            let result = work();
            done.store(true, Ordering::Relaxed);
            scraper.join().unwrap_or_else(|_| anyhow::bail!("the scraper panicked"))?;
            result
        })
    }

    /// The same, read into figures.
    ///
    /// # Errors
    ///
    /// As above.
    pub fn figures(&self) -> anyhow::Result<Figures> {
        Ok(Figures::read(&self.scrape()?.text()))
    }

    /// Waits until it has done what it was sent: until it needs no CPU any more.
    ///
    /// # Errors
    ///
    /// It never rests, or has ended.
    pub fn wait_until_quiet(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < QUIET_WITHIN {
            let before = self.cpu()?;
            std::thread::sleep(QUIET);
            if self.cpu()?.saturating_sub(before) < QUIET.mul_f64(QUIET_SHARE) {
                return Ok(());
            }
        }
        anyhow::bail!("the server was not at rest within {} s", QUIET_WITHIN.as_secs())
    }

    /// Does `work` while the server runs for a part of the time only.
    ///
    /// # Errors
    ///
    /// What `work` says.
    pub fn throttled<T>(
        &self,
        throttle: Throttle,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let pid = libc::pid_t::try_from(self.child.id())?;
        let signal = move |signal| {
            // SAFETY: a signal to our own child, which we have not waited for, so the id is still its.
            unsafe { libc::kill(pid, signal) };
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                network::unpin();
                while !done.load(Ordering::Relaxed) {
                    signal(libc::SIGSTOP);
                    std::thread::sleep(throttle.stopped);
                    signal(libc::SIGCONT);
                    std::thread::sleep(throttle.running);
                }
            });
            let result = work();
            done.store(true, Ordering::Relaxed);
            result
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = libc::pid_t::try_from(self.child.id()) {
            // SAFETY: a signal to our own child, which we have not waited for, so the id is still its.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        let asked = Instant::now();
        while asked.elapsed() < STOPPED_WITHIN {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Nothing is left to do about a child that cannot be killed or waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
