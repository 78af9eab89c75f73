//! Line with its value cut out -> what its value does: the userspace half of "resolve once".
//!
//! Parsing, tags and mapping are done once for each identity and remembered here, with the counts
//! that promotion goes by. The cache is bounded; a full one gives up what was not used lately.

use super::doorkeeper::Doorkeeper;
pub use super::line_key::LineKey;
use super::line_key::{LineHasher, Shape};
use super::line_table::LineTable;
use super::line_text::LineText;
use crate::memory::reserve_one;
use crate::registry::SeriesId;
use crate::sender::SenderId;

/// What a value does, once its line is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    pub series: SeriesId,
    pub action: Action,
    /// The wire's number is divided by this.
    pub divisor: f64,
    /// Then it is multiplied by this, the rule's scale.
    pub scale: f64,
    /// How often an observation counts.
    pub times: u64,
    /// Whether the sample had tags, for the counter of those.
    pub tagged: bool,
    /// Whether a mapping rule took the event.
    pub mapped: bool,
    /// Whether the series stands for those that had no room; such a recipe is not remembered.
    pub overflow: bool,
    /// Which copy of an event it is, where rules say that there are several.
    pub copy: Option<CopyId>,
}

impl Recipe {
    /// Whether the wire's number is another one than the event's.
    #[inline]
    #[must_use]
    pub fn is_scaled(&self) -> bool {
        self.divisor != 1.0 || self.scale != 1.0
    }
}

/// A copy of an event, for those who count how often each comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyId {
    pub event: u16,
    pub copy: u16,
}

/// The kind of series a value goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Count,
    /// Set, or add if the value's text begins with a sign.
    Gauge,
    Observe,
    /// The same, but for a value that repeats another one within so many milliseconds.
    ObserveOnce {
        within: u32,
    },
    /// A counter's event that moves a gauge.
    UpDown,
    /// As [`Action::Gauge`], in the sender's share.
    SenderGauge,
    /// As [`Action::UpDown`], in the sender's share.
    SenderUpDown,
    /// Counted, and nothing else.
    Drop,
    /// The same, for as long as the series lives: it has the copy of the event that counts. After that a
    /// counter's event counts, and others do what the kernel cannot.
    Superseded {
        counter: bool,
    },
}

/// Bytes of a line, without its value, up to which it is remembered: senders must not fill the cache with
/// lines of 64 KiB. Far more than any real one has; a longer one is parsed each time.
const LINE_BYTES_MAX: usize = 2048;

/// Up to this part of a cache, and up to so many entries in any, lines are remembered at once.
const TRUSTING_SHARE: usize = 16;
const TRUSTING_MIN: usize = 64;
/// One for each line that it has seen.
const DOORKEEPER_BITS: usize = 1 << 21;

/// Index of an entry; valid until the entry is given up.
pub type EntryIndex = u32;

/// One remembered line. What each line that comes asks for begins with a cache line, in this order.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Entry {
    text: LineText,
    shape: Shape,
    tail_word: u64,
    pub recipe: Recipe,
    hash: u32,
    /// Lines since the last [`RecipeCache::take_window`].
    window_lines: u32,
    /// Lines before that, of which the older ones count less, and when they were added up: tenths of a
    /// second on the cache's own clock.
    recent_lines: f32,
    recent_at: u32,
    /// Its place is among the touched ones.
    touched: bool,
    /// Used since the clock's hand last came by.
    used: bool,
    /// Where the kernel counts it: then it must not be given up, for its recipe is needed at every drain.
    pub slot: Option<u32>,
    /// Whether the kernel's table could hold it; `false` after it was refused once.
    pub promotable: bool,
}

impl Entry {
    /// The line up to its `:`.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.text.parts(self.shape).0
    }

    /// The line from the `|` behind its value.
    #[must_use]
    pub fn tail(&self) -> &[u8] {
        self.text.parts(self.shape).1
    }

    /// The line with `value` in its place.
    #[must_use]
    pub fn line(&self, value: &str) -> Vec<u8> {
        [self.head(), b":", value.as_bytes(), self.tail()].concat()
    }
}

const _: () = assert!(size_of::<Entry>() == 192);

/// The entry of a line that came.
#[derive(Debug)]
pub struct Hit<'a> {
    entry: &'a mut Entry,
    touched: &'a mut Vec<EntryIndex>,
    index: EntryIndex,
}

impl<'a> Hit<'a> {
    /// Counts the line and returns its recipe.
    #[inline(always)]
    pub fn count(self) -> &'a Recipe {
        let Self { entry, touched, index } = self;
        if !entry.touched {
            entry.touched = true;
            touched.push(index);
        }
        entry.window_lines = entry.window_lines.saturating_add(1);
        entry.used = true;
        &entry.recipe
    }
}

/// For about so long a line counts in [`Traffic`]: longer than the half minute between two reports of what
/// Airflow reports most seldom.
const MEMORY_SECONDS: f64 = 120.0;

/// How many lines of an entry came of late.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Those of the last window, and those before, which count less the older they are.
    pub lines: f64,
    pub window_lines: u32,
    window_seconds: f64,
}

impl Traffic {
    /// The mean over the time that is remembered. Where there are several lines in a window they speak for
    /// themselves: an identity may have come into being lately.
    #[must_use]
    pub fn lines_per_second(self) -> f64 {
        let lately = if self.window_lines > 1 { f64::from(self.window_lines) } else { 0.0 };
        (lately / self.window_seconds).max(self.lines / MEMORY_SECONDS)
    }
}

/// The cache.
#[derive(Debug)]
pub struct RecipeCache {
    table: LineTable,
    entries: Vec<Entry>,
    /// Places with lines in the present window, each once.
    touched: Vec<EntryIndex>,
    hand: usize,
    entries_max: usize,
    hasher: LineHasher,
    doorkeeper: Doorkeeper,
    /// Up to so many entries a line is remembered the first time that it comes.
    trusting_until: usize,
    /// Entries given up for want of room.
    pub evicted: u64,
    /// The sum of all windows.
    seconds: f64,
}

impl RecipeCache {
    /// An empty cache for at most `entries_max` lines.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self {
            table: LineTable::default(),
            entries: Vec::new(),
            touched: Vec::new(),
            hand: 0,
            entries_max: entries_max.max(1),
            hasher: LineHasher::new(),
            doorkeeper: Doorkeeper::new(DOORKEEPER_BITS),
            trusting_until: (entries_max / TRUSTING_SHARE).max(TRUSTING_MIN),
            evicted: 0,
            seconds: 0.0,
        }
    }

    /// The key of a line; hashed with a seed, for names come from the network.
    #[inline(always)]
    #[must_use]
    pub fn key<'a>(&self, sender: SenderId, head: &'a [u8], tail: &'a [u8]) -> LineKey<'a> {
        self.hasher.key(sender, head, tail)
    }

    /// The entry of a line, if it is known.
    #[must_use]
    pub fn find(&self, key: &LineKey<'_>) -> Option<EntryIndex> {
        self.table.find(key.table_hash(), |index| self.is_of(key, index))
    }

    #[inline(always)]
    fn is_of(&self, key: &LineKey<'_>, index: EntryIndex) -> bool {
        let Some(entry) = self.entries.get(index as usize) else { return false };
        entry.shape == key.shape && entry.tail_word == key.tail_word && key.is_of(&entry.text)
    }

    /// The same, to be counted.
    #[inline(always)]
    pub fn hit(&mut self, key: &LineKey<'_>) -> Option<Hit<'_>> {
        let index = match self.table.first(key.table_hash()) {
            Some(index) if self.is_of(key, index) => index,
            _ => self.find_apart(*key)?,
        };
        Some(Hit { entry: self.entries.get_mut(index as usize)?, touched: &mut self.touched, index })
    }

    /// Where another line is in the way. By value, so that all others have nothing to keep for it.
    #[inline(never)]
    fn find_apart(&self, key: LineKey<'_>) -> Option<EntryIndex> {
        self.find(&key)
    }

    /// Says that [`RecipeCache::insert`] will be asked to remember this line.
    #[inline]
    pub fn expect(&self, key: &LineKey<'_>) {
        self.doorkeeper.touch(key.hash);
    }

    /// Remembers a line, unless it is longer than [`LINE_BYTES_MAX`], or there are many already and it
    /// comes for the first time. One that is there gets the new recipe, and its place is returned.
    pub fn insert(&mut self, key: &LineKey<'_>, recipe: Recipe, promotable: bool) -> Option<EntryIndex> {
        let LineKey { hash, shape, tail_word, head, tail } = *key;
        if head.len() + tail.len() > LINE_BYTES_MAX {
            return None;
        }
        if let Some(index) = self.find(key) {
            let entry = self.entries.get_mut(index as usize)?;
            entry.recipe = recipe;
            return Some(index);
        }
        if self.entries.len() >= self.trusting_until && !self.doorkeeper.has_seen(hash) {
            return None;
        }
        let mut entry = Entry {
            text: LineText::new(head, tail),
            shape,
            tail_word,
            recipe,
            hash: key.table_hash(),
            window_lines: 0,
            recent_lines: 0.0,
            recent_at: 0,
            touched: false,
            used: true,
            slot: None,
            promotable,
        };
        let index = if self.entries.len() < self.entries_max {
            reserve_one(&mut self.entries, self.entries_max);
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let index = self.give_up_one()?;
            // Its lines of the window are lost to promotion; its place in `touched` now stands for
            // the new entry, which is harmless: an entry without lines is skipped.
            entry.touched = self.entries[index].touched;
            self.entries[index] = entry;
            index
        };
        let index = EntryIndex::try_from(index).ok()?;
        self.table.insert(key.table_hash(), index);
        None
    }

    /// Frees a place by the clock algorithm; `None` if all are promoted.
    fn give_up_one(&mut self) -> Option<usize> {
        // Two rounds: the first may only take marks away.
        for _ in 0..2 * self.entries.len() {
            let index = self.hand;
            self.hand = (self.hand + 1) % self.entries.len();
            let entry = self.entries.get_mut(index)?;
            if entry.slot.is_some() {
                continue;
            }
            if std::mem::take(&mut entry.used) {
                continue;
            }
            self.table.remove(entry.hash, EntryIndex::try_from(index).unwrap_or(EntryIndex::MAX));
            self.evicted += 1;
            return Some(index);
        }
        None
    }

    /// The lines of these recipes are to be looked at anew when they come next.
    pub fn make_stale(&mut self, which: impl Fn(&Recipe) -> bool) {
        for entry in self.entries.iter_mut().filter(|entry| which(&entry.recipe)) {
            entry.recipe.series = SeriesId::NONE;
        }
    }

    /// Forgets everything, as after a reload. No entry may be promoted.
    pub fn clear(&mut self) {
        self.table.clear();
        self.entries.clear();
        self.touched.clear();
        self.hand = 0;
    }

    #[must_use]
    pub fn entry(&self, index: EntryIndex) -> Option<&Entry> {
        self.entries.get(index as usize)
    }

    pub fn entry_mut(&mut self, index: EntryIndex) -> Option<&mut Entry> {
        self.entries.get_mut(index as usize)
    }

    /// Lines known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends a window of `seconds`: hands every entry that had lines in it, with its traffic, to `see`.
    pub fn take_window(&mut self, seconds: f64, mut see: impl FnMut(EntryIndex, &Entry, Traffic)) {
        self.seconds += seconds;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "ten a second: more than ten years"
        )]
        let now = (self.seconds * 10.0) as u32;
        for index in self.touched.drain(..) {
            let Some(entry) = self.entries.get_mut(index as usize) else { continue };
            entry.touched = false;
            let lines = std::mem::take(&mut entry.window_lines);
            if lines == 0 {
                continue;
            }
            let passed = f64::from(now.wrapping_sub(entry.recent_at)) / 10.0;
            let recent = f64::from(entry.recent_lines) * (-passed / MEMORY_SECONDS).exp() + f64::from(lines);
            #[expect(clippy::cast_possible_truncation, reason = "an estimate")]
            let recent_lines = recent as f32;
            (entry.recent_lines, entry.recent_at) = (recent_lines, now);
            see(index, entry, Traffic { lines: recent, window_lines: lines, window_seconds: seconds });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(times: u64) -> Recipe {
        Recipe {
            series: SeriesId::NONE,
            action: Action::Count,
            divisor: 1.0,
            scale: 1.0,
            times,
            tagged: false,
            mapped: false,
            overflow: false,
            copy: None,
        }
    }

    fn insert(cache: &mut RecipeCache, head: &str, times: u64) {
        let key = cache.key(SenderId::UNKNOWN, head.as_bytes(), b"|c");
        cache.insert(&key, recipe(times), true);
    }

    fn find(cache: &mut RecipeCache, head: &str) -> Option<u64> {
        let key = cache.key(SenderId::UNKNOWN, head.as_bytes(), b"|c");
        cache.hit(&key).map(|hit| hit.count().times)
    }

    #[test]
    fn a_line_is_found_by_head_and_tail() {
        let mut cache = RecipeCache::new(10);
        insert(&mut cache, "a", 1);
        insert(&mut cache, "b", 2);
        insert(&mut cache, "a", 3);
        assert_eq!(
            (find(&mut cache, "a"), find(&mut cache, "b"), find(&mut cache, "c")),
            (Some(3), Some(2), None)
        );
        assert_eq!(cache.find(&cache.key(SenderId::UNKNOWN, b"a|", b"c")), None);
    }

    #[test]
    fn a_line_of_another_sender_is_another_line() {
        let mut cache = RecipeCache::new(10);
        insert(&mut cache, "a", 1);
        let key = cache.key(SenderId(7), b"a", b"|c");
        assert_eq!(cache.find(&key), None);
        cache.insert(&key, recipe(2), false);
        assert_eq!((cache.len(), find(&mut cache, "a")), (2, Some(1)));
    }

    #[test]
    fn a_full_cache_stays_within_its_bound_and_keeps_what_is_used_or_promoted() {
        let mut cache = RecipeCache::new(8);
        insert(&mut cache, "promoted", 1);
        let index = cache.find(&cache.key(SenderId::UNKNOWN, b"promoted", b"|c")).unwrap();
        cache.entry_mut(index).unwrap().slot = Some(0);
        for n in 0..1000 {
            insert(&mut cache, &format!("cold{n}"), n);
            insert(&mut cache, "hot", 7);
            assert_eq!(find(&mut cache, "hot"), Some(7));
        }
        assert_eq!(cache.len(), 8);
        assert_eq!(find(&mut cache, "promoted"), Some(1));
        assert!(cache.evicted > 900);
    }

    #[test]
    fn the_list_of_touched_places_is_bounded() {
        let mut cache = RecipeCache::new(4);
        for n in 0..1000 {
            insert(&mut cache, &format!("line{n}"), n);
            find(&mut cache, &format!("line{n}"));
        }
        assert!(cache.touched.len() <= 4);
    }

    #[test]
    fn among_many_a_line_that_comes_once_is_not_remembered() {
        let mut cache = RecipeCache::new(4000);
        for n in 0..4000 {
            insert(&mut cache, &format!("task_exit.{n}"), n);
        }
        let few = cache.len();
        assert!((250..275).contains(&few), "{few}");
        insert(&mut cache, "task_exit.999", 7);
        assert_eq!(find(&mut cache, "task_exit.999"), Some(7));
    }

    #[test]
    fn a_very_long_line_is_not_remembered() {
        let mut cache = RecipeCache::new(8);
        insert(&mut cache, &"x".repeat(LINE_BYTES_MAX - 2), 1);
        insert(&mut cache, &"x".repeat(LINE_BYTES_MAX - 1), 2);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_window_reports_each_touched_line_once() {
        let mut cache = RecipeCache::new(8);
        insert(&mut cache, "a", 1);
        insert(&mut cache, "b", 1);
        for _ in 0..5 {
            find(&mut cache, "a");
        }
        let mut seen = Vec::new();
        cache.take_window(1.0, |_, entry, traffic| seen.push((entry.line("1"), traffic.window_lines)));
        assert_eq!(seen, [(b"a:1|c".to_vec(), 5)]);
        cache.take_window(1.0, |_, _, _| panic!("nothing came since"));
    }

    /// The rates after each of so many lines, one in each `seconds`.
    fn rates_of_one_line_in(seconds: u32, lines: usize) -> Vec<f64> {
        let mut cache = RecipeCache::new(8);
        insert(&mut cache, "a", 1);
        let mut rates = Vec::new();
        while rates.len() < lines {
            find(&mut cache, "a");
            cache.take_window(1.0, |_, _, traffic| rates.push(traffic.lines_per_second()));
            (1..seconds).for_each(|_| cache.take_window(1.0, |_, _, _| panic!("nothing came")));
        }
        rates
    }

    #[test]
    fn a_line_that_comes_seldom_has_a_rate_all_the_same() {
        let every_half_minute = rates_of_one_line_in(30, 20);
        assert!(every_half_minute[0] < 0.01, "one line says little");
        assert!(every_half_minute[4] > 0.025);
        assert!((0.033..0.04).contains(&every_half_minute[19]), "{every_half_minute:?}");
        let every_five_minutes = rates_of_one_line_in(300, 20);
        assert!(every_five_minutes[19] < 0.01, "{every_five_minutes:?}");
    }

    #[test]
    fn several_lines_of_a_window_speak_for_themselves() {
        let mut cache = RecipeCache::new(8);
        insert(&mut cache, "a", 1);
        assert!((0..100).all(|_| find(&mut cache, "a").is_some()));
        let mut rate = 0.0;
        cache.take_window(0.5, |_, _, traffic| rate = traffic.lines_per_second());
        assert_eq!(rate, 200.0);
    }
}
