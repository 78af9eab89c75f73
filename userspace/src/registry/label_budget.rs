//! Series of a family -> how many of them each value of a label has; those that want too many.
//!
//! A DAG that makes a task id for each file would take all the room of its family, and the other DAGs
//! pay for it. So one label of a family has a budget for each of its values. Beyond it events go to an
//! overflow series that keeps this one label, and the offender is named.

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::budget::OVERFLOW_VALUE;
use super::distinct::Distinct;
use super::labels::LabelsView;
use super::resolve::append;
use super::series::SeriesId;
use super::{FamilyKind, Refusal, Registry, Resolved, SeriesRequest, spread};
use crate::clock::Timestamp;

/// Bound for the series that one value of a label may have in a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelBudget {
    /// Label name.
    pub label: Box<str>,
    /// Not zero.
    pub series_max: u32,
}

/// A label value that wanted more series than its budget has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offender<'a> {
    pub family: &'a str,
    pub label: &'a str,
    pub value: &'a str,
    /// Series of its own.
    pub series: u32,
    /// Events without room for a series of their own.
    pub events: u64,
    /// How many series those would have made since it was told apart; an estimate, right to some 7 %.
    pub refused_series: f64,
}

/// Offenders that are told apart; of further ones, those with the most events.
const OFFENDERS_MAX: usize = 64;

/// The label of a family that has a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tracked {
    /// Place among the names of labels.
    label: u32,
    /// Which rules said so; later ones may say something else.
    generation: u32,
}

/// What is known of one value of the label of one family. It is there as long as its series are.
#[derive(Debug)]
struct Use {
    hash: u32,
    family: u32,
    value: Box<[u8]>,
    /// Its own series, without the overflow series.
    series: u32,
    overflow: SeriesId,
    events: u64,
    /// For offenders.
    refused: Option<Box<Distinct>>,
}

/// Uses of all families.
#[derive(Debug, Default)]
pub(super) struct LabelUses {
    uses: Vec<Use>,
    free: Vec<u32>,
    index: HashTable<u32>,
    labels: Vec<Box<str>>,
    offenders: Vec<u32>,
    /// Of the rules that are in force.
    generation: u32,
    value_bytes: usize,
}

impl LabelUses {
    fn find(&self, hash: u32, family: u32, value: &[u8]) -> Option<u32> {
        let found = self.index.find(spread(hash), |at| {
            let known = &self.uses[*at as usize];
            known.hash == hash && known.family == family && *known.value == *value
        });
        found.copied()
    }

    fn find_or_add(&mut self, hash: u32, family: u32, value: &[u8]) -> u32 {
        if let Some(place) = self.find(hash, family, value) {
            return place;
        }
        let new = Use {
            hash,
            family,
            value: value.into(),
            series: 0,
            overflow: SeriesId::NONE,
            events: 0,
            refused: None,
        };
        self.value_bytes += value.len();
        let free = self.free.pop();
        append(&mut self.uses, &mut self.index, free, new, |known| known.hash)
    }

    /// Forgets a value that has no series any more.
    fn forget(&mut self, place: u32) {
        let known = &mut self.uses[place as usize];
        self.value_bytes = self.value_bytes.saturating_sub(known.value.len());
        (known.value, known.refused) = (Box::default(), None);
        if let Ok(entry) = self.index.find_entry(spread(known.hash), |at| *at == place) {
            entry.remove();
        }
        self.offenders.retain(|offender| *offender != place);
        self.free.push(place);
    }

    /// Counts an event that has no room, and the series that it would have made.
    fn offend(&mut self, place: u32, series_hash: u64) {
        let events = {
            let known = &mut self.uses[place as usize];
            known.events += 1;
            known.events
        };
        if self.uses[place as usize].refused.is_none() {
            if self.offenders.len() >= OFFENDERS_MAX {
                let least =
                    (0..OFFENDERS_MAX).min_by_key(|at| self.uses[self.offenders[*at] as usize].events);
                let Some(least) = least else { return };
                if self.uses[self.offenders[least] as usize].events >= events {
                    return;
                }
                let gives_way = self.offenders.swap_remove(least);
                self.uses[gives_way as usize].refused = None;
            }
            self.offenders.push(place);
        }
        self.uses[place as usize].refused.get_or_insert_default().add(series_hash);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.uses.capacity() * size_of::<Use>()
            + self.value_bytes
            + self.index.capacity() * (size_of::<u32>() + 1) * 8 / 7
            + self.free.capacity() * size_of::<u32>()
            + self.offenders.len() * size_of::<Distinct>()
    }
}

impl Registry {
    /// Other rules hold from now on; they may count by other labels.
    pub fn rules_changed(&mut self) {
        self.uses.generation = self.uses.generation.wrapping_add(1);
    }

    /// Whether the value that `request` has of the label with a budget may have one series more in
    /// `family`, which is there.
    pub(super) fn check_label(&mut self, family: u32, request: &SeriesRequest<'_>) -> Result<(), Refusal> {
        let Some((place, budget)) = self.use_of(family, request) else { return Ok(()) };
        let Some(known) = self.uses.uses.get(place as usize) else { return Ok(()) };
        if known.series < budget { Ok(()) } else { Err(Refusal::LabelLimit) }
    }

    /// What is known of the value that `request` has of the label with a budget, and the budget.
    fn use_of(&mut self, family: u32, request: &SeriesRequest<'_>) -> Option<(u32, u32)> {
        let budget = request.label_budget?;
        self.track(family, &budget.label);
        let tracked = self.families[family as usize].tracked?;
        let (_, value) = request.labels.iter().find(|(name, _)| *name == &*budget.label)?;
        if self.uses.labels[tracked.label as usize] != budget.label {
            return None;
        }
        let hash = self.use_hash(family, value.as_bytes());
        Some((self.uses.find(hash, family, value.as_bytes())?, budget.series_max))
    }

    /// Counts the series of `family` by `label` from now on. Of rules that disagree the first one holds.
    pub(super) fn track(&mut self, family: u32, label: &str) {
        let generation = self.uses.generation;
        let tracked = self.families[family as usize].tracked;
        if tracked.is_some_and(|tracked| tracked.generation == generation) {
            return;
        }
        let place = super::family::intern(&mut self.uses.labels, Box::from(label));
        self.families[family as usize].tracked = Some(Tracked { label: place, generation });
        if tracked.is_some_and(|tracked| tracked.label == place) {
            return;
        }
        // All series that are there, once for each family and change of its rule.
        let series: Vec<u32> = self.families[family as usize].series.all().collect();
        for index in &series {
            if let Some(tracked) = tracked {
                self.drop_use(family, *index, tracked);
            }
        }
        for index in series {
            self.note_added(family, self.slots.id(index));
        }
    }

    /// Forgets what was counted by another label. Its overflow series become series like others.
    fn drop_use(&mut self, family: u32, index: u32, tracked: Tracked) {
        let Some(place) = self.use_of_series(family, index, tracked) else { return };
        if self.slots.is_live(self.uses.uses[place as usize].overflow) {
            self.families[family as usize].own_series += 1;
            self.overflow_gone();
        }
        self.uses.forget(place);
    }

    /// The place of the value that a series has of the label with a budget.
    fn use_of_series(&self, family: u32, index: u32, tracked: Tracked) -> Option<u32> {
        let value = self.value_of(index, tracked)?;
        self.uses.find(self.use_hash(family, value), family, value)
    }

    fn value_of(&self, index: u32, tracked: Tracked) -> Option<&[u8]> {
        let series = self.slots.all.get(index as usize)?;
        let names = &self.vectors.get(series.vector as usize)?.names;
        let label = self.uses.labels.get(tracked.label as usize)?.as_bytes();
        let labels = LabelsView { names, key: &series.key };
        labels.iter().find(|(name, _)| *name == label).map(|(_, value)| value)
    }

    /// Notes a new series, which is no overflow series.
    pub(super) fn note_added(&mut self, family: u32, id: SeriesId) {
        let Some(tracked) = self.families[family as usize].tracked else { return };
        if self.families[family as usize].overflow == id {
            return;
        }
        let Some(value) = self.value_of(id.index, tracked) else { return };
        let hash = self.use_hash(family, value);
        let value: SmallVec<[u8; 64]> = SmallVec::from_slice(value);
        let place = self.uses.find_or_add(hash, family, &value);
        self.uses.uses[place as usize].series += 1;
    }

    /// Notes that a series leaves, or becomes the overflow series of its family. Whether it was the
    /// overflow series of a label value.
    pub(super) fn note_left(&mut self, family: u32, id: SeriesId) -> bool {
        let Some(tracked) = self.families[family as usize].tracked else { return false };
        if self.families[family as usize].overflow == id {
            return false;
        }
        let Some(place) = self.use_of_series(family, id.index, tracked) else { return false };
        let known = &mut self.uses.uses[place as usize];
        let was_overflow = known.overflow == id;
        if was_overflow {
            known.overflow = SeriesId::NONE;
        } else {
            known.series = known.series.saturating_sub(1);
        }
        if known.series == 0 && known.overflow == SeriesId::NONE {
            self.uses.forget(place);
        }
        was_overflow
    }

    /// The series that takes what a label value has no room for: the labels of `request`, all with the
    /// value [`OVERFLOW_VALUE`] but the one with the budget. `None` if there is no room for it either.
    pub(super) fn resolve_label_overflow(
        &mut self,
        request: &SeriesRequest<'_>,
        now: Timestamp,
    ) -> Option<Resolved> {
        let family = self.family_named(request.family)?;
        let (place, _) = self.use_of(family, request)?;
        self.uses.offend(place, self.joined_hash());
        if request.kind == FamilyKind::Gauge {
            return None;
        }
        let known = self.uses.uses[place as usize].overflow;
        if self.slots.is_live(known) {
            return Some(Resolved { id: known, overflow: true, created: false });
        }
        if !self.has_overflow_room() {
            return None;
        }
        let budget = request.label_budget?;
        let kept = |label: &(&str, &str)| *label.0 == *budget.label;
        let labels: SmallVec<[(&str, &str); 16]> = request
            .labels
            .iter()
            .map(|label| if kept(label) { *label } else { (label.0, OVERFLOW_VALUE) })
            .collect();
        let request = SeriesRequest { labels: &labels, ..*request };
        self.joined.join(request.kind, &labels).ok()?;
        let vector = match self.find_vector(&request) {
            Some(vector) => vector,
            None if self.has_vector_room(Some(family)) => self.append_vector(family, &request),
            None => return None,
        };
        // A sender may have used the very values.
        let hash = self.series_hash(vector);
        let id = match self.find_series(vector, hash) {
            Some(id) if self.is_overflow(family, id) => {
                return Some(Resolved { id, overflow: true, created: false });
            }
            Some(id) => {
                let family = &mut self.families[family as usize];
                family.own_series = family.own_series.saturating_sub(1);
                let known = &mut self.uses.uses[place as usize];
                known.series = known.series.saturating_sub(1);
                id
            }
            None => self.append_series(vector, hash, &request, SeriesId::NONE, now),
        };
        self.uses.uses[place as usize].overflow = id;
        self.overflow_made();
        Some(Resolved { id, overflow: true, created: false })
    }

    /// Label values that wanted more series than their budget has, up to `count`, the one with the most
    /// events first.
    #[must_use]
    pub fn offenders(&self, count: usize) -> Vec<Offender<'_>> {
        let mut places = self.uses.offenders.clone();
        places.sort_by_key(|place| std::cmp::Reverse(self.uses.uses[*place as usize].events));
        let offender = |place: u32| {
            let known = &self.uses.uses[place as usize];
            let family = &self.families[known.family as usize];
            Some(Offender {
                family: &family.name,
                label: self.uses.labels.get(family.tracked?.label as usize)?,
                value: str::from_utf8(&known.value).ok()?,
                series: known.series,
                events: known.events,
                refused_series: known.refused.as_ref()?.estimate(),
            })
        };
        places.into_iter().take(count).filter_map(offender).collect()
    }

    fn use_hash(&self, family: u32, value: &[u8]) -> u32 {
        use std::hash::Hasher as _;
        self.hash(|state| {
            state.write_u32(family);
            state.write(value);
        })
    }
}

#[cfg(test)]
#[path = "label_budget_tests.rs"]
mod tests;
