//! Binary and flags -> a running daemon that can be asked, stopped and killed.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use super::figures::Figures;
use super::namespace::Namespace;

/// How long anything may take before a test gives up. Far more than it ever does on a quiet machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const HTTP_PORT: u16 = 9102;
/// What a failed test shows of the log: the last lines, and of each the beginning.
const LOG_LINES_MAX: usize = 60;
const LOG_LINE_CHARACTERS_MAX: usize = 400;

/// The binary under test.
pub(super) fn binary() -> PathBuf {
    std::env::var_os("ROTAMETER_BIN").map(PathBuf::from).unwrap_or_else(|| {
        panic!(
            "ROTAMETER_BIN does not name the daemon's binary; `cargo xtask test` builds it with the kernel object \
             inside, and sets the variable"
        )
    })
}

/// A daemon process. It is ended on drop, and its log shown if the test failed.
pub(super) struct Daemon {
    child: Child,
    namespace: Arc<Namespace>,
    http_port: u16,
    log: NamedTempFile,
}

impl Daemon {
    /// Starts the binary with `flags` in `namespace` and waits until it is ready.
    #[track_caller]
    pub(super) fn start(namespace: &Arc<Namespace>, flags: &[&str]) -> Self {
        let mut command = namespace.command(binary());
        command.args(flags);
        let mut daemon = Self::spawn(namespace, command, flags);
        let ready = daemon.wait_for(|daemon| matches!(daemon.get("/-/ready"), Ok((200, _))));
        assert!(ready, "not ready");
        daemon
    }

    /// Starts `command`, which is to become a daemon with `flags`.
    pub(super) fn spawn(namespace: &Arc<Namespace>, mut command: Command, flags: &[&str]) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self::spawn_with(namespace, command, flags)
    }

    /// The same with standard input and output as they are.
    pub(super) fn spawn_with(namespace: &Arc<Namespace>, mut command: Command, flags: &[&str]) -> Self {
        let log = NamedTempFile::new().expect("room for a log");
        let errors = log.reopen().expect("the log is there");
        let child = command.stderr(errors).spawn();
        let http_port = flags
            .iter()
            .find_map(|flag| flag.strip_prefix("--web.listen-address=:"))
            .map_or(HTTP_PORT, |port| port.parse().expect("a port"));
        let child = child.expect("the binary starts");
        Self { child, namespace: Arc::clone(namespace), http_port, log }
    }

    /// Waits until `condition` holds; false if it never does, or the daemon ends.
    pub(super) fn wait_for(&mut self, mut condition: impl FnMut(&Self) -> bool) -> bool {
        let start = Instant::now();
        loop {
            if condition(self) {
                return true;
            }
            let ended = self.child.try_wait().expect("our child").is_some();
            if ended || start.elapsed() > PATIENCE {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a scrape shows what `condition` wants.
    #[track_caller]
    pub(super) fn wait_for_figures(
        &self,
        what: &str,
        mut condition: impl FnMut(&Figures) -> bool,
    ) -> Figures {
        let start = Instant::now();
        loop {
            let figures = self.figures();
            if condition(&figures) {
                return figures;
            }
            assert!(start.elapsed() < PATIENCE, "never came: {what}\n{}", figures.ledger());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The same for anything that an exposition shows.
    #[track_caller]
    pub(super) fn wait_for_exposition(&self, what: &str, mut condition: impl FnMut(&str) -> bool) {
        let start = Instant::now();
        loop {
            let text = self.scrape();
            if condition(&text) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "never came: {what}\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Status and body of a page.
    pub(super) fn get(&self, path: &str) -> io::Result<(u16, Vec<u8>)> {
        get(&self.namespace, self.http_port, path)
    }

    /// One exposition.
    #[track_caller]
    pub(super) fn scrape(&self) -> String {
        let (status, body) = self.get("/metrics").expect("the daemon answers");
        assert_eq!(status, 200);
        String::from_utf8(body).expect("an exposition is UTF-8")
    }

    /// The daemon's own metrics of one exposition.
    #[track_caller]
    pub(super) fn figures(&self) -> Figures {
        Figures::read(&self.scrape())
    }

    /// What the process has written to standard error.
    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log.path()).expect("the log is there")).into_owned()
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("our own child");
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub(super) fn ended(&mut self) -> ExitStatus {
        let ended = self.wait_until_ended();
        ended.expect("the process ends")
    }

    fn wait_until_ended(&mut self) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// Ends it as an operator would, and requires a clean end.
    #[track_caller]
    pub(super) fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().code(), Some(0));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // KILL also ends a process that was stopped; nothing of it stays behind, which is a
            // property that tests hold.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the daemon's log:");
            for line in &lines[lines.len().saturating_sub(LOG_LINES_MAX)..] {
                eprintln!("{}", line.chars().take(LOG_LINE_CHARACTERS_MAX).collect::<String>());
            }
        }
    }
}

/// Status and body of `path` on the loopback device of `namespace`.
pub(super) fn get(namespace: &Namespace, port: u16, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = namespace.inside(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // The old version: then the end of the body is the end of the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let body = answer.split_off(head + 4);
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body))
}
