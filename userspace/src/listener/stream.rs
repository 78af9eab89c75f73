//! Connections, TCP or Unix -> batches of complete lines.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::framing::{Framing, LINE_BYTES_MAX};
use super::{Intake, LocalAddress, tcp};
use crate::clock::Timestamp;
use crate::datagram::{Datagram, Source, Transport};
use crate::shutdown::Stop;

/// Connections of one listener at a time, descriptors permitting: each worker of a node's pods may
/// hold one.
pub const CONNECTIONS_MAX: usize = 10_240;
/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// Reads per connection for what was received before the shutdown: 4 MiB, which is more than a
/// receive window holds by default.
const LAST_READS_MAX: usize = 64;
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What the listener has seen since it was bound.
#[derive(Debug, Default)]
pub struct StreamCounters {
    /// Connections accepted, those refused included.
    pub connections: AtomicU64,
    /// Connections that ended by a read error.
    pub connection_errors: AtomicU64,
    /// Lines of more than 4096 bytes with their terminator; skipped.
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

/// A socket that listens.
#[derive(Debug)]
pub struct StreamListener {
    acceptor: Acceptor,
    local_address: LocalAddress,
    counters: Arc<StreamCounters>,
    connections_max: usize,
}

#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    async fn accept(&self) -> io::Result<(Stream, Source)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                Ok((Stream::Tcp(stream), Source::Address(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                // 0 where the process has no number here.
                let process = stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok());
                let source =
                    process.filter(|process| *process != 0).map_or(Source::Nameless, Source::Process);
                Ok((Stream::Unix(stream), source))
            }
        }
    }

    const fn transport(&self) -> Transport {
        match self {
            Self::Tcp(_) => Transport::Tcp,
            Self::Unix(_) => Transport::Unix,
        }
    }
}

impl StreamListener {
    pub(super) fn new(acceptor: Acceptor, local_address: LocalAddress) -> Self {
        Self { acceptor, local_address, counters: Arc::default(), connections_max: CONNECTIONS_MAX }
    }

    /// The same listener with another bound on its connections.
    #[must_use]
    pub fn with_connections_max(self, connections_max: usize) -> Self {
        Self { connections_max, ..self }
    }

    /// The address with the port that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> &LocalAddress {
        &self.local_address
    }

    #[must_use]
    pub fn transport(&self) -> Transport {
        self.acceptor.transport()
    }

    #[must_use]
    pub fn counters(&self) -> &Arc<StreamCounters> {
        &self.counters
    }

    /// Serves connections until `stop`, then hands on what has been received, and returns.
    pub async fn serve(self, intake: Arc<dyn Intake>, mut stop: Stop) {
        let mut connections = JoinSet::new();
        let transport = self.transport().name();
        let mut backoff = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.requested() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.acceptor.accept() => accepted,
            };
            match accepted {
                Ok((stream, source)) => {
                    if backoff.take().is_some() {
                        info!(transport, address = %self.local_address, "accepting connections again");
                    }
                    self.admit(&mut connections, stream, source, &intake, &stop);
                }
                Err(error) => {
                    self.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
                    if backoff.is_none() {
                        warn!(transport, address = %self.local_address, %error, "accepting a connection failed; trying on");
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
            let Some(Ok((stream, source))) = self.acceptor.accept().now_or_never() else { break };
            self.admit(&mut connections, stream, source, &intake, &stop);
        }
        while connections.join_next().await.is_some() {}
    }

    fn admit(
        &self,
        connections: &mut JoinSet<()>,
        stream: Stream,
        source: Source,
        intake: &Arc<dyn Intake>,
        stop: &Stop,
    ) {
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        if connections.len() >= self.connections_max {
            if self.counters.connections_refused.fetch_add(1, Ordering::Relaxed) == 0 {
                warn!(
                    transport = self.transport().name(),
                    connections_max = self.connections_max,
                    "refusing connections; further ones are counted only"
                );
            }
            return;
        }
        if let Stream::Tcp(stream) = &stream {
            tcp::keep_alive(stream);
        }
        let connection = Connection {
            stream,
            source,
            transport: self.transport(),
            framing: Framing::default(),
            intake: Arc::clone(intake),
            counters: Arc::clone(&self.counters),
        };
        connections.spawn(connection.serve(stop.clone()));
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
        }
    }
}

struct Connection {
    stream: Stream,
    source: Source,
    transport: Transport,
    framing: Framing,
    intake: Arc<dyn Intake>,
    counters: Arc<StreamCounters>,
}

/// How a read left the connection.
enum After {
    Open,
    /// Nothing was there to read.
    Waiting,
    /// The peer has closed its side, or the connection broke: the begun line is all there is.
    Ended,
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
                self.hand_on(lines);
            }
            if framed.too_long > 0 {
                self.counters.too_long_lines.fetch_add(framed.too_long, Ordering::Relaxed);
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
                After::Waiting => break,
            }
        }
        // The peer did not end the line: `a:12|c` may be the beginning of `a:123|c`.
        if self.framing.finish().is_some() {
            self.counters.lines_cut_by_shutdown.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The peer has ended the stream, and with it the line that it had begun.
    fn finish(mut self) {
        if let Some(line) = std::mem::take(&mut self.framing).finish() {
            self.hand_on(&line);
        }
    }

    fn hand_on(&self, lines: &[u8]) {
        self.counters.datagrams.fetch_add(1, Ordering::Relaxed);
        let (received, source, transport) = (Timestamp::now(), self.source, self.transport);
        self.intake.ingest(&[Datagram { payload: lines, received, source, transport }]);
    }
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
                assert_eq!(datagram.source.ip().is_some(), datagram.transport == Transport::Tcp);
                let text = String::from_utf8_lossy(datagram.payload);
                self.0.lock().extend(text.split('\n').map(str::to_owned));
            }
        }
    }

    struct Served {
        address: SocketAddr,
        lines: Arc<Lines>,
        counters: Arc<StreamCounters>,
        trigger: Trigger,
        task: tokio::task::JoinHandle<()>,
    }

    fn serve(connections_max: usize) -> Served {
        let listener = tcp::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_address().inet().unwrap();
        let listener = listener.with_connections_max(connections_max);
        let counters = Arc::clone(listener.counters());
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
    async fn a_too_long_line_is_skipped_and_its_connection_lives_on() {
        let served = serve(10);
        let mut stream = served.connect().await;
        stream.write_all(&[b"a:1|c\n", b"x".repeat(100_000).as_slice()].concat()).await.unwrap();
        stream.write_all(b"xyz\nb:1|c\n\xff\xff\nc:1|c\n").await.unwrap();
        stream.write_all(&b"y".repeat(4096)).await.unwrap();
        closed(stream).await;
        assert_eq!(served.counters.too_long_lines.load(Ordering::Relaxed), 2);
        assert_eq!(served.counters.connection_errors.load(Ordering::Relaxed), 0);
        assert_eq!(served.stop().await, ["a:1|c", "b:1|c", "c:1|c", "\u{fffd}\u{fffd}"]);
    }

    #[tokio::test]
    async fn a_reset_is_counted_and_takes_only_its_connection() {
        let served = serve(10);
        let (mut good, mut bad) = (served.connect().await, served.connect().await);
        bad.write_all(b"a:1|c\n").await.unwrap();
        good.write_all(b"b:1|c\n").await.unwrap();
        while served.lines.0.lock().len() < 2 {
            tokio::task::yield_now().await;
        }
        bad.set_zero_linger().unwrap();
        drop(bad);
        while served.counters.connection_errors.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        good.write_all(b"c:1|c\n").await.unwrap();
        closed(good).await;
        assert_eq!(served.stop().await, ["a:1|c", "b:1|c", "c:1|c"]);
    }

    #[tokio::test]
    async fn a_unix_socket_is_read_like_tcp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let address = path.to_str().unwrap().parse().unwrap();
        let (listener, _file) = crate::listener::unix_stream::bind(&address, Some(0o700)).unwrap();
        let (trigger, stop) = shutdown::channel();
        let lines = Arc::new(Lines::default());
        let task = tokio::spawn(listener.serve(Arc::clone(&lines) as Arc<dyn Intake>, stop));
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"a:1|c\nno colon\n\nb:1|c\r\nc:1").await.unwrap();
        stream.write_all(b"|c").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        trigger.stop();
        task.await.unwrap();
        assert_eq!(*lines.0.lock(), ["a:1|c", "no colon", "", "b:1|c", "c:1|c"]);
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
