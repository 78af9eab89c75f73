//! Copies of one event -> the one that counts.
//!
//! Airflow sends many events twice or thrice, under names that tell more or less about them. Which copies
//! come depends on its version and settings, and the best one there is shall count, once. A rule says which
//! event its lines are copies of and how good they are (`same_event`). While a better copy has series, worse
//! ones are dropped; when the first better one comes, what worse ones made until then goes.

use std::collections::HashMap;

use hashbrown::HashSet;

use crate::clock::Timestamp;
use crate::mapper::tags::SameEvent;
use crate::registry::{Registry, SeriesId};

/// Ids that are kept before dead ones are looked for.
const MADE_MIN: usize = 1024;

/// Who made what, by event and rank.
#[derive(Debug, Default)]
pub(super) struct Copies {
    events: HashMap<Box<str>, Vec<Copy>>,
}

#[derive(Debug, Default)]
struct Copy {
    rank: u32,
    made: HashSet<SeriesId, foldhash::fast::RandomState>,
    /// One of `made` that was alive when last seen.
    witness: Option<SeriesId>,
    /// Dead ids are looked for when `made` has reached this size.
    prune_at: usize,
}

impl Copies {
    /// A series of a better copy of the event, if there is one.
    pub(super) fn better(&mut self, event: &SameEvent, registry: &Registry) -> Option<SeriesId> {
        let copies = self.events.get_mut(&event.name)?;
        copies.iter_mut().filter(|copy| copy.rank < event.rank).find_map(|copy| copy.alive(registry))
    }

    /// Removes what worse copies of the event have made.
    pub(super) fn retire_worse(&mut self, event: &SameEvent, registry: &mut Registry, now: Timestamp) {
        let Some(copies) = self.events.get_mut(&event.name) else { return };
        for copy in copies.iter_mut().filter(|copy| copy.rank > event.rank) {
            for id in copy.made.drain() {
                registry.discard(id, now);
            }
        }
    }

    /// Notes that the copy feeds a series.
    pub(super) fn note(&mut self, event: &SameEvent, id: SeriesId, registry: &Registry) {
        if !self.events.contains_key(&event.name) {
            self.events.insert(event.name.clone(), Vec::new());
        }
        let Some(copies) = self.events.get_mut(&event.name) else { return };
        let at = copies.iter().position(|copy| copy.rank == event.rank).unwrap_or_else(|| {
            copies.push(Copy { rank: event.rank, prune_at: MADE_MIN, ..Copy::default() });
            copies.len() - 1
        });
        let copy = &mut copies[at];
        copy.made.insert(id);
        if copy.made.len() >= copy.prune_at {
            copy.made.retain(|id| registry.is_live(*id));
            copy.prune_at = MADE_MIN.max(copy.made.len().saturating_mul(2));
        }
    }

    /// After a reload: forgets events that have no series left.
    pub(super) fn prune(&mut self, registry: &Registry) {
        self.events.retain(|_, copies| {
            copies.retain_mut(|copy| copy.alive(registry).is_some());
            !copies.is_empty()
        });
    }
}

impl Copy {
    fn alive(&mut self, registry: &Registry) -> Option<SeriesId> {
        if !self.witness.is_some_and(|id| registry.is_live(id)) {
            self.made.retain(|id| registry.is_live(*id));
            self.witness = self.made.iter().next().copied();
        }
        self.witness
    }
}
