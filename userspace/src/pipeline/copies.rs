//! Copies of one event -> the one that counts.
//!
//! Airflow sends many events twice or thrice, under names that tell more or less about them. Which copies
//! come depends on its version and settings, and the best one there is shall count, once. A rule says which
//! event its lines are copies of and how good they are (`same_event`).
//!
//! One copy of an event counts at a time, and others are dropped. In the first minute of an event a better
//! copy takes over at once, and what worse ones made until then goes. After that a copy must come often, so
//! that a few lines of a stray sender put nothing away: the best of those that come at least half as often as
//! the most frequent one counts.

use std::collections::HashMap;
use std::time::Duration;

use hashbrown::HashSet;

use crate::clock::Timestamp;
use crate::mapper::cache::CopyId;
use crate::mapper::tags::SameEvent;
use crate::registry::{Registry, SeriesId};

/// Ids that are kept before dead ones are looked for.
const MADE_MIN: usize = 1024;
/// While an event is so young, a better copy takes over with its first line.
const YOUNG: Duration = Duration::from_secs(60);
/// Lines of the most frequent copy from which on the numbers say something.
const LINES_MIN: u64 = 16;

/// Who made what, by event and rank.
#[derive(Debug, Default)]
pub(super) struct Copies {
    places: HashMap<Box<str>, u16>,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Event {
    copies: Vec<Copy>,
    /// Rank of the copy that counts.
    counts: u32,
    /// When the first copy came, until the numbers have decided.
    began: Option<Timestamp>,
    /// Rank of the copy that would count, had the last look at the numbers decided.
    rival: Option<u32>,
}

#[derive(Debug, Default)]
struct Copy {
    rank: u32,
    /// Lines lately: halved with each look at the numbers.
    lines: u64,
    made: HashSet<SeriesId, foldhash::fast::RandomState>,
    /// One of `made` that was alive when last seen.
    witness: Option<SeriesId>,
    /// Dead ids are looked for when `made` has reached this size.
    prune_at: usize,
}

/// What a line of a copy is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// `None` if there are too many events to count their lines.
    pub(super) id: Option<CopyId>,
    /// A series of the copy that counts in its place.
    pub(super) behind: Option<SeriesId>,
}

impl Copies {
    /// Counts a line of a copy, and says whether it counts.
    pub(super) fn stand(&mut self, of: &SameEvent, registry: &Registry, now: Timestamp) -> Standing {
        let Some(at) = self.place(&of.name, of.rank, now) else { return Standing { id: None, behind: None } };
        let Some(event) = self.events.get_mut(usize::from(at)) else {
            return Standing { id: None, behind: None };
        };
        let place = event.copy(of.rank);
        let id = u16::try_from(place).ok().map(|copy| CopyId { event: at, copy });
        event.copies[place].lines += 1;
        if event.counts == of.rank {
            return Standing { id, behind: None };
        }
        let counting = event.copies.iter_mut().find(|copy| copy.rank == event.counts);
        let alive = counting.and_then(|copy| copy.alive(registry));
        let takes_over = of.rank < event.counts && event.is_young(now);
        Standing { id, behind: alive.filter(|_| !takes_over) }
    }

    /// A copy that stands behind none makes a series: from now on it counts. If it comes in the place of a
    /// worse one, what that made goes.
    pub(super) fn begin(&mut self, of: &SameEvent, registry: &mut Registry, now: Timestamp) {
        let Some(event) = self.event(&of.name) else { return };
        if event.counts == of.rank {
            return;
        }
        if event.is_young(now) {
            for copy in event.copies.iter_mut().filter(|copy| copy.rank > of.rank) {
                for id in copy.made.drain() {
                    registry.discard(id, now);
                }
            }
        }
        if of.rank > event.counts {
            // The better one has expired.
            event.began = Some(now);
        }
        event.counts = of.rank;
        event.rival = None;
    }

    /// Notes that the copy feeds a series.
    pub(super) fn note(&mut self, of: &SameEvent, id: SeriesId, registry: &Registry) {
        let Some(event) = self.event(&of.name) else { return };
        let place = event.copy(of.rank);
        let copy = &mut event.copies[place];
        copy.made.insert(id);
        if copy.made.len() >= copy.prune_at {
            copy.made.retain(|id| registry.is_live(*id));
            copy.prune_at = MADE_MIN.max(copy.made.len().saturating_mul(2));
        }
    }

    /// Counts lines that came without a look at the rules.
    pub(super) fn count(&mut self, id: CopyId, lines: u64) {
        let event = self.events.get_mut(usize::from(id.event));
        if let Some(copy) = event.and_then(|event| event.copies.get_mut(usize::from(id.copy))) {
            copy.lines = copy.lines.saturating_add(lines);
        }
    }

    /// Looks at the numbers, now and then. Returns the events of which another copy counts now: what is
    /// remembered of their lines is no longer true.
    pub(super) fn settle(&mut self, registry: &Registry) -> Vec<u16> {
        let mut changed = Vec::new();
        for (at, event) in (0..).zip(&mut self.events) {
            let Some(rank) = event.look() else { continue };
            // What is there goes on, mostly in the same series. Until the new copy has some of its own, those
            // stand for it.
            let old = event.copies.iter_mut().find(|copy| copy.rank == event.counts);
            let made = old.map(|copy| std::mem::take(&mut copy.made)).unwrap_or_default();
            let place = event.copy(rank);
            event.copies[place].made.extend(made.into_iter().filter(|id| registry.is_live(*id)));
            event.counts = rank;
            event.began = None;
            changed.push(at);
        }
        changed
    }

    /// After a reload: forgets events that have no series left. No line is remembered then.
    pub(super) fn prune(&mut self, registry: &Registry) {
        let old = std::mem::take(self);
        let mut events: Vec<_> = old.events.into_iter().map(Some).collect();
        for (name, at) in old.places {
            let Some(mut event) = events.get_mut(usize::from(at)).and_then(Option::take) else { continue };
            let mut lives = false;
            event.copies.iter_mut().for_each(|copy| lives |= copy.alive(registry).is_some());
            if let (true, Ok(place)) = (lives, u16::try_from(self.events.len())) {
                self.places.insert(name, place);
                self.events.push(event);
            }
        }
    }

    /// Makes the events older.
    #[cfg(test)]
    pub(super) fn age(&mut self, by: Duration) {
        for event in &mut self.events {
            let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            event.began = event.began.map(|began| Timestamp(began.0.saturating_sub(by)));
        }
    }

    fn event(&mut self, name: &str) -> Option<&mut Event> {
        self.places.get(name).and_then(|at| self.events.get_mut(usize::from(*at)))
    }

    fn place(&mut self, name: &str, rank: u32, now: Timestamp) -> Option<u16> {
        if let Some(at) = self.places.get(name) {
            return Some(*at);
        }
        let at = u16::try_from(self.events.len()).ok()?;
        self.places.insert(name.into(), at);
        self.events.push(Event { copies: Vec::new(), counts: rank, began: Some(now), rival: None });
        Some(at)
    }
}

impl Event {
    fn is_young(&self, now: Timestamp) -> bool {
        self.began.is_some_and(|began| now.since(began) < YOUNG)
    }

    /// Where the copy of that rank is.
    fn copy(&mut self, rank: u32) -> usize {
        self.copies.iter().position(|copy| copy.rank == rank).unwrap_or_else(|| {
            self.copies.push(Copy { rank, prune_at: MADE_MIN, ..Copy::default() });
            self.copies.len() - 1
        })
    }

    /// The copy that shall count from now on, if it is another one. Two looks must agree, for the first may
    /// fall between the copies of one event.
    fn look(&mut self) -> Option<u32> {
        let most = self.copies.iter().map(|copy| copy.lines).max().unwrap_or_default();
        if self.copies.len() < 2 || most < LINES_MIN {
            return None;
        }
        let often = |copy: &&Copy, times: u64| copy.lines.saturating_mul(times) >= most;
        let best = self.copies.iter().filter(|copy| often(copy, 2)).map(|copy| copy.rank).min();
        // One that counts needs less than one that wants to.
        let holds = self.copies.iter().any(|copy| copy.rank == self.counts && often(&copy, 4));
        let best = best.filter(|best| *best < self.counts || (*best > self.counts && !holds));
        self.copies.iter_mut().for_each(|copy| copy.lines /= 2);
        let agreed = best.is_some() && best == self.rival;
        self.rival = best.filter(|_| !agreed);
        best.filter(|_| agreed)
    }
}

impl Copy {
    fn alive(&mut self, registry: &Registry) -> Option<SeriesId> {
        if !self.witness.is_some_and(|id| registry.is_live(id)) {
            self.made.retain(|id| registry.is_live(*id));
            self.witness = self.made.iter().next().copied();
        }
        self.witness
    }
}
