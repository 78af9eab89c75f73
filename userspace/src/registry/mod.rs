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
mod removal;
mod resolve;
mod sender_gauge;
mod series;
mod shape;
mod sizes;
mod stats;
mod summary;

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use hashbrown::{HashSet, HashTable};

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
use expiry::Deadlines;
use family::{Family, Vector};
use histogram::HistogramPlan;
use label_budget::LabelUses;
use labels::JoinedLabels;
use order::SortedIds;
use recycle::Idle;
use sender_gauge::Shares;
use series::{Series, Slots, Value};
use shape::Shapes;
use summary::{SummaryPlan, SummarySpace};

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
            slots: Slots::new(budget::slots_max(config)),
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
    #[inline(always)]
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

#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod tests;
