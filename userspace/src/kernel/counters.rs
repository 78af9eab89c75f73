//! COUNTERS map -> how many datagrams each door gave each verdict.

use std::{io, os::fd::BorrowedFd};

use ingest_ebpf::verdict::{COUNTERS_PER_CPU, Door, Verdict, empty_lines_column, verdict_column};

use super::memory_map::{MemoryMap, page_bytes};

/// The kernel's counters, summed over CPUs; they only grow while the object is loaded.
#[derive(Debug)]
pub struct Counters {
    memory: MemoryMap,
    cpus: usize,
}

impl Counters {
    /// Maps the counter table of `cpus` rows.
    ///
    /// # Errors
    ///
    /// What mmap(2) says.
    pub fn new(fd: BorrowedFd<'_>, cpus: usize) -> io::Result<Self> {
        let bytes = (cpus * COUNTERS_PER_CPU as usize * 8).next_multiple_of(page_bytes());
        Ok(Self { memory: MemoryMap::new(fd, 0, bytes, false)?, cpus })
    }

    /// Datagrams to which `door` gave `verdict`.
    #[must_use]
    pub fn datagrams(&self, door: Door, verdict: Verdict) -> u64 {
        self.sum(verdict_column(door, verdict))
    }

    /// Empty last lines of datagrams that were counted in slots, over both doors.
    #[must_use]
    pub fn empty_lines(&self) -> u64 {
        Door::ALL.into_iter().map(|door| self.sum(empty_lines_column(door))).sum()
    }

    fn sum(&self, column: u32) -> u64 {
        (0..self.cpus)
            .map(|cpu| self.memory.load(cpu * COUNTERS_PER_CPU as usize + column as usize))
            .fold(0, u64::wrapping_add)
    }
}
