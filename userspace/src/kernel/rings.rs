//! The rings of all CPUs -> [`Datagram`]s in order of arrival.
//!
//! A sender that moves to another CPU between two datagrams has them in two rings, and `g:0|g` must
//! still come before `g:-8|g`. Each ring is in order of its receive times, so the rings are merged by
//! those, and only up to a moment before the first of them was looked at: whatever was complete then
//! is visible in every ring, and of two datagrams of one sender the earlier one was.

use crate::{clock::Timestamp, datagram::Datagram};

use super::ring::{Position, Ring};

/// All rings, read as one.
#[derive(Debug, Default)]
pub struct Rings {
    rings: Vec<Ring>,
    /// Rings that have more to give in the present pass.
    pending: Vec<Pending>,
    /// Records that are newer wait for the next pass.
    not_after: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    ring: usize,
    end: Position,
    /// Receive time of its next record.
    next: Timestamp,
}

impl Rings {
    #[must_use]
    pub fn new(rings: Vec<Ring>) -> Self {
        Self { rings, ..Self::default() }
    }

    /// Each ring.
    pub fn iter(&self) -> impl Iterator<Item = &Ring> {
        self.rings.iter()
    }

    /// Begins a pass over what has arrived before `now`. What is added meanwhile stays for the next
    /// one, so that a flood cannot keep a scrape waiting.
    pub fn begin(&mut self, now: Timestamp) {
        self.not_after = now;
        self.pending.clear();
        for (index, ring) in self.rings.iter().enumerate() {
            let end = ring.end();
            if let Some(next) = ring.next_received(end) {
                self.pending.push(Pending { ring: index, end, next });
            }
        }
    }

    /// Hands up to `records_max` records of this pass to `take`, oldest first. Returns how many;
    /// fewer than `records_max` means that the pass is over.
    pub fn read(&mut self, records_max: usize, mut take: impl FnMut(Datagram<'_>)) -> usize {
        let mut count = 0;
        while count < records_max {
            let Some((at, until)) = self.oldest() else { break };
            let pending = self.pending[at];
            let ring = &mut self.rings[pending.ring];
            let taken = ring.read(records_max - count, pending.end, until, &mut take);
            count += taken;
            match ring.next_received(pending.end) {
                // Nothing taken although it was the oldest: its record is not of our layout, or newer
                // than the pass. Either way it is not waited for.
                Some(next) if taken > 0 => self.pending[at].next = next,
                _ => drop(self.pending.swap_remove(at)),
            }
        }
        count
    }

    /// The ring with the oldest record, and up to when it may be read before another one's turn.
    fn oldest(&self) -> Option<(usize, Timestamp)> {
        let mut oldest: Option<(usize, Timestamp)> = None;
        let mut until = self.not_after;
        for (at, pending) in self.pending.iter().enumerate() {
            match oldest {
                Some((_, next)) if pending.next >= next => until = until.min(pending.next),
                Some((_, next)) => {
                    until = until.min(next);
                    oldest = Some((at, pending.next));
                }
                None => oldest = Some((at, pending.next)),
            }
        }
        oldest.map(|(at, _)| (at, until))
    }
}
