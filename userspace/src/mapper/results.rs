//! Type and name -> which rule took it, remembered; statsd_exporter's mapping cache.
//!
//! Bounded by `--statsd.cache-size`. A full one gives up the entry that was used longest ago (`lru`)
//! or any (`random`). Unless it is tiny, it does so only for a name that comes a second time: names that
//! come once would put out those that come again.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use hashbrown::HashTable;

use super::doorkeeper::Doorkeeper;
use super::{Captures, MetricType};

/// A full cache of so many entries or more waits until a name comes again.
const CHOOSY_MIN: usize = 64;
/// One for each name that it has seen.
const DOORKEEPER_BITS: usize = 1 << 16;

/// `--statsd.cache-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResultCacheType {
    #[default]
    Lru,
    Random,
}

/// What a look-up gave: the rule's position in its file and what the pattern captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    pub rule: usize,
    pub captures: Captures,
}

/// The cache; also remembers that no rule took a name.
#[derive(Debug)]
pub struct ResultCache {
    kind: ResultCacheType,
    entries_max: usize,
    hasher: foldhash::fast::RandomState,
    table: HashTable<u32>,
    entries: Vec<Entry>,
    /// Ends of the list by last use; of no meaning to `random`.
    newest: u32,
    oldest: u32,
    doorkeeper: Option<Doorkeeper>,
}

/// A name and its type, hashed once for look-up and insertion.
#[derive(Clone, Copy, Debug)]
pub struct ResultKey<'a> {
    hash: u64,
    metric_type: MetricType,
    name: &'a str,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    metric_type: MetricType,
    name: String,
    result: Option<Matched>,
    newer: u32,
    older: u32,
}

/// No entry; the bound on entries keeps every index below it.
const NONE: u32 = u32::MAX;

impl ResultCache {
    /// An empty cache for at most `entries_max` names; with 0 it remembers nothing.
    #[must_use]
    pub fn new(kind: ResultCacheType, entries_max: usize) -> Self {
        Self {
            kind,
            entries_max: entries_max.min(NONE as usize - 1),
            hasher: foldhash::fast::RandomState::default(),
            table: HashTable::new(),
            entries: Vec::new(),
            newest: NONE,
            oldest: NONE,
            doorkeeper: (entries_max >= CHOOSY_MIN).then(|| Doorkeeper::new(DOORKEEPER_BITS)),
        }
    }

    /// The key of a name; hashed with a seed, for names come from the network.
    #[must_use]
    pub fn key<'a>(&self, metric_type: MetricType, name: &'a str) -> ResultKey<'a> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name.as_bytes());
        metric_type.hash(&mut hasher);
        ResultKey { hash: hasher.finish(), metric_type, name }
    }

    /// What is known of a name: `None` if nothing, `Some(None)` if no rule takes it.
    pub fn get(&mut self, key: ResultKey<'_>) -> Option<&Option<Matched>> {
        let index = *self.table.find(key.hash, |index| self.is_of(*index, key))?;
        if self.kind == ResultCacheType::Lru && index != self.newest {
            self.unlink(index);
            self.link_newest(index);
        }
        Some(&self.entries.get(index as usize)?.result)
    }

    /// Remembers a result, if the name is to be remembered; the caller has just not found it.
    pub fn insert(&mut self, key: ResultKey<'_>, result: impl FnOnce() -> Option<Matched>) {
        let ResultKey { hash, metric_type, name } = key;
        let is_full = self.entries.len() >= self.entries_max;
        if self.entries_max == 0
            || is_full && self.doorkeeper.as_mut().is_some_and(|doorkeeper| !doorkeeper.has_seen(hash))
        {
            return;
        }
        let result = result();
        let index = if self.entries.len() < self.entries_max {
            let name = name.to_owned();
            self.entries.push(Entry { hash, metric_type, name, result, newer: NONE, older: NONE });
            u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
        } else {
            let index = self.leaver();
            self.unlink(index);
            let Some(place) = self.entries.get_mut(index as usize) else { return };
            let left = std::mem::replace(&mut place.hash, hash);
            (place.metric_type, place.result) = (metric_type, result);
            // The space of the name is used again: on the way of a new name each allocation shows.
            place.name.clear();
            place.name.push_str(name);
            if let Ok(occupied) = self.table.find_entry(left, |other| *other == index) {
                occupied.remove();
            }
            index
        };
        self.link_newest(index);
        let entries = &self.entries;
        self.table
            .insert_unique(hash, index, |index| entries.get(*index as usize).map_or(0, |entry| entry.hash));
    }

    /// Forgets everything, as after a reload.
    pub fn clear(&mut self) {
        self.table.clear();
        self.entries.clear();
        (self.newest, self.oldest) = (NONE, NONE);
    }

    /// Names known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Most names that it may know; 0 if it is switched off.
    #[must_use]
    pub fn entries_max(&self) -> usize {
        self.entries_max
    }

    fn is_of(&self, index: u32, key: ResultKey<'_>) -> bool {
        let ResultKey { hash, metric_type, name } = key;
        self.entries
            .get(index as usize)
            .is_some_and(|entry| entry.hash == hash && entry.metric_type == metric_type && entry.name == name)
    }

    /// Who has to go for a new one.
    fn leaver(&self) -> u32 {
        match self.kind {
            ResultCacheType::Lru => self.oldest,
            // Which one does not matter; the hash of the newest name is as good as a die.
            ResultCacheType::Random => {
                let newest = self.entries.get(self.newest as usize).map_or(0, |entry| entry.hash);
                let at = newest.rotate_left(23) % self.entries.len().max(1) as u64;
                u32::try_from(at).unwrap_or(0)
            }
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(entry) = self.entries.get(index as usize) else { return };
        let (newer, older) = (entry.newer, entry.older);
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, index: u32) {
        let newest = std::mem::replace(&mut self.newest, index);
        if let Some(entry) = self.entries.get_mut(index as usize) {
            (entry.newer, entry.older) = (NONE, newest);
        }
        match self.entries.get_mut(newest as usize) {
            Some(entry) => entry.newer = index,
            None => self.oldest = index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(cache: &mut ResultCache, metric_type: MetricType, name: &str) -> Option<Option<usize>> {
        let key = cache.key(metric_type, name);
        cache.get(key).map(|result| result.as_ref().map(|matched| matched.rule))
    }

    fn insert(cache: &mut ResultCache, name: &str) {
        assert!(!knows(cache, name), "{name}");
        let key = cache.key(MetricType::Counter, name);
        cache.insert(key, || Some(Matched { rule: name.len(), captures: Captures::default() }));
    }

    fn knows(cache: &mut ResultCache, name: &str) -> bool {
        get(cache, MetricType::Counter, name).is_some()
    }

    #[test]
    fn a_name_is_known_by_its_type() {
        let mut cache = ResultCache::new(ResultCacheType::Lru, 2);
        insert(&mut cache, "a");
        let gauge = cache.key(MetricType::Gauge, "a");
        cache.insert(gauge, || None);
        assert_eq!(get(&mut cache, MetricType::Gauge, "a"), Some(None));
        assert_eq!(get(&mut cache, MetricType::Observer, "a"), None);
        assert_eq!(get(&mut cache, MetricType::Counter, "a"), Some(Some(1)));
    }

    #[test]
    fn lru_gives_up_what_was_used_longest_ago() {
        let mut cache = ResultCache::new(ResultCacheType::Lru, 3);
        for name in ["a", "b", "c"] {
            insert(&mut cache, name);
        }
        assert!(knows(&mut cache, "a"));
        insert(&mut cache, "d");
        assert!(!knows(&mut cache, "b"));
        assert!(knows(&mut cache, "c") && knows(&mut cache, "a") && knows(&mut cache, "d"));
        insert(&mut cache, "e");
        assert!(!knows(&mut cache, "c"));
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn either_kind_stays_within_its_bound_and_finds_what_it_kept() {
        for kind in [ResultCacheType::Lru, ResultCacheType::Random] {
            for entries_max in [1, 2, 7] {
                let mut cache = ResultCache::new(kind, entries_max);
                for n in 0..1000 {
                    let name = format!("n{n}");
                    insert(&mut cache, &name);
                    assert!(knows(&mut cache, &name));
                    assert!(cache.len() <= entries_max);
                    assert_eq!(cache.table.len(), cache.entries.len());
                }
                cache.clear();
                assert!(cache.is_empty() && !knows(&mut cache, "n999"));
            }
        }
    }

    #[test]
    fn a_full_cache_makes_room_for_a_name_that_comes_again() {
        let mut cache = ResultCache::new(ResultCacheType::Lru, 100);
        (0..100).for_each(|n| insert(&mut cache, &format!("known{n}")));
        (0..1000).for_each(|n| insert(&mut cache, &format!("once{n}")));
        let known = (0..100).filter(|n| knows(&mut cache, &format!("known{n}"))).count();
        assert!(known > 80, "{known}");
        insert(&mut cache, "twice");
        insert(&mut cache, "twice");
        assert!(knows(&mut cache, "twice") && cache.len() == 100);
    }

    #[test]
    fn a_cache_of_size_0_remembers_nothing() {
        let mut cache = ResultCache::new(ResultCacheType::Lru, 0);
        insert(&mut cache, "a");
        assert!(!knows(&mut cache, "a"));
    }
}
