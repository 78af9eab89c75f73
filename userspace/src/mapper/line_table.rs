//! Hash of a line -> place of its entry.
//!
//! The hash lies beside the place, so a look-up touches one cache line here and goes to the entry only
//! when it is the right one.

/// Open addressing, the next free place behind the one that the hash names.
#[derive(Debug, Default)]
pub(super) struct LineTable {
    /// Hash in the upper half, place in the lower. A power of two of them, or none.
    slots: Vec<u64>,
    live: usize,
}

const FREE: u64 = u64::MAX;
const SLOTS_MIN: usize = 64;

impl LineTable {
    /// Entries known.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The place that is looked at first, if it has this hash; else perhaps `u32::MAX`, which is none.
    #[inline(always)]
    pub(super) fn first(&self, hash: u32) -> Option<u32> {
        let slot = *self.slots.get(self.home(hash))?;
        #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
        (slot >> 32 == u64::from(hash)).then_some(slot as u32)
    }

    /// The first place under this hash that `is_wanted`; it may be asked about `u32::MAX`, which is none.
    #[inline]
    pub(super) fn find(&self, hash: u32, is_wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let slot = *self.slots.get(at)?;
            #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
            let place = slot as u32;
            if slot >> 32 == u64::from(hash) && is_wanted(place) {
                return Some(place);
            }
            if slot == FREE {
                return None;
            }
            at = self.next(at);
        }
    }

    /// Adds a place, below `u32::MAX`; it is not there yet.
    pub(super) fn insert(&mut self, hash: u32, place: u32) {
        // At most three quarters are used, so that there is always a free one, and near.
        if (self.live + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.put(u64::from(hash) << 32 | u64::from(place));
        self.live += 1;
    }

    /// Takes a place out, if it is there.
    pub(super) fn remove(&mut self, hash: u32, place: u32) {
        let wanted = u64::from(hash) << 32 | u64::from(place);
        let mut hole = self.home(hash);
        loop {
            match self.slots.get(hole) {
                Some(slot) if *slot == wanted => break,
                Some(slot) if *slot != FREE => hole = self.next(hole),
                _ => return,
            }
        }
        self.live -= 1;
        // What follows moves up as far as it may, so that no look-up ends at the hole.
        let mut at = hole;
        loop {
            at = self.next(at);
            let Some(&slot) = self.slots.get(at).filter(|slot| **slot != FREE) else { break };
            let home = self.home((slot >> 32) as u32);
            let mask = self.slots.len() - 1;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = FREE;
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        hash as usize & self.slots.len().wrapping_sub(1)
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        (at + 1) & self.slots.len().wrapping_sub(1)
    }

    fn grow(&mut self) {
        let larger = (self.slots.len() * 2).max(SLOTS_MIN);
        let slots = std::mem::replace(&mut self.slots, vec![FREE; larger]);
        slots.into_iter().filter(|slot| *slot != FREE).for_each(|slot| self.put(slot));
    }

    fn put(&mut self, slot: u64) {
        let mut at = self.home((slot >> 32) as u32);
        while self.slots[at] != FREE {
            at = self.next(at);
        }
        self.slots[at] = slot;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    proptest::proptest! {
        /// Few hashes, so that there is always somebody in the way, at the end of the table, too.
        #[test]
        fn what_was_put_in_is_found_until_it_is_taken_out(
            steps in proptest::collection::vec((0..24_u32, 0..20_u32), 0..300)
        ) {
            let (mut table, mut expected) = (LineTable::default(), BTreeSet::new());
            for (hash, place) in steps {
                let hash = hash.wrapping_sub(12);
                if expected.insert((hash, place)) {
                    table.insert(hash, place);
                } else {
                    expected.remove(&(hash, place));
                    table.remove(hash, place);
                }
                table.remove(hash, 777);
                proptest::prop_assert_eq!(table.len(), expected.len());
                proptest::prop_assert_eq!(table.find(hash, |place| place == 777), None);
            }
            for hash in (0..24_u32).map(|hash| hash.wrapping_sub(12)) {
                for place in 0..20 {
                    let known = expected.contains(&(hash, place)).then_some(place);
                    proptest::prop_assert_eq!(table.find(hash, |other| other == place), known);
                }
            }
        }
    }

    #[test]
    fn an_empty_table_knows_nothing() {
        let mut table = LineTable::default();
        assert_eq!(table.find(7, |_| true), None);
        table.remove(7, 7);
        table.insert(u32::MAX, u32::MAX - 1);
        table.clear();
        assert_eq!((table.find(u32::MAX, |_| true), table.len()), (None, 0));
    }
}
