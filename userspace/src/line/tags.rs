//! Tag list -> tags, each key once.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::escape;

/// How many tags of one line need no memory of their own and no table to find a key again. A line
/// with more is read all the same, in time that grows with its length.
const INLINE: usize = 16;

/// The tags of one line, in order of first appearance.
pub(super) struct TagList<'a, 's> {
    entries: SmallVec<[(Key<'a>, &'a str); INLINE]>,
    /// Keys that had to be escaped, one after the other.
    escaped: &'s mut String,
    /// Where each key stands in `entries`; only in use when there are more than [`INLINE`].
    index: HashTable<usize>,
    hasher: &'s foldhash::fast::RandomState,
}

#[derive(Clone, Copy)]
enum Key<'a> {
    AsSent(&'a str),
    Escaped { start: usize, end: usize },
}

impl<'a> Key<'a> {
    fn text<'t>(self, escaped: &'t str) -> &'t str
    where
        'a: 't,
    {
        match self {
            Key::AsSent(text) => text,
            Key::Escaped { start, end } => escaped.get(start..end).unwrap_or_default(),
        }
    }
}

/// The tags of an event, as [`super::Event`] lends them out.
pub(super) type Resolved<'t> = SmallVec<[(&'t str, &'t str); INLINE]>;

impl<'a, 's> TagList<'a, 's> {
    #[inline]
    pub(super) fn new(escaped: &'s mut String, hasher: &'s foldhash::fast::RandomState) -> Self {
        escaped.clear();
        Self { entries: SmallVec::new(), escaped, index: HashTable::new(), hasher }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds the tags of `list`, with `between` between two; returns how many of them were no tag.
    ///
    /// A tag has a key and a value, with `separator` between them, neither empty. Nothing after a
    /// last `between` is no error, nothing between two of them is one.
    pub(super) fn extend(&mut self, list: &'a str, between: char, separator: char) -> u64 {
        self.extend_each(list, between, separator, |tag| tag)
    }

    /// As [`Self::extend`], with each tag passed through `trim` first.
    pub(super) fn extend_each(
        &mut self,
        list: &'a str,
        between: char,
        separator: char,
        trim: fn(&str) -> &str,
    ) -> u64 {
        let mut errors = 0;
        let mut rest = list;
        while !rest.is_empty() {
            let (tag, after) = rest.split_once(between).unwrap_or((rest, ""));
            match trim(tag).split_once(separator) {
                Some((key, value)) if !key.is_empty() && !value.is_empty() => self.insert(key, value),
                _ => errors += 1,
            }
            rest = after;
        }
        errors
    }

    /// Adds a tag, or gives the key that is there already its new value. The key is compared after
    /// it was escaped.
    pub(super) fn insert(&mut self, key: &'a str, value: &'a str) {
        let start = self.escaped.len();
        let key = if escape::is_escaped(key) {
            Key::AsSent(key)
        } else {
            escape::escape_name(key, self.escaped);
            Key::Escaped { start, end: self.escaped.len() }
        };
        match self.find(key) {
            Some(at) => {
                self.escaped.truncate(start);
                if let Some((_, old)) = self.entries.get_mut(at) {
                    *old = value;
                }
            }
            None => {
                self.entries.push((key, value));
                self.remember_newest();
            }
        }
    }

    fn find(&self, key: Key<'a>) -> Option<usize> {
        let wanted = key.text(self.escaped);
        if self.entries.len() <= INLINE {
            return self.entries.iter().position(|(key, _)| key.text(self.escaped) == wanted);
        }
        let found = self.index.find(self.hasher.hash_one(wanted), |&at| self.key_at(at) == wanted);
        found.copied()
    }

    fn key_at(&self, at: usize) -> &str {
        self.entries.get(at).map_or("", |(key, _)| key.text(self.escaped))
    }

    /// Enters the newest key into the index, and all before it when the index begins to be needed.
    fn remember_newest(&mut self) {
        let count = self.entries.len();
        let first = match count {
            ..=INLINE => return,
            _ if self.index.is_empty() => 0,
            _ => count - 1,
        };
        let Self { entries, escaped, index, hasher } = self;
        let hash = |at: usize| hasher.hash_one(entries.get(at).map_or("", |(key, _)| key.text(escaped)));
        for at in first..count {
            index.insert_unique(hash(at), at, |&at| hash(at));
        }
    }

    /// Appends the tags to `resolved`. Not returned: moving a list with room for many tags was a
    /// tenth of what a line without tags costs.
    pub(super) fn resolve_into<'t>(&'t self, resolved: &mut Resolved<'t>) {
        resolved.extend(self.entries.iter().map(|&(key, value)| (key.text(self.escaped), value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, expected: &[(&str, &str)], errors: u64) {
        let (mut escaped, hasher) = (String::new(), foldhash::fast::RandomState::default());
        let mut tags = TagList::new(&mut escaped, &hasher);
        assert_eq!(tags.extend(list, ',', '='), errors, "{list}");
        let mut resolved = Resolved::new();
        tags.resolve_into(&mut resolved);
        assert_eq!(resolved.as_slice(), expected, "{list}");
    }

    #[test]
    fn tags_stand_in_order_of_first_appearance() {
        check("b=1,a=2", &[("b", "1"), ("a", "2")], 0);
    }

    #[test]
    fn the_last_value_of_a_key_wins_also_when_keys_meet_by_escaping() {
        check("a.b=1,c=2,a-b=3", &[("a_b", "3"), ("c", "2")], 0);
    }

    #[test]
    fn a_tag_without_key_or_value_is_an_error() {
        check("a", &[], 1);
        check("=v,k=,=", &[], 3);
        check("a=1,,b=2", &[("a", "1"), ("b", "2")], 1);
    }

    #[test]
    fn a_comma_at_the_end_is_no_error() {
        check("a=1,", &[("a", "1")], 0);
        check(",", &[], 1);
        check("", &[], 0);
    }

    #[test]
    fn many_tags_are_found_again() {
        let list: String = (0..100).chain(10..60).map(|at| format!("k-{at}={at},")).collect();
        let expected: Vec<(String, String)> =
            (0..100).map(|at| (format!("k_{at}"), at.to_string())).collect();
        let expected: Vec<(&str, &str)> = expected.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        check(&list, &expected, 0);
    }
}
