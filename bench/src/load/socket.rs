//! Payloads -> a server's UDP, TCP or Unix socket, from many source ports, without any rights.

use std::{
    fmt,
    io::{self, IoSlice},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use anyhow::Context as _;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use super::{
    pace::{Limits, Outlet, Pace, drive},
    payloads::Payloads,
    sent::Sent,
    stop,
};
use crate::fleet::Sender;

/// Source ports, or connections, that the senders of a table share by default.
pub const SOURCES: usize = 16;
pub const SOURCES_MAX: usize = 512;
/// A call that waits for a slow server looks this often whether it should end.
const PATIENCE: Duration = Duration::from_millis(100);

/// Where to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    Unixgram(PathBuf),
    UnixStream(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once(':').ok_or_else(|| {
            format!("{text}: write udp:ADDRESS:PORT, tcp:ADDRESS:PORT, unixgram:PATH or unix:PATH")
        })?;
        let resolve = |rest: &str| {
            let found = std::net::ToSocketAddrs::to_socket_addrs(rest)
                .map_err(|error| format!("{rest}: {error}; write ADDRESS:PORT or NAME:PORT"))?;
            found.into_iter().next().ok_or_else(|| format!("{rest}: the name has no address"))
        };
        match kind {
            "udp" => Ok(Self::Udp(resolve(rest)?)),
            "tcp" => Ok(Self::Tcp(resolve(rest)?)),
            "unixgram" => Ok(Self::Unixgram(rest.into())),
            "unix" => Ok(Self::UnixStream(rest.into())),
            _ => Err(format!("{kind}: no such socket; there are udp, tcp, unixgram and unix")),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unixgram(path) => write!(f, "unixgram:{}", path.display()),
            Self::UnixStream(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Sends payloads to `target` from [`SOURCES`] sockets, in the table's order.
///
/// # Errors
///
/// The target cannot be connected to, or nothing goes any more.
pub fn send(target: &Target, payloads: &Payloads, pace: Pace, limits: Limits) -> anyhow::Result<Sent> {
    send_watched(target, SOURCES, payloads, pace, limits, &mut |_| true)
}

/// As [`send`], from so many sockets; `watch` sees the datagrams sent several times a second, and ends
/// it by `false`.
///
/// # Errors
///
/// As [`send`].
pub fn send_watched(
    target: &Target,
    sources: usize,
    payloads: &Payloads,
    pace: Pace,
    limits: Limits,
    watch: &mut dyn FnMut(u64) -> bool,
) -> anyhow::Result<Sent> {
    let sources = sources.clamp(1, SOURCES_MAX);
    let connecting = || format!("connecting to {target}; is a server listening there?");
    match target {
        Target::Udp(address) => {
            let sockets = sockets(sources, || udp(*address)).with_context(connecting)?;
            drive(&mut Datagrams { sockets }, payloads, pace, limits, watch)
        }
        Target::Unixgram(path) => {
            let sockets = sockets(sources, || {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(PATIENCE))?;
                socket.connect(path)?;
                Ok(socket)
            });
            drive(
                &mut Datagrams { sockets: sockets.with_context(connecting)? },
                payloads,
                pace,
                limits,
                watch,
            )
        }
        Target::Tcp(address) => {
            let sockets = sockets(sources, || {
                let stream = TcpStream::connect_timeout(address, Duration::from_secs(5))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(stream)
            });
            drive(&mut Streams::new(sockets.with_context(connecting)?), payloads, pace, limits, watch)
        }
        Target::UnixStream(path) => {
            let sockets = sockets(sources, || {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(stream)
            });
            drive(&mut Streams::new(sockets.with_context(connecting)?), payloads, pace, limits, watch)
        }
    }
}

fn sockets<S>(count: usize, open: impl FnMut() -> io::Result<S>) -> io::Result<Vec<S>> {
    std::iter::repeat_with(open).take(count).collect()
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    Ok(socket)
}

/// Which of `count` sockets a sender has; neighbours get different ones.
fn socket_of(sender: Sender, count: usize) -> usize {
    let mixed = (u64::from(sender.host) << 16 | u64::from(sender.port)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 32).unwrap_or(0) % count.max(1)
}

/// How many of the next `count` payloads go by the same socket as the first.
fn same_socket(payloads: &Payloads, first: u64, count: usize, sockets: usize) -> (usize, usize) {
    let socket = socket_of(payloads.after(first).sender, sockets);
    let others = (first..first + count as u64).skip(1);
    let run = others.take_while(|&sent| socket_of(payloads.after(sent).sender, sockets) == socket).count();
    (socket, 1 + run)
}

/// One payload, one datagram.
struct Datagrams<S> {
    sockets: Vec<S>,
}

impl<S: AsFd> Outlet for Datagrams<S> {
    const BATCH: usize = 64;
    const TICK: Duration = Duration::ZERO;

    fn send(&mut self, payloads: &Payloads, first: u64, count: usize) -> io::Result<usize> {
        let (socket, run) = same_socket(payloads, first, count, self.sockets.len());
        send_run(self.sockets[socket].as_fd(), payloads, first, run)
    }
}

fn send_run(socket: BorrowedFd<'_>, payloads: &Payloads, first: u64, run: usize) -> io::Result<usize> {
    let slices: Vec<[IoSlice<'_>; 1]> =
        (first..first + run as u64).map(|sent| [IoSlice::new(payloads.after(sent).bytes)]).collect();
    let mut control: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        std::iter::repeat_with(SendAncillaryBuffer::default).take(run).collect();
    let mut messages: Vec<MMsgHdr<'_>> =
        slices.iter().zip(&mut control).map(|(slice, control)| MMsgHdr::new(slice, control)).collect();
    match sendmmsg(socket, &mut messages, SendFlags::empty()) {
        Ok(sent) => Ok(sent),
        // The server is slow, or a signal came: once more.
        Err(rustix::io::Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Payloads one after the other, each ended by a line feed.
struct Streams<S> {
    streams: Vec<S>,
    text: Vec<u8>,
}

impl<S> Streams<S> {
    fn new(streams: Vec<S>) -> Self {
        Self { streams, text: Vec::new() }
    }
}

impl<S: io::Write> Outlet for Streams<S> {
    const BATCH: usize = 256;
    const TICK: Duration = Duration::ZERO;

    fn send(&mut self, payloads: &Payloads, first: u64, count: usize) -> io::Result<usize> {
        let (stream, run) = same_socket(payloads, first, count, self.streams.len());
        self.text.clear();
        let mut ends = Vec::with_capacity(run);
        for sent in first..first + run as u64 {
            let bytes = payloads.after(sent).bytes;
            self.text.extend_from_slice(bytes);
            if !bytes.ends_with(b"\n") {
                self.text.push(b'\n');
            }
            ends.push(self.text.len());
        }
        let mut written = 0;
        while let Some(rest) = self.text.get(written..).filter(|rest| !rest.is_empty()) {
            match self.streams[stream].write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A begun line has to be ended, so waiting goes on here until somebody says stop.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !stop::requested() => {}
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(ends.into_iter().filter(|end| *end <= written).count())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn table() -> Payloads {
        let datagrams = (0..100_u16).map(|number| crate::fleet::Datagram {
            sender: Sender { host: 1, port: number / 10 },
            at: Duration::ZERO,
            bytes: format!("n{number}:1|c").into_bytes(),
        });
        Payloads::collect(datagrams, 100)
    }

    #[test]
    fn datagrams_come_in_order_from_several_ports() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
        receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let target = Target::Udp(receiver.local_addr().expect("it is bound"));
        let sent = send(&target, &table(), Pace::FlatOut, Limits::datagrams(150)).expect("it is sent");
        assert_eq!((sent.datagrams, sent.errors.len()), (150, 0));
        let mut ports = std::collections::BTreeSet::new();
        for number in 0..150 {
            let mut bytes = [0; 64];
            let (length, from) = receiver.recv_from(&mut bytes).expect("all arrive");
            assert_eq!(bytes[..length], *format!("n{}:1|c", number % 100).as_bytes());
            ports.insert(from.port());
        }
        assert!(ports.len() > 3, "{ports:?}");
    }

    #[test]
    fn a_stream_gets_whole_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("statsd.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.read_to_string(&mut text).expect("text");
            text
        });
        let target = Target::UnixStream(path);
        let limits = Limits::datagrams(250);
        let sent =
            send_watched(&target, 1, &table(), Pace::FlatOut, limits, &mut |_| true).expect("it is sent");
        let text = reader.join().expect("the reader ends");
        assert_eq!(sent.datagrams, 250);
        assert_eq!(text.lines().count(), 250);
        assert!(text.ends_with("n49:1|c\n"));
    }

    #[test]
    fn a_target_is_written_with_its_kind() {
        assert_eq!(
            "udp:127.0.0.1:9125".parse::<Target>().map(|target| target.to_string()),
            Ok("udp:127.0.0.1:9125".to_owned())
        );
        assert!("127.0.0.1:9125".parse::<Target>().is_err());
        assert!("sctp:127.0.0.1:9125".parse::<Target>().is_err());
    }
}
