//! SLOTS map -> what a slot has counted, over all CPUs.

use std::{io, os::fd::BorrowedFd};

use ingest_ebpf::layout::Slot;

use super::memory_map::{MemoryMap, page_bytes};

/// The slot table, as promotion and drain see it; tests hand in a `Vec`.
pub trait SlotTable {
    /// Lines and sum of values of `slot` over all CPUs, since the object was loaded. Wraps.
    fn total(&self, slot: u32) -> Slot;
}

/// The kernel's table by memory map.
#[derive(Debug)]
pub struct MappedSlots {
    memory: MemoryMap,
    cpus: usize,
    slots_per_cpu: usize,
}

impl MappedSlots {
    /// Maps the table of `cpus` rows and `slots_per_cpu` columns.
    ///
    /// # Errors
    ///
    /// What mmap(2) says.
    pub fn new(fd: BorrowedFd<'_>, cpus: usize, slots_per_cpu: usize) -> io::Result<Self> {
        let bytes = (cpus * slots_per_cpu * size_of::<Slot>()).next_multiple_of(page_bytes());
        Ok(Self { memory: MemoryMap::new(fd, 0, bytes, false)?, cpus, slots_per_cpu })
    }
}

impl SlotTable for MappedSlots {
    fn total(&self, slot: u32) -> Slot {
        let mut total = Slot::default();
        for cpu in 0..self.cpus {
            let at = 2 * (cpu * self.slots_per_cpu + slot as usize);
            total.lines = total.lines.wrapping_add(self.memory.load(at));
            total.sum = total.sum.wrapping_add(self.memory.load(at + 1));
        }
        total
    }
}

impl SlotTable for Vec<Slot> {
    fn total(&self, slot: u32) -> Slot {
        self.get(slot as usize).copied().unwrap_or_default()
    }
}
