//! TCP connections -> batches of complete lines.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use socket2::{SockRef, TcpKeepalive, Type};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::framing::{Framing, LINE_BYTES_MAX};
use super::{Intake, ListenError, socket};
use crate::clock::Timestamp;
use crate::config::HostPort;
use crate::datagram::{Datagram, Transport};
use crate::shutdown::Stop;

/// Connections at a time unless told otherwise: each worker of a node's pods may hold one.
pub const CONNECTIONS_MAX: usize = 10_240;
/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// Reads per connection for what was received before the shutdown: 4 MiB, which is more than a
/// receive window holds by default.
const LAST_READS_MAX: usize = 64;
/// A peer that vanished without a word is found out in two minutes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What the listener has seen since it was bound.
#[derive(Debug, Default)]
pub struct TcpCounters {
    /// Connections accepted, those refused included.
    pub connections: AtomicU64,
    /// Connections that ended by a read error.
    pub connection_errors: AtomicU64,
    /// Connections closed because of a line of more than 4096 bytes with its terminator.
    pub too_long_lines: AtomicU64,
    /// Connections closed at once because as many as allowed were open.
    pub connections_refused: AtomicU64,
    /// Connections that could not be accepted: out of descriptors or memory.
    pub accept_errors: AtomicU64,
    /// Begun lines that were given up because the daemon stopped.
    pub lines_cut_by_shutdown: AtomicU64,
    /// Reads that gave at least one line; each was one datagram to the intake.
    pub datagrams: AtomicU64,
    /// Bytes read.
    pub bytes: AtomicU64,
}

/// A bound TCP socket.
#[derive(Debug)]
pub struct TcpListener {
    listener: tokio::net::TcpListener,
    local_address: SocketAddr,
    counters: Arc<TcpCounters>,
    connections_max: usize,
}

impl TcpListener {
    /// Binds the socket; needs a runtime around it. Connections queue from now on.
    ///
    /// # Errors
    ///
    /// The address cannot be had.
    pub fn bind(address: &HostPort, connections_max: usize) -> Result<Self, ListenError> {
        let bound = || {
            let socket = socket::bind(address, Type::STREAM)?;
            let listener = tokio::net::TcpListener::from_std(socket.into())?;
            let local_address = listener.local_addr()?;
            Ok((listener, local_address))
        };
        let (listener, local_address) = bound().map_err(|error| ListenError {
            transport: "tcp",
            flag: "statsd.listen-tcp",
            address: address.to_string(),
            error,
        })?;
        Ok(Self { listener, local_address, counters: Arc::default(), connections_max })
    }

    /// The address with the port that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    #[must_use]
    pub fn counters(&self) -> &Arc<TcpCounters> {
        &self.counters
    }

    /// Serves connections until `stop`, then hands on what has been received, and returns.
    pub async fn serve(self, intake: Arc<dyn Intake>, mut stop: Stop) {
        let mut connections = JoinSet::new();
        let mut backoff = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.requested() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if backoff.take().is_some() {
                        info!(address = %self.local_address, "accepting TCP connections again");
                    }
                    self.admit(&mut connections, stream, peer, &intake, &stop);
                }
                Err(error) => {
                    self.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
                    if backoff.is_none() {
                        warn!(address = %self.local_address, %error, "accepting a TCP connection failed; trying on");
                    }
                    let pause = backoff.map_or(BACKOFF, |last: Duration| (last * 2).min(BACKOFF_MAX));
                    backoff = Some(pause);
                    // Out of descriptors, the pending connection would be reported over and over.
                    tokio::select! {
                        () = stop.requested() => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
        // What the kernel has accepted for us may have lines waiting already.
        for _ in 0..self.connections_max {
            let Some(Ok((stream, peer))) = self.listener.accept().now_or_never() else { break };
            self.admit(&mut connections, stream, peer, &intake, &stop);
        }
        while connections.join_next().await.is_some() {}
    }

    fn admit(
        &self,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        peer: SocketAddr,
        intake: &Arc<dyn Intake>,
        stop: &Stop,
    ) {
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        if connections.len() >= self.connections_max {
            if self.counters.connections_refused.fetch_add(1, Ordering::Relaxed) == 0 {
                warn!(
                    connections_max = self.connections_max,
                    "refusing TCP connections; further ones are counted only"
                );
            }
            return;
        }
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        // Without it a vanished peer only costs its place for longer.
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let connection = Connection {
            stream,
            source: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            framing: Framing::default(),
            intake: Arc::clone(intake),
            counters: Arc::clone(&self.counters),
        };
        connections.spawn(connection.serve(stop.clone()));
    }
}

struct Connection {
    stream: TcpStream,
    source: SocketAddr,
    framing: Framing,
    intake: Arc<dyn Intake>,
    counters: Arc<TcpCounters>,
}

/// How a read left the connection.
enum After {
    Open,
    /// Nothing was there to read.
    Waiting,
    /// The peer has closed its side, or the connection broke: the begun line is all there is.
    Ended,
    /// The rest of the stream is of no use.
    GivenUp,
}

thread_local! {
    /// Where reads go, one buffer per worker thread and not per connection: between two reads a
    /// connection keeps only the line that it has begun.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LINE_BYTES_MAX + READ_BYTES]);
}

impl Connection {
    async fn serve(mut self, mut stop: Stop) {
        loop {
            let readable = tokio::select! {
                biased;
                () = stop.requested() => return self.read_last(),
                readable = self.stream.readable() => readable,
            };
            let after = match readable {
                Ok(()) => self.read(),
                Err(_) => After::Ended,
            };
            match after {
                After::Open | After::Waiting => {}
                After::Ended => return self.finish(),
                After::GivenUp => return,
            }
            // A peer that never pauses shares the thread with the others.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Reads once, and hands the lines on that this completed.
    fn read(&mut self) -> After {
        BUFFER.with_borrow_mut(|buffer| {
            let begun = self.framing.resume(buffer);
            let received = match self.stream.try_read(&mut buffer[begun..]) {
                Ok(0) => return After::Ended,
                Ok(received) => received,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    return After::Waiting;
                }
                Err(_) => {
                    self.counters.connection_errors.fetch_add(1, Ordering::Relaxed);
                    return After::Ended;
                }
            };
            self.counters.bytes.fetch_add(received as u64, Ordering::Relaxed);
            let framed = self.framing.frame(&mut buffer[..begun + received]);
            if let Some(lines) = framed.lines {
                hand_on(&*self.intake, &self.counters, lines, self.source);
            }
            if framed.too_long {
                self.counters.too_long_lines.fetch_add(1, Ordering::Relaxed);
                return After::GivenUp;
            }
            After::Open
        })
    }

    /// Takes what the kernel holds already, then closes.
    fn read_last(mut self) {
        for _ in 0..LAST_READS_MAX {
            match self.read() {
                After::Open => {}
                After::Ended => return self.finish(),
                After::GivenUp => return,
                After::Waiting => break,
            }
        }
        // The peer did not end the line: `a:12|c` may be the beginning of `a:123|c`.
        if self.framing.finish().is_some() {
            self.counters.lines_cut_by_shutdown.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The peer has ended the stream, and with it the line that it had begun.
    fn finish(self) {
        if let Some(line) = self.framing.finish() {
            hand_on(&*self.intake, &self.counters, &line, self.source);
        }
    }
}

fn hand_on(intake: &dyn Intake, counters: &TcpCounters, lines: &[u8], source: SocketAddr) {
    counters.datagrams.fetch_add(1, Ordering::Relaxed);
    let received = Timestamp::now();
    intake.ingest(&[Datagram { payload: lines, received, source: Some(source), transport: Transport::Tcp }]);
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::shutdown::{self, Trigger};

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Intake for Lines {
        fn ingest(&self, batch: &[Datagram<'_>]) {
            for datagram in batch {
                assert_eq!(datagram.transport, Transport::Tcp);
                assert!(datagram.source.is_some());
                let text = std::str::from_utf8(datagram.payload).unwrap();
                self.0.lock().extend(text.split('\n').map(str::to_owned));
            }
        }
    }

    struct Served {
        address: SocketAddr,
        lines: Arc<Lines>,
        counters: Arc<TcpCounters>,
        trigger: Trigger,
        task: tokio::task::JoinHandle<()>,
    }

    fn serve(connections_max: usize) -> Served {
        let listener = TcpListener::bind(&"127.0.0.1:0".parse().unwrap(), connections_max).unwrap();
        let (address, counters) = (listener.local_address(), Arc::clone(listener.counters()));
        let (trigger, stop) = shutdown::channel();
        let lines = Arc::new(Lines::default());
        let task = tokio::spawn(listener.serve(Arc::clone(&lines) as Arc<dyn Intake>, stop));
        Served { address, lines, counters, trigger, task }
    }

    impl Served {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// Stops, and returns all lines in ascending order.
        async fn stop(self) -> Vec<String> {
            self.trigger.stop();
            tokio::time::timeout(Duration::from_secs(10), self.task).await.unwrap().unwrap();
            let mut lines = std::mem::take(&mut *self.lines.0.lock());
            lines.sort_unstable();
            lines
        }
    }

    /// Waits until the other side has closed.
    async fn closed(mut stream: TcpStream) {
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        // A reset is a close, too: unread bytes were thrown away.
        let _ = read.expect("the listener closes");
    }

    #[tokio::test]
    async fn a_half_line_at_the_end_of_a_connection_counts() {
        let served = serve(10);
        let mut stream = served.connect().await;
        stream.write_all(b"a:1|c\r\nb:2|c\nc:3").await.unwrap();
        stream.write_all(b"|c").await.unwrap();
        closed(stream).await;
        assert_eq!(served.counters.connection_errors.load(Ordering::Relaxed), 0);
        assert_eq!(served.stop().await, ["a:1|c", "b:2|c", "c:3|c"]);
    }

    #[tokio::test]
    async fn a_too_long_line_closes_its_connection_only() {
        let served = serve(10);
        let mut good = served.connect().await;
        good.write_all(b"g:1|c\n").await.unwrap();
        let mut bad = served.connect().await;
        bad.write_all(&[b"a:1|c\n", b"x".repeat(4096).as_slice()].concat()).await.unwrap();
        closed(bad).await;
        good.write_all(b"g:2|c\n").await.unwrap();
        closed(good).await;
        assert_eq!(served.counters.too_long_lines.load(Ordering::Relaxed), 1);
        assert_eq!(served.counters.connections.load(Ordering::Relaxed), 2);
        assert_eq!(served.stop().await, ["a:1|c", "g:1|c", "g:2|c"]);
    }

    #[tokio::test]
    async fn a_shutdown_takes_what_was_received_but_no_half_line() {
        let served = serve(10);
        let mut stream = served.connect().await;
        stream.write_all(b"a:1|c\nb:2|c\nc:12").await.unwrap();
        let counters = Arc::clone(&served.counters);
        // On this one thread the connection was not even accepted yet.
        assert_eq!(served.stop().await, ["a:1|c", "b:2|c"]);
        assert_eq!(counters.lines_cut_by_shutdown.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn connections_are_bounded() {
        let served = serve(2);
        let (first, second) = (served.connect().await, served.connect().await);
        closed(served.connect().await).await;
        assert_eq!(served.counters.connections_refused.load(Ordering::Relaxed), 1);
        closed(first).await;
        let mut third = served.connect().await;
        third.write_all(b"a:1|c\n").await.unwrap();
        closed(third).await;
        drop(second);
        assert_eq!(served.counters.connections_refused.load(Ordering::Relaxed), 1);
        assert_eq!(served.stop().await, ["a:1|c"]);
    }

    #[tokio::test]
    async fn megabytes_in_uneven_pieces_arrive_in_order() {
        let served = serve(10);
        let mut stream = served.connect().await;
        let text: String = (0..100_000).map(|n| format!("airflow.n:{n:06}|c\n")).collect();
        for piece in text.as_bytes().chunks(7919) {
            stream.write_all(piece).await.unwrap();
        }
        closed(stream).await;
        let lines = std::mem::take(&mut *served.lines.0.lock());
        assert_eq!(lines.len(), 100_000);
        assert!(lines.is_sorted());
        served.stop().await;
    }
}
