//! SLOTS and LASTS maps -> what a slot has counted, over all CPUs, and its newest value.

use std::sync::atomic::{Ordering, fence};
use std::{io, os::fd::BorrowedFd};

use ingest_ebpf::layout::{LastCell, LastValue, Slot};

use super::memory_map::{MemoryMap, page_bytes};

/// The slot table, as promotion and drain see it; tests hand in a `Vec`.
pub trait SlotTable {
    /// Lines and sum of values of `slot` over all CPUs, since the object was loaded. Wraps.
    fn total(&self, slot: u32) -> Slot;

    /// The newest value of a gauge in `slot` over all CPUs, since the object was loaded; that of lines
    /// which [`SlotTable::total`] has counted before is among those it is chosen from.
    fn last(&self, slot: u32) -> LastValue;
}

/// The kernel's tables by memory map.
#[derive(Debug)]
pub struct MappedSlots {
    memory: MemoryMap,
    lasts: MemoryMap,
    cpus: usize,
    slots_per_cpu: usize,
}

impl MappedSlots {
    /// Maps the tables of `cpus` rows and `slots_per_cpu` columns.
    ///
    /// # Errors
    ///
    /// What mmap(2) says.
    pub fn new(
        slots: BorrowedFd<'_>,
        lasts: BorrowedFd<'_>,
        cpus: usize,
        slots_per_cpu: usize,
    ) -> io::Result<Self> {
        let map = |fd, element_bytes: usize| {
            let bytes = (cpus * slots_per_cpu * element_bytes).next_multiple_of(page_bytes());
            MemoryMap::new(fd, 0, bytes, false)
        };
        let (memory, lasts) = (map(slots, size_of::<Slot>())?, map(lasts, size_of::<LastCell>())?);
        Ok(Self { memory, lasts, cpus, slots_per_cpu })
    }

    /// The newest value on one CPU, or `None` if there is none, or that CPU changes it too fast.
    fn last_on(&self, cpu: usize, slot: u32) -> Option<LastValue> {
        let cell = cpu * self.slots_per_cpu + slot as usize;
        // While the number of lines stays, the CPU writes into the other value only. An acquiring load
        // keeps those of the value behind it; the fence keeps the second one behind those.
        let line_count = self.memory.word(2 * cell)?;
        for _ in 0..LAST_READS_MAX {
            let lines = line_count.load(Ordering::Acquire);
            let at = 4 * cell + 2 * usize::from(lines % 2 == 1);
            let value = LastValue { number: self.lasts.load(at), received_ns: self.lasts.load(at + 1) };
            fence(Ordering::Acquire);
            if line_count.load(Ordering::Relaxed) == lines {
                return (value.received_ns != 0).then_some(value);
            }
        }
        None
    }
}

/// A reading takes less time than a line, so one that a CPU disturbs at every turn is hardly possible.
const LAST_READS_MAX: usize = 1000;

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

    fn last(&self, slot: u32) -> LastValue {
        let values = (0..self.cpus).filter_map(|cpu| self.last_on(cpu, slot));
        values.max_by_key(|value| value.received_ns).unwrap_or_default()
    }
}

/// Without a kernel: totals, and values of gauges.
impl SlotTable for Vec<(Slot, LastValue)> {
    fn total(&self, slot: u32) -> Slot {
        self.get(slot as usize).map(|(total, _)| *total).unwrap_or_default()
    }

    fn last(&self, slot: u32) -> LastValue {
        self.get(slot as usize).map(|(_, last)| *last).unwrap_or_default()
    }
}
