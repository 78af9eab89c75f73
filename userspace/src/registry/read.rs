//! Registry -> families and series in the order of the exposition, a part at a time.
//!
//! Between two parts the lock is released and anything may come or go; so a reader remembers the
//! last name and key it saw, not a place.

use smallvec::SmallVec;

use super::histogram::Histogram;
use super::series::{Series, Value};
use super::summary::{Quantile, Summary};
use super::{FamilyKind, LabelsView, NativeBucket, Registry, by_key::ByKey, sender_gauge};
use crate::clock::Timestamp;

/// Names one family, and no other one when its name was forgotten. A greater id came later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FamilyId {
    pub(super) serial: u64,
    pub(super) index: u32,
}

/// Head of a family.
#[derive(Clone, Copy, Debug)]
pub struct FamilyView<'a> {
    pub name: &'a str,
    pub help: &'a str,
    pub kind: FamilyKind,
}

/// The value of one series at the time of reading.
#[derive(Clone, Copy, Debug)]
pub enum Reading<'a> {
    Counter {
        value: f64,
        created: Timestamp,
    },
    Gauge(f64),
    /// `values` has one entry per quantile; NaN if the window is empty.
    Summary {
        quantiles: &'a [Quantile],
        values: &'a [f64],
        sum: f64,
        count: u64,
        created: Timestamp,
    },
    /// `counts` has one entry per bound and one for `+Inf`; they are not cumulative.
    Histogram {
        bounds: &'a [f64],
        counts: &'a [u64],
        sum: f64,
        created: Timestamp,
        native: Option<NativeView<'a>>,
    },
}

/// The native buckets of a histogram.
#[derive(Clone, Copy, Debug)]
pub struct NativeView<'a> {
    pub schema: i8,
    pub zero_count: u64,
    /// Both ascending by index.
    pub positive: &'a [NativeBucket],
    pub negative: &'a [NativeBucket],
}

/// One series.
#[derive(Clone, Copy, Debug)]
pub struct SeriesView<'a> {
    pub labels: LabelsView<'a>,
    pub reading: Reading<'a>,
}

/// The place of a reader inside a family: after the series it saw last.
#[derive(Debug, Default)]
pub struct SeriesMark {
    key: Vec<u8>,
    vector: u32,
}

impl SeriesMark {
    /// Back to before the first series. No key is empty.
    pub fn reset(&mut self) {
        self.key.clear();
        self.vector = 0;
    }

    /// How a series stands to the one that was seen last.
    pub(super) fn order(&self, series: &Series) -> std::cmp::Ordering {
        series.key.as_ref().cmp(&self.key).then(series.vector.cmp(&self.vector))
    }

    pub(super) fn move_to(&mut self, series: &Series) {
        self.key.clear();
        self.key.extend_from_slice(&series.key);
        self.vector = series.vector;
    }
}

impl Registry {
    /// Appends to `out` up to `count` families that have series, those behind `name` or, with
    /// `None`, from the beginning. They have series until the registry is changed.
    pub fn families_after(&mut self, name: Option<&str>, count: usize, out: &mut Vec<FamilyId>) {
        self.family_order.settle(&ByKey(&self.families));
        let order = |id: u32| match name {
            Some(name) => (*self.families[id as usize].name).cmp(name),
            None => std::cmp::Ordering::Greater,
        };
        out.extend(self.family_order.after(&order).take(count).map(|index| self.id_of(index)));
    }

    /// The id that the next new family will have.
    #[must_use]
    pub fn next_family(&self) -> FamilyId {
        FamilyId { serial: self.idle.peek_serial(), index: 0 }
    }

    /// The family called `name`, if that is bound to a type.
    #[must_use]
    pub fn family_id(&self, name: &str) -> Option<FamilyId> {
        self.family_named(name).map(|index| self.id_of(index))
    }

    /// The sum of a family's counters, or the number of its other series; looks at `series_max` of them.
    pub fn family_total(&mut self, name: &str, series_max: usize, now: Timestamp) -> f64 {
        let Some(family) = self.family_id(name) else { return 0.0 };
        let mut total = 0.0;
        self.visit_series(family, &mut SeriesMark::default(), series_max, now, |_, series| {
            total += if let Reading::Counter { value, .. } = series.reading { value } else { 1.0 };
        });
        total
    }

    /// Removes all series of these families, which takes a walk over all that there are.
    pub fn discard_families(&mut self, names: &[&str], now: Timestamp) {
        let families: Vec<u32> = names.iter().filter_map(|name| self.family_named(name)).collect();
        let is_theirs = |series: &Series| {
            let vector = self.vectors.get(series.vector as usize);
            !matches!(series.value, Value::Vacant)
                && vector.is_some_and(|vector| families.contains(&vector.family))
        };
        let theirs = (0..).zip(&self.slots.all).filter(|(_, series)| is_theirs(series));
        let theirs: Vec<_> = theirs.map(|(index, _)| self.slots.id(index)).collect();
        for id in theirs {
            self.discard(id, now);
        }
    }

    fn id_of(&self, index: u32) -> FamilyId {
        FamilyId { serial: self.families[index as usize].serial, index }
    }

    /// The head of a family; `None` if its name was forgotten since.
    #[must_use]
    pub fn family(&self, family: FamilyId) -> Option<FamilyView<'_>> {
        let place = self.families.get(family.index as usize).filter(|place| place.serial == family.serial)?;
        let help = self.helps.get(place.help as usize).map_or("", |help| help);
        Some(FamilyView { name: &place.name, help, kind: place.kind })
    }

    /// Visits up to `series_max` series of `family` behind `mark`, and moves `mark`. Returns
    /// how many there were; fewer than `series_max` means that the family is at its end.
    pub fn visit_series(
        &mut self,
        family: FamilyId,
        mark: &mut SeriesMark,
        series_max: usize,
        now: Timestamp,
        mut visit: impl FnMut(FamilyView<'_>, SeriesView<'_>),
    ) -> usize {
        let all = &mut self.slots.all;
        let place = self.families.get_mut(family.index as usize);
        let Some(family) = place.filter(|place| place.serial == family.serial) else { return 0 };
        family.series.settle(&ByKey(all));
        let help = self.helps.get(family.help as usize).map_or("", |help| help);
        let head = FamilyView { name: &family.name, help, kind: family.kind };
        let ids = {
            let after = |id: u32| mark.order(&all[id as usize]);
            family.series.after(&after).take(series_max)
        };
        let (mut visited, mut last) = (0, None);
        let mut values = Vec::new();
        let mut ids = ids.fuse();
        loop {
            let ahead: SmallVec<[u32; AHEAD]> = ids.by_ref().take(AHEAD).collect();
            if ahead.is_empty() {
                break;
            }
            touch(all, &ahead);
            for id in ahead {
                let Some(series) = all.get_mut(id as usize) else { continue };
                let Some(vector) = self.vectors.get(series.vector as usize) else { continue };
                let reading = match &mut series.value {
                    Value::Counter(counter, created) => {
                        Reading::Counter { value: counter.value(), created: created.timestamp() }
                    }
                    Value::Gauge(gauge) => Reading::Gauge(gauge.value),
                    Value::SenderGauge(gauge) => {
                        Reading::Gauge(sender_gauge::read(gauge, &mut self.shares, now))
                    }
                    Value::Summary(summary) => {
                        let Some(plan) = self.summary_plans.get(vector.plan as usize) else { continue };
                        values.clear();
                        let before = summary.heap_bytes();
                        summary.quantiles(plan, &mut self.space, now, &mut values);
                        self.owned_bytes = (self.owned_bytes + summary.heap_bytes()).saturating_sub(before);
                        let Summary { sum, count, created, .. } = **summary;
                        Reading::Summary { quantiles: &plan.quantiles, values: &values, sum, count, created }
                    }
                    Value::Histogram(histogram) => {
                        let Some(plan) = self.histogram_plans.get(vector.plan as usize) else { continue };
                        let Histogram { counts, sum, created, native } = &**histogram;
                        let native = native.as_ref().map(|native| NativeView {
                            schema: native.schema,
                            zero_count: native.zero_count,
                            positive: &native.positive,
                            negative: &native.negative,
                        });
                        let (bounds, sum, created) = (&plan.bounds, *sum, *created);
                        Reading::Histogram { bounds, counts, sum, created, native }
                    }
                    Value::Vacant => continue,
                };
                visit(
                    head,
                    SeriesView { labels: LabelsView { names: &vector.names, key: &series.key }, reading },
                );
                (visited, last) = (visited + 1, Some(id));
            }
        }
        if let Some(series) = last.and_then(|id| all.get(id as usize)) {
            mark.move_to(series);
        }
        visited
    }
}

/// How many series are looked at ahead of being read.
const AHEAD: usize = 32;

/// Brings series and their keys into the cache. In sorted order each lies somewhere else, and the
/// misses of one round overlap where those of reading one by one would add up: a quarter of
/// the time of a scrape of 500,000 series.
fn touch(all: &[Series], ids: &[u32]) {
    let lengths = ids.iter().filter_map(|id| all.get(*id as usize)).map(|series| series.key.len());
    std::hint::black_box(lengths.sum::<usize>());
    let counts = ids.iter().filter_map(|id| all.get(*id as usize)?.key.last());
    std::hint::black_box(counts.fold(0, |all, byte| all ^ byte));
}
