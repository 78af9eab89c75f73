//! Datagrams -> registry; rings, sockets, slots, rules and scrapes meet here.
//!
//! One lock, taken once per batch and never per line, orders everything that changes series: rings,
//! sockets, streams and slot growth. A scrape takes it for a slice of series at a time.

mod cardinality;
mod copies;
#[cfg(test)]
mod copies_tests;
mod core;
mod growth;
mod repeats;
mod resolve;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod value_tests;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

pub use self::{cardinality::Cardinality, core::Core};
use self::{copies::Copies, repeats::Repeats};
use crate::{
    clock::{Timestamp, WallClock},
    datagram::Datagram,
    exposition::{Cursor, Format, OwnFamily, Progress, Sink},
    kernel::{
        object::Tables,
        promotion::{Promotion, PromotionOptions},
        ring::Ring,
        rings::Rings,
    },
    ledger::Ledger,
    line::{Dialects, Parser},
    live::{
        Sampler, Samples,
        tap::{Batch, Tap},
    },
    mapper::{
        Captures, Mapper,
        cache::RecipeCache,
        results::{ResultCache, ResultCacheType},
    },
    registry::{Registry, RegistryConfig},
    relay::Relay,
    sender::SenderTable,
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
    /// Gives series the labels of who sent them.
    pub senders: Option<SenderTable>,
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
            senders: None,
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
    /// Nothing is to be promoted: somebody wants to see all datagrams whole.
    whole: AtomicBool,
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
            sampler: Sampler::default(),
            tap: Tap::default(),
            promotion,
            tables: tables.clone(),
            renamed: Vec::new(),
            relay: options.relay,
            mapper: options.mapper,
            results: ResultCache::new(options.result_cache.0, options.result_cache.1),
            senders: options.senders,
            copies: Copies::default(),
            repeats: Repeats::default(),
            captures: Captures::default(),
            name: String::new(),
            label_values: String::new(),
        };
        Self {
            core: Mutex::new(core),
            rings: Mutex::new(Rings::new(rings)),
            tables,
            demoting: Mutex::new(()),
            whole: AtomicBool::new(false),
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
        core.ledger.settle();
    }

    /// Takes all that lies in the rings now. What is added meanwhile may stay for the next time, so
    /// that a flood cannot keep a scrape waiting. Returns how many records there were.
    pub fn drain_rings(&self) -> usize {
        let mut rings = self.rings.lock();
        if let Some(tables) = &self.tables {
            tables.doorbell.hush();
        }
        rings.begin(Timestamp::now());
        let mut records = 0;
        loop {
            let now = Timestamp::now();
            let mut core = self.core.lock();
            core.ledger.batches += 1;
            let taken = rings.read(RING_BATCH_RECORDS, |datagram| core.take(datagram, now));
            core.ledger.settle();
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

    /// The same for those of which lines come often: enough for whoever looks at rates.
    pub fn drain_busy_slots(&self) {
        let Some(tables) = &self.tables else { return };
        let now = Timestamp::now();
        self.core.lock().drain_busy_slots(tables, now);
    }

    /// Lets series expire whose TTL is over; the lock is given back now and then. Costs next to
    /// nothing when none is. The caller drains the rings first.
    ///
    /// # Errors
    ///
    /// As for [`Pipeline::tick`].
    pub fn expire(&self) -> io::Result<()> {
        let now = Timestamp::now();
        if !self.look(|core| core.registry.is_any_due(now)) {
            return Ok(());
        }
        let _demoting = self.demoting.lock();
        let mut core = self.core.lock();
        let mut waited = Ok(());
        // What the kernel has counted until now keeps its series alive.
        if let Some(tables) = &self.tables {
            core.drain_slots(tables, now);
            if core.demote_due_gauges(tables, now) {
                drop(core);
                waited = tables.grace.wait();
                core = self.core.lock();
                if waited.is_ok() {
                    core.release(tables, now);
                }
            }
        }
        // One that leaves is not to be looked for among all that have no place yet.
        while core.registry.settle_order(1) {
            MutexGuard::bump(&mut core);
        }
        while core.registry.expire(now).more {
            MutexGuard::bump(&mut core);
        }
        waited
    }

    /// Puts new series into the order of the exposition where `late_min` of a family wait for it; the lock is
    /// given back now and then.
    pub fn settle_order(&self, late_min: usize) {
        let mut core = self.core.lock();
        while core.registry.settle_order(late_min) {
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
        let seconds = window.as_secs_f64().max(1e-3);
        let mut core = self.core.lock();
        let Some(tables) = &self.tables else {
            // Nobody is promoted, but the next window begins.
            core.end_window(seconds);
            core.settle_copies();
            return Ok(());
        };
        core.drain_round(tables, now);
        let candidates = core.candidates(tables.seed, seconds);
        core.settle_copies();
        let whole = self.whole.load(Ordering::Relaxed);
        let leaving = core.promotion.as_mut().is_some_and(|promotion| {
            if whole {
                promotion.demote_all(&tables.identities);
            } else {
                promotion.demote(&tables.identities, &candidates, seconds);
            }
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
        if !whole {
            core.promote(tables, candidates);
        }
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
        // Thousands of rules take their time to go, so they outlive the guard.
        let _old_rules;
        let mut core = self.core.lock();
        if let Some(tables) = &self.tables {
            core.release(tables, now);
        }
        _old_rules = std::mem::replace(&mut core.mapper, mapper);
        core.registry.rules_changed();
        core.cache.clear();
        core.results.clear();
        let core = &mut *core;
        core.copies.prune(&core.registry);
        Ok(())
    }

    /// Sum of the counters of a family, or number of its gauges, as far as it takes to tell few from many.
    #[must_use]
    pub fn family_total(&self, name: &str) -> f64 {
        self.core.lock().registry.family_total(name, 64, Timestamp::now())
    }

    /// Removes all series of these families. What the kernel has counted for them until now is lost, too.
    pub fn discard_families(&self, names: &[&str]) {
        let now = Timestamp::now();
        self.core.lock().registry.discard_families(names, now);
    }

    /// Writes the exposition, own families included, into `sink`. The caller drains first.
    pub fn write_exposition(&self, own: Vec<OwnFamily>, format: Format, sink: &mut dyn Sink) {
        let now = Timestamp::now();
        let mut cursor = Cursor::new(own, format, self.clock);
        let mut part = Vec::with_capacity(2 * EXPOSITION_PART_BYTES);
        self.settle_order(1);
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

    /// Ends the sampler's window: what it took goes into `samples`.
    pub fn take_samples(&self, samples: &mut Samples) {
        self.core.lock().sampler.swap(samples);
    }

    /// Fetches copies of datagrams that were made since the last time; more are made while it is open.
    pub fn take_copies(&self, batch: &mut Batch, open: bool) {
        self.core.lock().tap.swap(batch, open);
    }

    /// From the next window on, either nothing is counted in the kernel or what is hot.
    pub fn take_whole(&self, whole: bool) {
        self.whole.store(whole, Ordering::Relaxed);
    }

    /// Looks at the present state under the lock.
    pub fn look<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.core.lock())
    }

    /// Declares the names of our own metrics, which no sender may use.
    pub fn reserve<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        self.core.lock().registry.reserve(names);
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
