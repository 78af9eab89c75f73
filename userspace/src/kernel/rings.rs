//! The rings of all CPUs -> [`Datagram`]s in order of arrival.
//!
//! A sender that moves to another CPU between two datagrams has them in two rings, and `g:0|g` must
//! still come before `g:-8|g`. Each ring is in order of its receive times, so the rings are merged by
//! those, and only up to a moment before the first of them was looked at: whatever was complete then
//! is visible in every ring, and of two datagrams of one sender the earlier one was.
//!
//! Only what may be a gauge has its exact time; a record of anything else may be stamped up to a tick of
//! the kernel's timer too early, with the last exact time of its ring. So the times of a ring still
//! never fall, no record waits longer than its own time asks for, and two gauges compare by exact
//! times: whatever stands in front of them, they come out in the order in which they were received.

use ingest_ebpf::layout::RingPosition;

use crate::{clock::Timestamp, datagram::Datagram};

use super::ring::Ring;

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
    end: RingPosition,
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
    pub fn read(&mut self, records_max: usize, mut take: impl FnMut(&Datagram<'_>)) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ring::tests::Written;

    /// What a pass that begins at `now` gives.
    #[track_caller]
    fn check(rings: &[&[(u64, &str)]], now: u64, expected: &[&str]) {
        let written = Written::new(rings.len(), 2);
        for (cpu, records) in rings.iter().enumerate() {
            for (received, payload) in *records {
                assert!(written.append(cpu, *received, payload.as_bytes()));
            }
        }
        let mut rings = Rings::new((0..rings.len()).map(|cpu| written.ring(cpu)).collect());
        rings.begin(Timestamp(now));
        let mut taken = Vec::new();
        rings.read(usize::MAX, |datagram| taken.push(String::from_utf8(datagram.payload.to_vec()).unwrap()));
        assert_eq!(taken, expected);
    }

    #[test]
    fn gauges_keep_the_order_in_which_they_were_received() {
        check(&[&[(10, "a:1|g"), (30, "a:3|g")], &[(20, "a:2|g")]], 99, &["a:1|g", "a:2|g", "a:3|g"]);
    }

    #[test]
    fn what_is_stamped_too_early_does_not_change_the_order_of_gauges() {
        // Received at 12 and 14, and at 16; each has the time of its ring's last exact one.
        let one: &[_] = &[(10, "a:1|g"), (10, "b:1|c"), (10, "b:2|c"), (30, "a:3|g")];
        let other: &[_] = &[(5, "c:1|ms"), (5, "c:2|ms"), (20, "a:2|g"), (20, "c:3|ms"), (40, "a:4|g")];
        let order = ["c:1|ms", "c:2|ms", "a:1|g", "b:1|c", "b:2|c", "a:2|g", "c:3|ms", "a:3|g", "a:4|g"];
        check(&[one, other], 99, &order);
        check(&[other, one], 99, &order);
    }

    #[test]
    fn a_pass_leaves_what_was_received_after_it_began() {
        check(&[&[(10, "a:1|g"), (30, "a:3|g")], &[(20, "a:2|g")]], 25, &["a:1|g", "a:2|g"]);
    }
}
