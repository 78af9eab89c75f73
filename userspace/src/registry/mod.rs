//! Events, mapped -> families and series.
//!
//! One writer at a time: the caller holds a lock for a batch of events, so nothing in here locks.
//! What was ever accepted can be written as one valid exposition; what could not is refused when
//! its series is created.

mod ascending;
mod budget;
mod by_key;
mod ckms;
mod counter;
mod distinct;
mod expiry;
mod family;
mod gauge;
mod histogram;
mod label_budget;
mod labels;
mod native;
mod observe;
mod order;
mod rank_error;
mod read;
mod recycle;
mod refusal;
mod sender_gauge;
mod series;
mod shape;
mod sizes;
mod stats;
mod summary;

use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

use hashbrown::{HashSet, HashTable};
use smallvec::SmallVec;

pub use budget::OVERFLOW_VALUE;
pub use distinct::Distinct;
pub use family::FamilyKind;
pub use gauge::SetOutcome;
pub use histogram::HistogramOptions;
pub use label_budget::{LabelBudget, Offender};
pub use labels::LabelsView;
pub use native::{NativeBucket, ZERO_THRESHOLD};
pub use read::{FamilyId, FamilyView, NativeView, Reading, SeriesMark, SeriesView};
pub use refusal::{Refusal, Stale};
pub use sender_gauge::{Change, Combine, Sender, SenderGaugeOptions};
pub use series::SeriesId;
pub use stats::Stats;
pub use summary::{Quantile, SummaryOptions};

use crate::clock::Timestamp;
use budget::Overflow;
use by_key::ByKey;
use counter::Counter;
use expiry::Deadlines;
use family::{Family, NO_VECTOR, Vector, intern};
use gauge::Gauge;
use histogram::{Histogram, HistogramPlan};
use label_budget::LabelUses;
use labels::JoinedLabels;
use order::SortedIds;
use recycle::Idle;
use sender_gauge::{SenderGauge, Shares};
use series::{Created, Series, Slots, Value};
use shape::Shapes;
use summary::{Summary, SummaryPlan, SummarySpace};

/// Each is looked at in every scrape. A sender is known by its address, which anybody can forge.
const SENDERS_PER_GAUGE_MAX: usize = 1024;
/// Of 32 bytes each.
const SHARES_MAX: usize = 1 << 20;

/// Bounds of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Series of all families, overflow series aside.
    pub series_max: u32,
    /// Series of one family; zero means no bound of its own.
    pub series_per_family_max: u32,
    /// Names with their sets of label names. They stay when their series expire, so that a name
    /// keeps its type; with no room left, those that were idle for longest go.
    pub vectors_max: u32,
    /// Senders that one gauge tells apart.
    pub senders_per_gauge_max: usize,
    /// Values that all gauges keep for their senders.
    pub shares_max: usize,
}

impl RegistryConfig {
    /// Room for as many names again as there may be series: names that are idle keep their type.
    #[must_use]
    pub const fn new(series_max: u32, series_per_family_max: u32) -> Self {
        Self {
            series_max,
            series_per_family_max,
            vectors_max: series_max.saturating_mul(2),
            senders_per_gauge_max: SENDERS_PER_GAUGE_MAX,
            shares_max: SHARES_MAX,
        }
    }
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self::new(2_000_000, 0)
    }
}

/// What is wanted of a series: its identity, and how it is built if it is new.
#[derive(Clone, Copy, Debug)]
pub struct SeriesRequest<'a> {
    /// Final name, escaped.
    pub family: &'a str,
    pub kind: FamilyKind,
    /// In any order.
    pub labels: &'a [(&'a str, &'a str)],
    /// The first one given for a family holds.
    pub help: &'a str,
    /// Idle time after which the series expires; `None` and zero mean never. That of the latest
    /// request holds.
    pub ttl: Option<Duration>,
    /// Bound for the series of the family; `None` and zero mean none. The smallest bound wins.
    pub max_series: Option<u32>,
    /// Bound for the series of the family that have the same value of a label.
    pub label_budget: Option<&'a LabelBudget>,
    /// Whether a gauge is kept for each sender; that of the latest request holds. Its series expires when
    /// the last sender has.
    pub sender_gauge: Option<SenderGaugeOptions>,
    /// The first ones given for a family and a set of label names hold.
    pub summary: &'a SummaryOptions,
    pub histogram: &'a HistogramOptions,
}

impl SeriesRequest<'_> {
    /// Idle time after which the series expires.
    fn lifetime(&self) -> Option<Duration> {
        let expiry = self.sender_gauge.map(|options| options.expiry);
        let ttl = self.ttl.filter(|ttl| !ttl.is_zero());
        [expiry, ttl].into_iter().flatten().min()
    }
}

/// What [`Registry::resolve`] found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub id: SeriesId,
    /// There was no room: the series stands for many, and keeps nothing but their sum. Not to be
    /// remembered, so that later events get their own series once there is room.
    pub overflow: bool,
    /// The series was not there before.
    pub created: bool,
}

/// What [`Registry::expire`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub series: usize,
    /// There is more to do than one call may; release the lock and call again.
    pub more: bool,
}

/// So many series of a family wait for their places until somebody reads: then each costs least.
pub const LATE_SERIES: usize = 8 * order::STEP;

/// Deadlines looked at in one call of [`Registry::expire`]: a few milliseconds.
const EXPIRE_MAX: usize = 4096;

/// Families and series.
#[derive(Debug)]
pub struct Registry {
    config: RegistryConfig,
    /// Seeded per process, because names come from the network.
    hasher: foldhash::fast::RandomState,
    families: Vec<Family>,
    family_index: HashTable<u32>,
    idle: Idle,
    /// Families with live series, by name.
    family_order: SortedIds,
    /// Families with series that have no place in the order yet.
    unsettled: Vec<u32>,
    vectors: Vec<Vector>,
    vector_index: HashTable<u32>,
    vectors_by_kind: [u64; 4],
    slots: Slots,
    series_index: HashTable<u32>,
    deadlines: Deadlines,
    reserved: HashSet<Box<str>, foldhash::fast::RandomState>,
    helps: Vec<Box<str>>,
    summary_plans: Vec<SummaryPlan>,
    histogram_plans: Vec<HistogramPlan>,
    space: SummarySpace,
    overflow: Overflow,
    uses: LabelUses,
    shares: Shares,
    joined: JoinedLabels,
    shapes: Shapes,
    /// Names, keys, summaries, histograms; the tables are counted when asked.
    owned_bytes: usize,
}

impl Registry {
    #[must_use]
    pub fn new(config: RegistryConfig) -> Self {
        let hasher = foldhash::fast::RandomState::default();
        let mut reserved = HashSet::with_hasher(hasher.clone());
        reserved.extend(budget::COMMON_NAMES.map(Box::from));
        Self {
            config,
            hasher,
            families: Vec::new(),
            family_index: HashTable::new(),
            idle: Idle::default(),
            family_order: SortedIds::default(),
            unsettled: Vec::new(),
            vectors: Vec::new(),
            vector_index: HashTable::new(),
            vectors_by_kind: [0; 4],
            slots: Slots::default(),
            series_index: HashTable::new(),
            deadlines: Deadlines::default(),
            reserved,
            helps: Vec::new(),
            summary_plans: Vec::new(),
            histogram_plans: Vec::new(),
            space: SummarySpace::default(),
            overflow: Overflow::default(),
            uses: LabelUses::default(),
            shares: Shares::default(),
            joined: JoinedLabels::default(),
            shapes: Shapes::default(),
            owned_bytes: 0,
        }
    }

    /// Keeps `names` for the daemon's own metrics. To be called before the first event; a family
    /// that had such a name already would not be shown.
    pub fn reserve<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.reserved.extend(names.into_iter().map(Box::from));
    }

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

    /// Whether the series is still there.
    #[must_use]
    pub fn is_live(&self, id: SeriesId) -> bool {
        self.slots.is_live(id)
    }

    /// Adds `amount` to a counter. The caller has refused negative amounts; one is not added here.
    ///
    /// # Errors
    ///
    /// [`Stale`] if the series expired or is no counter.
    #[inline]
    pub fn add(&mut self, id: SeriesId, amount: f64, now: Timestamp) -> Result<(), Stale> {
        let series = self.slots.get_mut(id).ok_or(Stale)?;
        let Value::Counter(counter, _) = &mut series.value else { return Err(Stale) };
        counter.add(amount);
        self.deadlines.touch(series.deadline, now);
        Ok(())
    }

    /// Sets a gauge to `value`, unless a datagram newer than `received` has changed it.
    ///
    /// # Errors
    ///
    /// [`Stale`] if the series expired or is no gauge.
    #[inline]
    pub fn set(
        &mut self,
        id: SeriesId,
        value: f64,
        received: Timestamp,
        now: Timestamp,
    ) -> Result<SetOutcome, Stale> {
        let series = self.slots.get_mut(id).ok_or(Stale)?;
        let Value::Gauge(gauge) = &mut series.value else {
            return self.change_share(id, Sender::default(), Change::Set(value), received, now);
        };
        self.deadlines.touch(series.deadline, now);
        Ok(gauge.set(value, received))
    }

    /// Adds `delta` to a gauge, in order of arrival.
    ///
    /// # Errors
    ///
    /// [`Stale`] if the series expired or is no gauge.
    #[inline]
    pub fn adjust(
        &mut self,
        id: SeriesId,
        delta: f64,
        received: Timestamp,
        now: Timestamp,
    ) -> Result<(), Stale> {
        let series = self.slots.get_mut(id).ok_or(Stale)?;
        let Value::Gauge(gauge) = &mut series.value else {
            return self.change_share(id, Sender::default(), Change::Add(delta), received, now).map(drop);
        };
        gauge.adjust(delta, received);
        self.deadlines.touch(series.deadline, now);
        Ok(())
    }

    /// The same for a relative value of a gauge, whose receive time is exact: one that was received before
    /// the gauge was set makes no difference.
    ///
    /// # Errors
    ///
    /// As for [`Registry::adjust`].
    #[inline]
    pub fn adjust_in_time(
        &mut self,
        id: SeriesId,
        delta: f64,
        received: Timestamp,
        now: Timestamp,
    ) -> Result<(), Stale> {
        let series = self.slots.get_mut(id).ok_or(Stale)?;
        let Value::Gauge(gauge) = &mut series.value else {
            return self.adjust(id, delta, received, now);
        };
        gauge.adjust_in_time(delta, received);
        self.deadlines.touch(series.deadline, now);
        Ok(())
    }

    /// Whether the series is a gauge that one value at a time has set, whoever sent it: the kernel may keep
    /// the last one. Relative values need all that came before them, and a gauge that is kept for each
    /// sender needs to know it.
    #[must_use]
    pub fn is_absolute_gauge(&self, id: SeriesId) -> bool {
        self.slots.get(id).is_some_and(|series| match &series.value {
            Value::Gauge(gauge) => gauge.is_absolute(),
            _ => false,
        })
    }

    /// Observes `value` `times` times, in bounded time: a summary's quantiles see at most 1000 of
    /// them, its count and sum all.
    ///
    /// # Errors
    ///
    /// [`Stale`] if the series expired or is no observer.
    #[inline]
    pub fn observe(&mut self, id: SeriesId, value: f64, times: u64, now: Timestamp) -> Result<(), Stale> {
        if let Some(Series { value: Value::Summary(summary), deadline, .. }) = self.slots.get_mut(id)
            && summary.observe_in_place(value, times, now)
        {
            self.deadlines.touch(*deadline, now);
            return Ok(());
        }
        self.observe_apart(id, value, times, now)
    }

    /// The same where there is more to do than to take a number down.
    #[inline(never)]
    fn observe_apart(&mut self, id: SeriesId, value: f64, times: u64, now: Timestamp) -> Result<(), Stale> {
        let series = self.slots.get_mut(id).ok_or(Stale)?;
        let plan = self.vectors.get(series.vector as usize).ok_or(Stale)?.plan as usize;
        match &mut series.value {
            Value::Summary(summary) => {
                let plan = self.summary_plans.get(plan).ok_or(Stale)?;
                let before = summary.heap_bytes();
                summary.observe(plan, &mut self.space, value, times, now);
                self.owned_bytes = (self.owned_bytes + summary.heap_bytes()).saturating_sub(before);
            }
            Value::Histogram(histogram) => {
                let plan = self.histogram_plans.get(plan).ok_or(Stale)?;
                let before = histogram.heap_bytes();
                histogram.observe(plan, value, times);
                self.owned_bytes = (self.owned_bytes + histogram.heap_bytes()).saturating_sub(before);
            }
            Value::Counter(..) | Value::Gauge(_) | Value::SenderGauge(_) | Value::Vacant => {
                return Err(Stale);
            }
        }
        self.deadlines.touch(series.deadline, now);
        Ok(())
    }

    /// Whether [`Registry::expire`] would have something to do.
    #[must_use]
    pub fn is_any_due(&self, now: Timestamp) -> bool {
        self.deadlines.is_any_due(now)
    }

    /// Removes series that were idle for longer than their TTL, in bounded time.
    pub fn expire(&mut self, now: Timestamp) -> Expired {
        let mut budget = EXPIRE_MAX;
        let mut expired = Expired::default();
        while let Some(id) = self.deadlines.next_due(now, &mut budget) {
            self.remove(id, now);
            expired.series += 1;
        }
        expired.more = budget == 0;
        expired
    }

    /// Removes a series before its time, if it is still there, with those that expire together with it.
    pub fn discard(&mut self, id: SeriesId, now: Timestamp) {
        let Some(series) = self.slots.get_mut(id) else { return };
        let deadline = series.deadline;
        for other in self.deadlines.stop(deadline) {
            self.remove(other, now);
        }
        self.remove(id, now);
    }

    /// Puts series into the order of the exposition, of families in which `late_min` wait for it, and
    /// families, if as many wait; in bounded time. Returns whether there is more to do.
    pub fn settle_order(&mut self, late_min: usize) -> bool {
        if self.family_order.late() >= late_min.max(1) {
            self.family_order.settle_step(&ByKey(&self.families));
            return true;
        }
        let (mut budget, mut at) = (order::STEP, 0);
        while let Some(family) = self.unsettled.get(at) {
            let order = &mut self.families[*family as usize].series;
            if order.late() == 0 {
                order.unlist();
                self.unsettled.swap_remove(at);
            } else if order.late() < late_min {
                at += 1;
            } else if budget == 0 {
                return true;
            } else {
                budget = budget.saturating_sub(order.settle_step(&ByKey(&self.slots.all)));
            }
        }
        false
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

    fn append_family(&mut self, request: &SeriesRequest<'_>) -> u32 {
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
    fn append_vector(&mut self, family: u32, request: &SeriesRequest<'_>) -> u32 {
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
    fn append_series(
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
        self.series_index.insert_unique(spread(hash), id.index, |at| spread(all[*at as usize].hash));

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

    fn remove(&mut self, id: SeriesId, now: Timestamp) {
        if self.slots.get_mut(id).is_none() {
            return;
        }
        let all = &self.slots.all;
        let Series { hash, vector, .. } = all[id.index as usize];
        if let Ok(entry) = self.series_index.find_entry(spread(hash), |at| *at == id.index) {
            entry.remove();
        }
        let family = self.vectors[vector as usize].family;
        let order = &mut self.families[family as usize].series;
        order.remove(id.index, &ByKey(all));
        if order.is_empty() {
            self.family_order.remove(family, &ByKey(&self.families));
            self.note_idle(family, now);
        }
        self.note_removed(family, id);
        if let Some(series) = self.slots.remove(id) {
            if let Value::SenderGauge(gauge) = &series.value {
                self.shares.live = self.shares.live.saturating_sub(gauge.shares());
            }
            self.owned_bytes = self.owned_bytes.saturating_sub(owned_bytes(&series));
        }
    }

    fn family_named(&self, name: &str) -> Option<u32> {
        let hash = self.hash(|state| name.hash(state));
        self.family_index.find(spread(hash), |at| *self.families[*at as usize].name == *name).copied()
    }

    /// The vector of the family of `request` with the label names that are joined.
    fn find_vector(&self, request: &SeriesRequest<'_>) -> Option<u32> {
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
    fn find_series(&self, vector: u32, hash: u32) -> Option<SeriesId> {
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

    fn series_hash(&self, vector: u32) -> u32 {
        self.hash(|state| {
            state.write_u32(vector);
            state.write(&self.joined.key);
        })
    }

    /// Hash of the label values that are joined.
    fn joined_hash(&self) -> u64 {
        let mut state = self.hasher.build_hasher();
        state.write(&self.joined.key);
        state.finish()
    }

    /// Half of the hash is kept, to save memory per series.
    fn hash(&self, feed: impl FnOnce(&mut foldhash::fast::FoldHasher<'_>)) -> u32 {
        let mut state = self.hasher.build_hasher();
        feed(&mut state);
        (state.finish() >> 32) as u32
    }
}

/// The hash that the tables see: they use its lowest and its highest bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn owned_bytes(series: &Series) -> usize {
    let value = match &series.value {
        Value::Summary(summary) => summary.heap_bytes(),
        Value::Histogram(histogram) => histogram.heap_bytes(),
        Value::SenderGauge(gauge) => gauge.heap_bytes(),
        Value::Counter(..) | Value::Gauge(_) | Value::Vacant => 0,
    };
    series.key.len() + value
}

/// Puts `item` into the place `free` of a list, or at its end, and into the index over it.
fn append<T>(
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

#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod tests;
