//! Rules -> those that no name can reach.

use super::{Findings, Severity};
use crate::mapper::glob::{Glob, Segment};
use crate::mapper::rule::{MetricType, Rule};
use crate::mapper::{Mapper, RuleAction};

/// Patterns with more segments are not compared.
const SEGMENTS_MAX: usize = 64;
/// Comparisons of two rules, over all of a file: enough for 10,000 rules.
const COMPARISONS_MAX: usize = 50_000_000;

/// A rule with what it covers.
struct Entry<'a> {
    rule: &'a Rule,
    /// For a regular expression, a glob that matches at least all that it matches.
    glob: Glob,
    is_regex: bool,
}

/// Reports rules whose every name goes to rules before them.
pub(super) fn check(mapper: &Mapper, findings: &mut Findings) {
    let entries: Vec<Entry<'_>> = mapper.rules().iter().filter_map(|rule| entry(mapper, rule)).collect();
    let mut comparisons = 0;
    for (index, entry) in entries.iter().enumerate() {
        // A glob goes before a regular expression wherever it stands.
        let before = if entry.is_regex { &entries[..] } else { &entries[..index] };
        comparisons += before.len();
        if comparisons > COMPARISONS_MAX {
            return;
        }
        if let Some(covers) = covering(mapper, before, entry) {
            report(mapper, entry, covers, findings);
        }
    }
}

fn entry<'a>(mapper: &Mapper, rule: &'a Rule) -> Option<Entry<'a>> {
    let glob = mapper.machine.glob(rule.number);
    let (glob, is_regex) = match glob {
        Some(glob) => (glob.clone(), false),
        None => (approximate(&rule.pattern), true),
    };
    (glob.segments.len() <= SEGMENTS_MAX).then_some(Entry { rule, glob, is_regex })
}

/// For each metric type the first rule that takes all that the entry would; `None` if one has none.
fn covering<'a>(mapper: &Mapper, before: &[Entry<'a>], entry: &Entry<'_>) -> Option<Vec<&'a Rule>> {
    let mut found: Vec<&Rule> = Vec::new();
    let types = entry.rule.metric_type.as_ref().map_or(&MetricType::ALL[..], std::slice::from_ref);
    for metric_type in types {
        let of_type =
            |other: &&Entry<'_>| other.rule.metric_type.is_none_or(|of_type| of_type == *metric_type);
        let of_tags = |other: &&Entry<'_>| {
            other.rule.tags.as_ref().is_none_or(|tags| tags.covers(entry.rule.tags.as_ref()))
        };
        let mut before = before.iter().filter(of_type).filter(of_tags);
        let by = before.find(|other| takes_all(mapper, other, entry))?;
        if !found.iter().any(|rule| rule.number == by.rule.number) {
            found.push(by.rule);
        }
    }
    Some(found)
}

fn takes_all(mapper: &Mapper, other: &Entry<'_>, entry: &Entry<'_>) -> bool {
    if other.is_regex {
        // Of two regular expressions only equal ones are certain.
        let earlier = other.rule.number < entry.rule.number;
        return entry.is_regex && earlier && other.rule.pattern == entry.rule.pattern;
    }
    if entry.is_regex || mapper.machine.ordered() {
        return covers(&other.glob.segments, &entry.glob.segments);
    }
    // The more literal one wins, so only the same pattern again is in the way.
    other.glob == entry.glob
}

fn report(mapper: &Mapper, entry: &Entry<'_>, by: Vec<&Rule>, findings: &mut Findings) {
    let numbers: Vec<_> = by.iter().map(|rule| format!("{} (line {})", rule.number + 1, rule.line)).collect();
    let numbers = numbers.join(", ");
    let same = by.iter().all(|rule| rule.pattern == entry.rule.pattern);
    let text = if entry.is_regex && by.iter().any(|rule| mapper.machine.glob(rule.number).is_some()) {
        format!(
            "never reached: a glob goes before every regular expression, and rule {numbers} takes all; narrow the glob"
        )
    } else if same {
        format!("never reached: the same match as rule {numbers}; take one of them out")
    } else {
        format!("never reached: rule {numbers} takes all its names; put this one before it, or take it out")
    };
    // Dropping twice is dropping.
    let harmless =
        entry.rule.action == RuleAction::Drop && by.iter().all(|rule| rule.action == RuleAction::Drop);
    let severity = if harmless { Severity::Note } else { Severity::Warning };
    findings.add(severity, entry.rule, text);
}

/// Whether every name that fits `narrow` fits `wide`. Sound, not complete: `false` may be wrong.
fn covers(wide: &[Segment], narrow: &[Segment]) -> bool {
    // The common case, and the cheap one.
    if !wide.contains(&Segment::Deep) {
        let mut pairs = wide.iter().zip(narrow);
        return wide.len() == narrow.len() && pairs.all(|(wide, narrow)| segment_covers(wide, narrow));
    }
    // fits[n]: the segments of `wide` so far fit the first n of `narrow`.
    let mut fits = vec![false; narrow.len() + 1];
    fits[0] = true;
    for segment in wide {
        let mut next = vec![false; narrow.len() + 1];
        for (index, other) in narrow.iter().enumerate() {
            next[index + 1] = match segment {
                Segment::Deep => fits[index] || next[index],
                _ => fits[index] && segment_covers(segment, other),
            };
        }
        fits = next;
    }
    fits.last().copied().unwrap_or_default()
}

fn segment_covers(wide: &Segment, narrow: &Segment) -> bool {
    match (wide, narrow) {
        (_, Segment::Deep) => *wide == Segment::Deep,
        (Segment::Star | Segment::Deep, _) => true,
        (Segment::Literal(_), _) => wide == narrow,
        (Segment::Partial(_), Segment::Literal(text)) => wide.matches(text, 0, text.len(), None),
        // No literal part holds a star, so only a star can take one.
        (Segment::Partial(_), Segment::Partial(texts)) => {
            let text = texts.join("*");
            wide.matches(&text, 0, text.len(), None)
        }
        (Segment::Partial(_), Segment::Star) => wide.matches("*", 0, 1, None),
    }
}

/// A glob that matches at least what the expression matches: `**` unless it is plain from end to end.
fn approximate(pattern: &str) -> Glob {
    let plain = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$'));
    let segments = plain.and_then(|plain| plain.split("\\.").map(approximate_segment).collect::<Option<_>>());
    Glob { segments: segments.unwrap_or_else(|| [Segment::Deep].into()) }
}

fn approximate_segment(text: &str) -> Option<Segment> {
    let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(text);
    match inner {
        "[^.]+" | "[^.]*" | "[^\\.]+" | "[^\\.]*" | "\\w+" | "\\w*" | "\\d+" => Some(Segment::Star),
        ".+" | ".*" | ".+?" | ".*?" => Some(Segment::Deep),
        _ => {
            let literal = !inner.is_empty()
                && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
            literal.then(|| Segment::Literal(inner.into()))
        }
    }
}
