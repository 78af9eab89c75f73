//! Request -> its series, found or made; or why it cannot be.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{
    FamilyKind, Refusal, Registry, Resolved, SeriesId, SeriesRequest,
    by_key::ByKey,
    counter::Counter,
    expiry,
    family::{Family, NO_VECTOR, Vector, intern},
    gauge::Gauge,
    histogram::{Histogram, HistogramPlan},
    labels,
    order::SortedIds,
    owned_bytes,
    sender_gauge::SenderGauge,
    series::{Created, Series, Value},
    spread,
    summary::{Summary, SummaryPlan},
};
use crate::clock::Timestamp;

impl Registry {
    /// Finds the series of `request`, or creates it with the value zero. Without room for it, finds
    /// or makes the one that keeps the sum.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if it cannot be part of a valid exposition; or a gauge has no room.
    pub fn resolve(&mut self, request: &SeriesRequest<'_>, now: Timestamp) -> Result<Resolved, Refusal> {
        match self.resolve_own(request, SeriesId::NONE, now) {
            Err(Refusal::LabelLimit) => match self.resolve_label_overflow(request, now) {
                Some(resolved) => Ok(resolved),
                None => self.resolve_overflow(request, Refusal::LabelLimit, now),
            },
            Err(why) if why.is_limit() => self.resolve_overflow(request, why, now),
            outcome => outcome,
        }
    }

    /// Makes the series of `request`, if it is not there, with the value zero. It is to expire together
    /// with `sibling`, so that one is not missing when the other is seen again.
    ///
    /// # Errors
    ///
    /// As [`Registry::resolve`], and if there is no room.
    pub fn make_sibling(
        &mut self,
        request: &SeriesRequest<'_>,
        sibling: SeriesId,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.resolve_own(request, sibling, now).map(drop)
    }

    fn resolve_own(
        &mut self,
        request: &SeriesRequest<'_>,
        sibling: SeriesId,
        now: Timestamp,
    ) -> Result<Resolved, Refusal> {
        let known = self.shapes.find(request, &self.vectors, &self.families, &mut self.joined.key)?;
        let vector = if let Some(vector) = known {
            // For whoever goes by the joined names.
            self.joined.names.clear();
            self.joined.names.push_str(&self.vectors[vector as usize].names);
            known
        } else {
            self.joined.join(request.kind, request.labels)?;
            self.find_vector(request)
        };
        let family = match vector {
            Some(vector) => Some(self.vectors[vector as usize].family),
            None => self.family_named(request.family),
        };
        if family.is_some_and(|family| self.families[family as usize].kind != request.kind) {
            return Err(Refusal::TypeConflict);
        }
        let mut hash = None;
        if let (Some(vector), Some(family)) = (vector, family) {
            let of_series = self.series_hash(vector);
            if let Some(id) = self.find_series(vector, of_series) {
                self.follow_rule(id, request, now);
                return Ok(Resolved { id, overflow: self.is_overflow(family, id), created: false });
            }
            hash = Some(of_series);
        }
        match family {
            Some(_) => self.check_suffixes(request)?,
            None => self.check_new_family(request)?,
        }
        if let Some(family) = family {
            self.check_label(family, request)?;
        }
        self.check_room(family, request)?;
        let vector = match vector {
            Some(vector) => vector,
            None if !self.has_vector_room(family) => return Err(Refusal::VectorLimit),
            None => {
                let family = family.unwrap_or_else(|| self.append_family(request));
                self.append_vector(family, request)
            }
        };
        if known.is_none() {
            self.shapes.note(request, vector, self.vectors[vector as usize].hash);
        }
        let hash = hash.unwrap_or_else(|| self.series_hash(vector));
        let id = self.append_series(vector, hash, request, sibling, now);
        let family = self.vectors[vector as usize].family;
        self.families[family as usize].own_series += 1;
        if let Some(budget) = request.label_budget
            && self.families[family as usize].tracked.is_none()
        {
            // It counts what is there.
            self.track(family, &budget.label);
        } else {
            self.note_added(family, id);
        }
        Ok(Resolved { id, overflow: false, created: true })
    }

    fn check_new_family(&self, request: &SeriesRequest<'_>) -> Result<(), Refusal> {
        if request.family.is_empty() {
            return Err(Refusal::EmptyName);
        }
        if !labels::is_metric_name(request.family) {
            return Err(Refusal::InvalidName);
        }
        self.check_reserved(request)?;
        self.check_suffixes(request)
    }

    pub(super) fn append_family(&mut self, request: &SeriesRequest<'_>) -> u32 {
        // Prometheus' parser takes a NUL for the end of its input.
        let known = (0..).zip(&self.helps).find(|(_, help)| ***help == *request.help);
        let help = known.map(|(place, _)| place);
        let help =
            help.unwrap_or_else(|| intern(&mut self.helps, request.help.replace('\0', " ").into_boxed_str()));
        let hash = self.hash(|state| request.family.hash(state));
        self.owned_bytes += request.family.len();
        let family = Family {
            name: Box::from(request.family),
            hash,
            serial: self.idle.next_serial(),
            kind: request.kind,
            help,
            series: SortedIds::default(),
            own_series: 0,
            newest: NO_VECTOR,
            labelled: NO_VECTOR,
            overflow: SeriesId::NONE,
            tracked: None,
            idle_since: Timestamp(0),
            queued: false,
        };
        let free = self.idle.free_families.pop();
        append(&mut self.families, &mut self.family_index, free, family, |family| family.hash)
    }

    /// Makes the vector of `family` for the label names that are joined.
    pub(super) fn append_vector(&mut self, family: u32, request: &SeriesRequest<'_>) -> u32 {
        let plan = match request.kind {
            FamilyKind::Summary => intern(&mut self.summary_plans, SummaryPlan::new(request.summary)),
            FamilyKind::Histogram => intern(&mut self.histogram_plans, HistogramPlan::new(request.histogram)),
            FamilyKind::Counter | FamilyKind::Gauge => 0,
        };
        let hash = self.vector_hash(request);
        let names = Box::from(self.joined.names.as_str());
        self.owned_bytes += self.joined.names.len();
        self.vectors_by_kind[request.kind as usize] += 1;
        let older = self.families[family as usize].newest;
        let vector = Vector { family, hash, names, plan, older };
        let free = self.idle.free_vectors.pop();
        let vector = append(&mut self.vectors, &mut self.vector_index, free, vector, |vector| vector.hash);
        let family = &mut self.families[family as usize];
        family.newest = vector;
        if family.labelled == NO_VECTOR && !request.labels.is_empty() {
            family.labelled = vector;
        }
        vector
    }

    fn check_reserved(&self, request: &SeriesRequest<'_>) -> Result<(), Refusal> {
        let is_reserved = |name: &str| self.reserved.contains(name);
        let suffixes = request.kind.sample_suffixes();
        let base =
            FamilyKind::Histogram.sample_suffixes().iter().find_map(|end| request.family.strip_suffix(end));
        if is_reserved(request.family)
            || base.is_some_and(is_reserved)
            || suffixes.iter().any(|suffix| is_reserved(&format!("{}{suffix}", request.family)))
        {
            return Err(Refusal::ReservedName);
        }
        Ok(())
    }

    /// Keeps apart the families whose samples could be taken for each other's.
    fn check_suffixes(&self, request: &SeriesRequest<'_>) -> Result<(), Refusal> {
        let kind_of = |name: &str| self.family_named(name).map(|family| self.families[family as usize].kind);
        for suffix in FamilyKind::Histogram.sample_suffixes() {
            let Some(base) = request.family.strip_suffix(suffix).and_then(kind_of) else { continue };
            let refused = match request.kind {
                // Only an observer is in the way of a parser, but this is what statsd_exporter does.
                FamilyKind::Counter | FamilyKind::Gauge => base != FamilyKind::Counter,
                FamilyKind::Summary | FamilyKind::Histogram => base.sample_suffixes().contains(suffix),
            };
            if refused {
                return Err(Refusal::SuffixConflict);
            }
        }
        for suffix in request.kind.sample_suffixes() {
            let name: SmallVec<[u8; 128]> =
                [request.family, suffix].iter().flat_map(|part| part.bytes()).collect();
            if str::from_utf8(&name).is_ok_and(|name| self.family_named(name).is_some()) {
                return Err(Refusal::SuffixConflict);
            }
        }
        Ok(())
    }

    /// Makes the series of `vector` with the key that is joined, of which `hash` is the hash.
    pub(super) fn append_series(
        &mut self,
        vector: u32,
        hash: u32,
        request: &SeriesRequest<'_>,
        sibling: SeriesId,
        now: Timestamp,
    ) -> SeriesId {
        let Vector { family, plan, .. } = self.vectors[vector as usize];
        let value = match request.kind {
            FamilyKind::Counter => Value::Counter(Counter::default(), Created::at(now)),
            FamilyKind::Gauge => match request.sender_gauge {
                Some(options) => Value::SenderGauge(Box::new(SenderGauge::new(options))),
                None => Value::Gauge(Gauge::default()),
            },
            FamilyKind::Summary => {
                Value::Summary(Box::new(Summary::new(&self.summary_plans[plan as usize], now)))
            }
            FamilyKind::Histogram => {
                Value::Histogram(Box::new(Histogram::new(&self.histogram_plans[plan as usize], now)))
            }
        };
        let key = Box::from(self.joined.key.as_slice());
        let series = Series { generation: 0, hash, vector, deadline: expiry::NEVER, key, value };
        self.owned_bytes += owned_bytes(&series);
        let id = self.slots.insert(series);
        let deadline = match self.slots.get_mut(sibling).map(|sibling| sibling.deadline) {
            Some(deadline) => self.deadlines.join(deadline, id),
            None => self.deadlines.start(id, request.lifetime(), now),
        };
        let all = &mut self.slots.all;
        all[id.index as usize].deadline = deadline;
        let live = self.series_index.len();
        // Few of many slots are found faster by the table itself.
        if live < self.series_index.capacity() || live < all.len() / 2 {
            self.series_index.insert_unique(spread(hash), id.index, |at| spread(all[*at as usize].hash));
        } else {
            self.series_index = index_of(all, live);
        }

        let order = &mut self.families[family as usize].series;
        let first = order.is_empty();
        if order.insert_late(id.index, &ByKey(all)) {
            self.unsettled.push(family);
        }
        if first {
            self.family_order.insert_late(family, &ByKey(&self.families));
        }
        id
    }

    pub(super) fn family_named(&self, name: &str) -> Option<u32> {
        let hash = self.hash(|state| name.hash(state));
        self.family_index.find(spread(hash), |at| *self.families[*at as usize].name == *name).copied()
    }

    /// The vector of the family of `request` with the label names that are joined.
    pub(super) fn find_vector(&self, request: &SeriesRequest<'_>) -> Option<u32> {
        let hash = self.vector_hash(request);
        let found = self.vector_index.find(spread(hash), |at| {
            let vector = &self.vectors[*at as usize];
            vector.hash == hash
                && *vector.names == *self.joined.names
                && *self.families[vector.family as usize].name == *request.family
        });
        found.copied()
    }

    /// The series of `vector` with the key that is joined, of which `hash` is the hash.
    pub(super) fn find_series(&self, vector: u32, hash: u32) -> Option<SeriesId> {
        let index = self.series_index.find(spread(hash), |at| {
            let series = &self.slots.all[*at as usize];
            series.hash == hash && series.vector == vector && *series.key == *self.joined.key
        });
        index.map(|at| SeriesId { index: *at, generation: self.slots.all[*at as usize].generation })
    }

    fn vector_hash(&self, request: &SeriesRequest<'_>) -> u32 {
        self.hash(|state| {
            request.family.hash(state);
            self.joined.names.hash(state);
        })
    }

    pub(super) fn series_hash(&self, vector: u32) -> u32 {
        self.hash(|state| {
            state.write_u32(vector);
            state.write(&self.joined.key);
        })
    }

    /// Hash of the label values that are joined.
    pub(super) fn joined_hash(&self) -> u64 {
        let mut state = self.hasher.build_hasher();
        state.write(&self.joined.key);
        state.finish()
    }
}

/// An index over all series, with room for as many again as there were.
///
/// A table that grows by itself asks for the hashes in its own order, so that each lies somewhere else; here
/// they are read one behind the other.
#[cold]
fn index_of(all: &[Series], before: usize) -> HashTable<u32> {
    let hash = |at: &u32| all.get(*at as usize).map_or(0, |series| spread(series.hash));
    let mut index = HashTable::with_capacity(before + before.max(2));
    for (at, series) in (0..).zip(all) {
        if !matches!(series.value, Value::Vacant) {
            index.insert_unique(spread(series.hash), at, hash);
        }
    }
    index
}

/// Puts `item` into the place `free` of a list, or at its end, and into the index over it.
pub(super) fn append<T>(
    list: &mut Vec<T>,
    index: &mut HashTable<u32>,
    free: Option<u32>,
    item: T,
    hash: impl Fn(&T) -> u32,
) -> u32 {
    let item_hash = spread(hash(&item));
    let place = match free.and_then(|place| Some((place, list.get_mut(place as usize)?))) {
        Some((place, old)) => {
            *old = item;
            place
        }
        None => {
            list.push(item);
            u32::try_from(list.len() - 1).expect("the budget of vectors is below 2^32")
        }
    };
    index.insert_unique(item_hash, place, |at| spread(hash(&list[*at as usize])));
    place
}
