//! Rules of a mapping file -> what is valid and yet hardly meant.
//!
//! Every finding is certain about what it says: a rule that is called unreachable is so. The reverse
//! does not hold; what a regular expression may match is only looked at as far as it is plain.

mod families;
mod reach;

pub(super) use families::{kind, label_keys};

use std::fmt;
use std::time::Duration;

use super::problem::RuleTag;
use super::rule::{CounterType, MetricType, Rule, RuleAction, TimerUnit};
use super::template::Template;
use super::{Mapper, problem::Shown};

/// Findings beyond these are not reported.
const FINDINGS_MAX: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is lost: a rule never takes anything, or events are refused.
    Warning,
    /// It works, but perhaps not as meant.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// Of the rule, from 1.
    pub line: usize,
    pub rule: RuleTag,
    /// What is odd, and the way out.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: line {}: {}: {}", self.severity, self.line, self.rule, self.text)
    }
}

/// What a file says that it hardly means, in the order of its rules.
#[must_use]
pub fn lint(mapper: &Mapper) -> Vec<Finding> {
    let mut findings = Findings::default();
    for rule in mapper.rules() {
        references(rule, &mut findings);
        amounts(rule, &mut findings);
        values(rule, &mut findings);
        if mapper.machine.glob(rule.number).is_none() {
            expression(rule, &mut findings);
        }
    }
    reach::check(mapper, &mut findings);
    families::check(mapper, &mut findings);
    findings.0.sort_by_key(|finding| (finding.rule.number, finding.severity));
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, rule: &Rule, text: String) {
        if self.0.len() < FINDINGS_MAX {
            let tag = RuleTag { number: rule.number + 1, pattern: rule.pattern.clone() };
            self.0.push(Finding { severity, line: rule.line, rule: tag, text });
        }
    }
}

/// References that name no wildcard or group: they stand for nothing.
fn references(rule: &Rule, findings: &mut Findings) {
    let mut check = |what: &str, template: &Template| {
        for reference in template.dangling() {
            let digits: String = reference.chars().skip(1).take_while(char::is_ascii_digit).collect();
            let hint = if digits.is_empty() || reference.len() == digits.len() + 1 {
                "it stands for nothing".to_owned()
            } else {
                format!("it stands for nothing; write ${{{digits}}} to end the number there")
            };
            let text = format!("{what} uses {}, which the match does not capture; {hint}", Shown(reference));
            findings.add(Severity::Warning, rule, text);
        }
    };
    check("the name", &rule.name);
    for (key, template) in &rule.labels {
        check(&format!("label \"{}\"", Shown(key)), template);
    }
}

fn amounts(rule: &Rule, findings: &mut Findings) {
    if rule.action == RuleAction::Drop {
        return;
    }
    if rule.series.ttl.is_some_and(|ttl| ttl < Duration::from_secs(1)) {
        let text = "its series leave within a second, before most scrapes; write ttl with a unit, such as 1h";
        findings.add(Severity::Warning, rule, text.to_owned());
    }
    let counts = matches!(rule.metric_type, None | Some(MetricType::Counter));
    match rule.scale {
        Some(scale) if !scale.is_finite() => {
            findings.add(Severity::Warning, rule, format!("scale is {scale}; write a finite number"));
        }
        Some(0.0) => {
            let text = "scale is 0, so every value becomes 0; leave it out, or write action: drop";
            findings.add(Severity::Warning, rule, text.to_owned());
        }
        Some(scale) if scale < 0.0 && counts && rule.counter == CounterType::Counter => {
            let text = "scale is negative, and counters refuse what is below 0; add match_metric_type: gauge";
            findings.add(Severity::Warning, rule, text.to_owned());
        }
        _ => {}
    }
    if rule.counter == CounterType::UpDown && !counts {
        let text = "counter_type has no effect, for match_metric_type lets no counter through; leave it out";
        findings.add(Severity::Note, rule, text.to_owned());
    }
}

/// Keys that have no effect on what the rule lets through.
fn values(rule: &Rule, findings: &mut Findings) {
    if rule.action == RuleAction::Drop {
        return;
    }
    let lets = |metric_type| rule.metric_type.is_none_or(|only| only == metric_type);
    let up_down = lets(MetricType::Counter) && rule.counter == CounterType::UpDown;
    if let Some(gauge) = rule.series.sender_gauge {
        if !lets(MetricType::Gauge) && !up_down {
            let text = "gauge_combine has no effect, for the rule makes no gauge; leave it out, or write \
                        counter_type: up_down";
            findings.add(Severity::Note, rule, text.to_owned());
        }
        if gauge.expiry < Duration::from_secs(1) {
            let text = "gauge_expiry is below a second, so values leave before most scrapes; write it with a unit, \
                        such as 5m";
            findings.add(Severity::Warning, rule, text.to_owned());
        }
    }
    if !rule.zero_siblings.is_empty()
        && !lets(MetricType::Observer)
        && (!lets(MetricType::Counter) || up_down)
    {
        let text = "zero_siblings has no effect, for the rule makes gauges only; leave it out";
        findings.add(Severity::Note, rule, text.to_owned());
    }
    if rule.drop_repeats_within.is_some() && !lets(MetricType::Observer) {
        let text =
            "drop_repeats_within has no effect, for match_metric_type lets no observer through; leave it out";
        findings.add(Severity::Note, rule, text.to_owned());
    }
    if rule.timer_unit != TimerUnit::default() && !lets(MetricType::Observer) {
        let text = "timer_unit has no effect, for match_metric_type lets no timer through; leave it out";
        findings.add(Severity::Note, rule, text.to_owned());
    }
}

/// What looks like a glob, or was meant for the whole name.
fn expression(rule: &Rule, findings: &mut Findings) {
    let pattern = &*rule.pattern;
    if pattern.is_empty() {
        findings.add(Severity::Note, rule, "an empty regular expression matches every name".to_owned());
        return;
    }
    if !pattern.contains(['^', '$']) && !pattern.contains("\\A") && !pattern.contains("\\z") {
        let text = "the regular expression matches anywhere within a name; write ^ in front and $ behind for all of it";
        findings.add(Severity::Note, rule, text.to_owned());
    }
    if has_bare_dot(pattern) {
        let text = "a dot in a regular expression matches any character; write \\. for a dot";
        findings.add(Severity::Note, rule, text.to_owned());
    }
}

/// A dot between word characters, as in `a.b`: outside classes, not escaped, not repeated.
fn has_bare_dot(pattern: &str) -> bool {
    let word = |next: Option<&char>| next.is_some_and(|next| next.is_alphanumeric());
    let (mut in_class, mut before) = (false, ' ');
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '.' if !in_class && before.is_alphanumeric() && word(characters.peek()) => return true,
            _ => {}
        }
        before = if character == '\\' { ' ' } else { character };
    }
    false
}

#[cfg(test)]
mod tests;
