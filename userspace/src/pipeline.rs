//! Datagrams -> registry: the warm path, and the slow one beside it.
//!
//! One lock, taken once per batch and never per line, orders everything that changes series: rings,
//! sockets, streams and slot growth. A scrape takes it for a slice of series at a time.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use crate::{
    clock::{Timestamp, WallClock},
    datagram::Datagram,
    exposition::{Cursor, Format, OwnFamily, Progress, Sink},
    kernel::{
        identities::identity_of,
        object::Tables,
        promotion::{Candidate, Growth, Promotion, PromotionOptions},
        ring::Ring,
        rings::Rings,
    },
    ledger::{EventError, Ledger, Mapping},
    line::{Dialects, Event, EventKind, NextLine, Parser, Tally, escape::escape_name, next_line, number},
    mapper::{
        Captures, CounterType, Mapper, MetricType, ObserverType, RuleAction,
        cache::{Action, EntryIndex, Recipe, RecipeCache},
        results::{Matched, ResultCache, ResultCacheType},
    },
    registry::{FamilyKind, Refusal, Registry, RegistryConfig, SeriesId, SeriesRequest, SetOutcome, Stale},
    relay::Relay,
};

/// Records that one hold of the lock takes from a ring; about a tenth of a millisecond's work.
const RING_BATCH_RECORDS: usize = 512;
/// Counters that one hold of the lock writes into an exposition, or other series that cost as much;
/// about a tenth of a millisecond's work.
const EXPOSITION_SLICE_SERIES: usize = 256;
/// From this size on a part of an exposition is handed over.
const EXPOSITION_PART_BYTES: usize = 256 << 10;

/// What the pipeline is built from.
#[derive(Debug)]
pub struct PipelineOptions {
    pub dialects: Dialects,
    pub registry: RegistryConfig,
    pub mapper: Arc<Mapper>,
    /// Names whose rule is remembered, and which of them go when there are too many.
    pub result_cache: (ResultCacheType, usize),
    /// Lines that the recipe cache remembers.
    pub cached_lines_max: usize,
    pub promotion: PromotionOptions,
    /// Has every line that comes whole.
    pub relay: Option<Arc<Relay>>,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            dialects: Dialects::default(),
            registry: RegistryConfig::default(),
            mapper: Arc::default(),
            result_cache: (ResultCacheType::Lru, 1000),
            cached_lines_max: 131_072,
            promotion: PromotionOptions::default(),
            relay: None,
        }
    }
}

/// Everything between a datagram's bytes and the registry.
#[derive(Debug)]
pub struct Pipeline {
    core: Mutex<Core>,
    /// Taken before `core`, never after it.
    rings: Mutex<Rings>,
    tables: Option<Arc<Tables>>,
    /// Held from a demotion to its release: a release frees all that was demoted, so none may be added
    /// while another one's grace period is under way. Taken before `core`.
    demoting: Mutex<()>,
    clock: WallClock,
}

impl Pipeline {
    /// A pipeline with its doors shut (`kernel` is `None`), or with the tables and rings of a loaded
    /// object.
    #[must_use]
    pub fn new(options: PipelineOptions, kernel: Option<(Arc<Tables>, Vec<Ring>)>) -> Self {
        let (tables, rings) = kernel.map_or((None, Vec::new()), |(tables, rings)| (Some(tables), rings));
        let promotion = tables.as_ref().map(|tables| Promotion::new(tables.sizes.slots, options.promotion));
        let core = Core {
            parser: Parser::new(options.dialects),
            registry: Registry::new(options.registry),
            cache: RecipeCache::new(options.cached_lines_max),
            ledger: Ledger::default(),
            promotion,
            relay: options.relay,
            mapper: options.mapper,
            results: ResultCache::new(options.result_cache.0, options.result_cache.1),
            captures: Captures::default(),
            name: String::new(),
            label_values: String::new(),
        };
        Self {
            core: Mutex::new(core),
            rings: Mutex::new(Rings::new(rings)),
            tables,
            demoting: Mutex::new(()),
            clock: WallClock::read(),
        }
    }

    /// Takes a batch of datagrams; the lock is taken once.
    pub fn ingest(&self, batch: &[Datagram<'_>]) {
        let now = Timestamp::now();
        let mut core = self.core.lock();
        core.ledger.batches += 1;
        for datagram in batch {
            core.take(datagram, now);
        }
    }

    /// Takes all that lies in the rings now. What is added meanwhile may stay for the next time, so
    /// that a flood cannot keep a scrape waiting. Returns how many records there were.
    pub fn drain_rings(&self) -> usize {
        let mut rings = self.rings.lock();
        rings.begin(Timestamp::now());
        let mut records = 0;
        loop {
            let now = Timestamp::now();
            let mut core = self.core.lock();
            core.ledger.batches += 1;
            let taken = rings.read(RING_BATCH_RECORDS, |datagram| core.take(&datagram, now));
            MutexGuard::unlock_fair(core);
            records += taken;
            if taken < RING_BATCH_RECORDS {
                return records;
            }
        }
    }

    /// Adds to each series what its slots have counted since the last time.
    pub fn drain_slots(&self) {
        let Some(tables) = &self.tables else { return };
        let now = Timestamp::now();
        self.core.lock().drain_slots(tables, now);
    }

    /// Lets series expire whose TTL is over; the lock is given back now and then. Costs next to
    /// nothing when none is. The caller drains the rings first.
    pub fn expire(&self) {
        let now = Timestamp::now();
        let mut core = self.core.lock();
        if !core.registry.is_any_due(now) {
            return;
        }
        // What the kernel has counted until now keeps its series alive.
        if let Some(tables) = &self.tables {
            core.drain_slots(tables, now);
        }
        while core.registry.expire(now).more {
            MutexGuard::bump(&mut core);
        }
    }

    /// Ends a promotion window of length `window`: demotes, waits a grace period without the lock,
    /// promotes.
    ///
    /// # Errors
    ///
    /// If the kernel has no grace period to offer; then nothing that was demoted is used again.
    pub fn tick(&self, window: Duration) -> io::Result<()> {
        let _demoting = self.demoting.lock();
        let now = Timestamp::now();
        let mut core = self.core.lock();
        let Some(tables) = &self.tables else {
            // Nobody is promoted, but the next window begins.
            core.cache.take_window(|_, _, _| {});
            return Ok(());
        };
        core.drain_slots(tables, now);
        let seconds = window.as_secs_f64().max(1e-3);
        let candidates = core.candidates(tables.seed, seconds);
        let leaving = core.promotion.as_mut().is_some_and(|promotion| {
            promotion.demote(&tables.identities, &candidates, seconds);
            promotion.has_leaving()
        });
        let mut waited = Ok(());
        if leaving {
            drop(core);
            waited = tables.grace.wait();
            core = self.core.lock();
            if waited.is_ok() {
                core.release(tables, now);
            }
        }
        core.promote(tables, candidates);
        waited
    }

    /// Takes every identity out of the kernel's table and reads the slots a last time.
    ///
    /// # Errors
    ///
    /// As for [`Pipeline::tick`].
    pub fn demote_all(&self) -> io::Result<()> {
        let Some(tables) = &self.tables else { return Ok(()) };
        let _demoting = self.demoting.lock();
        let now = Timestamp::now();
        {
            let mut core = self.core.lock();
            if let Some(promotion) = core.promotion.as_mut() {
                promotion.demote_all(&tables.identities);
            }
        }
        tables.grace.wait()?;
        self.core.lock().release(tables, now);
        Ok(())
    }

    /// Puts other rules in the place of the present ones, between two events: what was taken before
    /// is mapped by the old rules, what the kernel has counted until now included; everything after
    /// by the new ones.
    ///
    /// # Errors
    ///
    /// As for [`Pipeline::tick`]; then the old rules stay.
    pub fn reload(&self, mapper: Arc<Mapper>) -> io::Result<()> {
        let _demoting = self.demoting.lock();
        if let Some(tables) = &self.tables {
            if let Some(promotion) = self.core.lock().promotion.as_mut() {
                promotion.demote_all(&tables.identities);
            }
            tables.grace.wait()?;
        }
        let now = Timestamp::now();
        let mut core = self.core.lock();
        if let Some(tables) = &self.tables {
            core.release(tables, now);
        }
        core.mapper = mapper;
        core.cache.clear();
        core.results.clear();
        Ok(())
    }

    /// Writes the exposition, own families included, into `sink`. The caller drains first.
    pub fn write_exposition(&self, own: Vec<OwnFamily>, format: Format, sink: &mut dyn Sink) {
        let now = Timestamp::now();
        let mut cursor = Cursor::new(own, format, self.clock);
        let mut part = Vec::with_capacity(2 * EXPOSITION_PART_BYTES);
        loop {
            let mut core = self.core.lock();
            let progress = cursor.write_slice(&mut core.registry, &mut part, EXPOSITION_SLICE_SERIES, now);
            MutexGuard::unlock_fair(core);
            let done = progress == Progress::Done;
            let full = done || part.len() >= EXPOSITION_PART_BYTES;
            let unwanted = full && sink.take(&mut part).is_break();
            if done || unwanted {
                break;
            }
        }
    }

    /// Looks at the present state under the lock.
    pub fn look<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.core.lock())
    }

    /// Declares the names of our own metrics, which no sender may use.
    pub fn reserve<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        self.core.lock().registry.reserve(names);
    }

    /// Hands the descriptor of each ring to `see`.
    ///
    /// # Errors
    ///
    /// The first of `see`.
    pub fn with_ring_fds<E>(&self, mut see: impl FnMut(BorrowedFd<'_>) -> Result<(), E>) -> Result<(), E> {
        self.rings.lock().iter().try_for_each(|ring| see(ring.as_fd()))
    }

    /// Records of the rings that did not have our layout; always 0.
    #[must_use]
    pub fn malformed_records(&self) -> u64 {
        self.rings.lock().iter().map(|ring| ring.malformed).sum()
    }

    /// The kernel's tables, where an object is loaded.
    #[must_use]
    pub fn tables(&self) -> Option<&Arc<Tables>> {
        self.tables.as_ref()
    }
}

/// What the lock guards.
#[derive(Debug)]
pub struct Core {
    parser: Parser,
    pub registry: Registry,
    pub cache: RecipeCache,
    pub ledger: Ledger,
    /// `None` with the doors shut.
    pub promotion: Option<Promotion>,
    relay: Option<Arc<Relay>>,
    pub mapper: Arc<Mapper>,
    pub results: ResultCache,
    /// Scratch space: what the last pattern captured, the family's name, the labels of the rule.
    captures: Captures,
    name: String,
    label_values: String,
}

impl Core {
    fn take(&mut self, datagram: &Datagram<'_>, now: Timestamp) {
        self.ledger.count_datagram(datagram.transport);
        if let Some(relay) = &self.relay {
            relay.take(datagram.payload);
        }
        let mut rest = Some(datagram.payload);
        while let Some(payload) = rest {
            let next = next_line(payload);
            self.take_line(&next, datagram.received, now);
            rest = next.rest;
        }
    }

    #[inline]
    fn take_line(&mut self, next: &NextLine<'_>, received: Timestamp, now: Timestamp) {
        let line = next.line;
        if let Some((head, value, tail)) = next.split {
            let hash = self.cache.hash(head, tail);
            if let Some(index) = self.cache.find(hash, head, tail)
                && let Ok(raw) = number::parse(value)
                && let Some(recipe) = self.cache.hit(index)
            {
                let relative = matches!(value.first(), Some(b'+' | b'-'));
                // If it is stale, its series expired since; the slow path makes it anew.
                if self.apply(&recipe, raw, relative, received, now).is_ok() {
                    return self.count_warm(&recipe, 1);
                }
            }
            return self.take_cold(line, Some((hash, head, tail)), received, now);
        }
        self.take_cold(line, None, received, now);
    }

    /// A line that the parser did not see, counted as the parser would have.
    fn count_warm(&mut self, recipe: &Recipe, times: u64) {
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
    fn count_mapping(&mut self, recipe: &Recipe, times: u64) {
        let events = times.saturating_mul(recipe.times);
        if recipe.action == Action::Drop {
            self.ledger.count_mapping(Mapping::Dropped, events);
            return;
        }
        self.ledger.count_mapping(if recipe.mapped { Mapping::Mapped } else { Mapping::Unmapped }, events);
        if recipe.action == Action::Observe {
            self.ledger.observations = self.ledger.observations.saturating_add(events);
        }
    }

    /// Does what the recipe says with a number from the wire, and counts what became of the event.
    #[inline]
    fn apply(
        &mut self,
        recipe: &Recipe,
        raw: f64,
        relative: bool,
        received: Timestamp,
        now: Timestamp,
    ) -> Result<(), Stale> {
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
                self.registry.adjust(recipe.series, value, received, now)?;
                MetricType::Counter
            }
            Action::Gauge if relative => {
                self.registry.adjust(recipe.series, value, received, now)?;
                MetricType::Gauge
            }
            Action::Gauge => {
                if self.registry.set(recipe.series, value, received, now)? == SetOutcome::Older {
                    self.ledger.outdated_gauges += 1;
                }
                MetricType::Gauge
            }
            Action::Observe => {
                self.registry.observe(recipe.series, value, recipe.times, now)?;
                MetricType::Observer
            }
            Action::Drop => {
                self.ledger.dropped += 1;
                return Ok(());
            }
        };
        self.ledger.count_recorded(event, 1);
        Ok(())
    }

    /// Parses and maps the line, records its events, and remembers it where that is possible.
    fn take_cold(
        &mut self,
        line: &[u8],
        split: Option<(u64, &[u8], &[u8])>,
        received: Timestamp,
        now: Timestamp,
    ) {
        let mut tally = Tally::default();
        // The parser lends its scratch space to the events, so it leaves `self` for the time.
        let mut parser = std::mem::take(&mut self.parser);
        parser.parse_line(line, &mut tally, &mut |event| {
            let recipe = match self.resolve(&event, now) {
                Ok(recipe) => recipe,
                Err(why) => return self.count_unrecorded(&why, event.times),
            };
            let relative = matches!(event.kind, EventKind::Gauge { relative: true });
            // A series that was just found or made cannot be gone.
            let _ = self.apply(&recipe, event.raw, relative, received, now);
            self.count_mapping(&recipe, 1);
            if recipe.overflow {
                self.ledger.count_overflow(event.kind.into(), 1);
            } else if let (true, Some((hash, head, tail))) = (event.cacheable, split) {
                self.cache.insert(hash, head, tail, recipe, unit(&recipe).is_some());
            }
        });
        self.parser = parser;
        self.ledger.tally += &tally;
    }

    /// Maps the event and finds or makes its series.
    fn resolve(&mut self, event: &Event<'_>, now: Timestamp) -> Result<Recipe, Unrecorded> {
        let metric_type = MetricType::from(event.kind);
        let rule = self.find_rule(metric_type, event.name);
        let mapper = &*self.mapper;
        let rule = rule.and_then(|rule| mapper.rules().get(rule));
        let options = rule.map_or(mapper.unmapped(), |rule| &rule.series);
        let mut recipe = Recipe {
            series: SeriesId::NONE,
            action: Action::Drop,
            divisor: event.divisor,
            scale: 1.0,
            times: event.times,
            tagged: !event.tags.is_empty(),
            mapped: rule.is_some(),
            overflow: false,
        };
        self.name.clear();
        let mut labels: SmallVec<[(&str, &str); 16]> = SmallVec::from_slice(event.tags);
        let mut up_down = false;
        if let Some(rule) = rule {
            if rule.action == RuleAction::Drop {
                return Ok(recipe);
            }
            self.label_values.clear();
            rule.name.expand(event.name, &self.captures, &mut self.label_values);
            escape_name(&self.label_values, &mut self.name);
            if self.name.is_empty() {
                return Err(Unrecorded {
                    mapping: None,
                    metric_type,
                    why: EventError::EmptyMetricName.into(),
                });
            }
            up_down = rule.counter == CounterType::UpDown;
            recipe.scale = rule.scale.unwrap_or(1.0);
            // First all texts, then the borrows of them.
            self.label_values.clear();
            let ends: SmallVec<[usize; 16]> = rule
                .labels
                .iter()
                .map(|(_, value)| {
                    value.expand(event.name, &self.captures, &mut self.label_values);
                    self.label_values.len()
                })
                .collect();
            let mut from = 0;
            for ((key, _), end) in rule.labels.iter().zip(ends) {
                let value = self.label_values.get(from..end).unwrap_or_default();
                from = end;
                match labels.iter_mut().find(|(tag, _)| **tag == **key) {
                    Some(_) if rule.honor_labels => {}
                    Some(tag) => tag.1 = value,
                    None => labels.push((key, value)),
                }
            }
        } else {
            escape_name(event.name, &mut self.name);
        }
        let mapping = if rule.is_some() { Mapping::Mapped } else { Mapping::Unmapped };
        let unrecorded = |why| Unrecorded { mapping: Some(mapping), metric_type, why };
        if self.name.is_empty() {
            return Err(unrecorded(EventError::EmptyMetricName.into()));
        }
        let kind;
        (kind, recipe.action) = match event.kind {
            EventKind::Counter if up_down => (FamilyKind::Gauge, Action::UpDown),
            // Before a series is made for it.
            EventKind::Counter if event.value() * recipe.scale < 0.0 => {
                return Err(unrecorded(EventError::IllegalNegativeCounter.into()));
            }
            EventKind::Counter => (FamilyKind::Counter, Action::Count),
            EventKind::Gauge { .. } => (FamilyKind::Gauge, Action::Gauge),
            EventKind::Observer => match options.observer {
                ObserverType::Summary => (FamilyKind::Summary, Action::Observe),
                ObserverType::Histogram => (FamilyKind::Histogram, Action::Observe),
            },
        };
        let request = SeriesRequest {
            family: &self.name,
            kind,
            labels: &labels,
            help: &options.help,
            ttl: options.ttl,
            max_series: options.max_series,
            summary: &options.summary,
            histogram: &options.histogram,
        };
        let resolved =
            self.registry.resolve(&request, now).map_err(|refusal| unrecorded(Why::Refused(refusal)))?;
        (recipe.series, recipe.overflow) = (resolved.id, resolved.overflow);
        Ok(recipe)
    }

    /// The position of the rule that takes a name. `self.captures` then holds what its pattern
    /// captured.
    fn find_rule(&mut self, metric_type: MetricType, name: &str) -> Option<usize> {
        if self.mapper.rules().is_empty() && self.results.entries_max() == 0 {
            return None;
        }
        if let Some(known) = self.results.get(metric_type, name) {
            let known = known.as_ref()?;
            self.captures.clone_from(&known.captures);
            return Some(known.rule);
        }
        self.ledger.mapping_misses += 1;
        let found = self.mapper.find(metric_type, name, &mut self.captures).map(|rule| rule.number);
        if self.results.entries_max() > 0 {
            let matched = found.map(|rule| Matched { rule, captures: self.captures.clone() });
            self.results.insert(metric_type, name, matched);
        }
        found
    }

    /// Counts an event without a series, under its reason. `self.name` is still the family's.
    fn count_unrecorded(&mut self, unrecorded: &Unrecorded, times: u64) {
        self.count_unrecorded_lines(unrecorded, 1, times);
    }

    /// The same for `lines` lines, of which each counts `times` times.
    fn count_unrecorded_lines(&mut self, unrecorded: &Unrecorded, lines: u64, times: u64) {
        match unrecorded.mapping {
            Some(mapping) => self.ledger.count_mapping(mapping, lines.saturating_mul(times)),
            None => self.ledger.count_lookups(lines.saturating_mul(times)),
        }
        match unrecorded.why {
            Why::Error(error) => self.ledger.count_error(error, lines),
            Why::Refused(refusal) => {
                self.ledger.count_refused(unrecorded.metric_type, &self.name, refusal, lines);
            }
        }
    }

    fn drain_slots(&mut self, tables: &Tables, now: Timestamp) {
        let Some(mut promotion) = self.promotion.take() else { return };
        promotion.drain(&tables.slots, |growth| self.grow(growth, now));
        self.promotion = Some(promotion);
    }

    fn release(&mut self, tables: &Tables, now: Timestamp) {
        let Some(mut promotion) = self.promotion.take() else { return };
        let mut left = Vec::new();
        promotion.release(&tables.slots, |growth| self.grow(growth, now), |entry| left.push(entry));
        for entry in left {
            if let Some(entry) = self.cache.entry_mut(entry) {
                entry.promoted = false;
            }
        }
        self.promotion = Some(promotion);
    }

    fn promote(&mut self, tables: &Tables, mut candidates: Vec<Candidate>) {
        let (Some(promotion), cache) = (self.promotion.as_mut(), &mut self.cache) else { return };
        candidates.retain(|candidate| is_still_of(cache, candidate, tables.seed));
        promotion.promote(&tables.slots, &tables.identities, &candidates, |entry, result| {
            if let Some(entry) = cache.entry_mut(entry) {
                entry.promoted = result.is_ok();
                entry.promotable = result.is_ok();
            }
        });
    }

    /// Records what a slot has counted.
    fn grow(&mut self, growth: Growth, now: Timestamp) {
        let Some(mut recipe) = self.cache.entry(growth.entry).map(|entry| entry.recipe) else { return };
        self.ledger.slot_lines += growth.lines;
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

    fn add_growth(&mut self, recipe: &Recipe, growth: Growth, now: Timestamp) -> Result<(), Stale> {
        let amount = scaled(growth.sum, unit(recipe).unwrap_or(1));
        match recipe.action {
            Action::Drop => {
                self.ledger.dropped += growth.lines;
                return Ok(());
            }
            // Relative, so the order among other changes makes no difference.
            Action::UpDown => self.registry.adjust(recipe.series, amount, now, now)?,
            // Only these are promoted.
            Action::Count | Action::Gauge | Action::Observe => {
                self.registry.add(recipe.series, amount, now)?;
            }
        }
        self.ledger.count_recorded(MetricType::Counter, growth.lines);
        Ok(())
    }

    /// Finds or makes the series of a remembered line once more.
    fn renew(&mut self, index: EntryIndex, now: Timestamp) -> Result<Recipe, Unrecorded> {
        let line = self.cache.entry(index).map(|entry| entry.line("0")).unwrap_or_default();
        let mut parser = std::mem::take(&mut self.parser);
        // A line that was remembered gives exactly one event.
        let mut renewed = Err(Unrecorded {
            mapping: None,
            metric_type: MetricType::Counter,
            why: EventError::EmptyMetricName.into(),
        });
        parser.parse_line(&line, &mut Tally::default(), &mut |event| renewed = self.resolve(&event, now));
        self.parser = parser;
        let recipe = renewed?;
        if let Some(entry) = self.cache.entry_mut(index).filter(|_| !recipe.overflow) {
            entry.recipe = recipe;
        }
        Ok(recipe)
    }

    /// What could be promoted, busiest first. Ends the cache's window.
    fn candidates(&mut self, seed: u64, seconds: f64) -> Vec<Candidate> {
        let Some(promotion) = &self.promotion else { return Vec::new() };
        let options = *promotion.options();
        let mut busy = Vec::new();
        let registry = &self.registry;
        self.cache.take_window(|index, entry, lines| {
            let rate = f64::from(lines) / seconds;
            // A series that expired and found no room since is not worth a slot.
            let recipe = &entry.recipe;
            let has_series = recipe.action == Action::Drop || registry.is_live(recipe.series);
            if entry.promotable && !entry.promoted && has_series && rate >= options.promote_lines_per_second {
                busy.push((index, rate));
            }
        });
        busy.sort_by(|a, b| b.1.total_cmp(&a.1));
        busy.truncate(options.promotions_per_tick);
        let mut candidates = Vec::with_capacity(busy.len());
        for (index, lines_per_second) in busy {
            let Some(entry) = self.cache.entry_mut(index) else { continue };
            match identity_of(&entry.line("0"), seed) {
                Some(identity) => candidates.push(Candidate { entry: index, identity, lines_per_second }),
                None => entry.promotable = false,
            }
        }
        candidates
    }
}

/// An event that has no series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unrecorded {
    /// What the mapping counted; `None` if it came to no decision.
    mapping: Option<Mapping>,
    metric_type: MetricType,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Error(EventError),
    Refused(Refusal),
}

impl From<EventError> for Why {
    fn from(error: EventError) -> Self {
        Self::Error(error)
    }
}

/// Whether the candidate's entry still is the line that it was made from. While the lock was released
/// for a grace period a full cache may have given the entry to another line, whose series would then
/// take what the kernel counts of this one.
fn is_still_of(cache: &RecipeCache, candidate: &Candidate, seed: u64) -> bool {
    cache.entry(candidate.entry).is_some_and(|entry| {
        entry.promotable && !entry.promoted && identity_of(&entry.line("0"), seed) == Some(candidate.identity)
    })
}

/// How much one unit on the wire is worth to the recipe's series; `None` if the kernel cannot count
/// for it.
fn unit(recipe: &Recipe) -> Option<u64> {
    match recipe.action {
        Action::Count | Action::UpDown => {
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
        Action::Gauge | Action::Observe => None,
    }
}

/// Whole scales up to this one are applied to a slot's sum.
const SCALE_MAX: f64 = 1_000_000.0;

/// A slot's sum times what one unit is worth; 128 bits hold every product of the two.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53, as a counter is at all")]
fn scaled(sum: u64, unit: u64) -> f64 {
    (u128::from(sum) * u128::from(unit)) as f64
}

/// How much one unit on the wire is worth, if that is a whole number and dividing any whole number of
/// up to 15 digits by `divisor` gives exactly that multiple: then a sum can be scaled instead of each
/// value. The division is exact enough when the divisor is within half a rounding error of its
/// reciprocal, as 0.1 and 0.5 are; a line with another rate stays with userspace.
fn exact_unit(divisor: f64) -> Option<u64> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::Transport;
    use crate::mapper::SeriesOptions;

    fn pipeline() -> Pipeline {
        Pipeline::new(PipelineOptions { cached_lines_max: 100, ..PipelineOptions::default() }, None)
    }

    fn ingest(pipeline: &Pipeline, payloads: &[&str], received: u64) {
        let batch: Vec<Datagram<'_>> = payloads
            .iter()
            .map(|payload| Datagram {
                payload: payload.as_bytes(),
                received: Timestamp(received),
                source: None,
                transport: Transport::Udp,
            })
            .collect();
        pipeline.ingest(&batch);
    }

    /// The exposition without its comments. The ledger must close, whatever came.
    fn exposition(pipeline: &Pipeline) -> String {
        pipeline.look(|core| core.ledger.check()).expect("the ledger closes");
        let mut out = Vec::new();
        pipeline.write_exposition(Vec::new(), Format::Text, &mut out);
        let text = String::from_utf8(out).expect("an exposition is text");
        text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect()
    }

    /// In one batch and one by one, which must make no difference.
    #[track_caller]
    fn check(payloads: &[&str], expected: &str) {
        let cold = pipeline();
        ingest(&cold, payloads, 1);
        assert_eq!(exposition(&cold), expected);
        let warm = pipeline();
        for payload in payloads {
            ingest(&warm, &[payload], 1);
        }
        assert_eq!(exposition(&warm), expected);
    }

    #[test]
    fn a_sampled_counter_is_scaled_by_its_rate() {
        check(&["airflow.ti_failures:2|c|@0.5"], "airflow_ti_failures 4\n");
    }

    #[test]
    fn lines_of_one_name_add_up_however_they_are_cut_into_datagrams() {
        check(&["a:1|c\na:2|c", "a:3|c\n", "a:4|c\nb:0|c"], "a 10\nb 0\n");
    }

    #[test]
    fn a_gauge_is_set_or_moved() {
        check(&["g:5|g", "g:+2|g", "g:-3|g"], "g 4\n");
        check(&["g:0|g\ng:-4|g"], "g -4\n");
    }

    #[test]
    fn an_older_datagram_never_overwrites_a_newer_one() {
        let pipeline = pipeline();
        ingest(&pipeline, &["g:1|g"], 10);
        ingest(&pipeline, &["g:2|g"], 20);
        ingest(&pipeline, &["g:3|g"], 15);
        assert_eq!(exposition(&pipeline), "g 2\n");
        assert_eq!(pipeline.look(|core| core.ledger.outdated_gauges), 1);
    }

    #[test]
    fn a_timer_is_a_summary_in_seconds() {
        check(
            &["t:100|ms", "t:200|ms|#k:v", "t:300|ms"],
            "t{quantile=\"0.5\"} 0.1\nt{quantile=\"0.9\"} 0.3\nt{quantile=\"0.99\"} 0.3\nt_sum 0.4\nt_count 2\n\
             t{k=\"v\",quantile=\"0.5\"} 0.2\nt{k=\"v\",quantile=\"0.9\"} 0.2\nt{k=\"v\",quantile=\"0.99\"} 0.2\n\
             t_sum{k=\"v\"} 0.2\nt_count{k=\"v\"} 1\n",
        );
    }

    #[test]
    fn what_cannot_be_recorded_is_counted_under_its_reason() {
        let pipeline = pipeline();
        for _ in 0..2 {
            ingest(&pipeline, &["c:-1|c", "x:1|c", "x:1|g", ",k=v:1|c", "no colon", "c:-1|c"], 1);
        }
        assert_eq!(exposition(&pipeline), "x 2\n");
        pipeline.look(|core| {
            assert_eq!(core.ledger.errors(EventError::IllegalNegativeCounter), 4);
            assert_eq!(core.ledger.errors(EventError::EmptyMetricName), 2);
            assert_eq!(core.ledger.conflicts().collect::<Vec<_>>(), [("gauge", "x", 2)]);
            assert_eq!((core.ledger.tally.lines, core.ledger.tally.events), (12, 10));
        });
    }

    #[test]
    fn a_remembered_line_counts_as_the_parser_counts() {
        let payloads = ["a:1|c|#k:v", "b:1.5|ms|@0.5", "g:1|g", "d:1:2:3|d", "e:1|c:2|g", "f:1|c|#bad", "\n"];
        let (once, warm) = (pipeline(), pipeline());
        for _ in 0..3 {
            ingest(&warm, &payloads, 1);
        }
        ingest(&once, &payloads, 1);
        let (once, warm) = (once.look(|core| core.ledger.tally), warm.look(|core| core.ledger.tally));
        let mut thrice = Tally::default();
        for _ in 0..3 {
            thrice += &once;
        }
        assert_eq!(warm, thrice);
    }

    #[test]
    fn a_candidate_whose_entry_went_to_another_line_is_not_promoted() {
        const SEED: u64 = 7;
        let options = PipelineOptions { cached_lines_max: 1, ..PipelineOptions::default() };
        let pipeline = Pipeline::new(options, None);
        ingest(&pipeline, &["a:1|c"], 1);
        let identity = identity_of(b"a:0|c", SEED).expect("it fits the grammar");
        let candidate = Candidate { entry: 0, identity, lines_per_second: 1.0 };
        assert!(pipeline.look(|core| is_still_of(&core.cache, &candidate, SEED)));
        ingest(&pipeline, &["b:1|c"], 1);
        assert!(!pipeline.look(|core| is_still_of(&core.cache, &candidate, SEED)));
    }

    /// A pipeline with room for `series_max` series, whose series expire after a minute.
    fn bounded(series_max: u32) -> Pipeline {
        let registry = RegistryConfig::new(series_max, 0);
        let unmapped = SeriesOptions { ttl: Some(Duration::from_secs(60)), ..SeriesOptions::default() };
        let mapper = Arc::new(Mapper::of_unmapped(unmapped));
        let options =
            PipelineOptions { registry, mapper, cached_lines_max: 100, ..PipelineOptions::default() };
        Pipeline::new(options, None)
    }

    #[test]
    fn without_room_nothing_is_lost_but_gauges() {
        let pipeline = bounded(1);
        for _ in 0..3 {
            ingest(&pipeline, &["a:1|c", "b:2|c", "b:3|c|@0.5", "t:250|ms|@0.25", "h:7|h", "g:1|g"], 1);
        }
        assert_eq!(
            exposition(&pipeline),
            "a 3\nrotameter_overflow_counter_total 24\nrotameter_overflow_observations_sum 24\n\
             rotameter_overflow_observations_count 15\n"
        );
        pipeline.look(|core| {
            assert_eq!(MetricType::ALL.map(|event| core.ledger.overflow(event)), [6, 3, 6]);
            assert_eq!(core.ledger.refused().collect::<Vec<_>>(), [("series_limit", 3)]);
            assert_eq!(core.ledger.conflicts().count(), 0);
            assert_eq!(core.cache.len(), 1, "what has no series of its own is not remembered");
        });
    }

    /// One line, taken at `now`.
    fn take(core: &mut Core, line: &str, now: Timestamp) {
        let payload = line.as_bytes();
        core.take(&Datagram { payload, received: now, source: None, transport: Transport::Udp }, now);
    }

    fn later(seconds: u64) -> Timestamp {
        Timestamp::now().after(Duration::from_secs(seconds))
    }

    #[test]
    fn what_the_kernel_counts_keeps_its_series_or_makes_it_anew() {
        let pipeline = bounded(1);
        let grow = |lines, sum, at| {
            pipeline.core.lock().grow(Growth { entry: 0, lines, sum }, later(at));
        };
        let expire = |at| pipeline.core.lock().registry.expire(later(at)).series;
        ingest(&pipeline, &["a:1|c|@0.1"], 1);
        // Counted every 40 s, it never expires.
        for n in 1..=5 {
            grow(2, 3, 40 * n);
            assert_eq!(expire(40 * n), 0);
        }
        assert_eq!(exposition(&pipeline), "a 160\n");
        assert_eq!(expire(300), 1);
        // Nobody has it now, and the kernel counts on.
        grow(1, 4, 301);
        grow(1, 5, 302);
        assert_eq!(exposition(&pipeline), "a 90\n");
        // It expires again, and another one takes its room until that one goes, too.
        assert_eq!(expire(400), 1);
        take(&mut pipeline.core.lock(), "b:1|c", later(400));
        grow(3, 6, 401);
        assert_eq!(exposition(&pipeline), "b 1\nrotameter_overflow_counter_total 60\n");
        assert_eq!(pipeline.look(|core| core.ledger.overflow(MetricType::Counter)), 3);
        assert_eq!(expire(500), 1);
        grow(1, 7, 501);
        assert_eq!(exposition(&pipeline), "a 70\nrotameter_overflow_counter_total 60\n");
    }

    #[test]
    fn a_line_whose_series_found_no_room_again_is_no_candidate() {
        let pipeline = bounded(1);
        let mut core = pipeline.core.lock();
        core.promotion = Some(Promotion::new(
            8,
            PromotionOptions { promote_lines_per_second: 0.0, ..PromotionOptions::default() },
        ));
        take(&mut core, "a:1|c", later(0));
        take(&mut core, "a:1|c", later(0));
        assert_eq!(core.candidates(7, 1.0).len(), 1);
        core.registry.expire(later(100));
        take(&mut core, "b:1|c", later(100));
        take(&mut core, "a:1|c", later(100));
        assert_eq!(core.candidates(7, 1.0).len(), 0);
    }

    #[test]
    fn a_scaled_sum_does_not_wrap() {
        assert_eq!(scaled(1 << 50, 1_000_000).to_bits(), ((1_u64 << 50) as f64 * 1e6).to_bits());
        assert_eq!(scaled(3, 10).to_bits(), 30.0_f64.to_bits());
    }

    #[test]
    fn a_rate_is_scaled_exactly_or_not_at_all() {
        assert_eq!(exact_unit(1.0), Some(1));
        assert_eq!(exact_unit(0.5), Some(2));
        assert_eq!(exact_unit(0.1), Some(10));
        for divisor in [0.3, 0.7, 2.0, 0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9] {
            assert_eq!(exact_unit(divisor), None, "{divisor}");
        }
        for divisor in [1.0, 0.5, 0.25, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001] {
            let Some(unit) = exact_unit(divisor) else { continue };
            for value in (0..2000_u32).chain([999_999_999, 1 << 30]) {
                let value = f64::from(value);
                #[expect(clippy::cast_precision_loss, reason = "small")]
                let unit = unit as f64;
                assert_eq!((value / divisor).to_bits(), (value * unit).to_bits(), "{value} / {divisor}");
            }
        }
    }
}
