//! Ring wake-ups and time -> drains, expiry and promotion windows.
//!
//! One plain thread. A ring asks for it at a fill level; otherwise it comes round ten times a second,
//! so that an idle daemon costs next to nothing and a busy one is not woken for single datagrams.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, Timespec, epoll, eventfd},
};
use tracing::warn;

use crate::{clock::Timestamp, pipeline::Pipeline, registry::LATE_SERIES, scheduling};

/// How long a record may lie in a ring when no scrape asks for it.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);
/// How long a series may outlive its TTL, if looking for such ones takes no more than a hundredth of it.
const EXPIRE_INTERVAL: Duration = Duration::from_millis(250);
const EXPIRE_SHARE: u32 = 100;
/// How long a slot may go unread when neither a scrape nor a window's end looks at it. Its sum has room for
/// 2^32 lines of the largest value, which take minutes to come.
const SLOTS_INTERVAL: Duration = Duration::from_secs(30);

/// The thread; ends on [`Drainer::stop`] or drop.
#[derive(Debug)]
pub struct Drainer {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Drainer {
    /// Starts the thread: rings are drained, series expire, windows of `promotion_interval` end.
    ///
    /// # Errors
    ///
    /// The kernel has no file descriptor or thread to spare.
    pub fn start(pipeline: Arc<Pipeline>, promotion_interval: Duration) -> io::Result<Self> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poll, &stop, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)?;
        if let Some(tables) = pipeline.tables() {
            // Edge-triggered: the bell stays readable until somebody drains, scrapes included.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&poll, &tables.doorbell, epoll::EventData::new_u64(RING), flags)?;
        }
        let thread = std::thread::Builder::new()
            .name("rotameter-drain".to_owned())
            .spawn(move || run(&pipeline, poll.as_fd(), promotion_interval))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends the thread and waits for it.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Drainer {
    fn drop(&mut self) {
        // The counter cannot overflow by one write, which is all that could fail.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const STOP: u64 = 0;
const RING: u64 = 1;

fn run(pipeline: &Pipeline, poll: BorrowedFd<'_>, promotion_interval: Duration) {
    scheduling::prefer_short_slices();
    let mut window_began = Timestamp::now();
    let (mut expired, mut slots_read) = (window_began, window_began);
    let mut expire_interval = EXPIRE_INTERVAL;
    let mut events = Vec::with_capacity(16);
    let timeout = Timespec::try_from(DRAIN_INTERVAL).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 100_000_000 });
    let mut failed = false;
    loop {
        events.clear();
        match epoll::wait(poll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                // Cannot happen with descriptors that are open; without a pause it would be a busy loop.
                warn!(%error, "waiting for the rings");
                std::thread::sleep(DRAIN_INTERVAL);
            }
        }
        if events.iter().any(|event: &epoll::Event| event.data.u64() == STOP) {
            return;
        }
        pipeline.drain_rings();
        // While it costs least, and before a scrape has to.
        pipeline.settle_order(LATE_SERIES);
        let now = Timestamp::now();
        if now.since(expired) >= expire_interval {
            expired = now;
            note(pipeline.expire(), &mut failed);
            // All slots are read for it, on each CPU.
            expire_interval = EXPIRE_INTERVAL.max(EXPIRE_SHARE * Timestamp::now().since(now));
        }
        if now.since(slots_read) >= SLOTS_INTERVAL {
            slots_read = now;
            pipeline.drain_slots();
        }
        let window = now.since(window_began);
        if window >= promotion_interval {
            window_began = now;
            note(pipeline.tick(window), &mut failed);
        }
    }
}

/// Warns of a grace period that did not come, once until the next one does.
fn note(waited: io::Result<()>, failed: &mut bool) {
    match waited {
        Ok(()) => *failed = false,
        Err(error) if !*failed => {
            *failed = true;
            warn!(%error, "waiting for a grace period of the kernel; demoted slots stay unused");
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        datagram::{Datagram, Source, Transport},
        mapper::{Mapper, SeriesOptions},
        pipeline::PipelineOptions,
    };

    #[test]
    fn series_expire_whatever_the_promotion_interval_is() {
        let unmapped = SeriesOptions { ttl: Some(Duration::from_millis(1)), ..SeriesOptions::default() };
        let mapper = Arc::new(Mapper::of_unmapped(unmapped));
        let pipeline = Pipeline::new(PipelineOptions { mapper, ..PipelineOptions::default() }, None);
        let pipeline = Arc::new(pipeline);
        let received = Timestamp::now();
        pipeline.ingest(&[Datagram {
            payload: b"a:1|c",
            received,
            source: Source::Nameless,
            transport: Transport::Udp,
        }]);
        let series = || pipeline.look(|core| core.registry.stats().series);
        assert_eq!(series(), 1);
        let drainer = Drainer::start(Arc::clone(&pipeline), Duration::from_secs(3600)).unwrap();
        while series() > 0 {
            assert!(Timestamp::now().since(received) < Duration::from_secs(20), "it never expires");
            std::thread::sleep(Duration::from_millis(5));
        }
        drainer.stop();
    }
}
