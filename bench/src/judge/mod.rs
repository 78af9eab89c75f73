//! Name, tags and type of a line -> the series into which a server must put it.
//!
//! A mapping file is read here once more, by slow and obvious code: each rule is one regular expression, and
//! they are asked one after the other. On purpose nothing of the daemon's mapper is used: what is to judge a
//! server must not share its mistakes.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;

use crate::load::{Identity, LineType};

pub mod expected;
mod file;
mod pattern;
pub mod text;

pub use expected::Expected;
use file::Rule;
use text::escaped;

/// What a mapping file, or none, makes of lines. Rules of the first layer are asked first.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    layers: Vec<Arc<Vec<Rule>>>,
}

/// Where an event goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    pub name: String,
    /// Sorted by key.
    pub labels: Vec<(String, String)>,
    pub scale: f64,
    /// Values typed `ms` in a second.
    pub timer_per_second: f64,
    /// A counter that is shown as a gauge, and may fall.
    pub up_down: bool,
    pub combine: Combine,
    pub copy: Option<Copy>,
    /// Labels with the values of which a series at 0 may stand beside it.
    pub siblings: Vec<(String, Vec<String>)>,
}

/// What a gauge shows of its senders' values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combine {
    #[default]
    Newest,
    Sum,
    Max,
    Min,
}

/// One of several lines that a client sends for one event: only those of the lowest rank that came count. So it
/// is if all clients send alike, and begin within a minute, as a fleet of the model does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Copy {
    pub event: Arc<str>,
    pub rank: u32,
}

impl Judge {
    /// The rules of a mapping file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or has something in it of which this code does not know what it does.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading mapping file {}", path.display()))?;
        Self::read(&text).with_context(|| format!("mapping file {}", path.display()))
    }

    /// As [`Self::load`], from its text.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        Ok(Self { layers: vec![Arc::new(file::read(text)?)] })
    }

    /// These rules, and where none of them takes an event, those of `under`.
    #[must_use]
    pub fn over(mut self, under: &Self) -> Self {
        self.layers.extend(under.layers.iter().cloned());
        self
    }

    /// Where a line goes; `None` if a rule says that it is to be dropped, or leaves it no name.
    #[must_use]
    pub fn place(&self, identity: &Identity) -> Option<Place> {
        // The parser escapes keys before rules see them.
        let mut tags: Vec<(String, String)> =
            identity.tags.iter().map(|(key, value)| (escaped(key), value.clone())).collect();
        let found = self.layers.iter().find_map(|rules| {
            // Every glob goes before every regular expression, and otherwise the first that fits.
            let of = |globs: bool| rules.iter().filter(move |rule| rule.is_glob == globs);
            of(true).chain(of(false)).find_map(|rule| Some((rule, rule.captures(identity, &tags)?)))
        });
        let Some((rule, captures)) = found else {
            tags.sort();
            let name = escaped(&identity.name);
            return Some(Place { name, labels: tags, scale: 1.0, timer_per_second: 1e3, ..Place::default() });
        };
        if rule.drop {
            return None;
        }
        rule.change(&mut tags);
        for (key, template) in &rule.labels {
            let value = captures.fill(template);
            match tags.iter_mut().find(|(tag, _)| tag == key) {
                Some(_) if rule.honor_labels => {}
                Some(tag) => tag.1 = value,
                None => tags.push((key.clone(), value)),
            }
        }
        tags.sort();
        let name = escaped(&captures.fill(&rule.name));
        (!name.is_empty()).then(|| Place {
            name,
            labels: tags,
            scale: rule.scale,
            timer_per_second: rule.timer_per_second,
            up_down: rule.up_down && identity.line_type == LineType::Counter,
            combine: rule.combine,
            copy: rule.copy.clone(),
            siblings: rule.siblings.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Totals;

    #[track_caller]
    fn check(rules: &str, line: &str, expected: Option<&str>) {
        let judge = Judge::read(&format!("mappings:\n{rules}")).expect("a mapping file");
        let mut totals = Totals::default();
        totals.add(line.as_bytes());
        let (identity, _) = totals.iter().next().expect("a line");
        let found = judge.place(identity).map(|place| text::series(&place.name, "", &place.labels));
        assert_eq!(found.as_deref(), expected, "{line}");
    }

    #[test]
    fn globs_go_before_expressions_and_the_first_wins() {
        let rules = "
- {match: '^a\\.(?P<x>\\w+)', match_type: regex, name: r, labels: {xx: $x}}
- {match: a.*, match_metric_type: gauge, name: g, labels: {xx: $1}}
- {match: a.b, name: one}
- {match: a.*, name: two_$1_x, labels: {}}
- {match: a.*.**, name: \"three_${2}_x\", labels: {first: $1, all: $0}}
";
        check(rules, "a.b:1|c", Some("one"));
        check(rules, "a.b:1|g", Some("g{xx=\"b\"}"));
        check(rules, "a.c:1|c", Some("two_"));
        check(rules, "a.b.c.d:1|c", Some("three_c_d_x{all=\"a.b.c.d\",first=\"b\"}"));
        check(rules, "xa.b:1|c", Some("xa_b"));
        check(rules, "a:1|c", Some("a"));
        check(
            "\n- {match: '^a\\.(?P<x>\\w+)', match_type: regex, name: r, labels: {xx: $x}}\n",
            "a.q.r:1|c",
            Some("r{xx=\"q\"}"),
        );
    }

    #[test]
    fn wildcards_from_the_left_take_little() {
        check(
            "\n- {match: '**.x.**', name: n, labels: {aa: $1, bb: $2}}\n",
            "a.x.x.b:1|c",
            Some("n{aa=\"a\",bb=\"x.b\"}"),
        );
        check(
            "\n- {match: 'a.*_start', name: n, labels: {aa: $1}}\n",
            "a.b_c_start:1|c",
            Some("n{aa=\"b_c\"}"),
        );
    }

    #[test]
    fn tags_choose_and_are_changed() {
        let rules = "
- {match: a, match_tags: {present: [k], dialect: dogstatsd}, name: one, drop_tags: [k]}
- {match: a, match_tags: {present: [k]}, name: two, rename_tags: {k: l}, labels: {l: x, m: y}}
- {match: a, match_tags: {absent: [z]}, name: three, keep_tags: [q], labels: {q: x}, honor_labels: true}
- {match: a, name: four, action: drop}
";
        check(rules, "a:1|c|#k:v,j:w", Some("one{j=\"w\"}"));
        check(rules, "a,k=v,j=w:1|c", Some("two{j=\"w\",l=\"x\",m=\"y\"}"));
        check(rules, "a,q=v,j=w:1|c", Some("three{q=\"v\"}"));
        check(rules, "a,z=v:1|c", None);
    }

    #[test]
    fn what_it_does_not_know_it_does_not_judge() {
        for text in [
            "mappings: [{match: a, name: b, new_key: 1}]",
            "defaults: {glob_disable_ordering: true}",
            "mappings: [{match: a, name: b, drop_repeats_within: 1s}]",
            "mappings: [{match: a, match_type: fuzzy, name: b}]",
            "mappings: [{match: '(', match_type: regex, name: b}]",
            "mappings: 7",
        ] {
            assert!(Judge::read(text).is_err(), "{text}");
        }
        assert!(Judge::read("").is_ok() && Judge::read("defaults: {ttl: 1h}").is_ok());
    }
}
