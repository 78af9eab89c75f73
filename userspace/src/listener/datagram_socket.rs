//! Bound datagram socket -> batches of datagrams.
//!
//! A plain thread waits for the socket, lets a batch gather for a moment, and takes it in one call.
//! A scrape does not wait for that thread: [`DatagramSocket::drain`] takes what is there from the
//! caller's thread. Both read and hand on under one lock, so each sender's order is kept.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memchr::memrchr;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use socket2::Socket;
use tracing::warn;

use super::receive::{BATCH, ReceiveBatch};
use super::socket;
use super::{Intake, LocalAddress};
use crate::clock::Timestamp;
use crate::datagram::{Datagram, Source, Transport};
use crate::scheduling;

/// A drain ends after this many datagrams: more than a buffer of 16 MiB can hold of the
/// smallest (768 bytes each in the kernel's count), so only a sender who never pauses can reach it.
const DRAIN_DATAGRAMS_MAX: u64 = 65_536;
const BACKOFF: Duration = Duration::from_millis(1);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Kinds of read error that are remembered as logged. Linux has 133.
const ERROR_KINDS_MAX: usize = 133;

/// What the listener has seen since it was bound.
#[derive(Debug, Default)]
pub struct DatagramCounters {
    /// Datagrams read from the socket.
    pub datagrams: AtomicU64,
    /// Bytes of their payloads.
    pub bytes: AtomicU64,
    /// Datagrams that were longer than any buffer of ours; the line that the cut went through is gone.
    pub cut: AtomicU64,
    /// Reads that failed.
    pub read_errors: AtomicU64,
    /// The latest `SO_RXQ_OVFL` that came with a datagram, as it came: 32 bits, wraps, and includes
    /// what a socket filter took. [`DatagramSocket::kernel_drops`] is up to date without a datagram.
    pub queue_overflow: AtomicU64,
}

/// What a drain found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    pub datagrams: u64,
    /// The socket was seen empty; false only under a flood, or after a read error.
    pub empty: bool,
}

/// A bound UDP or Unix datagram socket.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Socket,
    transport: Transport,
    local_address: LocalAddress,
    receive_buffer_bytes: usize,
    /// What a socket of systemd's had dropped for our predecessors.
    drops_before: u32,
    /// How long datagrams may gather before the reader takes them.
    gather: Duration,
    counters: DatagramCounters,
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

impl DatagramSocket {
    /// A socket that is bound and does not block. Datagrams queue in it; nobody reads them yet.
    pub(super) fn new(
        socket: Socket,
        transport: Transport,
        local_address: LocalAddress,
        gather: Duration,
    ) -> io::Result<Self> {
        Ok(Self {
            receive_buffer_bytes: socket.recv_buffer_size()?,
            drops_before: socket::drops(&socket).unwrap_or(0),
            socket,
            transport,
            local_address,
            gather,
            counters: DatagramCounters::default(),
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

    /// Has the kernel say from now on which process sent a datagram; Unix sockets only.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says.
    pub fn report_processes(&self) -> io::Result<()> {
        socket::report_credentials(&self.socket)
    }

    /// The address with the port that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> &LocalAddress {
        &self.local_address
    }

    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// What the kernel granted, in its own count: twice what was asked for, overhead included.
    #[must_use]
    pub fn receive_buffer_bytes(&self) -> usize {
        self.receive_buffer_bytes
    }

    #[must_use]
    pub fn counters(&self) -> &DatagramCounters {
        &self.counters
    }

    /// Datagrams that the socket dropped since it is ours: its queue was full, or a socket filter
    /// took them. Wraps at 32 bits.
    ///
    /// # Errors
    ///
    /// The kernel is older than 4.12.
    pub fn kernel_drops(&self) -> io::Result<u32> {
        Ok(socket::drops(&self.socket)?.wrapping_sub(self.drops_before))
    }

    /// Starts the thread that reads until the reader is stopped or dropped.
    ///
    /// # Errors
    ///
    /// No thread could be made.
    pub fn start(self: &Arc<Self>, intake: Arc<dyn Intake>) -> io::Result<DatagramReader> {
        let listener = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name(format!("{}-reader", self.transport.name()))
            .spawn(move || listener.read_until_stopped(&*intake))?;
        Ok(DatagramReader { listener: Arc::clone(self), thread: Some(thread) })
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
        let empty = Datagram {
            payload: &[],
            received: clocks.monotonic,
            source: Source::Nameless,
            transport: self.transport,
        };
        let mut datagrams = [empty; BATCH];
        let mut bytes = 0;
        for (index, datagram) in datagrams.iter_mut().enumerate().take(received) {
            let control = batch.control(index);
            datagram.payload = batch.payload(index);
            if batch.was_cut(index) {
                self.counters.cut.fetch_add(1, Ordering::Relaxed);
                // `a:12|c` may be the beginning of `a:123|c`.
                let whole = memrchr(b'\n', datagram.payload).unwrap_or(0);
                datagram.payload = &datagram.payload[..whole];
            }
            datagram.source = match control.process {
                Some(process) => Source::Process(process),
                None => batch.source(index).into(),
            };
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
            let transport = self.transport.name();
            warn!(transport, address = %self.local_address, %error, "reading datagrams failed; going on, and counting further ones");
        }
    }

    fn read_until_stopped(&self, intake: &dyn Intake) {
        scheduling::prefer_short_slices();
        let mut backoff = BACKOFF;
        while !self.stopping.load(Ordering::Relaxed) {
            let outcome = self.wait_readable().and_then(|()| {
                // One wake-up then serves all that come within this time. A scrape does not notice.
                self.sleep(self.gather);
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

impl AsRawFd for DatagramSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The running reader thread of a [`DatagramSocket`].
#[derive(Debug)]
pub struct DatagramReader {
    listener: Arc<DatagramSocket>,
    thread: Option<JoinHandle<()>>,
}

impl DatagramReader {
    /// Ends the thread after its present batch. What is left in the socket waits for a last
    /// [`DatagramSocket::drain`].
    pub fn stop(self) {
        // The work is done by `drop`.
    }
}

impl Drop for DatagramReader {
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
