//! Deadlines -> series that are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::SeriesId;
use crate::clock::Timestamp;

/// No TTL: the series stays.
pub(super) const NEVER: u32 = u32::MAX;

/// Nanoseconds of the TTL, and the last time the series was touched.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    ttl: u64,
    touched: Timestamp,
}

impl Deadline {
    /// The last moment at which the series still lives.
    fn at(self) -> Timestamp {
        Timestamp(self.touched.0.saturating_add(self.ttl))
    }
}

/// The deadlines of all series that have one. Touching only notes the time: each series has one
/// entry in the heap, which is put right when it comes up, so at most once per TTL.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    slots: Vec<Deadline>,
    free: Vec<u32>,
    heap: BinaryHeap<Reverse<(Timestamp, u32, SeriesId)>>,
}

impl Deadlines {
    /// The slot to touch from now on, or [`NEVER`].
    pub(super) fn start(&mut self, id: SeriesId, ttl: Option<Duration>, now: Timestamp) -> u32 {
        let Some(ttl) = ttl.filter(|ttl| !ttl.is_zero()) else { return NEVER };
        let deadline = Deadline { ttl: u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX), touched: now };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(deadline);
            u32::try_from(self.slots.len() - 1).unwrap_or(NEVER)
        });
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = deadline;
            self.heap.push(Reverse((deadline.at(), slot, id)));
        }
        slot
    }

    #[inline]
    pub(super) fn touch(&mut self, slot: u32, now: Timestamp) {
        if slot != NEVER
            && let Some(deadline) = self.slots.get_mut(slot as usize)
        {
            deadline.touched = deadline.touched.max(now);
        }
    }

    /// The next series that is over, looking at no more than `*budget` entries.
    pub(super) fn next_due(&mut self, now: Timestamp, budget: &mut usize) -> Option<SeriesId> {
        while *budget > 0 {
            let mut top = self.heap.peek_mut().filter(|top| top.0.0 < now)?;
            *budget -= 1;
            let Reverse((noted, slot, id)) = *top;
            let deadline = self.slots.get(slot as usize)?.at();
            if deadline > noted {
                top.0.0 = deadline;
                continue;
            }
            std::collections::binary_heap::PeekMut::pop(top);
            self.free.push(slot);
            return Some(id);
        }
        None
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Deadline>()
            + self.free.capacity() * size_of::<u32>()
            + self.heap.capacity() * size_of::<(Timestamp, u32, SeriesId)>()
    }
}
