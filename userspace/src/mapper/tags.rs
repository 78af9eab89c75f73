//! Tags of an event -> whether a rule takes it, and what it keeps of them.
//!
//! All of this goes beyond statsd_exporter, whose rules see the name and the type only.

use smallvec::SmallVec;

use super::problem::Shown;
use super::walk::{Field, Walk};
use crate::line::Event;

/// Keys that one list of a rule may have.
const KEYS_MAX: usize = 64;

/// Tags of an event, as a rule sees them.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventTags<'a> {
    /// Keys escaped, each once.
    pub tags: &'a [(&'a str, &'a str)],
    /// They stand in a section of DogStatsD.
    pub dogstatsd: bool,
}

impl<'a> From<&Event<'a>> for EventTags<'a> {
    fn from(event: &Event<'a>) -> Self {
        Self { tags: event.tags, dogstatsd: event.dogstatsd }
    }
}

/// `match_tags`: which events a rule takes, of those whose name and type fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagMatch {
    /// Keys that must be there.
    present: Box<[Box<str>]>,
    /// Keys that must not.
    absent: Box<[Box<str>]>,
    /// The line must have a tag section of DogStatsD.
    dogstatsd: bool,
}

impl TagMatch {
    pub(super) fn read(walk: &mut Walk<'_>, field: &Field) -> Option<Self> {
        let mut tags = Self::default();
        for part in walk.fields_of(field, "a mapping with `present`, `absent` and `dialect`") {
            match part.key.as_str() {
                "present" => tags.present = keys(walk, &part),
                "absent" => tags.absent = keys(walk, &part),
                "dialect" => match walk.word(part.value).as_deref() {
                    Some("dogstatsd") => tags.dogstatsd = true,
                    other => {
                        let text = format!(
                            "invalid dialect '{}'; write dogstatsd",
                            Shown(other.unwrap_or_default())
                        );
                        walk.report.error(part.line, text);
                    }
                },
                _ => walk.unknown(&part, "match_tags"),
            }
        }
        if let Some(key) = tags.present.iter().find(|key| tags.absent.contains(key)) {
            let text = format!("tag {} is to be present and absent; no event has both", Shown(key));
            walk.report.error(field.line, text);
        }
        (tags != Self::default()).then_some(tags)
    }

    #[must_use]
    pub fn takes(&self, event: EventTags<'_>) -> bool {
        self.miss(event).is_none()
    }

    /// What is in the way.
    pub(super) fn miss(&self, event: EventTags<'_>) -> Option<TagMiss<'_>> {
        let has = |key: &str| event.tags.iter().any(|(other, _)| *other == key);
        if let Some(key) = self.present.iter().find(|key| !has(key)) {
            return Some(TagMiss::Absent(key));
        }
        if let Some(key) = self.absent.iter().find(|key| has(key)) {
            return Some(TagMiss::Present(key));
        }
        (self.dogstatsd && !event.dogstatsd).then_some(TagMiss::Dialect)
    }

    /// Whether every event that `other` takes is taken here, too.
    pub(super) fn covers(&self, other: Option<&Self>) -> bool {
        let all = |own: &[Box<str>], others: &[Box<str>]| own.iter().all(|key| others.contains(key));
        other.is_some_and(|other| {
            all(&self.present, &other.present)
                && all(&self.absent, &other.absent)
                && (!self.dogstatsd || other.dogstatsd)
        })
    }

    /// Keys that each event of the rule has.
    pub(super) fn present(&self) -> &[Box<str>] {
        &self.present
    }
}

/// Why tags do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TagMiss<'a> {
    Absent(&'a str),
    Present(&'a str),
    Dialect,
}

/// `drop_tags`, `keep_tags` and `rename_tags`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagChanges {
    drop: Box<[Box<str>]>,
    /// `None` keeps all that `drop` does not name.
    keep: Option<Box<[Box<str>]>>,
    /// From, to.
    rename: Box<[(Box<str>, Box<str>)]>,
}

impl TagChanges {
    pub(super) fn read(&mut self, walk: &mut Walk<'_>, field: &Field) {
        match field.key.as_str() {
            "drop_tags" => self.drop = keys(walk, field),
            "keep_tags" => self.keep = Some(keys(walk, field)),
            _ => {
                let mut rename: Vec<(Box<str>, Box<str>)> = Vec::new();
                for pair in walk.fields_of(field, "a mapping of tag keys to label keys") {
                    let to = walk.text(pair.value).unwrap_or_default();
                    if !is_label_key(&to) {
                        let text = format!(
                            "invalid label key: {}; write letters, digits and _, without a digit or __ in front",
                            Shown(&to)
                        );
                        walk.report.error(pair.line, text);
                    }
                    rename.push((pair.key.into(), to.into()));
                }
                self.rename = rename.into_boxed_slice();
            }
        }
        if self.keep.is_some() && !self.drop.is_empty() {
            let text = "drop_tags and keep_tags in one rule; keep_tags drops all others, leave one of them";
            walk.report.error(field.line, text);
        }
    }

    /// What an event's tags become. Drops first; a tag that would be renamed to a key that is there
    /// already is left out.
    pub fn apply<'a>(&'a self, labels: &mut SmallVec<[(&'a str, &'a str); 16]>) {
        let listed = |keys: &[Box<str>], key: &str| keys.iter().any(|other| **other == *key);
        if !self.drop.is_empty() {
            labels.retain(|(key, _)| !listed(&self.drop, key));
        }
        for (from, to) in &self.rename {
            let Some(at) = labels.iter().position(|(key, _)| *key == &**from) else { continue };
            if labels.iter().any(|(key, _)| *key == &**to) {
                labels.remove(at);
            } else {
                labels[at].0 = to;
            }
        }
        if let Some(keep) = &self.keep {
            labels.retain(|(key, _)| listed(keep, key) || self.rename.iter().any(|(_, to)| **to == **key));
        }
    }

    /// What a tag key of the wire is called afterwards; `None` if it is dropped.
    pub(super) fn renamed<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        if self.drop.iter().any(|other| **other == *key) {
            return None;
        }
        let renamed = self.rename.iter().find(|(from, _)| **from == *key).map(|(_, to)| &**to);
        let kept = renamed.is_some()
            || self.keep.as_ref().is_none_or(|keep| keep.iter().any(|other| **other == *key));
        kept.then(|| renamed.unwrap_or(key))
    }
}

/// `same_event`: events that some client sends several times under different names, and how good the
/// copy is that a rule takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SameEvent {
    /// The same in each rule that takes a copy.
    pub name: Box<str>,
    /// 1 is the best one.
    pub rank: u32,
}

impl SameEvent {
    pub(super) fn read(walk: &mut Walk<'_>, field: &Field) -> Option<Self> {
        let (mut name, mut rank) = (String::new(), 0);
        for part in walk.fields_of(field, "a mapping with `name` and `rank`") {
            match part.key.as_str() {
                "name" => name = walk.text(part.value).unwrap_or_default(),
                "rank" => rank = walk.unsigned(part.value).unwrap_or_default(),
                _ => walk.unknown(&part, "same_event"),
            }
        }
        if name.is_empty() || rank == 0 {
            let text = "same_event needs a name, and a rank from 1, the best copy";
            walk.report.error(field.line, text);
            return None;
        }
        Some(Self { name: name.into(), rank })
    }
}

fn keys(walk: &mut Walk<'_>, field: &Field) -> Box<[Box<str>]> {
    let items = walk.items(field.value, "a list of tag keys");
    if items.len() > KEYS_MAX {
        walk.report.error(field.line, format!("{} has more than {KEYS_MAX} keys", Shown(&field.key)));
    }
    let keys = items.iter().take(KEYS_MAX).filter_map(|item| walk.text(*item)).map(String::into_boxed_str);
    let keys: Box<[Box<str>]> = keys.collect();
    if let Some(key) = keys.iter().find(|key| !is_tag_key(key)) {
        let text = format!(
            "tag key {}: in a key everything but letters, digits and _ has become _ before rules see it",
            Shown(key)
        );
        walk.report.error(field.line, text);
    }
    keys
}

/// As the parser hands keys over.
fn is_tag_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
}

fn is_label_key(key: &str) -> bool {
    let first = key.bytes().next();
    first.is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && !key.starts_with("__")
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapper::{Captures, LoadOptions, Mapper, MetricType};

    fn mapper(rules: &str) -> Mapper {
        let loaded =
            Mapper::from_text(format!("mappings:\n{rules}").as_bytes(), "m.yml", LoadOptions::default());
        loaded.unwrap_or_else(|error| panic!("{error}")).mapper
    }

    /// The rule that takes a counter `name` with these tags, from 1, and whether its tags mattered.
    fn found(mapper: &Mapper, name: &str, keys: &[&'static str], dogstatsd: bool) -> (usize, bool) {
        let tags: Vec<_> = keys.iter().map(|key| (*key, "v")).collect();
        let tags = EventTags { tags: &tags, dogstatsd };
        let found = mapper.find_event(MetricType::Counter, name, tags, &mut Captures::default());
        (found.index.map_or(0, |index| index + 1), found.by_tags)
    }

    #[test]
    fn a_rule_goes_by_the_tags_and_the_next_one_takes_the_rest() {
        let mapper = mapper(
            "
- {match: a.b, match_tags: {present: [k, l]}, name: one}
- {match: a.*, match_tags: {absent: [k]}, name: two}
- {match: a.b, match_tags: {present: [k], dialect: dogstatsd}, name: three}
- {match: a.b, name: four}
- {match: 'x.**', match_tags: {present: [k]}, name: five}
- {match: '^y$', match_type: regex, match_tags: {present: [k]}, name: six}
- {match: '^y', match_type: regex, name: seven}
",
        );
        assert_eq!(found(&mapper, "a.b", &["k", "l"], false), (1, true));
        assert_eq!(found(&mapper, "a.b", &["l"], false), (2, true));
        assert_eq!(found(&mapper, "a.b", &["k"], true), (3, true));
        assert_eq!(found(&mapper, "a.b", &["k"], false), (4, true));
        assert_eq!(found(&mapper, "x.y.z", &["k"], false), (5, true));
        assert_eq!(found(&mapper, "x.y.z", &[], false), (0, true));
        assert_eq!(found(&mapper, "y", &["k"], false), (6, true));
        assert_eq!(found(&mapper, "y", &[], false), (7, true));
        assert_eq!(found(&mapper, "yy", &[], false), (7, false));
        assert_eq!(found(&mapper, "q", &[], false), (0, false));
    }

    #[test]
    fn tags_are_dropped_renamed_and_kept() {
        #[track_caller]
        fn check(rule: &str, tags: &[&'static str], expected: &[&str]) {
            let mapper = mapper(&format!("- {{match: a, name: aa, {rule}}}"));
            let mut labels: SmallVec<[(&str, &str); 16]> = tags.iter().map(|key| (*key, "v")).collect();
            mapper.rules()[0].tag_changes.apply(&mut labels);
            assert_eq!(labels.iter().map(|(key, _)| *key).collect::<Vec<_>>(), expected);
        }
        check("drop_tags: [k, x]", &["k", "l"], &["l"]);
        check("keep_tags: [k, x]", &["k", "l"], &["k"]);
        check("keep_tags: []", &["k"], &[]);
        check("rename_tags: {k: m}", &["k", "l"], &["m", "l"]);
        check("rename_tags: {k: m, l: m}", &["k", "l"], &["m"]);
        check("rename_tags: {k: l}", &["k", "l"], &["l"]);
        check("keep_tags: [l], rename_tags: {k: m}", &["k", "l", "x"], &["m", "l"]);
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        for rule in [
            "match_tags: {present: [k], absent: [k]}",
            "match_tags: {dialect: influx}",
            "match_tags: {present: [a-b]}",
            "match_tags: {present: k}",
            "drop_tags: [k], keep_tags: [l]",
            "rename_tags: {k: 1a}",
            "rename_tags: {k: __a}",
            "same_event: {name: x}",
            "same_event: {rank: 1}",
            "same_event: x",
        ] {
            let text = format!("mappings:\n- {{match: a, name: aa, {rule}}}\n");
            assert!(Mapper::from_text(text.as_bytes(), "m.yml", LoadOptions::default()).is_err(), "{rule}");
        }
    }
}
