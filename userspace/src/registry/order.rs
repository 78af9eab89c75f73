//! Ids in any order -> ids in sorted order, before they are read.
//!
//! Sorting all at scrape time would hold the lock for as long as it takes, and putting each in its place
//! when it comes would look at cold memory for each. So ids wait until there are many, or until somebody
//! reads, and go to their places by the thousand. Chunks bound what that has to move.

use std::cmp::Ordering;

use smallvec::SmallVec;

const CHUNK_MAX: usize = 512;

/// How many ids go to their places in one step, in which the caller may not be disturbed: a millisecond.
pub(super) const STEP: usize = 1024;

/// How many ids wait at most; then who adds the last one puts all in their places. They are sorted together,
/// so that those of one step lie near to each other.
const LATE_MAX: usize = 16 * STEP;

/// Up to so many are looked through for one that leaves.
const LATE_SEARCH_MAX: usize = 256;

/// From so many ids for one chunk on it is made anew.
const MERGE_MIN: usize = 4;

/// How the things behind ids stand to each other.
pub(super) trait Order {
    fn compare(&self, one: u32, other: u32) -> Ordering;

    fn sort(&self, ids: &mut [u32]) {
        ids.sort_unstable_by(|a, b| self.compare(*a, *b));
    }

    /// Both in one; each is sorted.
    fn merge(&self, some: &[u32], others: &[u32]) -> Vec<u32> {
        let (mut merged, mut others) = (Vec::with_capacity(some.len() + others.len()), others);
        for id in some {
            let below = others.partition_point(|other| self.compare(*other, *id).is_lt());
            let (before, rest) = others.split_at_checked(below).unwrap_or_default();
            merged.extend_from_slice(before);
            merged.push(*id);
            others = rest;
        }
        merged.extend_from_slice(others);
        merged
    }

    /// Many of them will be compared soon.
    fn touch(&self, _ids: &mut dyn Iterator<Item = u32>) {}
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
    /// They are in descending order.
    sorted: bool,
    /// Somebody knows that there are late ones.
    listed: bool,
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

    /// Inserts `id`, which may have to wait for [`SortedIds::settle`]. Returns whether the caller is to
    /// remember that, which it is told once.
    #[inline]
    pub(super) fn insert_late(&mut self, id: u32, order: &impl Order) -> bool {
        match self {
            Self::Few(ids) => {
                let place = ids.partition_point(|other| order.compare(*other, id).is_lt());
                ids.insert(place, id);
                if ids.len() > CHUNK_MAX {
                    let (chunks, late) = (vec![ids.to_vec()], Vec::new());
                    *self = Self::Many(Box::new(Chunks { chunks, late, sorted: true, listed: false }));
                }
                false
            }
            Self::Many(many) => {
                many.late.push(id);
                many.sorted = false;
                if many.late.len() >= LATE_MAX {
                    while many.settle_step(order) > 0 {}
                }
                !std::mem::replace(&mut many.listed, true)
            }
        }
    }

    /// Ids that wait.
    pub(super) fn late(&self) -> usize {
        if let Self::Many(many) = self { many.late.len() } else { 0 }
    }

    /// Nobody remembers any more that there may be late ones.
    pub(super) fn unlist(&mut self) {
        if let Self::Many(many) = self {
            many.listed = false;
        }
    }

    /// Puts up to [`STEP`] ids in their places; returns how many.
    pub(super) fn settle_step(&mut self, order: &impl Order) -> usize {
        if let Self::Many(many) = self { many.settle_step(order) } else { 0 }
    }

    /// Puts all ids in their places.
    pub(super) fn settle(&mut self, order: &impl Order) {
        while self.settle_step(order) > 0 {}
    }

    /// Removes `id`, if it is there.
    pub(super) fn remove(&mut self, id: u32, order: &impl Order) {
        if self.late() > LATE_SEARCH_MAX {
            self.settle(order);
        }
        let compare = |other| order.compare(other, id);
        match self {
            Self::Few(ids) => {
                let place = ids.partition_point(|other| compare(*other).is_lt());
                if ids.get(place) == Some(&id) {
                    ids.remove(place);
                }
            }
            Self::Many(many) => {
                let Chunks { chunks, late, sorted, .. } = &mut **many;
                if let Some(place) = late.iter().position(|other| *other == id) {
                    late.swap_remove(place);
                    *sorted = false;
                    return;
                }
                let at = chunk_of(chunks, compare);
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
    /// Puts the lowest of the late ids in their places, up to [`STEP`] of them; returns how many.
    #[inline(never)]
    fn settle_step(&mut self, order: &impl Order) -> usize {
        let Self { chunks, late, sorted, .. } = self;
        if late.is_empty() {
            return 0;
        }
        if !std::mem::replace(sorted, true) {
            order.sort(late);
            late.reverse();
        }
        let mut ids = late.split_off(late.len().saturating_sub(STEP));
        let settled = ids.len();
        if late.is_empty() {
            *late = Vec::new();
        }
        ids.reverse();
        if settled > chunks.len() / 4 {
            order.touch(&mut chunks.iter().filter_map(|chunk| chunk.first().copied()));
        }
        let mut rest = &*ids;
        let mut at = 0;
        while let Some(id) = rest.first() {
            at = chunk_from(chunks, at, |other| order.compare(other, *id).is_lt());
            // What belongs here lies below the beginning of the next chunk.
            let here = match chunks.get(at + 1).and_then(|next| next.first()) {
                Some(next) => end_of(rest, |id| order.compare(id, *next).is_lt()),
                None => rest.len(),
            };
            let (here, behind) = rest.split_at_checked(here.max(1)).unwrap_or((rest, &[]));
            rest = behind;
            let Some(chunk) = chunks.get_mut(at) else {
                chunks.extend(pieces(here));
                continue;
            };
            if here.len() >= MERGE_MIN {
                let merged = order.merge(chunk, here);
                if merged.len() > CHUNK_MAX {
                    chunks.splice(at..=at, pieces(&merged));
                } else {
                    *chunk = merged;
                }
                continue;
            }
            for id in here {
                let place = chunk.partition_point(|other| order.compare(*other, *id).is_lt());
                chunk.insert(place, *id);
            }
            if chunk.len() > CHUNK_MAX {
                let upper = chunk.split_off(chunk.len() / 2);
                chunks.insert(at + 1, upper);
            }
        }
        settled
    }
}

/// Sorted ids as chunks that have room for more.
fn pieces(ids: &[u32]) -> impl Iterator<Item = Vec<u32>> {
    let count = ids.len().div_ceil(CHUNK_MAX * 3 / 4).max(1);
    ids.chunks(ids.len().div_ceil(count).max(1)).map(<[u32]>::to_vec)
}

/// How many of the first ids are below something; they are few compared with all.
fn end_of(ids: &[u32], is_below: impl Fn(u32) -> bool) -> usize {
    let (mut below, mut step) = (0, 1);
    while ids.get(below + step - 1).is_some_and(|id| is_below(*id)) {
        below += step;
        step *= 2;
    }
    let between = ids.get(below..).unwrap_or_default();
    let between = between.get(..step).unwrap_or(between);
    below + between.partition_point(|id| is_below(*id))
}

/// The last chunk from `at` on that begins below something, or `at`; mostly it is one of the next.
fn chunk_from(chunks: &[Vec<u32>], at: usize, is_below: impl Fn(u32) -> bool) -> usize {
    let begins_below = |chunk: &Vec<u32>| chunk.first().is_some_and(|first| is_below(*first));
    let (mut below, mut step) = (at, 1);
    while chunks.get(below + step).is_some_and(begins_below) {
        below += step;
        step *= 2;
    }
    let not_below = (below + step).min(chunks.len());
    let between = chunks.get(below + 1..not_below).unwrap_or_default();
    below + between.partition_point(begins_below)
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
        for id in first {
            sorted.insert_late(*id, &|a: u32, b: u32| a.cmp(&b));
            sorted.settle(&|a: u32, b: u32| a.cmp(&b));
        }
        let mut told = 0;
        for id in rest {
            told += u32::from(sorted.insert_late(*id, &|a: u32, b: u32| a.cmp(&b)));
        }
        assert!(told <= 1 && sorted.late() < LATE_MAX);
        ids.iter().filter(|id| !keep(**id)).for_each(|id| sorted.remove(*id, &|a: u32, b: u32| a.cmp(&b)));
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
        check(100_000, |id| id % 3 > 0);
    }

    #[test]
    fn removal_leaves_no_empty_chunk() {
        check(20_000, |id| id > 1 << 31);
        check(20_000, |id| id % 64 == 0);
        check(20_000, |_| false);
    }
}
