//! Received lines -> other StatsD servers.
//!
//! Ingestion only copies a line into the packet that is being filled. Each target has a queue of full
//! packets and a thread that sends them; a queue that is full takes nothing, and counts that.

mod packet;
mod target;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{info, warn};

use self::packet::{Packed, Packer, Packet};
use self::target::Connection;
use crate::config;
use crate::line;

/// Longest time for which a line waits for its packet to fill.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// What the queue of one target holds at most.
const QUEUE_BYTES_MAX: usize = 8 << 20;
const QUEUE_PACKETS_MAX: usize = 8192;
/// At the end, the queues have this long to empty.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// What one target was given, and what it took.
#[derive(Debug, Default)]
pub struct RelayCounters {
    /// Packets that were handed to the network.
    pub packets: AtomicU64,
    /// Lines that were taken for this target, whatever became of them.
    pub lines: AtomicU64,
    /// Lines that were not taken: with their `\n` they are longer than a packet may be.
    pub long_lines: AtomicU64,
    /// Lines given up because the queue was full.
    pub queue_full: AtomicU64,
    /// Lines given up because their packet could not be sent.
    pub send_failed: AtomicU64,
    /// Lines that the target's machine sent back: nobody listens there.
    pub refused: AtomicU64,
}

/// A target with its counters.
#[derive(Debug)]
pub struct RelayTarget {
    /// As configured; the label of its metrics.
    pub name: String,
    pub counters: RelayCounters,
}

/// A target that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("relaying to {target} (--statsd.relay.address)")]
pub struct RelayError {
    pub target: String,
    pub source: io::Error,
}

/// The relay, as ingestion sees it.
#[derive(Debug)]
pub struct Relay {
    targets: Vec<Arc<RelayTarget>>,
    filling: Mutex<Filling>,
}

#[derive(Debug)]
struct Filling {
    packer: Packer,
    /// One for each target; none when the relay has ended.
    queues: Vec<SyncSender<Arc<Packet>>>,
}

impl Relay {
    /// Takes the lines of a datagram. Never waits for a target.
    pub fn take(&self, payload: &[u8]) {
        let mut filling = self.filling.lock();
        let Filling { packer, queues } = &mut *filling;
        let (mut taken, mut too_long) = (0, 0);
        for line in line::lines(payload) {
            match packer.push(line, &mut |packet| self.hand_over(queues, packet)) {
                Packed::Taken => taken += 1,
                Packed::TooLong => too_long += 1,
                Packed::Empty => {}
            }
        }
        for target in &self.targets {
            target.counters.lines.fetch_add(taken, Ordering::Relaxed);
            target.counters.long_lines.fetch_add(too_long, Ordering::Relaxed);
        }
    }

    /// Hands on the packet that is being filled.
    fn flush(&self) {
        let mut filling = self.filling.lock();
        if let Some(packet) = filling.packer.take() {
            self.hand_over(&filling.queues, packet);
        }
    }

    fn hand_over(&self, queues: &[SyncSender<Arc<Packet>>], packet: Packet) {
        let packet = Arc::new(packet);
        for (queue, target) in queues.iter().zip(&self.targets) {
            if let Err(TrySendError::Full(packet) | TrySendError::Disconnected(packet)) =
                queue.try_send(Arc::clone(&packet))
            {
                target.counters.queue_full.fetch_add(packet.lines, Ordering::Relaxed);
            }
        }
    }

    /// Name and counters of each target.
    #[must_use]
    pub fn targets(&self) -> &[Arc<RelayTarget>] {
        &self.targets
    }
}

/// The threads of a relay.
#[derive(Debug)]
pub struct RelaySenders {
    relay: Arc<Relay>,
    threads: Vec<JoinHandle<()>>,
}

impl RelaySenders {
    /// Resolves the targets and starts a thread for each; `None` where there is no target.
    ///
    /// # Errors
    ///
    /// A target has no address, or is one of `own`: its lines would go round for ever.
    pub fn start(config: &config::Relay, own: &[SocketAddr]) -> Result<Option<Self>, RelayError> {
        if config.targets.is_empty() {
            return Ok(None);
        }
        let packet_bytes = config.packet_bytes_max.unwrap_or(1).max(1);
        let queue_packets = (QUEUE_BYTES_MAX / packet_bytes).min(QUEUE_PACKETS_MAX);
        let (mut targets, mut queues, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for address in &config.targets {
            let name = address.to_string();
            let connection = Connection::open(address.clone(), own)
                .map_err(|source| RelayError { target: name.clone(), source })?;
            let target = Arc::new(RelayTarget { name, counters: RelayCounters::default() });
            let (queue, end) = sync_channel(queue_packets);
            queues.push(queue);
            ends.push((Arc::clone(&target), connection, end));
            targets.push(target);
        }
        let packer = Packer::new(config.packet_bytes_max);
        let relay = Arc::new(Relay { targets, filling: Mutex::new(Filling { packer, queues }) });
        let mut threads = Vec::new();
        for (target, connection, end) in ends {
            let relay = Arc::clone(&relay);
            let name = target.name.clone();
            let thread = std::thread::Builder::new()
                .name("relay".to_owned())
                .spawn(move || send(&relay, &target, connection, &end));
            threads.push(thread.map_err(|source| RelayError { target: name, source })?);
        }
        Ok(Some(Self { relay, threads }))
    }

    #[must_use]
    pub fn relay(&self) -> &Arc<Relay> {
        &self.relay
    }

    /// Sends what is left, for two seconds at most. What the relay is given from now on is lost.
    pub fn finish(self) {
        self.relay.flush();
        // The threads end when their queues are empty.
        self.relay.filling.lock().queues.clear();
        let give_up = Instant::now() + FINISH_MAX;
        for thread in self.threads {
            while !thread.is_finished() && Instant::now() < give_up {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Sends the packets of one queue until it is closed and empty.
fn send(relay: &Relay, target: &RelayTarget, mut connection: Connection, packets: &Receiver<Arc<Packet>>) {
    let mut flush_at = Instant::now() + FLUSH_INTERVAL;
    let mut health = Health::default();
    loop {
        let now = Instant::now();
        if now >= flush_at {
            relay.flush();
            flush_at = now + FLUSH_INTERVAL;
            connection.notice_refusal(&target.counters);
            health.report(target, &connection);
        }
        match packets.recv_timeout(flush_at.saturating_duration_since(now)) {
            Ok(packet) => connection.send(&packet, &target.counters, now),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Turns failures into one log event when they begin and one when they have ended.
#[derive(Debug, Default)]
struct Health {
    failing: bool,
    failures: u64,
    sent: u64,
}

impl Health {
    fn report(&mut self, target: &RelayTarget, connection: &Connection) {
        let sent = target.counters.packets.load(Ordering::Relaxed);
        let failed = connection.failures() != self.failures;
        if failed && !self.failing {
            let error = connection.last_error();
            warn!(target = target.name, error, "relaying failed; trying on, and counting what is given up");
            self.failing = true;
        } else if !failed && self.failing && sent != self.sent {
            info!(target = target.name, "relaying works again");
            self.failing = false;
        }
        (self.failures, self.sent) = (connection.failures(), sent);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn start(targets: &[&UdpSocket], packet_bytes_max: Option<usize>) -> RelaySenders {
        let targets = targets.iter().map(|t| t.local_addr().unwrap().to_string().parse().unwrap()).collect();
        RelaySenders::start(&config::Relay { targets, packet_bytes_max }, &[]).unwrap().unwrap()
    }

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    fn receive(socket: &UdpSocket) -> String {
        let mut bytes = [0; 2000];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn each_target_gets_every_line_within_a_second_or_so() {
        let (a, b) = (socket(), socket());
        let senders = start(&[&a, &b], Some(16));
        senders.relay().take(b"a:1|c\nbad line\r\n\nthis one is too long\nb:1|c");
        for socket in [&a, &b] {
            assert_eq!(receive(socket), "a:1|c\nbad line\r\n");
            assert_eq!(receive(socket), "b:1|c\n", "after the tick");
        }
        for target in senders.relay().targets() {
            assert_eq!(target.counters.lines.load(Ordering::Relaxed), 3);
            assert_eq!(target.counters.long_lines.load(Ordering::Relaxed), 1);
        }
        senders.relay().take(b"c:1|c");
        let relay = Arc::clone(senders.relay());
        senders.finish();
        assert_eq!(receive(&a), "c:1|c\n", "at the end");
        assert_eq!(relay.targets()[1].counters.packets.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_dead_target_costs_its_own_lines_only() {
        let (alive, dead) = (socket(), socket());
        let senders = start(&[&alive, &dead], None);
        drop(dead);
        for n in 0..50 {
            senders.relay().take(format!("a:{n}|c").as_bytes());
        }
        senders.relay().flush();
        for n in 0..50 {
            assert_eq!(receive(&alive), format!("a:{n}|c\n"));
        }
        let relay = Arc::clone(senders.relay());
        senders.finish();
        let given_up = |n: usize| {
            let counters = &relay.targets()[n].counters;
            [&counters.refused, &counters.send_failed, &counters.queue_full]
                .map(|c| c.load(Ordering::Relaxed))
        };
        assert_eq!(given_up(0), [0, 0, 0]);
        // Each refusal is learned with the next packet; that of the last one by nobody.
        assert_eq!(given_up(1), [49, 0, 0]);
    }

    #[test]
    fn a_full_queue_takes_no_more_and_counts() {
        let target = socket();
        let relay = Relay {
            targets: vec![Arc::new(RelayTarget { name: "t".to_owned(), counters: RelayCounters::default() })],
            filling: Mutex::new(Filling { packer: Packer::new(None), queues: Vec::new() }),
        };
        let (queue, end) = sync_channel(2);
        relay.filling.lock().queues.push(queue);
        for _ in 0..5 {
            relay.take(b"a:1|c\nb:1|c");
        }
        relay.flush();
        let counters = &relay.targets()[0].counters;
        assert_eq!(
            (counters.lines.load(Ordering::Relaxed), counters.queue_full.load(Ordering::Relaxed)),
            (10, 8)
        );
        assert_eq!(end.try_iter().count(), 2);
        drop(target);
    }

    #[test]
    fn a_relay_to_oneself_is_refused() {
        let own = socket().local_addr().unwrap();
        let config =
            config::Relay { targets: vec![own.to_string().parse().unwrap()], packet_bytes_max: None };
        for bound in [
            own,
            SocketAddr::from(([0, 0, 0, 0], own.port())),
            format!("[::]:{}", own.port()).parse().unwrap(),
        ] {
            assert!(RelaySenders::start(&config, &[bound]).is_err(), "{bound}");
        }
        let other = SocketAddr::from(([127, 0, 0, 1], own.port() ^ 1));
        RelaySenders::start(&config, &[other]).unwrap().unwrap().finish();
    }
}
