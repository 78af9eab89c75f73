//! Ids in any order -> ids in sorted order, at any moment.
//!
//! Sorting at scrape time would hold the lock for as long as it takes; so each id is put in its
//! place soon after it comes. Chunks bound what one insertion has to move.

use std::cmp::Ordering;

use smallvec::SmallVec;

const CHUNK_MAX: usize = 512;

/// How many ids wait until they are put in their places, in sorted order: then one finds in the cache
/// what the one before it has looked at. At two microseconds each among half a million in no order,
/// more would keep the lock for too long.
const LATE_MAX: usize = 256;

/// How the things behind ids stand to each other.
pub(super) trait Order {
    fn compare(&self, one: u32, other: u32) -> Ordering;

    fn sort(&self, ids: &mut [u32]) {
        ids.sort_unstable_by(|a, b| self.compare(*a, *b));
    }
}

impl<F: Fn(u32, u32) -> Ordering> Order for F {
    fn compare(&self, one: u32, other: u32) -> Ordering {
        self(one, other)
    }
}

/// A sorted sequence of ids. It does not know what they stand for: each call brings a comparison,
/// which tells how the thing behind an id stands to the one that is looked for.
#[derive(Debug)]
pub(super) enum SortedIds {
    /// The usual case by far: a family has a few series.
    Few(SmallVec<[u32; 4]>),
    Many(Box<Chunks>),
}

#[derive(Debug)]
pub(super) struct Chunks {
    /// Of at most [`CHUNK_MAX`] ids, none of them empty.
    chunks: Vec<Vec<u32>>,
    /// Ids in order of arrival that have no place yet, fewer than [`LATE_MAX`].
    late: Vec<u32>,
}

impl Default for SortedIds {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl SortedIds {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(ids) => ids.is_empty(),
            Self::Many(many) => many.chunks.is_empty() && many.late.is_empty(),
        }
    }

    /// Inserts `id`.
    pub(super) fn insert(&mut self, id: u32, order: &impl Order) {
        self.insert_late(id, order);
        self.settle(order);
    }

    /// The same, but the id may have to wait for [`SortedIds::settle`].
    pub(super) fn insert_late(&mut self, id: u32, order: &impl Order) {
        match self {
            Self::Few(ids) => {
                let place = ids.partition_point(|other| order.compare(*other, id).is_lt());
                ids.insert(place, id);
                if ids.len() > CHUNK_MAX {
                    *self = Self::Many(Box::new(Chunks { chunks: vec![ids.to_vec()], late: Vec::new() }));
                }
            }
            Self::Many(many) => {
                many.late.push(id);
                if many.late.len() >= LATE_MAX {
                    many.settle(order);
                }
            }
        }
    }

    /// Puts all ids in their places.
    pub(super) fn settle(&mut self, order: &impl Order) {
        if let Self::Many(many) = self {
            many.settle(order);
        }
    }

    /// Removes `id`, if it is there; `compare` tells how another id's key stands to that of `id`.
    pub(super) fn remove(&mut self, id: u32, compare: impl Fn(u32) -> Ordering) {
        match self {
            Self::Few(ids) => {
                let place = ids.partition_point(|other| compare(*other).is_lt());
                if ids.get(place) == Some(&id) {
                    ids.remove(place);
                }
            }
            Self::Many(many) => {
                let Chunks { chunks, late } = &mut **many;
                if let Some(place) = late.iter().position(|other| *other == id) {
                    late.swap_remove(place);
                    return;
                }
                let at = chunk_of(chunks, &compare);
                let Some(chunk) = chunks.get_mut(at) else { return };
                let place = chunk.partition_point(|other| compare(*other).is_lt());
                if chunk.get(place) == Some(&id) {
                    chunk.remove(place);
                }
                let length = chunk.len();
                let next_length = chunks.get(at + 1).map_or(0, Vec::len);
                if length == 0 {
                    chunks.remove(at);
                } else if length < CHUNK_MAX / 4 && next_length > 0 && length + next_length <= CHUNK_MAX / 2 {
                    let next = chunks.remove(at + 1);
                    chunks[at].extend(next);
                }
            }
        }
    }

    /// The ids whose key is greater than the one that `compare` compares with, ascending; only those
    /// that were settled.
    ///
    /// The comparison is not kept, so the caller may change things while it goes through the ids.
    pub(super) fn after<'a>(
        &'a self,
        compare: &dyn Fn(u32) -> Ordering,
    ) -> impl Iterator<Item = u32> + use<'a> {
        let (first, rest): (&[u32], &[Vec<u32>]) = match self {
            Self::Few(ids) => (ids, &[]),
            Self::Many(many) => {
                let chunks = &many.chunks;
                let at = chunk_of(chunks, compare);
                let rest = chunks.get(at + 1..).unwrap_or_default();
                (chunks.get(at).map_or(&[], Vec::as_slice), rest)
            }
        };
        let place = first.partition_point(|id| compare(*id).is_le());
        first.get(place..).unwrap_or_default().iter().chain(rest.iter().flatten()).copied()
    }

    /// All ids, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> + '_ {
        let (few, many): (&[u32], Option<&Chunks>) = match self {
            Self::Few(ids) => (ids, None),
            Self::Many(many) => (&many.late, Some(many)),
        };
        few.iter().chain(many.into_iter().flat_map(|many| many.chunks.iter().flatten())).copied()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Few(ids) if ids.spilled() => ids.capacity() * size_of::<u32>(),
            Self::Few(_) => 0,
            Self::Many(many) => {
                size_of::<Chunks>()
                    + many.chunks.len() * (size_of::<Vec<u32>>() + CHUNK_MAX * size_of::<u32>())
                    + many.late.capacity() * size_of::<u32>()
            }
        }
    }
}

impl Chunks {
    fn settle(&mut self, order: &impl Order) {
        let Self { chunks, late } = self;
        order.sort(late);
        let mut at = 0;
        for id in late.drain(..) {
            let begins_below =
                |chunk: &Vec<u32>| chunk.first().is_some_and(|other| order.compare(*other, id).is_lt());
            // Mostly it belongs to the chunk of the one before it, or to one soon after.
            let (mut below, mut step) = (at, 1);
            while chunks.get(at + step).is_some_and(begins_below) {
                below = at + step;
                step *= 2;
            }
            let not_below = (at + step).min(chunks.len());
            let between = chunks.get(below + 1..not_below).unwrap_or_default();
            at = below + between.partition_point(begins_below);
            let Some(chunk) = chunks.get_mut(at) else {
                chunks.push(vec![id]);
                continue;
            };
            let place = chunk.partition_point(|other| order.compare(*other, id).is_lt());
            chunk.insert(place, id);
            if chunk.len() > CHUNK_MAX {
                let upper = chunk.split_off(chunk.len() / 2);
                chunks.insert(at + 1, upper);
            }
        }
    }
}

/// The chunk in which the looked-for key has its place: the last one that begins below it.
fn chunk_of(chunks: &[Vec<u32>], compare: impl Fn(u32) -> Ordering) -> usize {
    chunks.partition_point(|chunk| chunk.first().is_some_and(|id| compare(*id).is_le())).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inserts, then removes, pseudo-random ids that are their own keys, beside a sorted `Vec`.
    #[track_caller]
    fn check(count: u32, keep: impl Fn(u32) -> bool) {
        let mut sorted = SortedIds::default();
        let ids: Vec<u32> = (0..count).map(|n| n.wrapping_mul(2_654_435_761)).collect();
        // Those that are inserted last may still be late when they are removed.
        let (first, rest) = ids.split_at(ids.len() / 2);
        first.iter().for_each(|id| sorted.insert(*id, &|a: u32, b: u32| a.cmp(&b)));
        rest.iter().for_each(|id| sorted.insert_late(*id, &|a: u32, b: u32| a.cmp(&b)));
        ids.iter().filter(|id| !keep(**id)).for_each(|id| sorted.remove(*id, |other| other.cmp(id)));
        sorted.settle(&|a: u32, b: u32| a.cmp(&b));
        let mut expected: Vec<u32> = ids.into_iter().filter(|id| keep(*id)).collect();
        expected.sort_unstable();
        assert_eq!(sorted.is_empty(), expected.is_empty());
        for bound in
            [0, 1, 1 << 20, 1 << 31, u32::MAX].into_iter().chain(expected.iter().step_by(97).copied())
        {
            let after: Vec<u32> = sorted.after(&|id| id.cmp(&bound)).collect();
            assert!(after.iter().eq(expected.iter().filter(|id| **id > bound)), "after {bound}");
        }
    }

    #[test]
    fn few_and_many_ids_stay_sorted() {
        check(0, |_| true);
        check(5, |_| true);
        check(512, |id| id % 3 > 0);
        check(20_000, |_| true);
    }

    #[test]
    fn removal_leaves_no_empty_chunk() {
        check(20_000, |id| id > 1 << 31);
        check(20_000, |id| id % 64 == 0);
        check(20_000, |_| false);
    }
}
