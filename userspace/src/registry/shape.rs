//! Family and label names of a request -> the vector they had last time.
//!
//! Most new series differ from the one before only in the values of their labels: a mapping rule names the
//! others. So what the names come to is remembered, and compared with the request's own; sorting, checking
//! and hashing them is left out.

use smallvec::SmallVec;

use super::family::{Family, Vector};
use super::labels::SEPARATOR;
use super::{Refusal, SeriesRequest};

/// A power of two.
const PLACES: usize = 256;
/// More labels are sorted each time.
const LABELS_MAX: usize = 8;

/// What is remembered, by a few bytes of the family's name. One in the place of another costs time only.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    places: Vec<Shape>,
}

#[derive(Clone, Debug)]
struct Shape {
    vector: u32,
    /// Of the vector, whose place may be another one's by now.
    hash: u32,
    /// Places of the labels of the request, in the order of their names.
    order: SmallVec<[u8; LABELS_MAX]>,
}

impl Shapes {
    /// The vector of `request`, if its names are those of a vector that is there. `key` gets the key of the
    /// series then.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidLabelValue`].
    #[inline]
    pub(super) fn find(
        &self,
        request: &SeriesRequest<'_>,
        vectors: &[Vector],
        families: &[Family],
        key: &mut Vec<u8>,
    ) -> Result<Option<u32>, Refusal> {
        let Some(shape) = self.places.get(place_of(request)) else { return Ok(None) };
        let Some(vector) = vectors.get(shape.vector as usize) else { return Ok(None) };
        let Some(family) = families.get(vector.family as usize) else { return Ok(None) };
        if vector.hash != shape.hash
            || family.kind != request.kind
            || *family.name != *request.family
            || shape.order.len() != request.labels.len()
        {
            return Ok(None);
        }
        key.clear();
        // A count of two bytes, see [`labels`](super::labels).
        key.extend_from_slice(&[0, u8::try_from(shape.order.len()).unwrap_or(u8::MAX)]);
        let mut names = vector.names.as_bytes();
        for (at, place) in shape.order.iter().enumerate() {
            let Some((name, value)) = request.labels.get(usize::from(*place)) else { return Ok(None) };
            if at > 0 {
                let Some(rest) = names.strip_prefix(&[SEPARATOR]) else { return Ok(None) };
                names = rest;
                key.push(SEPARATOR);
            }
            let Some(rest) = names.strip_prefix(name.as_bytes()) else { return Ok(None) };
            names = rest;
            key.extend_from_slice(value.as_bytes());
        }
        if !names.is_empty() {
            return Ok(None);
        }
        let values = key.get(2..).unwrap_or_default();
        let separators = values.iter().filter(|byte| **byte == SEPARATOR).count();
        if separators + 1 > shape.order.len().max(1) {
            return Err(Refusal::InvalidLabelValue);
        }
        Ok(Some(shape.vector))
    }

    /// Remembers the vector that was found or made for `request`, whose labels are valid.
    pub(super) fn note(&mut self, request: &SeriesRequest<'_>, vector: u32, hash: u32) {
        let labels = request.labels;
        if labels.len() > LABELS_MAX {
            return;
        }
        let mut order: SmallVec<[u8; LABELS_MAX]> = (0..).take(labels.len()).collect();
        order.sort_unstable_by_key(|place| labels.get(usize::from(*place)).map(|label| label.0));
        if self.places.is_empty() {
            self.places = vec![Shape { vector: u32::MAX, hash: 0, order: SmallVec::new() }; PLACES];
        }
        if let Some(place) = self.places.get_mut(place_of(request)) {
            *place = Shape { vector, hash, order };
        }
    }
}

fn place_of(request: &SeriesRequest<'_>) -> usize {
    let name = request.family.as_bytes();
    let end = name.last_chunk().map_or(0, |end| u64::from_le_bytes(*end));
    let mixed = (end ^ (name.len() as u64) << 3 ^ request.labels.len() as u64).wrapping_mul(SPREAD);
    (mixed >> 56) as usize % PLACES
}

const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::super::tests::Fixture;
    use super::super::{FamilyKind, Refusal, RegistryConfig};

    #[test]
    fn a_remembered_shape_takes_nothing_but_its_own_names() {
        let mut fixture = Fixture::new(RegistryConfig::default());
        let mut make = |kind, labels: &[(&str, &str)]| {
            let resolved = fixture.resolved(kind, "family_of_ten", labels, None, None);
            resolved.map(|resolved| (resolved.id, resolved.created))
        };
        let counter = FamilyKind::Counter;
        let (first, created) = make(counter, &[("b", "1"), ("a", "2")]).unwrap();
        assert!(created);
        // In any order.
        assert_eq!(make(counter, &[("b", "1"), ("a", "2")]), Ok((first, false)));
        assert_eq!(make(counter, &[("a", "2"), ("b", "1")]), Ok((first, false)));
        assert_eq!(make(counter, &[("b", "1"), ("a", "2")]), Ok((first, false)));
        for other in [&[("b", "1"), ("aa", "2")][..], &[("b", "1"), ("", "2")], &[("b", "1")], &[]] {
            let made = make(counter, other);
            assert!(made == Err(Refusal::InvalidLabelName) || made.unwrap().1, "{other:?}");
        }
        let (other, created) = make(counter, &[("b", "2"), ("a", "1")]).unwrap();
        assert!(created && other != first);
        for value in ["\0", "x\0y", "1\0"] {
            assert_eq!(make(counter, &[("b", value), ("a", "2")]), Err(Refusal::InvalidLabelValue));
        }
        assert_eq!(make(FamilyKind::Gauge, &[("b", "1"), ("a", "2")]), Err(Refusal::TypeConflict));
        assert_eq!(make(counter, &[("b", "1"), ("b", "2")]), Err(Refusal::DuplicateLabelName));
        assert_eq!(make(counter, &[("b", "1"), ("a", "2")]), Ok((first, false)));
    }

    #[test]
    fn many_labels_and_none_are_found_again() {
        let mut fixture = Fixture::new(RegistryConfig::default());
        let names: Vec<String> = (0..300).map(|n| format!("l{n}")).collect();
        for count in [0, 1, 8, 9, 300] {
            let labels: Vec<(&str, &str)> = names.iter().take(count).map(|name| (&**name, "v")).collect();
            for created in [true, false, false] {
                let resolved = fixture.resolved(FamilyKind::Gauge, "family_of_ten", &labels, None, None);
                assert_eq!(resolved.unwrap().created, created, "{count}");
            }
        }
    }
}
