//! Type and name -> which rule took it, remembered; statsd_exporter's mapping cache.
//!
//! Bounded by `--statsd.cache-size`. A full one gives up the entry that was used longest ago (`lru`)
//! or any (`random`).

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use hashbrown::HashTable;

use super::{Captures, MetricType};

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
        }
    }

    /// What is known of a name: `None` if nothing, `Some(None)` if no rule takes it.
    pub fn get(&mut self, metric_type: MetricType, name: &str) -> Option<&Option<Matched>> {
        let hash = self.hash(metric_type, name);
        let index = *self.table.find(hash, |index| self.is_of(*index, hash, metric_type, name))?;
        if self.kind == ResultCacheType::Lru && index != self.newest {
            self.unlink(index);
            self.link_newest(index);
        }
        Some(&self.entries.get(index as usize)?.result)
    }

    /// Remembers a result; the caller has just not found it.
    pub fn insert(&mut self, metric_type: MetricType, name: &str, result: Option<Matched>) {
        if self.entries_max == 0 {
            return;
        }
        let hash = self.hash(metric_type, name);
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

    fn hash(&self, metric_type: MetricType, name: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name.as_bytes());
        metric_type.hash(&mut hasher);
        hasher.finish()
    }

    fn is_of(&self, index: u32, hash: u64, metric_type: MetricType, name: &str) -> bool {
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

    fn insert(cache: &mut ResultCache, name: &str) {
        assert_eq!(cache.get(MetricType::Counter, name), None, "{name}");
        let matched = Matched { rule: name.len(), captures: Captures::default() };
        cache.insert(MetricType::Counter, name, Some(matched));
    }

    fn knows(cache: &mut ResultCache, name: &str) -> bool {
        cache.get(MetricType::Counter, name).is_some()
    }

    #[test]
    fn a_name_is_known_by_its_type() {
        let mut cache = ResultCache::new(ResultCacheType::Lru, 2);
        insert(&mut cache, "a");
        cache.insert(MetricType::Gauge, "a", None);
        assert_eq!(cache.get(MetricType::Gauge, "a"), Some(&None));
        assert_eq!(cache.get(MetricType::Observer, "a"), None);
        let matched = cache.get(MetricType::Counter, "a").unwrap().as_ref();
        assert_eq!(matched.map(|matched| matched.rule), Some(1));
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
    fn a_cache_of_size_0_remembers_nothing() {
        let mut cache = ResultCache::new(ResultCacheType::Lru, 0);
        insert(&mut cache, "a");
        assert!(!knows(&mut cache, "a"));
    }
}
