//! Lines -> changes of series: the warm path, and the slow one beside it.

use std::{sync::Arc, time::Duration};

use super::copies::Copies;
use super::growth::operation;
use super::repeats::Repeats;
use crate::{
    clock::Timestamp,
    datagram::{Datagram, Source},
    kernel::{object::Tables, promotion::Promotion},
    ledger::{EventError, Ledger, Mapping},
    line::{Event, EventKind, NextLine, Parser, Tally, any_line, block, number, plain_line},
    live::{Sampler, tap::Tap},
    mapper::{
        Captures, Mapper, MetricType,
        cache::{Action, LineKey, Recipe, RecipeCache},
        results::ResultCache,
    },
    registry::{Change, Refusal, Registry, Sender, SeriesId, SetOutcome, Stale},
    relay::Relay,
    sender::{SenderId, SenderTable},
};

/// How a line came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) received: Timestamp,
    /// The present moment.
    pub(super) now: Timestamp,
    pub(super) source: Source,
    /// Whose labels the series get.
    pub(super) sender: SenderId,
}

/// What the lock guards.
#[derive(Debug)]
pub struct Core {
    pub(super) parser: Parser,
    pub registry: Registry,
    pub cache: RecipeCache,
    pub ledger: Ledger,
    pub sampler: Sampler,
    pub tap: Tap,
    /// `None` with the doors shut.
    pub promotion: Option<Promotion>,
    pub(super) tables: Option<Arc<Tables>>,
    /// Slots whose gauge was made anew while promotion was reading slots.
    pub(super) renamed: Vec<(u32, SeriesId)>,
    pub(super) relay: Option<Arc<Relay>>,
    pub mapper: Arc<Mapper>,
    pub results: ResultCache,
    /// `None`: series say nothing about who sent them.
    pub senders: Option<SenderTable>,
    pub(super) copies: Copies,
    pub(super) repeats: Repeats,
    /// Scratch space: what the last pattern captured, the family's name, the labels of the rule.
    pub(super) captures: Captures,
    pub(super) name: String,
    pub(super) label_values: String,
}

impl Core {
    #[inline(always)]
    pub(super) fn take(&mut self, datagram: &Datagram<'_>, now: Timestamp) {
        self.ledger.count_datagram(datagram.transport);
        let is_shown = self.tap.is_open() | self.relay.is_some() | self.senders.is_some();
        let sender = if is_shown { self.show(datagram, now) } else { SenderId::UNKNOWN };
        let mut rest = Some(datagram.payload);
        while let Some(payload) = rest {
            rest = self.take_next(payload, datagram, sender, now);
        }
    }

    /// Lets those see a datagram whom nearly always there are none of; returns who sent it.
    #[cold]
    #[inline(never)]
    fn show(&mut self, datagram: &Datagram<'_>, now: Timestamp) -> SenderId {
        self.tap.see(datagram);
        if let Some(relay) = &self.relay {
            relay.take(datagram.payload);
        }
        self.senders.as_mut().map_or(SenderId::UNKNOWN, |senders| senders.find(datagram.source, now))
    }

    /// Takes the first line of what is left of a payload; returns what follows it.
    #[inline(never)]
    fn take_next<'a>(
        &mut self,
        payload: &'a [u8],
        datagram: &Datagram<'_>,
        sender: SenderId,
        now: Timestamp,
    ) -> Option<&'a [u8]> {
        match plain_line(payload) {
            Some(next) => self.take_line(&next, datagram, sender, now),
            None => self.take_odd_line(payload, datagram, sender, now),
        }
    }

    /// Takes one line; returns what follows it.
    #[inline(always)]
    fn take_line<'a>(
        &mut self,
        next: &NextLine<'a>,
        datagram: &Datagram<'_>,
        sender: SenderId,
        now: Timestamp,
    ) -> Option<&'a [u8]> {
        self.sampler.see(next.line, datagram);
        let Some((head, value, tail)) = next.split else {
            self.take_unknown(next.line, None, sender, datagram, now);
            return next.rest;
        };
        let key = self.cache.key(sender, head, tail);
        let front = next.line.get(..head.len() + 1 + value.len()).unwrap_or_default();
        if !self.take_warm(&key, front, value, datagram, now) {
            self.take_unknown(next.line, Some(key), sender, datagram, now);
        }
        next.rest
    }

    /// Apart and by value, so that the way of known lines has nothing to keep for it.
    #[inline(never)]
    fn take_unknown(
        &mut self,
        line: &[u8],
        key: Option<LineKey<'_>>,
        sender: SenderId,
        datagram: &Datagram<'_>,
        now: Timestamp,
    ) {
        let Datagram { received, source, .. } = *datagram;
        self.take_cold(line, key.as_ref(), &Arrival { received, now, source, sender });
    }

    /// Apart for the same reason.
    #[inline(never)]
    fn take_odd_line<'a>(
        &mut self,
        payload: &'a [u8],
        datagram: &Datagram<'_>,
        sender: SenderId,
        now: Timestamp,
    ) -> Option<&'a [u8]> {
        self.take_line(&any_line(payload), datagram, sender, now)
    }

    /// Takes a line that is known, and returns whether it is. What is always the same of nearly all of
    /// them stands here; the rest is left to [`Core::apply`]. `front` is the line up to the end of `value`.
    #[inline(always)]
    fn take_warm(
        &mut self,
        key: &LineKey<'_>,
        front: &[u8],
        value: &[u8],
        datagram: &Datagram<'_>,
        now: Timestamp,
    ) -> bool {
        let Some(hit) = self.cache.hit(key) else { return false };
        // A plain number has no sign.
        let (raw, relative) = match block::decimal(front, value) {
            Some(raw) => (raw, false),
            None => match number::parse_apart(value) {
                Ok(raw) => (raw, matches!(value.first(), Some(b'+' | b'-'))),
                Err(_) => return false,
            },
        };
        let recipe = hit.count();
        let (series, received) = (recipe.series, datagram.received);
        let amount = || raw / recipe.divisor * recipe.scale;
        // If a series is gone, it expired since; the slow path makes it anew.
        let (event, taken) = match recipe.action {
            Action::Count if amount() >= 0.0 => {
                (MetricType::Counter, self.registry.add(series, amount(), now).is_ok())
            }
            // A division by one takes as long as any.
            Action::Gauge if !relative && !recipe.is_scaled() => {
                let outcome = self.registry.set(series, raw, received, now);
                self.ledger.outdated_gauges += u64::from(outcome == Ok(SetOutcome::Older));
                (MetricType::Gauge, outcome.is_ok())
            }
            Action::Observe if recipe.times == 1 => {
                (MetricType::Observer, self.registry.observe(series, amount(), 1, now).is_ok())
            }
            _ => {
                let recipe = *recipe;
                return self.take_other(&recipe, raw, relative, key.sender(), datagram, now);
            }
        };
        if taken {
            self.ledger.warm.count(event, recipe.mapped, recipe.tagged);
        }
        taken
    }

    /// The same of all others that are known.
    #[inline(never)]
    fn take_other(
        &mut self,
        recipe: &Recipe,
        raw: f64,
        relative: bool,
        sender: SenderId,
        datagram: &Datagram<'_>,
        now: Timestamp,
    ) -> bool {
        let Datagram { received, source, .. } = *datagram;
        let taken = self.apply(recipe, raw, relative, &Arrival { received, now, source, sender }).is_ok();
        if taken {
            self.count_warm(recipe, 1);
        }
        taken
    }

    /// A line that the parser did not see, counted as the parser would have.
    pub(super) fn count_warm(&mut self, recipe: &Recipe, times: u64) {
        let tally = &mut self.ledger.tally;
        tally.lines += times;
        tally.samples += times;
        tally.events += times;
        if recipe.tagged {
            tally.tags += times;
        }
        self.count_mapping(recipe, times);
    }

    /// An observation that counts several times is as many events to statsd_exporter.
    pub(super) fn count_mapping(&mut self, recipe: &Recipe, times: u64) {
        let events = times.saturating_mul(recipe.times);
        if matches!(recipe.action, Action::Drop | Action::Superseded { .. }) {
            self.ledger.count_mapping(Mapping::Dropped, events);
            return;
        }
        self.ledger.count_mapping(if recipe.mapped { Mapping::Mapped } else { Mapping::Unmapped }, events);
        if matches!(recipe.action, Action::Observe | Action::ObserveOnce { .. }) {
            self.ledger.observations = self.ledger.observations.saturating_add(events);
        }
    }

    /// Does what the recipe says with a number from the wire, and counts what became of the event.
    #[inline]
    pub(super) fn apply(
        &mut self,
        recipe: &Recipe,
        raw: f64,
        relative: bool,
        arrival: &Arrival,
    ) -> Result<(), Stale> {
        let Arrival { received, now, .. } = *arrival;
        let value = raw / recipe.divisor * recipe.scale;
        let event = match recipe.action {
            Action::Count => {
                if value < 0.0 {
                    self.ledger.count_error(EventError::IllegalNegativeCounter, 1);
                    return Ok(());
                }
                self.registry.add(recipe.series, value, now)?;
                MetricType::Counter
            }
            Action::UpDown => {
                self.settle_gauge(recipe.series, now);
                self.registry.adjust(recipe.series, value, received, now)?;
                MetricType::Counter
            }
            Action::Gauge if relative => {
                self.settle_gauge(recipe.series, now);
                self.registry.adjust_in_time(recipe.series, value, received, now)?;
                MetricType::Gauge
            }
            Action::Gauge => {
                if self.registry.set(recipe.series, value, received, now)? == SetOutcome::Older {
                    self.ledger.outdated_gauges += 1;
                }
                MetricType::Gauge
            }
            Action::SenderGauge | Action::SenderUpDown => {
                return self.change_share(recipe, value, relative, arrival);
            }
            Action::Observe => {
                self.registry.observe(recipe.series, value, recipe.times, now)?;
                MetricType::Observer
            }
            Action::ObserveOnce { within } => {
                if !self.registry.is_live(recipe.series) {
                    return Err(Stale);
                }
                let within = Duration::from_millis(within.into());
                if self.repeats.repeats(recipe.series, value, within, received, &self.registry) {
                    self.ledger.dropped += 1;
                    return Ok(());
                }
                self.registry.observe(recipe.series, value, recipe.times, now)?;
                MetricType::Observer
            }
            Action::Drop => {
                self.ledger.dropped += 1;
                return Ok(());
            }
            Action::Superseded { .. } => {
                self.superseded_by(recipe.series)?;
                self.ledger.dropped += 1;
                return Ok(());
            }
        };
        self.ledger.count_recorded(event, 1);
        Ok(())
    }

    /// Whether the copy that counts is still there.
    pub(super) fn superseded_by(&self, counting: SeriesId) -> Result<(), Stale> {
        if self.registry.is_live(counting) { Ok(()) } else { Err(Stale) }
    }

    /// Does the same where the sender counts.
    #[cold]
    fn change_share(
        &mut self,
        recipe: &Recipe,
        value: f64,
        relative: bool,
        arrival: &Arrival,
    ) -> Result<(), Stale> {
        let up_down = recipe.action == Action::SenderUpDown;
        let event = if up_down { MetricType::Counter } else { MetricType::Gauge };
        let change = if up_down || relative { Change::Add(value) } else { Change::Set(value) };
        let sender = match arrival.source {
            Source::Process(number) => Sender::process(number),
            Source::Address(_) | Source::Nameless => Sender::from(arrival.source.ip()),
        };
        match self.registry.change_share(recipe.series, sender, change, arrival.received, arrival.now)? {
            SetOutcome::Applied => {}
            SetOutcome::Older => self.ledger.outdated_gauges += 1,
            SetOutcome::NoRoom => {
                // The name is asked for with conflicts only.
                self.ledger.count_refused(event, "", Refusal::SenderLimit, 1, 1);
                return Ok(());
            }
        }
        self.ledger.count_recorded(event, 1);
        Ok(())
    }

    /// Parses and maps the line, records its events, and remembers it where that is possible.
    pub(super) fn take_cold(&mut self, line: &[u8], key: Option<&LineKey<'_>>, arrival: &Arrival) {
        if let Some(key) = key {
            self.cache.expect(key);
            let (head_bytes, tail_bytes) = key.lengths();
            if let Some(event) = self.parser.plain_event(line, head_bytes, tail_bytes) {
                let tally = &mut self.ledger.tally;
                tally.lines += 1;
                tally.samples += 1;
                tally.events += 1;
                return self.take_event(&event, Some(key), arrival);
            }
        }
        let mut tally = Tally::default();
        // The parser lends its scratch space to the events, so it leaves `self` for the time.
        let mut parser = std::mem::take(&mut self.parser);
        parser.parse_line(line, &mut tally, &mut |event| self.take_event(&event, key, arrival));
        self.parser = parser;
        self.ledger.tally += &tally;
    }

    /// Maps an event and records it; remembers its line, if `key` is of it.
    fn take_event(&mut self, event: &Event<'_>, key: Option<&LineKey<'_>>, arrival: &Arrival) {
        let recipe = match self.resolve(event, arrival.sender, arrival.now) {
            Ok(recipe) => recipe,
            Err(why) => return self.count_unrecorded(&why, event.times),
        };
        let relative = matches!(event.kind, EventKind::Gauge { relative: true });
        // A series that was just found or made cannot be gone.
        let _ = self.apply(&recipe, event.raw, relative, arrival);
        self.count_mapping(&recipe, 1);
        if recipe.overflow {
            self.ledger.count_overflow(event.kind.into(), 1);
        } else if let (true, Some(key)) = (event.cacheable, key)
            && let Some(known) = self.cache.insert(key, recipe, operation(&recipe).is_some())
        {
            self.rename_gauge(known, &recipe);
        }
    }
}
