//! Series of one family, or families -> their order in the exposition.

use std::cmp::Ordering;

use super::family::Family;
use super::order::Order;
use super::series::Series;

/// What has a place in the order.
pub(super) trait Keyed {
    /// Compared byte by byte.
    fn key(&self) -> &[u8];

    /// Parts those whose keys are the same.
    fn rank(&self) -> u32;
}

impl Keyed for Series {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn rank(&self) -> u32 {
        self.vector
    }
}

/// No two have the same name.
impl Keyed for Family {
    fn key(&self) -> &[u8] {
        self.name.as_bytes()
    }

    fn rank(&self) -> u32 {
        0
    }
}

/// Sorts places among these.
pub(super) struct ByKey<'a, T>(pub(super) &'a [T]);

impl<T: Keyed> Order for ByKey<'_, T> {
    fn compare(&self, one: u32, other: u32) -> Ordering {
        let (one, other) = (&self.0[one as usize], &self.0[other as usize]);
        one.key().cmp(other.key()).then(one.rank().cmp(&other.rank()))
    }

    /// By eight bytes of each key, from where the keys begin to differ, and the next eight where those are
    /// the same.
    fn sort(&self, ids: &mut [u32]) {
        let mut digests: Vec<(u64, u32)> = ids.iter().map(|id| (0, *id)).collect();
        self.sort_digests(&mut digests, LEVELS);
        for (place, (_, id)) in ids.iter_mut().zip(digests) {
            *place = id;
        }
    }

    /// By the eight bytes from where the keys of all begin to differ.
    fn merge(&self, some: &[u32], others: &[u32]) -> Vec<u32> {
        let all = || some.iter().chain(others).copied();
        self.touch(&mut all());
        // As both are sorted, no key can differ from another one before these do.
        let ends = [some.first(), some.last(), others.first(), others.last()];
        let from = self.common(ends.into_iter().flatten().copied());
        let mut merged = Vec::with_capacity(some.len() + others.len());
        let mut others = others.iter().copied();
        let mut next = others.next().map(|id| (self.digest(id, from), id));
        for id in some.iter().copied() {
            let own = self.digest(id, from);
            while let Some((digest, other)) = next
                && (digest < own || digest == own && self.compare(other, id).is_lt())
            {
                merged.push(other);
                next = others.next().map(|id| (self.digest(id, from), id));
            }
            merged.push(id);
        }
        merged.extend(next.map(|(_, id)| id));
        merged.extend(others);
        merged
    }

    /// Each lies somewhere else, and misses of the cache overlap here.
    fn touch(&self, ids: &mut dyn Iterator<Item = u32>) {
        let ends = ids.filter_map(|id| self.0.get(id as usize)?.key().last());
        std::hint::black_box(ends.fold(0, |all, byte| all ^ byte));
    }
}

/// How many times eight bytes are looked at before whole keys are compared.
const LEVELS: usize = 4;
/// Fewer than these are compared at once.
const RUN_MIN: usize = 4;

impl<T: Keyed> ByKey<'_, T> {
    fn sort_digests(&self, digests: &mut [(u64, u32)], levels: usize) {
        if levels == 0 || digests.len() < RUN_MIN {
            return digests.sort_unstable_by(|a, b| self.compare(a.1, b.1));
        }
        let from = self.common(digests.iter().map(|(_, id)| *id));
        for (digest, id) in digests.iter_mut() {
            *digest = self.digest(*id, from);
        }
        digests.sort_unstable_by_key(|(digest, _)| *digest);
        for run in digests.chunk_by_mut(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
            self.sort_digests(run, levels - 1);
        }
    }

    /// How many bytes all keys begin with.
    fn common(&self, mut ids: impl Iterator<Item = u32>) -> usize {
        let Some(first) = ids.next() else { return 0 };
        let first = self.0[first as usize].key();
        ids.fold(first.len(), |common, id| common_prefix(first.get(..common), self.0[id as usize].key()))
    }

    fn digest(&self, id: u32, from: usize) -> u64 {
        digest(self.0[id as usize].key().get(from..).unwrap_or_default())
    }
}

/// How many bytes both begin with. Eight are compared at once.
fn common_prefix(one: Option<&[u8]>, other: &[u8]) -> usize {
    let one = one.unwrap_or_default();
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let mut same = 0;
    for (a, b) in words {
        let difference = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if difference != 0 {
            return same + difference.trailing_zeros() as usize / 8;
        }
        same += 8;
    }
    let (one, other) = (one.get(same..).unwrap_or_default(), other.get(same..).unwrap_or_default());
    same + one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// The first eight bytes as a number of the same order. One that is shorter may seem equal to a longer one,
/// but never greater.
fn digest(text: &[u8]) -> u64 {
    match text.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
            u64::from_be_bytes(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::counter::Counter;
    use super::super::series::{Created, Value};
    use super::*;

    proptest! {
        #[test]
        fn a_common_prefix_is_as_long_as_byte_by_byte(one in "[ab]{0,3}a{0,20}b{0,3}", other in "a{0,20}[ab]{0,4}") {
            let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(common_prefix(Some(one.as_bytes()), other.as_bytes()), same);
        }

        #[test]
        fn places_are_sorted_as_their_keys_compare(
            keys in proptest::collection::vec("(same|same prefix)?[\0ab]{0,24}", 0..150)
        ) {
            let series: Vec<Series> = keys
                .iter()
                .map(|key| Series {
                    generation: 0,
                    hash: 0,
                    vector: 0,
                    deadline: 0,
                    key: key.as_bytes().into(),
                    value: Value::Counter(Counter::default(), Created::default()),
                })
                .collect();
            let mut ids: Vec<u32> = (0..keys.len()).map(|at| u32::try_from(at).unwrap()).collect();
            let mut expected: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
            let (some, others) = ids.split_at_mut(keys.len() / 3);
            ByKey(&series).sort(some);
            ByKey(&series).sort(others);
            let merged = ByKey(&series).merge(some, others);
            ByKey(&series).sort(&mut ids);
            expected.sort_unstable();
            prop_assert!(merged.iter().map(|id| keys[*id as usize].as_bytes()).eq(expected.iter().copied()));
            prop_assert!(ids.iter().map(|id| keys[*id as usize].as_bytes()).eq(expected));
        }
    }
}
