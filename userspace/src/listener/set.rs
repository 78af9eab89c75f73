//! Flags, or sockets that the service manager passed -> every listener, bound.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::Socket;
use tracing::warn;

use super::activation::Inherited;
use super::datagram_socket::{DatagramReader, DatagramSocket};
use super::stream::{CONNECTIONS_MAX, StreamCounters, StreamListener};
use super::udp::UdpOptions;
use super::unix::SocketFile;
use super::{Intake, ListenError, LocalAddress, tcp, udp, unix_stream, unixgram};
use crate::config::{SocketMode, Statsd};
use crate::datagram::Transport;
use crate::self_metrics::SocketReading;
use crate::startup::Row;

/// Descriptors that connections leave to everything else: HTTP, rings, files.
const DESCRIPTORS_RESERVED: u64 = 512;
const CONNECTIONS_MIN: usize = 64;

/// Why the listeners could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("taking over the {0} socket of LISTEN_FDS")]
    Inherited(&'static str, #[source] io::Error),
    #[error(
        "no listener is left, all are switched off; give one an address, for example --statsd.listen-udp=:9125"
    )]
    None,
}

/// Every listener, bound; nothing is read yet.
#[derive(Debug)]
pub struct Listeners {
    pub sockets: Sockets,
    streams: Vec<StreamListener>,
    files: Vec<SocketFile>,
}

impl Listeners {
    /// Binds what the flags ask for, except kinds of which the service manager passed sockets; needs
    /// a runtime around it.
    ///
    /// # Errors
    ///
    /// The first listener that cannot be had; or there is none.
    pub fn bind(statsd: &Statsd, inherited: Inherited) -> Result<Self, SetError> {
        let (mut datagrams, mut streams, mut files) = (Vec::new(), Vec::new(), Vec::new());
        let options = UdpOptions { receive_buffer_bytes: statsd.receive_buffer_bytes, timestamps: false };
        if inherited.udp.is_empty() {
            for address in &statsd.udp {
                datagrams.push(udp::bind(address, options)?);
            }
        }
        datagrams.extend(adopt("udp", inherited.udp, |socket| udp::adopt(socket, options))?);
        match &statsd.tcp {
            Some(address) if inherited.tcp.is_empty() => streams.push(tcp::bind(address)?),
            _ => streams.extend(adopt("tcp", inherited.tcp, tcp::adopt)?),
        }
        match &statsd.unixgram {
            Some(address) if inherited.unixgram.is_empty() => {
                let mode = mode_bits(&statsd.unix_mode);
                let (socket, file) = unixgram::bind(address, mode, statsd.receive_buffer_bytes)?;
                datagrams.push(socket);
                files.extend(file);
            }
            _ => datagrams.extend(adopt("unixgram", inherited.unixgram, |socket| {
                unixgram::adopt(socket, statsd.receive_buffer_bytes)
            })?),
        }
        match &statsd.unix {
            Some(address) if inherited.unix.is_empty() => {
                let (listener, file) = unix_stream::bind(address, mode_bits(&statsd.unix_mode))?;
                streams.push(listener);
                files.extend(file);
            }
            _ => streams.extend(adopt("unix", inherited.unix, unix_stream::adopt)?),
        }
        if datagrams.is_empty() && streams.is_empty() {
            return Err(SetError::None);
        }
        let connections_max = connections_max(raise_descriptor_limit(), streams.len());
        let streams: Vec<StreamListener> =
            streams.into_iter().map(|stream| stream.with_connections_max(connections_max)).collect();
        let sockets = Sockets {
            datagrams: datagrams.into_iter().map(Arc::new).collect(),
            streams: streams.iter().map(StreamView::of).collect(),
            connections_max,
            udp_buffer_asked_bytes: options.receive_buffer_asked_bytes(),
        };
        Ok(Self { sockets, streams, files })
    }

    /// The streams, to be served, and the files that stand for sockets while the guards live.
    #[must_use]
    pub fn into_parts(self) -> (Vec<StreamListener>, Vec<SocketFile>) {
        (self.streams, self.files)
    }
}

fn adopt<T>(
    transport: &'static str,
    sockets: Vec<Socket>,
    adopt: impl Fn(Socket) -> io::Result<T>,
) -> Result<Vec<T>, SetError> {
    sockets
        .into_iter()
        .map(|socket| adopt(socket).map_err(|error| SetError::Inherited(transport, error)))
        .collect()
}

fn mode_bits(mode: &SocketMode) -> Option<u32> {
    match mode {
        SocketMode::Bits(bits) => Some(*bits),
        SocketMode::Unreadable(text) => {
            warn!(
                value = text,
                "--statsd.unixsocket-mode is no octal number; the socket has what the umask leaves"
            );
            None
        }
    }
}

/// Raises the soft limit of descriptors as far as it goes; returns what it is then.
fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let limit = if raised { maximum } else { current };
    limit.unwrap_or(u64::MAX)
}

/// Connections that each of so many stream listeners may have open.
fn connections_max(descriptors: u64, listeners: usize) -> usize {
    let share = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / listeners.max(1) as u64;
    usize::try_from(share).unwrap_or(usize::MAX).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

/// The listeners as the running daemon sees them: to drain and to tell about.
#[derive(Clone, Debug)]
pub struct Sockets {
    datagrams: Vec<Arc<DatagramSocket>>,
    streams: Vec<StreamView>,
    connections_max: usize,
    udp_buffer_asked_bytes: usize,
}

#[derive(Clone, Debug)]
struct StreamView {
    transport: Transport,
    address: LocalAddress,
    counters: Arc<StreamCounters>,
}

impl StreamView {
    fn of(listener: &StreamListener) -> Self {
        Self {
            transport: listener.transport(),
            address: listener.local_address().clone(),
            counters: Arc::clone(listener.counters()),
        }
    }
}

impl Sockets {
    /// The UDP sockets with their addresses.
    pub fn udp(&self) -> impl Iterator<Item = (&Arc<DatagramSocket>, SocketAddr)> {
        self.datagrams.iter().filter_map(|socket| Some((socket, socket.local_address().inet()?)))
    }

    /// Has the kernel say from now on which process sent what comes by the Unix datagram socket. By a
    /// stream it always does.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says.
    pub fn report_processes(&self) -> io::Result<()> {
        let mut unix = self.datagrams.iter().filter(|socket| socket.transport() == Transport::Unixgram);
        unix.try_for_each(|socket| socket.report_processes())
    }

    /// Starts a reader for each datagram socket.
    ///
    /// # Errors
    ///
    /// A thread could not be made.
    pub fn start(&self, intake: &Arc<dyn Intake>) -> io::Result<Vec<DatagramReader>> {
        self.datagrams.iter().map(|socket| socket.start(Arc::clone(intake))).collect()
    }

    /// Takes what lies in the datagram sockets now.
    pub fn drain(&self, intake: &dyn Intake) {
        for socket in &self.datagrams {
            socket.drain(intake);
        }
    }

    /// What all of them counted, added up by kind.
    #[must_use]
    pub fn reading(&self) -> SocketReading {
        let mut reading = SocketReading::default();
        for socket in &self.datagrams {
            let read_errors = socket.counters().read_errors.load(Ordering::Relaxed);
            if socket.transport() == Transport::Udp {
                reading.udp_read_errors += read_errors;
                reading.udp_socket_drops += socket.kernel_drops().map_or(0, u64::from);
                reading.udp_receive_buffer_bytes += socket.receive_buffer_bytes() as u64;
            } else {
                reading.unixgram_read_errors += read_errors;
                reading.unixgram_cut += socket.counters().cut.load(Ordering::Relaxed);
            }
        }
        for StreamView { transport, counters, .. } in &self.streams {
            let sum = if *transport == Transport::Tcp { &mut reading.tcp } else { &mut reading.unix };
            sum.connections += counters.connections.load(Ordering::Relaxed);
            sum.connection_errors += counters.connection_errors.load(Ordering::Relaxed);
            sum.too_long_lines += counters.too_long_lines.load(Ordering::Relaxed);
            sum.refused += counters.connections_refused.load(Ordering::Relaxed);
            sum.accept_errors += counters.accept_errors.load(Ordering::Relaxed);
            sum.lines_cut_by_shutdown += counters.lines_cut_by_shutdown.load(Ordering::Relaxed);
        }
        reading
    }

    /// A row of the start-up table for each listener, and for each kind of which there is none.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (transport, flag) in [
            (Transport::Udp, "statsd.listen-udp"),
            (Transport::Tcp, "statsd.listen-tcp"),
            (Transport::Unixgram, "statsd.listen-unixgram"),
            (Transport::Unix, "statsd.listen-unix"),
        ] {
            let name = transport.name().to_owned();
            let before = rows.len();
            for socket in self.datagrams.iter().filter(|socket| socket.transport() == transport) {
                let mut why = socket.local_address().to_string();
                if transport == Transport::Udp {
                    why += &buffer_summary(socket.receive_buffer_bytes(), self.udp_buffer_asked_bytes);
                }
                rows.push((name.clone(), "on".to_owned(), why));
            }
            for stream in self.streams.iter().filter(|stream| stream.transport == transport) {
                let mut why = stream.address.to_string();
                if self.connections_max < CONNECTIONS_MAX {
                    let max = self.connections_max;
                    why += &format!(", {max} connections at most (limit of open files)");
                }
                rows.push((name.clone(), "on".to_owned(), why));
            }
            if rows.len() == before {
                let why = match transport {
                    Transport::Udp | Transport::Tcp => format!("--{flag}=\"\""),
                    _ => format!("no --{flag}"),
                };
                rows.push((name, "off".to_owned(), why));
            }
        }
        rows
    }
}

/// What the kernel granted, in its own count, and what more of it needs.
fn buffer_summary(granted_bytes: usize, asked_bytes: usize) -> String {
    let (granted, asked) = (granted_bytes >> 10, (2 * asked_bytes) >> 10);
    if granted >= asked {
        format!(", receive buffer {granted} KiB")
    } else {
        format!(
            ", receive buffer {granted} KiB; for the {asked} asked for it needs CAP_NET_ADMIN or net.core.rmem_max={asked_bytes}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_buffer_that_is_smaller_than_asked_for_says_what_it_needs() {
        assert_eq!(buffer_summary(32 << 20, 16 << 20), ", receive buffer 32768 KiB");
        let less = buffer_summary(8 << 20, 16 << 20);
        assert!(less.starts_with(", receive buffer 8192 KiB; "), "{less}");
        assert!(less.contains("32768") && less.ends_with("rmem_max=16777216"), "{less}");
    }

    use crate::config::Config;

    fn statsd(arguments: &[&str]) -> Statsd {
        let arguments = std::iter::once(&"rotameter").chain(arguments);
        Config::load(&Cli::from_arguments(arguments).unwrap()).unwrap().statsd
    }

    fn states(listeners: &Listeners) -> Vec<(String, String)> {
        listeners.sockets.rows().into_iter().map(|(feature, state, _)| (feature, state)).collect()
    }

    #[track_caller]
    fn check(listeners: &Listeners, expected: &[(&str, &str)]) {
        let states = states(listeners);
        let states: Vec<(&str, &str)> = states.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(states, expected);
    }

    #[tokio::test]
    async fn every_listener_has_its_row() {
        let statsd = statsd(&[
            "--statsd.listen-udp=127.0.0.1:0",
            "--statsd.listen-udp=127.0.0.1:0",
            "--statsd.listen-tcp=",
            "--statsd.listen-unix=@rotameter-set-test",
        ]);
        let listeners = Listeners::bind(&statsd, Inherited::default()).unwrap();
        check(
            &listeners,
            &[("udp", "on"), ("udp", "on"), ("tcp", "off"), ("unixgram", "off"), ("unix", "on")],
        );
    }

    #[tokio::test]
    async fn a_socket_that_was_passed_replaces_the_listeners_of_its_kind() {
        let statsd = statsd(&["--statsd.listen-udp=192.0.2.1:1", "--statsd.listen-tcp=127.0.0.1:0"]);
        assert!(matches!(Listeners::bind(&statsd, Inherited::default()), Err(SetError::Listen(_))));
        let passed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = passed.local_addr().unwrap();
        let inherited = Inherited { udp: vec![passed.into()], ..Inherited::default() };
        let listeners = Listeners::bind(&statsd, inherited).unwrap();
        assert_eq!(listeners.sockets.udp().map(|(_, address)| address).collect::<Vec<_>>(), [address]);
        check(&listeners, &[("udp", "on"), ("tcp", "on"), ("unixgram", "off"), ("unix", "off")]);
    }

    #[tokio::test]
    async fn one_listener_must_stay() {
        let statsd = statsd(&["--statsd.listen-udp=", "--statsd.listen-tcp="]);
        let error = Listeners::bind(&statsd, Inherited::default()).unwrap_err().to_string();
        assert!(error.starts_with("no listener is left"), "{error}");
    }

    #[test]
    fn connections_leave_descriptors_to_others() {
        assert_eq!(connections_max(1024, 1), 512);
        assert_eq!(connections_max(1024, 2), 256);
        assert_eq!(connections_max(100, 1), CONNECTIONS_MIN);
        assert_eq!(connections_max(1 << 20, 2), CONNECTIONS_MAX);
        assert_eq!(connections_max(u64::MAX, 0), CONNECTIONS_MAX);
    }
}
