//! Families without series, longest idle first -> room for new names.
//!
//! A name keeps its type when its series expire, so that a clash is one at any time of day. But names
//! that carry ids would use up all room for names; so when there is none left, the name that was idle
//! for longest is forgotten.

use std::collections::VecDeque;

use super::Registry;
use super::family::{NO_FAMILY, NO_VECTOR, Vector};
use super::spread;
use crate::clock::Timestamp;

/// Entries of the queue looked at for one new name. Those that are not idle any more leave it, so that
/// on average it is one.
const LOOKS_MAX: usize = 64;

/// Which families have no series, and which places are free.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Each family at most once, with the time it was queued for. It may have series again.
    queue: VecDeque<(Timestamp, u32)>,
    pub(super) free_families: Vec<u32>,
    pub(super) free_vectors: Vec<u32>,
    serials: u64,
}

impl Idle {
    /// The number of the next family.
    pub(super) fn next_serial(&mut self) -> u64 {
        let serial = self.serials;
        self.serials += 1;
        serial
    }

    pub(super) fn peek_serial(&self) -> u64 {
        self.serials
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<(Timestamp, u32)>()
            + (self.free_families.capacity() + self.free_vectors.capacity()) * size_of::<u32>()
    }
}

impl Registry {
    pub(super) fn live_vectors(&self) -> usize {
        self.vectors.len() - self.idle.free_vectors.len()
    }

    pub(super) fn live_families(&self) -> usize {
        self.families.len() - self.idle.free_families.len()
    }

    /// Notes that the last series of `family` is gone.
    pub(super) fn note_idle(&mut self, family: u32, now: Timestamp) {
        let place = &mut self.families[family as usize];
        place.idle_since = now;
        if !std::mem::replace(&mut place.queued, true) {
            self.idle.queue.push_back((now, family));
        }
    }

    /// Whether there is room for one vector more; makes it, if a family other than `wanted` is idle.
    pub(super) fn has_vector_room(&mut self, wanted: Option<u32>) -> bool {
        let vectors_max = self.config.vectors_max as usize;
        for _ in 0..LOOKS_MAX {
            if self.live_vectors() < vectors_max {
                return true;
            }
            let Some((queued_for, id)) = self.idle.queue.pop_front() else { return false };
            let family = &mut self.families[id as usize];
            if !family.series.is_empty() {
                family.queued = false;
            } else if family.idle_since > queued_for || wanted == Some(id) {
                self.idle.queue.push_back((family.idle_since, id));
            } else {
                self.forget(id);
            }
        }
        self.live_vectors() < vectors_max
    }

    /// Takes the name of a family without series, and its sets of label names, out of the registry.
    fn forget(&mut self, id: u32) {
        let family = &mut self.families[id as usize];
        family.queued = false;
        let (hash, mut next) = (family.hash, std::mem::replace(&mut family.newest, NO_VECTOR));
        self.owned_bytes = self.owned_bytes.saturating_sub(family.name.len());
        family.name = Box::default();
        // Nobody who remembers it finds it again.
        family.serial = self.idle.next_serial();
        if let Ok(entry) = self.family_index.find_entry(spread(hash), |place| *place == id) {
            entry.remove();
        }
        self.idle.free_families.push(id);
        while let Some(Vector { family, hash, names, older, .. }) = self.vectors.get_mut(next as usize) {
            let (vector, hash) = (next, *hash);
            *family = NO_FAMILY;
            next = std::mem::replace(older, NO_VECTOR);
            self.owned_bytes = self.owned_bytes.saturating_sub(names.len());
            *names = Box::default();
            if let Ok(entry) = self.vector_index.find_entry(spread(hash), |place| *place == vector) {
                entry.remove();
            }
            self.idle.free_vectors.push(vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use FamilyKind::{Counter as C, Gauge as G, Histogram as H, Summary as S};

    use super::super::tests::Fixture;
    use super::super::{FamilyKind, Refusal, RegistryConfig};
    use super::*;
    use std::time::Duration;

    const TTL: Option<Duration> = Some(Duration::from_secs(1));
    const LATER: Timestamp = Timestamp(3_000_000_000);

    /// Room for 4 series and 8 names.
    fn fixture() -> Fixture {
        Fixture::new(RegistryConfig::new(4, 0))
    }

    #[track_caller]
    fn take(fixture: &mut Fixture, kind: FamilyKind, family: &str, key: &str) -> Result<bool, Refusal> {
        let labels = [(key, "v")];
        let labels = if key.is_empty() { &[][..] } else { &labels };
        let resolved = fixture.resolved(kind, family, labels, TTL, None)?;
        Ok(resolved.overflow)
    }

    #[test]
    fn names_that_come_and_go_never_use_up_the_room_for_names() {
        let mut fixture = fixture();
        let mut bytes_most = 0;
        for round in 0..1000 {
            for n in 0..4 {
                let kind = [C, G, S, H][(round + n) % 4];
                let key = ["", "k"][round % 2];
                assert_eq!(take(&mut fixture, kind, &format!("r{round:04}_{n}"), key), Ok(false), "{round}");
            }
            assert_eq!(fixture.registry.expire(LATER).series, 4);
            let registry = &fixture.registry;
            assert!(registry.live_vectors() <= 8 && registry.families.len() <= 8);
            assert_eq!(
                registry.vectors.len(),
                registry.vector_index.len() + registry.idle.free_vectors.len()
            );
            assert_eq!(registry.live_families(), registry.family_index.len());
            assert!(registry.idle.queue.len() <= registry.families.len());
            bytes_most = bytes_most.max(registry.owned_bytes);
        }
        assert!(bytes_most < 10_000, "{bytes_most}");
        assert_eq!(fixture.registry.stats().vectors(C), 1000, "ever created");
    }

    #[test]
    fn the_name_that_was_idle_for_longest_is_forgotten_with_its_type() {
        let mut fixture = fixture();
        for (at, name) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().enumerate() {
            assert_eq!(take(&mut fixture, C, name, ""), Ok(false));
            fixture.registry.expire(LATER.after(Duration::from_secs(at as u64)));
        }
        // `a` lives again, so `b` has been idle for longest.
        assert_eq!(take(&mut fixture, C, "a", ""), Ok(false));
        assert_eq!(take(&mut fixture, G, "b", ""), Err(Refusal::TypeConflict), "there was room");
        let id = fixture.registry.family_id("b").unwrap();
        assert_eq!(take(&mut fixture, G, "i", ""), Ok(false));
        assert!(fixture.registry.family(id).is_none() && fixture.registry.family_id("b").is_none());
        assert_eq!(take(&mut fixture, G, "c", ""), Err(Refusal::TypeConflict));
        assert_eq!(take(&mut fixture, G, "a", ""), Err(Refusal::TypeConflict));
        assert_eq!(take(&mut fixture, G, "b", ""), Ok(false), "in the place of `c`");
        assert!(fixture.registry.family_id("c").is_none());
    }

    #[test]
    fn a_name_is_not_forgotten_for_its_own_labels() {
        let mut fixture = fixture();
        for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            assert_eq!(take(&mut fixture, C, "x", key), Ok(false));
            fixture.registry.expire(LATER);
        }
        assert_eq!(take(&mut fixture, C, "x", "i"), Ok(true), "no room but in overflow series");
        assert_eq!(take(&mut fixture, G, "x", "i"), Err(Refusal::TypeConflict));
    }
}
