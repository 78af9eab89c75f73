//! Packets -> one target, resolved again when it fails.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::RelayCounters;
use super::packet::Packet;
use crate::config::HostPort;

/// A target that fails is resolved again, but not more often than this.
const RESOLVE_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// A name is looked up this often even so: packets to where nobody is any more may vanish silently.
const RESOLVE_NAMES: Duration = Duration::from_secs(60);
/// Longest time that one packet waits for room in the socket.
const SEND_MAX: Duration = Duration::from_secs(1);

/// A connected socket: so a target that refuses is found out.
#[derive(Debug)]
pub(super) struct Connection {
    target: HostPort,
    is_name: bool,
    address: SocketAddr,
    socket: UdpSocket,
    resolved: Instant,
    /// Something failed since the target was resolved.
    failed: bool,
    failures: u64,
    last_error: String,
    /// Lines of the packet that was sent last and not refused so far.
    last_lines: u64,
}

impl Connection {
    /// Resolves the target. `own` are addresses that must not be meant by it.
    pub(super) fn open(target: HostPort, own: &[SocketAddr]) -> io::Result<Self> {
        let (address, socket) = connect(&target)?;
        let local = socket.local_addr()?.ip();
        // Who reaches a target by the target's own address is on the same machine.
        let is_own = |own: &SocketAddr| {
            let ip = own.ip().to_canonical();
            own.port() == address.port() && local == address.ip() && (ip.is_unspecified() || ip == local)
        };
        if own.iter().any(is_own) {
            return Err(io::Error::other(
                "that is this daemon's own address, and its lines would go round for ever",
            ));
        }
        Ok(Self {
            is_name: target.host().parse::<IpAddr>().is_err(),
            target,
            address,
            socket,
            resolved: Instant::now(),
            failed: false,
            failures: 0,
            last_error: String::new(),
            last_lines: 0,
        })
    }

    /// Sends a packet, and counts what became of it.
    pub(super) fn send(&mut self, packet: &Packet, counters: &RelayCounters, now: Instant) {
        let due = if self.failed { RESOLVE_AFTER_FAILURE } else { RESOLVE_NAMES };
        if (self.failed || self.is_name) && now.saturating_duration_since(self.resolved) >= due {
            self.resolve(now);
        }
        self.notice_refusal(counters);
        let mut sent = self.socket.send(&packet.bytes);
        if let Err(error) = &sent
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            // It came in between, and is about the packet before; this one was not sent yet.
            self.refused(error.to_string(), counters);
            sent = self.socket.send(&packet.bytes);
        }
        match sent {
            Ok(_) => {
                counters.packets.fetch_add(1, Ordering::Relaxed);
                self.last_lines = packet.lines;
            }
            Err(error) => {
                counters.send_failed.fetch_add(packet.lines, Ordering::Relaxed);
                self.note(error.to_string());
            }
        }
    }

    /// Looks whether the last packet was refused.
    pub(super) fn notice_refusal(&mut self, counters: &RelayCounters) {
        if let Ok(Some(error)) = self.socket.take_error() {
            self.refused(error.to_string(), counters);
        }
    }

    fn refused(&mut self, error: String, counters: &RelayCounters) {
        counters.refused.fetch_add(std::mem::take(&mut self.last_lines), Ordering::Relaxed);
        self.note(error);
    }

    fn note(&mut self, error: String) {
        self.failed = true;
        self.failures += 1;
        self.last_error = error;
    }

    fn resolve(&mut self, now: Instant) {
        self.resolved = now;
        self.failed = false;
        match connect(&self.target) {
            Ok((address, _)) if address == self.address => {}
            Ok((address, socket)) => (self.address, self.socket) = (address, socket),
            // The old address may still do.
            Err(error) => self.note(error.to_string()),
        }
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    pub(super) fn last_error(&self) -> &str {
        &self.last_error
    }
}

fn connect(target: &HostPort) -> io::Result<(SocketAddr, UdpSocket)> {
    let candidates = target.candidates()?;
    let address = *candidates.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_write_timeout(Some(SEND_MAX))?;
    socket.connect(address)?;
    Ok((address, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_failed_is_resolved_again_after_a_while() {
        let counters = RelayCounters::default();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = receiver.local_addr().unwrap().port();
        let mut connection = Connection::open(format!("localhost:{port}").parse().unwrap(), &[]).unwrap();
        let start = connection.resolved;
        connection.note("as the test wants it".to_owned());
        let packet = Packet { bytes: (*b"a:1|c\n").into(), lines: 1 };
        connection.send(&packet, &counters, start + RESOLVE_AFTER_FAILURE / 2);
        assert!(connection.failed);
        connection.send(&packet, &counters, start + RESOLVE_AFTER_FAILURE);
        assert_eq!(connection.resolved, start + RESOLVE_AFTER_FAILURE);
    }

    #[test]
    fn a_packet_that_cannot_be_sent_is_counted_and_the_next_one_goes() {
        let counters = RelayCounters::default();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = receiver.local_addr().unwrap().to_string().parse().unwrap();
        let mut connection = Connection::open(target, &[]).unwrap();
        let huge = Packet { bytes: vec![b'x'; 70_000].into(), lines: 7 };
        connection.send(&huge, &counters, connection.resolved);
        let packet = Packet { bytes: (*b"a:1|c\n").into(), lines: 1 };
        connection.send(&packet, &counters, connection.resolved);
        assert_eq!(counters.send_failed.load(Ordering::Relaxed), 7);
        let mut bytes = [0; 10];
        assert_eq!(receiver.recv(&mut bytes).unwrap(), 6);
    }
}
