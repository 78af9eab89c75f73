//! UDP socket -> batches of datagrams.
//!
//! A plain thread waits for the socket, lets a batch gather for a moment, and takes it in one call.
//! A scrape does not wait for that thread: [`UdpListener::drain`] takes what is there from the
//! caller's thread. Both read and hand on under one lock, so each sender's order is kept.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use socket2::{Socket, Type};
use tracing::warn;

use super::receive::{BATCH, ReceiveBatch};
use super::socket;
use super::{Intake, ListenError};
use crate::clock::Timestamp;
use crate::config::HostPort;
use crate::datagram::{Datagram, Transport};

/// What we ask for where nobody says otherwise: some 40,000 datagrams of Airflow's size.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;
/// A drain ends after this many datagrams: more than the buffer above can hold of the smallest
/// (768 bytes each in the kernel's count), so only a sender who never pauses can reach it.
const DRAIN_DATAGRAMS_MAX: u64 = 65_536;
/// Longest time for which datagrams gather in the socket before the reader takes them.
const GATHER_MAX: Duration = Duration::from_millis(5);
/// Below this, waiting costs more than it saves.
const GATHER_MIN: Duration = Duration::from_millis(1);
const BACKOFF: Duration = Duration::from_millis(1);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Kinds of read error that are remembered as logged. Linux has 133.
const ERROR_KINDS_MAX: usize = 133;

/// What the listener has seen since it was bound.
#[derive(Debug, Default)]
pub struct UdpCounters {
    /// Datagrams read from the socket.
    pub datagrams: AtomicU64,
    /// Bytes of their payloads.
    pub bytes: AtomicU64,
    /// Reads that failed.
    pub read_errors: AtomicU64,
    /// The latest `SO_RXQ_OVFL` that came with a datagram, as it came: 32 bits, wraps, and includes
    /// what a socket filter took. [`UdpListener::kernel_drops`] is up to date without a datagram.
    pub queue_overflow: AtomicU64,
}

/// How the socket is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct UdpOptions {
    /// Size of the receive buffer as `--statsd.read-buffer` gives it; `None` asks for 16 MiB.
    pub receive_buffer_bytes: Option<u32>,
    /// Have the kernel stamp every datagram; otherwise a batch has the time at which it was read.
    pub timestamps: bool,
}

/// What a drain found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    pub datagrams: u64,
    /// The socket was seen empty; false only under a flood, or after a read error.
    pub empty: bool,
}

/// A bound UDP socket.
#[derive(Debug)]
pub struct UdpListener {
    socket: Socket,
    local_address: SocketAddr,
    receive_buffer_bytes: usize,
    counters: UdpCounters,
    /// Held while a batch is read and handed on.
    reading: Mutex<Reading>,
    /// Becomes readable when the reader is to end, and stays so.
    stop: OwnedFd,
    stopping: AtomicBool,
}

struct Reading {
    batch: ReceiveBatch,
    /// Error codes that were logged.
    logged: Vec<Option<i32>>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("logged", &self.logged).finish_non_exhaustive()
    }
}

impl UdpListener {
    /// Binds the socket. Datagrams queue in it from now on; nobody reads them yet.
    ///
    /// # Errors
    ///
    /// The address cannot be had, or the socket lacks an option that every Linux has.
    pub fn bind(address: &HostPort, options: UdpOptions) -> Result<Self, ListenError> {
        Self::try_bind(address, options).map_err(|error| ListenError {
            transport: "udp",
            flag: "statsd.listen-udp",
            address: address.to_string(),
            error,
        })
    }

    fn try_bind(address: &HostPort, options: UdpOptions) -> io::Result<Self> {
        let socket = socket::bind(address, Type::DGRAM)?;
        let receive_buffer_bytes = match options.receive_buffer_bytes {
            Some(bytes) => socket::set_receive_buffer(&socket, bytes as usize)?,
            None => socket::raise_receive_buffer(&socket, RECEIVE_BUFFER_BYTES)?,
        };
        socket::report_overflow(&socket)?;
        if options.timestamps {
            socket::report_timestamps(&socket)?;
        }
        let local_address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self {
            socket,
            local_address,
            receive_buffer_bytes,
            counters: UdpCounters::default(),
            reading: Mutex::new(Reading { batch: ReceiveBatch::new(), logged: Vec::new() }),
            stop: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            stopping: AtomicBool::new(false),
        })
    }

    /// Has the kernel stamp every datagram from now on.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says.
    pub fn stamp(&self) -> io::Result<()> {
        socket::report_timestamps(&self.socket)
    }

    /// The address with the port that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// What the kernel granted, in its own count: twice what was asked for, overhead included.
    #[must_use]
    pub fn receive_buffer_bytes(&self) -> usize {
        self.receive_buffer_bytes
    }

    #[must_use]
    pub fn counters(&self) -> &UdpCounters {
        &self.counters
    }

    /// Datagrams that the socket dropped since it was bound: its queue was full, or a socket filter
    /// took them. Wraps at 32 bits.
    ///
    /// # Errors
    ///
    /// The kernel is older than 4.12.
    pub fn kernel_drops(&self) -> io::Result<u32> {
        socket::drops(&self.socket)
    }

    /// Starts the thread that reads until the reader is stopped or dropped.
    ///
    /// # Errors
    ///
    /// No thread could be made.
    pub fn start(self: &Arc<Self>, intake: Arc<dyn Intake>) -> io::Result<UdpReader> {
        let listener = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("udp-reader".to_owned())
            .spawn(move || listener.read_until_stopped(&*intake))?;
        Ok(UdpReader { listener: Arc::clone(self), thread: Some(thread) })
    }

    /// Hands on everything that had arrived when this was called, then returns. Does not wait for
    /// more; 65,536 datagrams are the bound.
    ///
    /// The caller must hold no lock that `intake` takes.
    pub fn drain(&self, intake: &dyn Intake) -> Drained {
        let mut drained = Drained::default();
        while drained.datagrams < DRAIN_DATAGRAMS_MAX {
            match self.read_batch(intake) {
                Ok(0) => {
                    drained.empty = true;
                    break;
                }
                Ok(datagrams) => drained.datagrams += datagrams as u64,
                // Counted and logged; the next scrape or the reader comes back to it.
                Err(_) => break,
            }
        }
        drained
    }

    /// Reads one batch and hands it on; 0 where the socket is empty.
    fn read_batch(&self, intake: &dyn Intake) -> io::Result<usize> {
        let mut reading = self.reading.lock();
        let received = match reading.batch.receive(self.socket.as_fd()) {
            Ok(received) => received,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                self.note_error(&mut reading.logged, &e);
                return Err(e);
            }
        };
        let batch = &reading.batch;
        let clocks = Clocks::now();
        let empty =
            Datagram { payload: &[], received: clocks.monotonic, source: None, transport: Transport::Udp };
        let mut datagrams = [empty; BATCH];
        let mut bytes = 0;
        for (index, datagram) in datagrams.iter_mut().enumerate().take(received) {
            let control = batch.control(index);
            datagram.payload = batch.payload(index);
            datagram.source = batch.source(index);
            datagram.received = control.arrived.map_or(clocks.monotonic, |at| clocks.to_monotonic(at));
            bytes += datagram.payload.len() as u64;
            if let Some(overflow) = control.overflow {
                self.counters.queue_overflow.store(u64::from(overflow), Ordering::Relaxed);
            }
        }
        self.counters.datagrams.fetch_add(received as u64, Ordering::Relaxed);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Still under the lock: whoever reads the next batch must not hand it on before this one.
        intake.ingest(&datagrams[..received]);
        Ok(received)
    }

    fn note_error(&self, logged: &mut Vec<Option<i32>>, error: &io::Error) {
        self.counters.read_errors.fetch_add(1, Ordering::Relaxed);
        let kind = error.raw_os_error();
        if !logged.contains(&kind) && logged.len() < ERROR_KINDS_MAX {
            logged.push(kind);
            warn!(address = %self.local_address, %error, "reading from UDP failed; going on, and counting further ones");
        }
    }

    fn read_until_stopped(&self, intake: &dyn Intake) {
        let gather = gather_time(self.receive_buffer_bytes);
        let mut backoff = BACKOFF;
        while !self.stopping.load(Ordering::Relaxed) {
            let outcome = self.wait_readable().and_then(|()| {
                // One wake-up then serves all that come within this time. A scrape does not notice.
                self.sleep(gather);
                self.read_until_empty(intake)
            });
            match outcome {
                Ok(()) => backoff = BACKOFF,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.sleep(backoff);
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    fn read_until_empty(&self, intake: &dyn Intake) -> io::Result<()> {
        // A short batch means that the socket was empty; `poll` finds out for less if it was not.
        loop {
            if self.read_batch(intake)? < BATCH || self.stopping.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    /// Waits, without limit, for a datagram or for the end.
    fn wait_readable(&self) -> io::Result<()> {
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.stop, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) => Ok(()),
            Err(e) => {
                let error = io::Error::from(e);
                if error.kind() != io::ErrorKind::Interrupted {
                    self.note_error(&mut self.reading.lock().logged, &error);
                }
                Err(error)
            }
        }
    }

    /// Sleeps, unless the end comes first.
    fn sleep(&self, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        let Ok(timeout) = Timespec::try_from(duration) else { return };
        // An error only makes the sleep shorter.
        let _ = poll(&mut [PollFd::new(&self.stop, PollFlags::IN)], Some(&timeout));
    }
}

impl AsRawFd for UdpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for UdpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The running reader thread of a [`UdpListener`].
#[derive(Debug)]
pub struct UdpReader {
    listener: Arc<UdpListener>,
    thread: Option<JoinHandle<()>>,
}

impl UdpReader {
    /// Ends the thread after its present batch. What is left in the socket waits for a last
    /// [`UdpListener::drain`].
    pub fn stop(self) {
        // The work is done by `drop`.
    }
}

impl Drop for UdpReader {
    fn drop(&mut self) {
        self.listener.stopping.store(true, Ordering::Relaxed);
        // Cannot block or fail: the counter of a fresh eventfd is far from its end.
        let _ = rustix::io::write(&self.listener.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by its own hook.
            let _ = thread.join();
        }
    }
}

/// Both clocks at one moment, to translate between them.
#[derive(Clone, Copy)]
struct Clocks {
    monotonic: Timestamp,
    /// Since 1970.
    realtime: Duration,
}

impl Clocks {
    /// Both clocks at one moment: a preemption between the two readings would shift every stamp of
    /// the batch, so a reading that took long is taken again, a few times.
    fn now() -> Self {
        let mut best = (Duration::MAX, Self { monotonic: Timestamp::now(), realtime: Duration::ZERO });
        for _ in 0..CLOCK_READINGS_MAX {
            let before = Timestamp::now();
            let realtime = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let monotonic = Timestamp::now();
            let took = monotonic.since(before);
            if took < best.0 {
                best = (took, Self { monotonic, realtime });
            }
            if took < CLOCK_READING_MAX {
                break;
            }
        }
        best.1
    }

    /// The monotonic time of a moment just past; never later than these clocks' own.
    fn to_monotonic(self, realtime: Duration) -> Timestamp {
        let age = self.realtime.saturating_sub(realtime);
        Timestamp(self.monotonic.0.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(0)))
    }
}

/// A reading of the clocks that took no longer is good enough to order datagrams by.
const CLOCK_READING_MAX: Duration = Duration::from_micros(5);
const CLOCK_READINGS_MAX: usize = 4;

/// How long datagrams may gather so that even a million a second fill at most half of the buffer.
/// Zero where it is small.
fn gather_time(receive_buffer_bytes: usize) -> Duration {
    const SMALLEST_DATAGRAM_BYTES: usize = 768;
    let microseconds = receive_buffer_bytes / SMALLEST_DATAGRAM_BYTES / 2;
    let gather = Duration::from_micros(microseconds as u64).min(GATHER_MAX);
    if gather < GATHER_MIN { Duration::ZERO } else { gather }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::UdpSocket;
    use std::time::Instant;

    use super::*;

    /// Keeps what it is given.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Copied>>);

    type Copied = (Vec<u8>, Option<SocketAddr>, Timestamp);

    impl Intake for Kept {
        fn ingest(&self, batch: &[Datagram<'_>]) {
            let copies = batch.iter().map(|d| (d.payload.to_vec(), d.source, d.received));
            self.0.lock().extend(copies);
        }
    }

    impl Kept {
        /// Waits until `count` datagrams have come, or fails after ten seconds.
        #[track_caller]
        fn wait_for(&self, count: usize) {
            let start = Instant::now();
            while self.0.lock().len() < count {
                assert!(start.elapsed() < Duration::from_secs(10), "{} of {count}", self.0.lock().len());
                std::thread::yield_now();
            }
        }
    }

    fn bind(address: &str, options: UdpOptions) -> Arc<UdpListener> {
        Arc::new(UdpListener::bind(&address.parse().unwrap(), options).unwrap())
    }

    fn sender(listener: &UdpListener) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", listener.local_address().port())).unwrap();
        socket
    }

    #[test]
    fn a_burst_of_20000_arrives_complete() {
        let listener = bind("127.0.0.1:0", UdpOptions::default());
        // Without CAP_NET_ADMIN and with a small rmem_max the buffer cannot hold it.
        let enlarged = listener.receive_buffer_bytes() >= 2 * RECEIVE_BUFFER_BYTES;
        let kept = Arc::new(Kept::default());
        let socket = sender(&listener);
        let send = |from: u32, to: u32| {
            for n in from..to {
                socket.send(format!("airflow.ti_successes:{n}|c").as_bytes()).unwrap();
            }
        };
        // Half of it before anybody reads, the other half while the reader and a drain compete.
        send(0, 10_000);
        let reader = listener.start(Arc::clone(&kept) as Arc<dyn Intake>).unwrap();
        send(10_000, 15_000);
        listener.drain(&*kept);
        send(15_000, 20_000);
        if enlarged {
            kept.wait_for(20_000);
            assert_eq!(listener.kernel_drops().unwrap(), 0);
        }
        reader.stop();
        assert!(listener.drain(&*kept).empty);
        let kept = kept.0.lock();
        let numbers: Vec<u32> = kept
            .iter()
            .map(|(payload, ..)| {
                let text = std::str::from_utf8(payload).unwrap();
                text.split([':', '|']).nth(1).unwrap().parse().unwrap()
            })
            .collect();
        assert!(numbers.is_sorted(), "the order of one sender is kept");
        assert_eq!(listener.counters().datagrams.load(Ordering::Relaxed), numbers.len() as u64);
        let bytes: usize = kept.iter().map(|(payload, ..)| payload.len()).sum();
        assert_eq!(listener.counters().bytes.load(Ordering::Relaxed), bytes as u64);
    }

    #[test]
    fn the_largest_datagram_arrives_whole() {
        let listener = bind("127.0.0.1:0", UdpOptions::default());
        let socket = sender(&listener);
        let largest: Vec<u8> = (0..65_507_u32).map(|n| (n % 251) as u8).collect();
        socket.send(&largest).unwrap();
        socket.send(b"").unwrap();
        let kept = Kept::default();
        assert_eq!(listener.drain(&kept), Drained { datagrams: 2, empty: true });
        let kept = kept.0.lock();
        assert_eq!(kept[0].0, largest);
        assert_eq!(kept[0].1, Some(socket.local_addr().unwrap()));
        assert_eq!(kept[1].0, b"");
    }

    #[test]
    fn a_wildcard_takes_both_families() {
        let listener = bind(":0", UdpOptions::default());
        let socket = sender(&listener);
        socket.send(b"four:1|c").unwrap();
        let mut wanted = HashMap::from([(b"four:1|c".to_vec(), socket.local_addr().unwrap())]);
        if let Ok(socket) = UdpSocket::bind("[::1]:0") {
            assert!(listener.local_address().is_ipv6());
            socket.send_to(b"six:1|c", ("::1", listener.local_address().port())).unwrap();
            wanted.insert(b"six:1|c".to_vec(), socket.local_addr().unwrap());
        }
        let kept = Kept::default();
        listener.drain(&kept);
        let got =
            kept.0.lock().iter().map(|(payload, source, _)| (payload.clone(), source.unwrap())).collect();
        assert_eq!(wanted, got);
    }

    #[test]
    fn a_full_queue_is_reported() {
        let listener =
            bind("127.0.0.1:0", UdpOptions { receive_buffer_bytes: Some(4096), ..UdpOptions::default() });
        let socket = sender(&listener);
        for _ in 0..1000 {
            socket.send(b"a:1|c").unwrap();
        }
        let kept = Kept::default();
        let read = listener.drain(&kept).datagrams;
        assert_eq!(u64::from(listener.kernel_drops().unwrap()), 1000 - read);
        // The control message tells the count when the datagram was queued; one more brings the last.
        socket.send(b"a:1|c").unwrap();
        listener.drain(&kept);
        assert_eq!(listener.counters().queue_overflow.load(Ordering::Relaxed), 1000 - read);
    }

    #[test]
    fn a_stamped_datagram_has_its_time_of_arrival() {
        let listener = bind("127.0.0.1:0", UdpOptions { timestamps: true, ..UdpOptions::default() });
        let socket = sender(&listener);
        let before = Timestamp::now();
        socket.send(b"a:1|c").unwrap();
        let after = Timestamp::now();
        let kept = Kept::default();
        // Loopback delivers within `send`; reading later must not move the stamp. The kernel's
        // realtime clock and ours are read some microseconds apart.
        while Timestamp::now() < after.after(Duration::from_millis(20)) {}
        listener.drain(&kept);
        let stamp = kept.0.lock()[0].2;
        let slack = Duration::from_millis(5);
        assert!(stamp.after(slack) >= before && stamp <= after.after(slack));
    }

    #[test]
    fn an_idle_reader_stops_at_once() {
        let listener = bind("127.0.0.1:0", UdpOptions::default());
        let reader = listener.start(Arc::new(Kept::default())).unwrap();
        let start = Instant::now();
        reader.stop();
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_taken_port_is_refused() {
        let first = bind("127.0.0.1:0", UdpOptions::default());
        let address = first.local_address().to_string().parse().unwrap();
        let error = UdpListener::bind(&address, UdpOptions::default()).unwrap_err();
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_small_buffer_leaves_no_time_to_gather() {
        assert_eq!(gather_time(212_992), Duration::ZERO);
        assert_eq!(gather_time(2 << 20), Duration::from_micros(1365));
        assert_eq!(gather_time(32 << 20), GATHER_MAX);
    }
}
