//! Case -> a daemon on a loopback address of its own.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::case::{Case, Stream, Transport, payload};
use super::http::{self, Response};

const STATSD_PORT: u16 = 29_125;
const WEB_PORT: u16 = 29_102;

/// A running daemon, its directory and its relay's target. Ended on drop.
pub(super) struct Daemon {
    child: Child,
    address: IpAddr,
    directory: TempDir,
    relay: UdpSocket,
    sender: UdpSocket,
    pub(super) telemetry_path: String,
}

impl Daemon {
    /// Starts the binary as `case` wants it, with `flags` on top.
    pub(super) fn start(case: &Case, flags: &[&str]) -> io::Result<Self> {
        let binary = std::env::var_os("ROTAMETER_BIN").map(PathBuf::from);
        let binary = binary.expect("ROTAMETER_BIN names the daemon's binary; cargo xtask test sets it");
        let address = fresh_address();
        let directory = TempDir::new()?;
        let relay = UdpSocket::bind("127.0.0.1:0")?;
        let relay_address = relay.local_addr()?.to_string();
        let filled = |text: &str| {
            text.replace("{ip}", &address.to_string())
                .replace("{unix}", "{dir}/socket")
                .replace("{dir}", &directory.path().to_string_lossy())
                .replace("{relay}", &relay_address)
        };
        let mut arguments: Vec<String> = case.flags.iter().map(|flag| filled(flag)).collect();
        let mut default = |flag: &str, value: &str| {
            let given = arguments.iter().any(|argument| argument.split('=').next() == Some(flag));
            if !given {
                arguments.push(format!("{flag}={value}"));
            }
        };
        if !case.bare {
            default("--statsd.listen-udp", &format!("{address}:{STATSD_PORT}"));
            default("--statsd.listen-tcp", &format!("{address}:{STATSD_PORT}"));
            default("--web.listen-address", &format!("{address}:{WEB_PORT}"));
        }
        if let Some(mapping) = &case.mapping {
            let path = directory.path().join("mapping.yml");
            fs::write(&path, filled(mapping))?;
            default("--statsd.mapping-config", &path.to_string_lossy());
        }
        if !case.bare {
            arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
        }
        let telemetry_path = arguments
            .iter()
            .find_map(|flag| flag.strip_prefix("--web.telemetry-path="))
            .unwrap_or("/metrics");
        let telemetry_path = telemetry_path.to_owned();
        let output = |name| fs::File::create(directory.path().join(name));
        let stderr = if case.unheard { Stdio::from(io::pipe()?.1) } else { output("stderr")?.into() };
        let child = Command::new(binary)
            .args(arguments)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(output("stdout")?)
            .stderr(stderr)
            .spawn()?;
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        Ok(Self { child, address, directory, relay, sender, telemetry_path })
    }

    /// Waits until the daemon answers, or has ended.
    pub(super) fn wait_until_ready(&mut self, patience: Duration) -> Result<(), String> {
        let start = Instant::now();
        while !self.ask("GET", "/-/ready", &[]).is_ok_and(|answer| answer.status == 200) {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("ended with {status} before it was ready"));
            }
            if start.elapsed() > patience {
                return Err("not ready".to_owned());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(super) fn send(&self, transport: Transport, bytes: &[u8]) -> io::Result<()> {
        let unix = self.directory.path().join("socket");
        match transport {
            Transport::Udp => self.sender.send_to(bytes, (self.address, STATSD_PORT)).map(drop),
            Transport::Unixgram => UnixDatagram::unbound()?.send_to(bytes, unix).map(drop),
            Transport::Tcp => {
                let stream = TcpStream::connect((self.address, STATSD_PORT))?;
                talk(stream, bytes, |stream| stream.shutdown(Shutdown::Write))
            }
            Transport::Unix => {
                let stream = UnixStream::connect(unix)?;
                talk(stream, bytes, |stream| stream.shutdown(Shutdown::Write))
            }
        }
    }

    pub(super) fn ask(&self, method: &str, path: &str, headers: &[String]) -> io::Result<Response> {
        http::ask(SocketAddr::new(self.address, WEB_PORT), method, path, headers)
    }

    /// The next datagram at the relay's target.
    pub(super) fn relayed(&self, patience: Duration) -> io::Result<Vec<u8>> {
        self.relay.set_read_timeout(Some(patience))?;
        let mut bytes = vec![0; 65_536];
        let length = self.relay.recv(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Writes the mapping file anew, by a new file in the old one's place.
    pub(super) fn remap(&self, text: &str) -> io::Result<()> {
        let (new, path) = (self.directory.path().join("new.yml"), self.directory.path().join("mapping.yml"));
        fs::write(&new, payload(text))?;
        fs::rename(new, path)
    }

    pub(super) fn signal(&self, name: &str) {
        let signal = match name {
            "HUP" => Signal::HUP,
            "INT" => Signal::INT,
            "TERM" => Signal::TERM,
            "USR1" => Signal::USR1,
            "USR2" => Signal::USR2,
            _ => panic!("no such signal: {name}"),
        };
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("our own child");
    }

    /// The code with which the daemon ended; `None` if it goes on.
    pub(super) fn exit_code(&mut self, patience: Duration) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return Some(status.code().unwrap_or(-1));
            }
            if start.elapsed() > patience {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(super) fn output(&self, stream: Stream) -> String {
        let name = if stream == Stream::Stdout { "stdout" } else { "stderr" };
        let bytes = fs::read(self.directory.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Writes all, and waits for the other side to close. It may close early, where a line is too long.
fn talk<S: Write + io::Read>(
    mut stream: S,
    bytes: &[u8],
    shutdown: impl Fn(&S) -> io::Result<()>,
) -> io::Result<()> {
    if stream.write_all(bytes).and_then(|()| shutdown(&stream)).is_ok() {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    Ok(())
}

/// A loopback address that no other case has; the process id keeps two runs apart.
fn fresh_address() -> IpAddr {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = number.to_be_bytes();
    let run = u8::try_from(64 + std::process::id() % 128).expect("below 192");
    IpAddr::V4(Ipv4Addr::new(127, run, high, low))
}
