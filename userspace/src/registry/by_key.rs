//! Series of one family -> their order in the exposition.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::order::Order;
use super::series::Series;

/// Sorts places among these series.
pub(super) struct ByKey<'a>(pub(super) &'a [Series]);

/// How one series stands to another of its family.
pub(super) fn compare(one: &Series, other: &Series) -> Ordering {
    (*one.key).cmp(&*other.key).then(one.vector.cmp(&other.vector))
}

impl Order for ByKey<'_> {
    fn compare(&self, one: u32, other: u32) -> Ordering {
        compare(&self.0[one as usize], &self.0[other as usize])
    }

    /// By eight bytes of each key, from where the keys begin to differ; most are told apart by those, and
    /// nothing else is looked at then.
    fn sort(&self, ids: &mut [u32]) {
        let key = |id: u32| &*self.0[id as usize].key;
        let Some((first, rest)) = ids.split_first() else { return };
        let first = key(*first);
        let common = rest.iter().fold(first.len(), |common, id| common_prefix(first.get(..common), key(*id)));
        let mut digests: SmallVec<[(u64, u32); 256]> =
            ids.iter().map(|id| (digest(key(*id).get(common..).unwrap_or_default()), *id)).collect();
        digests.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.compare(a.1, b.1)));
        for (place, (_, id)) in ids.iter_mut().zip(digests) {
            *place = id;
        }
    }
}

/// How many bytes both begin with.
fn common_prefix(one: Option<&[u8]>, other: &[u8]) -> usize {
    one.unwrap_or_default().iter().zip(other).take_while(|(a, b)| a == b).count()
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
        fn places_are_sorted_as_their_keys_compare(
            keys in proptest::collection::vec("(same|same prefix)?[\0a-c]{0,12}", 0..600)
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
            ByKey(&series).sort(&mut ids);
            expected.sort_unstable();
            prop_assert!(ids.iter().map(|id| keys[*id as usize].as_bytes()).eq(expected));
        }
    }
}
