//! Deadlines -> series that are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::time::Duration;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::SeriesId;
use crate::clock::Timestamp;

/// No TTL: the series stays.
pub(super) const NEVER: u32 = u32::MAX;

/// What is known of a series that has a TTL.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    id: SeriesId,
    ttl_nanos: u64,
    touched: Timestamp,
    /// The moment in the heap under which this deadline is looked at next; an entry with another one
    /// is void.
    noted: Timestamp,
}

impl Deadline {
    /// The last moment at which the series still lives.
    fn at(self) -> Timestamp {
        Timestamp(self.touched.0.saturating_add(self.ttl_nanos))
    }
}

/// The deadlines of all series that have one. Touching only notes the time: each series has one
/// valid entry in the heap, which is put right when it comes up, so at most once per TTL.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    slots: Vec<Deadline>,
    free: Vec<u32>,
    heap: BinaryHeap<Reverse<(Timestamp, u32)>>,
    /// Further series that have a slot in common with the one that it was made for.
    companions: HashMap<u32, SmallVec<[SeriesId; 3]>, foldhash::fast::RandomState>,
    /// Companions of a series that was just due.
    due: Vec<SeriesId>,
}

impl Deadlines {
    /// The slot to touch from now on, or [`NEVER`].
    pub(super) fn start(&mut self, id: SeriesId, ttl: Option<Duration>, now: Timestamp) -> u32 {
        let Some(ttl_nanos) = nanoseconds(ttl) else { return NEVER };
        let mut deadline = Deadline { id, ttl_nanos, touched: now, noted: now };
        deadline.noted = deadline.at();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(deadline);
            u32::try_from(self.slots.len() - 1).unwrap_or(NEVER)
        });
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = deadline;
            self.heap.push(Reverse((deadline.noted, slot)));
        }
        slot
    }

    /// Lets another series expire with the one that has `slot`; touching one touches both.
    pub(super) fn join(&mut self, slot: u32, id: SeriesId) -> u32 {
        if slot != NEVER {
            self.companions.entry(slot).or_default().push(id);
        }
        slot
    }

    /// Gives a series another TTL, from now on; returns its slot.
    pub(super) fn change(&mut self, slot: u32, id: SeriesId, ttl: Option<Duration>, now: Timestamp) -> u32 {
        let Some(deadline) = self.slots.get_mut(slot as usize) else { return self.start(id, ttl, now) };
        deadline.ttl_nanos = nanoseconds(ttl).unwrap_or(u64::MAX);
        deadline.touched = deadline.touched.max(now);
        // A later moment is found when the present entry comes up, so that changes to and fro do not
        // fill the heap.
        if deadline.at() < deadline.noted {
            deadline.noted = deadline.at();
            self.heap.push(Reverse((deadline.noted, slot)));
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

    /// Gives a slot back before its time; what the heap has of it is void. Returns the series that had it
    /// in common.
    pub(super) fn stop(&mut self, slot: u32) -> SmallVec<[SeriesId; 4]> {
        let mut series = SmallVec::new();
        if slot != NEVER
            && let Some(deadline) = self.slots.get_mut(slot as usize)
        {
            deadline.noted = Timestamp(0);
            self.free.push(slot);
            series.push(deadline.id);
            series.extend(self.companions.remove(&slot).unwrap_or_default());
        }
        series
    }

    /// Whether [`Deadlines::next_due`] has something to look at.
    pub(super) fn is_any_due(&self, now: Timestamp) -> bool {
        self.heap.peek().is_some_and(|top| top.0.0 < now)
    }

    /// Whether the series with this slot is over, as [`Deadlines::next_due`] would find.
    pub(super) fn is_due(&self, slot: u32, now: Timestamp) -> bool {
        slot != NEVER && self.slots.get(slot as usize).is_some_and(|deadline| deadline.at() < now)
    }

    /// The next series that is over, looking at no more than `*budget` entries. Its slot is free then.
    pub(super) fn next_due(&mut self, now: Timestamp, budget: &mut usize) -> Option<SeriesId> {
        // Not left for another call: nothing touches them any more.
        if let Some(id) = self.due.pop() {
            *budget = budget.saturating_sub(1);
            return Some(id);
        }
        while *budget > 0 {
            let mut top = self.heap.peek_mut().filter(|top| top.0.0 < now)?;
            *budget -= 1;
            let Reverse((noted, slot)) = *top;
            let Some(deadline) = self.slots.get_mut(slot as usize).filter(|slot| slot.noted == noted) else {
                PeekMut::pop(top);
                continue;
            };
            if deadline.at() > noted {
                deadline.noted = deadline.at();
                top.0.0 = deadline.noted;
                if deadline.noted == Timestamp(u64::MAX) {
                    PeekMut::pop(top);
                }
                continue;
            }
            // No entry is ever under this one, for a TTL is not zero.
            deadline.noted = Timestamp(0);
            let id = deadline.id;
            PeekMut::pop(top);
            self.free.push(slot);
            if let Some(companions) = self.companions.remove(&slot) {
                self.due.extend(companions);
            }
            return Some(id);
        }
        None
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Deadline>()
            + self.free.capacity() * size_of::<u32>()
            + self.heap.capacity() * size_of::<(Timestamp, u32)>()
            + self.companions.capacity() * size_of::<(u32, SmallVec<[SeriesId; 3]>)>() * 8 / 7
            + self.due.capacity() * size_of::<SeriesId>()
    }
}

fn nanoseconds(ttl: Option<Duration>) -> Option<u64> {
    ttl.filter(|ttl| !ttl.is_zero()).map(|ttl| u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX))
}
