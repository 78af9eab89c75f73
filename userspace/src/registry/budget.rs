//! Requests without room -> a series that keeps their sum.
//!
//! Over budget an event goes to the overflow series of its family: the family's label names, each
//! with the value [`OVERFLOW_VALUE`]. Where the family has no label names, or is itself without room,
//! two families of our own take the sum. Counters and observations can be summed, so their totals
//! stay exact; the value of a gauge cannot, and it is refused.

use super::family::NO_VECTOR;
use super::series::SeriesId;
use super::{
    FamilyKind, Refusal, Registry, RegistryConfig, Resolved, SeriesRequest, histogram::HistogramOptions,
};
use crate::clock::Timestamp;
use crate::registry::SummaryOptions;

/// Value of every label of an overflow series.
pub const OVERFLOW_VALUE: &str = "__overflow__";

/// Families for what has no room in a family of its own: amounts of counters, and observations. The
/// second one is a summary without quantiles, so all it shows is `_sum` and `_count`.
const COMMON_COUNTER: &str = "rotameter_overflow_counter_total";
const COMMON_OBSERVER: &str = "rotameter_overflow_observations";
pub(super) const COMMON_NAMES: [&str; 2] = [COMMON_COUNTER, COMMON_OBSERVER];

/// Overflow series stand beside the budget, one for each family that is full: at most this share of
/// the budget, so that many full families cannot double it.
const OVERFLOW_SHARE: u32 = 8;
/// Also of a small budget.
const OVERFLOW_SERIES_MIN: u32 = 64;

/// The overflow series that there are.
#[derive(Debug)]
pub(super) struct Overflow {
    /// Those of families.
    live: u32,
    counter: SeriesId,
    observer: SeriesId,
}

impl Default for Overflow {
    fn default() -> Self {
        Self { live: 0, counter: SeriesId::NONE, observer: SeriesId::NONE }
    }
}

/// Series that there may be in all.
pub(super) fn slots_max(config: RegistryConfig) -> usize {
    config.series_max.saturating_add(overflow_max(config)) as usize
}

fn overflow_max(config: RegistryConfig) -> u32 {
    (config.series_max / OVERFLOW_SHARE).max(OVERFLOW_SERIES_MIN)
}

impl Registry {
    /// Whether `family` (`None` if it is new) may have one series more.
    pub(super) fn check_room(&self, family: Option<u32>, request: &SeriesRequest<'_>) -> Result<(), Refusal> {
        let overflow = self.overflow.live as usize;
        if self.slots.live().saturating_sub(overflow) >= self.config.series_max as usize {
            return Err(Refusal::SeriesLimit);
        }
        let own = self.config.series_per_family_max;
        let bound = [own, request.max_series.unwrap_or(0)].into_iter().filter(|bound| *bound > 0).min();
        let live = family.map_or(0, |family| self.families[family as usize].own_series);
        if bound.is_some_and(|bound| live >= bound) { Err(Refusal::FamilyLimit) } else { Ok(()) }
    }

    /// Whether `id` is the overflow series of its family.
    #[inline]
    pub(super) fn is_overflow(&self, family: u32, id: SeriesId) -> bool {
        self.families[family as usize].overflow == id
    }

    /// The series that takes what `request` has no room for, for the reason `why`.
    pub(super) fn resolve_overflow(
        &mut self,
        request: &SeriesRequest<'_>,
        why: Refusal,
        now: Timestamp,
    ) -> Result<Resolved, Refusal> {
        if request.kind == FamilyKind::Gauge {
            return Err(why);
        }
        let of_family = self.family_named(request.family).and_then(|family| {
            let overflow = self.families[family as usize].overflow;
            if self.is_live(overflow) {
                return Some(overflow);
            }
            self.create_overflow(family, request, now)
        });
        let id = match of_family {
            Some(id) => id,
            None => self.common_overflow(request.kind, now)?,
        };
        Ok(Resolved { id, overflow: true, created: false })
    }

    /// Makes the overflow series of `family`; `None` if the family has no label names, or there is no
    /// room for it.
    fn create_overflow(
        &mut self,
        family: u32,
        request: &SeriesRequest<'_>,
        now: Timestamp,
    ) -> Option<SeriesId> {
        if !self.has_overflow_room() {
            return None;
        }
        let mut vector = self.families[family as usize].labelled;
        if vector == NO_VECTOR {
            if request.labels.is_empty() || self.live_vectors() >= self.config.vectors_max as usize {
                return None;
            }
            vector = self.append_vector(family, request);
        }
        self.joined.repeat(&self.vectors[vector as usize].names, OVERFLOW_VALUE);
        // A sender may have used the very value.
        let hash = self.series_hash(vector);
        let id = match self.find_series(vector, hash) {
            Some(id) => {
                if self.note_left(family, id) {
                    self.overflow_gone();
                } else {
                    let family = &mut self.families[family as usize];
                    family.own_series = family.own_series.saturating_sub(1);
                }
                id
            }
            None => self.append_series(vector, hash, request, SeriesId::NONE, now),
        };
        self.families[family as usize].overflow = id;
        self.overflow.live += 1;
        Some(id)
    }

    /// The series of our own for `kind`, made when it is first needed. It stays.
    fn common_overflow(&mut self, kind: FamilyKind, now: Timestamp) -> Result<SeriesId, Refusal> {
        let is_counter = kind == FamilyKind::Counter;
        let known = if is_counter { self.overflow.counter } else { self.overflow.observer };
        if self.slots.is_live(known) {
            return Ok(known);
        }
        let (family, kind, help) = if is_counter {
            (COMMON_COUNTER, FamilyKind::Counter, "Amounts of counters that had no room for their series.")
        } else {
            (COMMON_OBSERVER, FamilyKind::Summary, "Observations that had no room for their series.")
        };
        let summary = SummaryOptions { quantiles: Vec::new(), ..SummaryOptions::default() };
        let histogram = HistogramOptions::default();
        let request = SeriesRequest {
            family,
            kind,
            labels: &[],
            help,
            ttl: None,
            max_series: None,
            label_budget: None,
            sender_gauge: None,
            summary: &summary,
            histogram: &histogram,
        };
        self.joined.join(kind, &[])?;
        let family = self.append_family(&request);
        let vector = self.append_vector(family, &request);
        let hash = self.series_hash(vector);
        let id = self.append_series(vector, hash, &request, SeriesId::NONE, now);
        self.families[family as usize].overflow = id;
        self.overflow.live += 1;
        *(if is_counter { &mut self.overflow.counter } else { &mut self.overflow.observer }) = id;
        Ok(id)
    }

    /// Notes that the series `id` of `family` is gone.
    pub(super) fn note_removed(&mut self, family: u32, id: SeriesId) {
        let was_overflow = self.note_left(family, id);
        let family = &mut self.families[family as usize];
        if family.overflow == id {
            family.overflow = SeriesId::NONE;
            self.overflow_gone();
        } else if was_overflow {
            self.overflow_gone();
        } else {
            family.own_series = family.own_series.saturating_sub(1);
        }
    }

    /// Whether there may be one overflow series more.
    pub(super) fn has_overflow_room(&self) -> bool {
        self.overflow.live < overflow_max(self.config)
    }

    pub(super) fn overflow_made(&mut self) {
        self.overflow.live += 1;
    }

    pub(super) fn overflow_gone(&mut self) {
        self.overflow.live = self.overflow.live.saturating_sub(1);
    }

    /// Series that take what had no room.
    pub(super) fn overflow_series(&self) -> u32 {
        self.overflow.live
    }
}
