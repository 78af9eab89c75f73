//! Growth of slots -> series; busy lines -> candidates for slots.

use ingest_ebpf::layout::{LastValue, OPERATION_ADD, OPERATION_LAST};

use super::core::Core;
use super::resolve::Unrecorded;
use crate::{
    clock::Timestamp,
    kernel::{
        identities::identity_of,
        object::Tables,
        promotion::{Candidate, Growth, Promotion},
    },
    ledger::EventError,
    line::Tally,
    mapper::{
        MetricType,
        cache::{Action, CopyId, EntryIndex, Recipe, RecipeCache},
    },
    registry::{SeriesId, SetOutcome, Stale},
    sender::SenderId,
};

impl Core {
    pub(super) fn drain_slots(&mut self, tables: &Tables, now: Timestamp) {
        let Some(mut promotion) = self.promotion.take() else { return };
        promotion.drain(&tables.slots, |growth| self.grow(growth, now));
        self.give_back(promotion);
    }

    /// The same for the busy ones only: enough for whoever looks at rates.
    pub(super) fn drain_busy_slots(&mut self, tables: &Tables, now: Timestamp) {
        let Some(mut promotion) = self.promotion.take() else { return };
        promotion.drain_busy(&tables.slots, |growth| self.grow(growth, now));
        self.give_back(promotion);
    }

    /// The same for those that the end of a window looks at.
    pub(super) fn drain_round(&mut self, tables: &Tables, now: Timestamp) {
        let Some(mut promotion) = self.promotion.take() else { return };
        promotion.drain_round(&tables.slots, |growth| self.grow(growth, now));
        self.give_back(promotion);
    }

    pub(super) fn release(&mut self, tables: &Tables, now: Timestamp) {
        let Some(mut promotion) = self.promotion.take() else { return };
        let mut left = Vec::new();
        promotion.release(&tables.slots, |growth| self.grow(growth, now), |entry| left.push(entry));
        for entry in left {
            if let Some(entry) = self.cache.entry_mut(entry) {
                entry.slot = None;
            }
        }
        self.give_back(promotion);
    }

    /// Takes gauges that are about to expire away from the kernel. Otherwise it could keep a value for one
    /// that is gone, and a relative value of another line would make it anew without that. Returns whether
    /// any wait for a grace period and [`Core::release`].
    pub(super) fn demote_due_gauges(&mut self, tables: &Tables, now: Timestamp) -> bool {
        let Self { promotion: Some(promotion), registry, .. } = self else { return false };
        promotion.demote_gauges(&tables.identities, |series| registry.is_due(series, now)) > 0
    }

    pub(super) fn promote(&mut self, tables: &Tables, mut candidates: Vec<Candidate>) {
        let Self { promotion: Some(promotion), cache, registry, .. } = self else { return };
        candidates.retain(|candidate| {
            // A relative value may have come in the meantime.
            let fits = candidate.gauge.is_none_or(|series| registry.is_absolute_gauge(series));
            fits && is_still_of(cache, candidate, tables.seed)
        });
        promotion.promote(&tables.slots, &tables.identities, &candidates, |entry, result| {
            if let Some(entry) = cache.entry_mut(entry) {
                entry.slot = result.ok();
                entry.promotable = result.is_ok();
            }
        });
    }

    /// Records what a slot has counted.
    pub(super) fn grow(&mut self, growth: Growth, now: Timestamp) {
        let Some(mut recipe) = self.cache.entry(growth.entry).map(|entry| entry.recipe) else { return };
        self.ledger.slot_lines += growth.lines;
        if let Some(copy) = recipe.copy {
            self.copies.count(copy, growth.lines);
        }
        if self.add_growth(&recipe, growth, now).is_err() {
            // The series expired while the kernel saw nothing of it; its line makes it anew.
            match self.renew(growth.entry, now) {
                Ok(renewed) => {
                    recipe = renewed;
                    // A series that was just made cannot be gone.
                    let _ = self.add_growth(&recipe, growth, now);
                    if recipe.overflow {
                        self.ledger.count_overflow(MetricType::Counter, growth.lines);
                    }
                }
                Err(why) => {
                    let tally = &mut self.ledger.tally;
                    tally.lines += growth.lines;
                    tally.samples += growth.lines;
                    tally.events += growth.lines;
                    return self.count_unrecorded_lines(&why, growth.lines, 1);
                }
            }
        }
        self.count_warm(&recipe, growth.lines);
    }

    pub(super) fn add_growth(
        &mut self,
        recipe: &Recipe,
        growth: Growth,
        now: Timestamp,
    ) -> Result<(), Stale> {
        let amount = scaled(growth.sum, unit(recipe).unwrap_or(1));
        match recipe.action {
            Action::Drop => {
                self.ledger.dropped += growth.lines;
                return Ok(());
            }
            Action::Superseded { .. } => {
                self.superseded_by(recipe.series)?;
                self.ledger.dropped += growth.lines;
                return Ok(());
            }
            // Relative, so the order among other changes makes no difference.
            Action::UpDown => self.registry.adjust(recipe.series, amount, now, now)?,
            Action::Gauge => {
                if let Some(last) = growth.last {
                    let value = decimal(last) / recipe.divisor * recipe.scale;
                    let received = Timestamp(last.received_ns);
                    if self.registry.set(recipe.series, value, received, now)? == SetOutcome::Older {
                        self.ledger.outdated_gauges += 1;
                    }
                } else {
                    self.ledger.outdated_gauges += growth.lines;
                }
                self.ledger.count_recorded(MetricType::Gauge, growth.lines);
                return Ok(());
            }
            // What is not counted is promoted only where a rule drops it: `operation` sees to it.
            Action::Count
            | Action::Observe
            | Action::ObserveOnce { .. }
            | Action::SenderGauge
            | Action::SenderUpDown => {
                self.registry.add(recipe.series, amount, now)?;
            }
        }
        self.ledger.count_recorded(MetricType::Counter, growth.lines);
        Ok(())
    }

    /// Finds or makes the series of a remembered line once more.
    pub(super) fn renew(&mut self, index: EntryIndex, now: Timestamp) -> Result<Recipe, Unrecorded> {
        let line = self.cache.entry(index).map(|entry| entry.line("0")).unwrap_or_default();
        let mut parser = std::mem::take(&mut self.parser);
        // A line that was remembered gives exactly one event.
        let mut renewed = Err(Unrecorded {
            mapping: None,
            metric_type: MetricType::Counter,
            why: EventError::EmptyMetricName.into(),
        });
        parser.parse_line(&line, &mut Tally::default(), &mut |event| {
            // With labels of senders nothing is promoted, so there are none.
            renewed = self.resolve(&event, SenderId::UNKNOWN, now);
        });
        self.parser = parser;
        let recipe = renewed?;
        if let Some(entry) = self.cache.entry_mut(index).filter(|_| !recipe.overflow) {
            entry.recipe = recipe;
            self.rename_gauge(index, &recipe);
        }
        Ok(recipe)
    }

    /// Before something else changes a gauge: takes in what its slots hold, so that the order is that of
    /// receiving. Then the kernel no longer has it.
    #[inline]
    pub(super) fn settle_gauge(&mut self, series: SeriesId, now: Timestamp) {
        if self.promotion.as_ref().is_some_and(|promotion| promotion.feeds(series)) {
            self.read_gauge(series, now);
        }
    }

    #[cold]
    fn read_gauge(&mut self, series: SeriesId, now: Timestamp) {
        let (Some(tables), Some(mut promotion)) = (self.tables.clone(), self.promotion.take()) else {
            return;
        };
        promotion.settle_gauge(&tables.slots, series, |growth| self.grow(growth, now));
        self.give_back(promotion);
    }

    /// A line that the kernel has may feed another series now, because the first one is gone.
    pub(super) fn rename_gauge(&mut self, index: EntryIndex, recipe: &Recipe) {
        let Some(slot) = self.cache.entry(index).and_then(|entry| entry.slot) else { return };
        if recipe.action != Action::Gauge {
            return;
        }
        match &mut self.promotion {
            Some(promotion) => promotion.rename_gauge(slot, recipe.series),
            // It is being read; `give_back` sees to it.
            None => self.renamed.push((slot, recipe.series)),
        }
    }

    fn give_back(&mut self, mut promotion: Promotion) {
        for (slot, series) in self.renamed.drain(..) {
            promotion.rename_gauge(slot, series);
        }
        self.promotion = Some(promotion);
    }

    /// Ends the cache's window where nobody is promoted.
    pub(super) fn end_window(&mut self, seconds: f64) {
        let copies = &mut self.copies;
        self.cache.take_window(seconds, |_, entry, traffic| {
            if let Some(copy) = entry.recipe.copy {
                copies.count(copy, u64::from(traffic.window_lines));
            }
        });
    }

    /// Lets copies of events that come often take the place of those that do not.
    pub(super) fn settle_copies(&mut self) {
        let changed = self.copies.settle(&self.registry);
        if !changed.is_empty() {
            let is_of = |copy: CopyId| changed.contains(&copy.event);
            self.cache.make_stale(|recipe| recipe.copy.is_some_and(is_of));
        }
    }

    /// What could be promoted, busiest first. Ends the cache's window.
    pub(super) fn candidates(&mut self, seed: u64, seconds: f64) -> Vec<Candidate> {
        let Some(promotion) = &self.promotion else { return Vec::new() };
        let copies = &mut self.copies;
        let options = *promotion.options();
        let mut busy = Vec::new();
        let registry = &self.registry;
        self.cache.take_window(seconds, |index, entry, traffic| {
            if let Some(copy) = entry.recipe.copy {
                copies.count(copy, u64::from(traffic.window_lines));
            }
            let rate = traffic.lines_per_second();
            // A series that expired and found no room since is not worth a slot.
            let recipe = &entry.recipe;
            let has_series = match recipe.action {
                Action::Drop => true,
                Action::Gauge => registry.is_absolute_gauge(recipe.series),
                // Once the better copy is gone the lines count again, for which a sum must do.
                Action::Superseded { counter } => counter && registry.is_live(recipe.series),
                _ => registry.is_live(recipe.series),
            };
            let often = rate >= options.promote_lines_per_second
                && (traffic.lines >= LINES_MIN || options.promote_lines_per_second == 0.0);
            if entry.promotable && entry.slot.is_none() && has_series && often {
                busy.push((index, rate));
            }
        });
        if busy.len() > options.promotions_per_tick {
            busy.select_nth_unstable_by(options.promotions_per_tick, |a, b| b.1.total_cmp(&a.1));
            busy.truncate(options.promotions_per_tick);
        }
        busy.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut candidates = Vec::with_capacity(busy.len());
        for (index, lines_per_second) in busy {
            let Some(entry) = self.cache.entry_mut(index) else { continue };
            let recipe = &entry.recipe;
            let gauge = (recipe.action == Action::Gauge).then_some(recipe.series);
            match identity_of(&entry.line("0"), seed) {
                Some(identity) => {
                    candidates.push(Candidate { entry: index, identity, lines_per_second, gauge });
                }
                None => entry.promotable = false,
            }
        }
        candidates
    }
}

/// Lines of late without which nothing is promoted, the very first one, by which a line becomes known, not
/// counted. What comes once or twice does not pay for its promotion.
const LINES_MIN: f64 = 1.5;

/// Whether the candidate's entry still is the line that it was made from. While the lock was released
/// for a grace period a full cache may have given the entry to another line, whose series would then
/// take what the kernel counts of this one.
pub(super) fn is_still_of(cache: &RecipeCache, candidate: &Candidate, seed: u64) -> bool {
    cache.entry(candidate.entry).is_some_and(|entry| {
        let is_same_series = candidate.gauge.is_none_or(|series| entry.recipe.series == series);
        let is_wanted = entry.promotable && entry.slot.is_none() && is_same_series;
        is_wanted && identity_of(&entry.line("0"), seed) == Some(candidate.identity)
    })
}

/// What the kernel does with the lines of a recipe; `None` if they come whole.
///
/// Never for what is kept for each sender: a slot does not know who sent what it counts. Of a gauge, the
/// series has a word in it as well: [`Registry::is_absolute_gauge`](crate::registry::Registry).
pub(super) fn operation(recipe: &Recipe) -> Option<u32> {
    match recipe.action {
        Action::Gauge => Some(OPERATION_LAST),
        _ => unit(recipe).map(|_| OPERATION_ADD),
    }
}

/// How much one unit on the wire is worth to the recipe's series; `None` if the kernel cannot add
/// for it.
pub(super) fn unit(recipe: &Recipe) -> Option<u64> {
    match recipe.action {
        // What is superseded may count one day.
        Action::Count | Action::UpDown | Action::Superseded { counter: true } => {
            let scale = recipe.scale;
            if !(1.0..=SCALE_MAX).contains(&scale) || scale.fract() != 0.0 {
                return None;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number, just checked"
            )]
            let scale = scale as u64;
            exact_unit(recipe.divisor)?.checked_mul(scale)
        }
        // Nobody looks at the sum.
        Action::Drop => Some(1),
        Action::Superseded { counter: false } => None,
        // A slot does not know who sent what it counts.
        Action::SenderGauge | Action::SenderUpDown => None,
        Action::Gauge | Action::Observe | Action::ObserveOnce { .. } => None,
    }
}

/// The value that a line had on the wire: as its digits and the power of ten are exact, their quotient is
/// the number that is nearest to the text, which is what reading the text gives.
#[expect(clippy::cast_precision_loss, reason = "below 2^53, both")]
pub(super) fn decimal(last: LastValue) -> f64 {
    let (digits, decimals) = last.unpack();
    digits as f64 / 10_u64.saturating_pow(decimals) as f64
}

/// Whole scales up to this one are applied to a slot's sum.
const SCALE_MAX: f64 = 1_000_000.0;

/// A slot's sum times what one unit is worth; 128 bits hold every product of the two.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53, as a counter is at all")]
pub(super) fn scaled(sum: u64, unit: u64) -> f64 {
    (u128::from(sum) * u128::from(unit)) as f64
}

/// How much one unit on the wire is worth, if that is a whole number and dividing any whole number of
/// up to 15 digits by `divisor` gives exactly that multiple: then a sum can be scaled instead of each
/// value. The division is exact enough when the divisor is within half a rounding error of its
/// reciprocal, as 0.1 and 0.5 are; a line with another rate stays with userspace.
pub(super) fn exact_unit(divisor: f64) -> Option<u64> {
    let unit = (1.0 / divisor).round();
    if !(1.0..=1_000_000.0).contains(&unit) || divisor.mul_add(unit, -1.0).abs() > 2.0_f64.powi(-54) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a million, checked above"
    )]
    let unit = unit as u64;
    Some(unit)
}
