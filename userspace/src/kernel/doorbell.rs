//! A ring that fills up -> a descriptor that becomes readable.
//!
//! The rings are memory that nobody can wait for. So a door puts a record into a small ring buffer of
//! the kernel's, which wakes whoever waits for that; what the record says does not matter.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
};

use super::memory_map::{MemoryMap, page_bytes};

/// The bell of all rings.
#[derive(Debug)]
pub struct Doorbell {
    fd: OwnedFd,
    consumer: MemoryMap,
    producer: MemoryMap,
}

/// Bytes of the ring buffer: the kernel has none smaller than a page.
#[must_use]
pub fn bytes() -> u32 {
    u32::try_from(page_bytes()).unwrap_or(1 << 16)
}

impl Doorbell {
    /// Maps the positions of a BPF ring buffer: one page with the consumer's, one with the producer's
    /// (`kernel/bpf/ringbuf.c`).
    ///
    /// # Errors
    ///
    /// What mmap(2) says.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let page = page_bytes();
        let consumer = MemoryMap::new(fd.as_fd(), 0, page, true)?;
        let producer = MemoryMap::new(fd.as_fd(), page, page, false)?;
        Ok(Self { fd, consumer, producer })
    }

    /// Makes room for the next knock; to be called before the rings are read, so that none is lost.
    pub fn hush(&self) {
        if let (Some(consumer), Some(producer)) = (self.consumer.word(0), self.producer.word(0)) {
            consumer.store(producer.load(Ordering::Acquire), Ordering::Release);
        }
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
