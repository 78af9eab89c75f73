//! Copies of datagrams -> lines of JSON for each who follows.
//!
//! One thread for all of them, there only while somebody follows. What one cannot take is counted and
//! left out; nobody waits for anybody, and ingestion for none of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::body::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

use super::filter::Filter;
use super::tap::Batch;
use crate::clock::{Timestamp, WallClock};
use crate::datagram::{Datagram, Source as Sent};
use crate::line::lines;

/// How many may follow at a time.
pub const TAILS_MAX: usize = 4;
/// How often copies are fetched.
const FETCH_INTERVAL: Duration = Duration::from_millis(50);
/// How often each one is told what it does not see.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Pieces that wait for one that reads slowly, each of this size at most, or one datagram more.
const PIECES_MAX: usize = 32;
const PIECE_BYTES_MAX: usize = 64 << 10;
/// Lines whose series are remembered; to map one costs some hundred microseconds.
const MAPPED_MAX: usize = 4096;
/// Of a fetch, so that the thread never works for longer than it rests.
const MAPPED_AT_ONCE: usize = 100;

/// What somebody wants to follow.
#[derive(Clone, Debug)]
pub struct Request {
    pub filter: Filter,
    /// Whole datagrams instead of lines.
    pub datagrams: bool,
    /// With each line, the series that take it.
    pub mapped: bool,
    /// Nothing is to be counted in the kernel meanwhile, so that all lines are seen.
    pub whole: bool,
}

/// A line that arrived.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Seconds since 1970.
    pub t: f64,
    /// Address of the sender, or its process; empty where there is neither.
    pub from: String,
    pub via: String,
    /// What is no UTF-8 is replaced.
    pub line: String,
    /// `type name{labels}`; `None` if nobody asked, or too many did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Vec<String>>,
}

/// A datagram, in the form of a capture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Captured {
    /// Seconds since the capture began.
    pub t: f64,
    /// Port of the sender; 0 where there is none.
    pub p: u16,
    /// Its address; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s: Option<std::net::IpAddr>,
    /// The payload, base64.
    pub b: String,
}

impl Captured {
    #[must_use]
    pub fn new(payload: &[u8], source: Sent, since: Duration) -> Self {
        Self {
            t: (since.as_secs_f64() * 1e6).round() / 1e6,
            p: if let Sent::Address(address) = source { address.port() } else { 0 },
            s: source.ip(),
            b: BASE64_STANDARD.encode(payload),
        }
    }
}

/// What one who follows does not see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Lines or datagrams that were sent.
    pub shown: u64,
    /// Datagrams that were left out, because there were too many.
    pub skipped: u64,
    /// Lines that were counted in the kernel meanwhile, and are not seen.
    pub in_kernel: u64,
}

/// What the thread needs of the daemon.
pub trait Source: Send + Sync + 'static {
    /// Fetches copies; the tap stays open or is shut.
    fn fetch(&self, batch: &mut Batch, open: bool);
    /// Lines that were counted in the kernel, ever.
    fn kernel_lines(&self) -> u64;
    /// Whether all datagrams must come whole from now on.
    fn come_whole(&self, whole: bool);
    /// The series that a line goes to, as the rules are now.
    fn series(&self, line: &[u8]) -> Vec<String>;
}

/// Everybody who follows.
#[derive(Default)]
pub struct Tails {
    tails: Mutex<Vec<Tail>>,
    /// The thread is there.
    running: AtomicBool,
    closed: AtomicBool,
}

struct Tail {
    request: Request,
    sender: Sender<Bytes>,
    piece: Vec<u8>,
    /// Lines in the piece.
    waiting: u64,
    status: Status,
    kernel_lines_before: u64,
    began: Option<Timestamp>,
}

/// Why nobody more may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{TAILS_MAX} follow already; wait until one of them ends")]
    TooMany,
    #[error("the daemon ends")]
    Closed,
    #[error("no thread can be had")]
    NoThread,
}

impl Tails {
    /// Follows what `request` asks for, until the receiver goes.
    ///
    /// # Errors
    ///
    /// There are too many, or the daemon ends.
    pub fn follow(
        self: &Arc<Self>,
        source: &Arc<dyn Source>,
        request: Request,
    ) -> Result<Receiver<Bytes>, Refused> {
        let (sender, receiver) = channel(PIECES_MAX);
        let mut tails = self.tails.lock();
        if self.closed.load(Ordering::Relaxed) {
            return Err(Refused::Closed);
        }
        if tails.len() >= TAILS_MAX {
            return Err(Refused::TooMany);
        }
        tails.push(Tail {
            request,
            sender,
            piece: Vec::new(),
            waiting: 0,
            status: Status::default(),
            kernel_lines_before: source.kernel_lines(),
            began: None,
        });
        if !self.running.load(Ordering::Relaxed) {
            let (all, source) = (Arc::clone(self), Arc::clone(source));
            let thread = std::thread::Builder::new().name("rotameter-tail".to_owned());
            if thread.spawn(move || all.run(source.as_ref())).is_err() {
                tails.pop();
                return Err(Refused::NoThread);
            }
            self.running.store(true, Ordering::Relaxed);
        }
        Ok(receiver)
    }

    /// Ends all of them, and lets nobody in any more.
    pub fn close(&self) {
        let mut tails = self.tails.lock();
        self.closed.store(true, Ordering::Relaxed);
        tails.clear();
    }

    fn run(&self, source: &dyn Source) {
        let mut batch = Batch::default();
        let mut mapped = HashMap::new();
        let clock = WallClock::read();
        let mut told = Instant::now();
        source.fetch(&mut batch, true);
        loop {
            std::thread::sleep(FETCH_INTERVAL);
            source.fetch(&mut batch, true);
            let now = Timestamp::now();
            let tells = told.elapsed() >= STATUS_INTERVAL;
            if tells {
                told = Instant::now();
                // Rules may have changed.
                mapped.clear();
            }
            let mut tails = self.tails.lock();
            tails.retain(|tail| !tail.sender.is_closed());
            source.come_whole(tails.iter().any(|tail| tail.request.whole));
            if tails.is_empty() {
                // Under the lock, so that who comes next starts another thread.
                self.running.store(false, Ordering::Relaxed);
                source.fetch(&mut batch, false);
                return;
            }
            let kernel_lines = if tells { source.kernel_lines() } else { 0 };
            let mut budget = MAPPED_AT_ONCE;
            for tail in tails.iter_mut() {
                tail.status.skipped += batch.skipped;
                for datagram in batch.iter() {
                    tail.take(&datagram, clock, now, |line| series(source, &mut mapped, &mut budget, line));
                }
                if tells {
                    tail.status.in_kernel = kernel_lines.saturating_sub(tail.kernel_lines_before);
                    tail.tell();
                }
                tail.send();
            }
        }
    }
}

fn series(
    source: &dyn Source,
    known: &mut HashMap<Vec<u8>, Vec<String>>,
    budget: &mut usize,
    line: &[u8],
) -> Option<Vec<String>> {
    let mut key = Vec::new();
    super::write_identity(line, &mut key);
    if let Some(series) = known.get(&key) {
        return Some(series.clone());
    }
    *budget = budget.checked_sub(1)?;
    let series = source.series(line);
    if known.len() < MAPPED_MAX {
        known.insert(key, series.clone());
    }
    Some(series)
}

impl Tail {
    fn take(
        &mut self,
        datagram: &Datagram<'_>,
        clock: WallClock,
        now: Timestamp,
        mut series: impl FnMut(&[u8]) -> Option<Vec<String>>,
    ) {
        let Request { filter, datagrams, mapped, .. } = &self.request;
        if *datagrams {
            if lines(datagram.payload).any(|line| filter.wants(line)) {
                // The first one may be older than others that come by another ring.
                let began = *self.began.get_or_insert(datagram.received);
                let since = datagram.received.since(began);
                let captured = Captured::new(datagram.payload, datagram.source, since);
                self.push(&captured);
            }
            return;
        }
        let (mapped, t) = (*mapped, clock.unix_seconds(datagram.received.min(now)));
        let from = match datagram.source {
            Sent::Address(address) => address.to_string(),
            Sent::Process(number) => format!("process {number}"),
            Sent::Nameless => String::new(),
        };
        for line in lines(datagram.payload).filter(|line| !line.is_empty()) {
            if !self.request.filter.wants(line) {
                continue;
            }
            let series = if mapped { series(line) } else { None };
            let (from, via) = (from.clone(), datagram.transport.name().to_owned());
            self.push(&Line { t, from, via, line: String::from_utf8_lossy(line).into_owned(), series });
        }
    }

    fn push(&mut self, what: &impl Serialize) {
        if self.piece.len() >= PIECE_BYTES_MAX {
            self.send();
        }
        // Text and numbers always have a form in JSON.
        if serde_json::to_writer(&mut self.piece, what).is_ok() {
            self.piece.push(b'\n');
            self.waiting += 1;
        }
    }

    fn tell(&mut self) {
        let waiting = self.waiting;
        self.push(&Told { status: Status { shown: self.status.shown + waiting, ..self.status.clone() } });
        self.waiting = waiting;
    }

    /// Hands the piece over, or forgets it if the other side is too slow.
    fn send(&mut self) {
        if self.piece.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.waiting);
        match self.sender.try_send(std::mem::take(&mut self.piece).into()) {
            Ok(()) => self.status.shown += lines,
            Err(TrySendError::Full(_)) => self.status.skipped += lines,
            // It goes at the next fetch.
            Err(TrySendError::Closed(_)) => {}
        }
    }
}

/// A line of the stream that holds a [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    pub status: Status,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::Transport;
    use crate::live::tap::Tap;

    #[derive(Default)]
    struct Stub {
        tap: Mutex<Tap>,
        whole: AtomicBool,
        open: AtomicBool,
    }

    impl Source for Stub {
        fn fetch(&self, batch: &mut Batch, open: bool) {
            self.open.store(open, Ordering::SeqCst);
            self.tap.lock().swap(batch, open);
        }

        fn kernel_lines(&self) -> u64 {
            5
        }

        fn come_whole(&self, whole: bool) {
            self.whole.store(whole, Ordering::SeqCst);
        }

        fn series(&self, line: &[u8]) -> Vec<String> {
            vec![format!("counter {}", String::from_utf8_lossy(line))]
        }
    }

    fn see(stub: &Stub, payload: &[u8]) {
        let source = Sent::Address("[::ffff:10.0.0.1]:77".parse().unwrap());
        let received = Timestamp::now();
        stub.tap.lock().see(&Datagram { payload, received, source, transport: Transport::Udp });
    }

    fn wait(what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "never came: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn request(datagrams: bool) -> Request {
        Request { filter: Filter::glob("a*").unwrap(), datagrams, mapped: !datagrams, whole: !datagrams }
    }

    #[test]
    fn who_follows_sees_lines_until_it_goes() {
        let (tails, stub) = (Arc::new(Tails::default()), Arc::new(Stub::default()));
        let source = Arc::clone(&stub) as Arc<dyn Source>;
        let mut lines = tails.follow(&source, request(false)).unwrap();
        let mut datagrams = tails.follow(&source, request(true)).unwrap();
        wait("an open tap", || stub.open.load(Ordering::SeqCst));
        see(&stub, b"a:1|c\nb:2|c\n");
        let line: Line = serde_json::from_slice(&lines.blocking_recv().unwrap()).unwrap();
        assert_eq!((line.line.as_str(), line.via.as_str()), ("a:1|c", "udp"));
        assert_eq!(line.series, Some(vec!["counter a:1|c".to_owned()]));
        let captured: Captured = serde_json::from_slice(&datagrams.blocking_recv().unwrap()).unwrap();
        assert_eq!(
            captured,
            Captured { t: 0.0, p: 77, s: Some([10, 0, 0, 1].into()), b: "YToxfGMKYjoyfGMK".to_owned() }
        );
        wait("whole datagrams", || stub.whole.load(Ordering::SeqCst));
        let told: Told = serde_json::from_slice(&lines.blocking_recv().unwrap()).unwrap();
        assert_eq!(told.status, Status { shown: 1, skipped: 0, in_kernel: 0 });
        drop((lines, datagrams));
        wait("a shut tap", || !stub.open.load(Ordering::SeqCst) && !stub.whole.load(Ordering::SeqCst));
        wait("no thread", || !tails.running.load(Ordering::SeqCst));
        assert!(tails.follow(&source, request(true)).is_ok(), "another thread serves the next one");
    }

    #[test]
    fn so_many_may_follow_and_none_when_it_is_closed() {
        let (tails, stub) = (Arc::new(Tails::default()), Arc::new(Stub::default()));
        let source = Arc::clone(&stub) as Arc<dyn Source>;
        let mut all: Vec<_> = (0..TAILS_MAX).map(|_| tails.follow(&source, request(true)).unwrap()).collect();
        assert_eq!(tails.follow(&source, request(true)).err(), Some(Refused::TooMany));
        tails.close();
        wait("the end", || all.iter_mut().all(|tail| tail.is_closed() || tail.try_recv().is_err()));
        assert_eq!(tails.follow(&source, request(true)).err(), Some(Refused::Closed));
    }

    #[test]
    fn who_reads_slowly_misses_what_it_is_told_of() {
        let (sender, mut receiver) = channel(PIECES_MAX);
        let mut tail = Tail {
            request: Request { filter: Filter::All, datagrams: true, mapped: false, whole: false },
            sender,
            piece: Vec::new(),
            waiting: 0,
            status: Status::default(),
            kernel_lines_before: 0,
            began: None,
        };
        let payload = vec![b'x'; 60_000];
        let received = Timestamp(1);
        let datagram =
            Datagram { payload: &payload, received, source: Sent::Nameless, transport: Transport::Unix };
        for _ in 0..2 * PIECES_MAX {
            tail.take(&datagram, WallClock::read(), received, |_| None);
        }
        tail.send();
        let mut pieces = 0;
        while receiver.try_recv().is_ok() {
            pieces += 1;
        }
        assert_eq!(pieces, PIECES_MAX);
        assert_eq!(tail.status.shown + tail.status.skipped, 2 * PIECES_MAX as u64);
        assert!(tail.status.skipped > 0 && tail.piece.is_empty());
    }
}
