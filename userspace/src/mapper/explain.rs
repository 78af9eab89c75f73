//! Name -> the rule that takes it, and why others did not.

use std::fmt;

use super::glob::Segment;
use super::tags::{EventTags, TagMiss};
use super::{Captures, Mapper, MetricType, Rule};

/// How a name was mapped.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// `None` if the name is not mapped.
    pub rule: Option<&'a Rule>,
    /// For the templates of the rule.
    pub captures: Captures,
    /// Rules that would have gone before it, had they matched; all that there are, if none did.
    pub passed_over: Vec<PassedOver<'a>>,
}

/// A rule that did not take a name.
#[derive(Clone, Debug)]
pub struct PassedOver<'a> {
    pub rule: &'a Rule,
    pub reason: Reason<'a>,
}

/// Why a rule did not take a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    MetricType(MetricType),
    /// A tag that the rule wants, and is not there.
    TagAbsent(&'a str),
    /// A tag that the rule does not want.
    TagPresent(&'a str),
    /// No tag section of DogStatsD.
    Dialect,
    SegmentCount {
        pattern: usize,
        name: usize,
    },
    /// The first one that does not fit, from 1.
    Segment(usize),
    /// With `**`, more than one segment could be at fault.
    Glob,
    Regex,
    /// A regular expression that matches, but so does a glob.
    GlobGoesFirst,
    /// With `glob_disable_ordering`: it matches, but has a star where the other one has text.
    LessLiteral,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MetricType(metric_type) => write!(f, "takes only the type {}", metric_type.name()),
            Self::TagAbsent(key) => write!(f, "there is no tag {key}"),
            Self::TagPresent(key) => write!(f, "there is a tag {key}"),
            Self::Dialect => f.write_str("there is no tag section of DogStatsD"),
            Self::SegmentCount { pattern, name } => {
                write!(f, "the match has {pattern} segments, the name {name}")
            }
            Self::Segment(number) => write!(f, "segment {number} differs"),
            Self::Glob => f.write_str("the match does not fit"),
            Self::Regex => f.write_str("the regular expression does not match"),
            Self::GlobGoesFirst => f.write_str("it matches, but a glob goes before every regular expression"),
            Self::LessLiteral => f.write_str(
                "it matches, but glob_disable_ordering prefers the rule with more text and fewer stars",
            ),
        }
    }
}

impl Mapper {
    /// What [`Mapper::find`] answers, with its reasons.
    #[must_use]
    pub fn explain(&self, metric_type: MetricType, name: &str) -> Explanation<'_> {
        self.explain_event(metric_type, name, EventTags::default())
    }

    /// What [`Mapper::find_event`] answers, with its reasons.
    #[must_use]
    pub fn explain_event(&self, metric_type: MetricType, name: &str, tags: EventTags<'_>) -> Explanation<'_> {
        let mut captures = Captures::default();
        let found = self.find_event(metric_type, name, tags, &mut captures);
        let own = found.rule.filter(|_| found.index.is_some_and(|index| index < self.rules.len()));
        let passed_over = self.rules.iter().filter(|other| self.goes_before(other, own));
        let passed_over = passed_over.filter_map(|other| {
            Some(PassedOver { rule: other, reason: self.reason(other, metric_type, name, tags)? })
        });
        let mut passed_over: Vec<_> = passed_over.collect();
        if own.is_none()
            && let Some(under) = &self.under
        {
            passed_over.extend(under.explain_event(metric_type, name, tags).passed_over);
        }
        Explanation { rule: found.rule, captures, passed_over }
    }

    /// Whether `other` would have been taken instead of the rule; regular expressions that stand before
    /// a glob count as such, for that is what people expect.
    fn goes_before(&self, other: &Rule, rule: Option<&Rule>) -> bool {
        let Some(rule) = rule else { return true };
        let is_glob = |rule: &Rule| self.machine.glob(rule.number).is_some();
        let any_glob = is_glob(other) && (!is_glob(rule) || !self.machine.ordered());
        other.number != rule.number && (other.number < rule.number || any_glob)
    }

    /// `None` if there is none.
    fn reason<'a>(
        &'a self,
        rule: &'a Rule,
        metric_type: MetricType,
        name: &str,
        tags: EventTags<'_>,
    ) -> Option<Reason<'a>> {
        if let Some(of_type) = rule.metric_type.filter(|of_type| *of_type != metric_type) {
            return Some(Reason::MetricType(of_type));
        }
        let Some(glob) = self.machine.glob(rule.number) else {
            let matches = self.regexes.matches(rule.number, name);
            let fits = tag_miss(rule, tags).filter(|_| matches);
            return Some(fits.unwrap_or(if matches { Reason::GlobGoesFirst } else { Reason::Regex }));
        };
        if glob.capture(name, &mut Captures::default()) {
            if let Some(reason) = tag_miss(rule, tags) {
                return Some(reason);
            }
            return (!self.machine.ordered()).then_some(Reason::LessLiteral);
        }
        if glob.segments.contains(&Segment::Deep) {
            return Some(Reason::Glob);
        }
        let (pattern, count) = (glob.segments.len(), name.split('.').count());
        if pattern != count {
            return Some(Reason::SegmentCount { pattern, name: count });
        }
        let mut segments = glob.segments.iter().zip(name.split('.'));
        let differs = segments.position(|(segment, text)| !segment.matches(text, 0, text.len(), None));
        differs.map(|index| Reason::Segment(index + 1))
    }
}

fn tag_miss<'a>(rule: &'a Rule, tags: EventTags<'_>) -> Option<Reason<'a>> {
    Some(match rule.tags.as_ref()?.miss(tags)? {
        TagMiss::Absent(key) => Reason::TagAbsent(key),
        TagMiss::Present(key) => Reason::TagPresent(key),
        TagMiss::Dialect => Reason::Dialect,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapper::LoadOptions;

    const RULES: &str = "
- {match: 'a.*', match_type: regex, name: rx}
- {match: a.b, match_metric_type: gauge, name: aa}
- {match: a.*.c, name: bb}
- {match: b.*, name: cc}
- {match: a.**.z, name: dd}
- {match: a.*, name: ee}
- {match: a.b, name: ff}
";

    /// Number of the rule, from 1, and why others did not go before it.
    #[track_caller]
    fn check(defaults: &str, name: &str, rule: Option<usize>, expected: &[(usize, Reason)]) {
        let text = format!("defaults: {{{defaults}}}\nmappings:{RULES}");
        let mapper =
            Mapper::from_text(text.as_bytes(), "m.yml", LoadOptions::default()).expect("it loads").mapper;
        let explanation = mapper.explain(MetricType::Counter, name);
        let passed: Vec<_> =
            explanation.passed_over.iter().map(|passed| (passed.rule.number + 1, passed.reason)).collect();
        assert_eq!((explanation.rule.map(|rule| rule.number + 1), &*passed), (rule, expected));
    }

    #[test]
    fn each_rule_before_the_one_that_took_it_has_its_reason() {
        let expected = [
            (1, Reason::GlobGoesFirst),
            (2, Reason::MetricType(MetricType::Gauge)),
            (3, Reason::SegmentCount { pattern: 3, name: 2 }),
            (4, Reason::Segment(1)),
            (5, Reason::Glob),
        ];
        check("", "a.b", Some(6), &expected);
    }

    #[test]
    fn without_ordering_later_globs_have_reasons_too() {
        let expected = [
            (1, Reason::GlobGoesFirst),
            (2, Reason::MetricType(MetricType::Gauge)),
            (3, Reason::SegmentCount { pattern: 3, name: 2 }),
            (4, Reason::Segment(1)),
            (5, Reason::Glob),
            (6, Reason::LessLiteral),
        ];
        check("glob_disable_ordering: true", "a.b", Some(7), &expected);
    }

    #[test]
    fn an_unmapped_name_has_a_reason_from_every_rule() {
        let expected = [
            (1, Reason::Regex),
            (2, Reason::MetricType(MetricType::Gauge)),
            (3, Reason::SegmentCount { pattern: 3, name: 1 }),
            (4, Reason::SegmentCount { pattern: 2, name: 1 }),
            (5, Reason::Glob),
            (6, Reason::SegmentCount { pattern: 2, name: 1 }),
            (7, Reason::SegmentCount { pattern: 2, name: 1 }),
        ];
        check("", "zz", None, &expected);
    }
}
