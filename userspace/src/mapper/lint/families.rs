//! Rules -> metric families that they build against each other.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Severity};
use crate::mapper::rule::{CounterType, MetricType, ObserverType, Rule, RuleAction};
use crate::mapper::{Mapper, problem::Shown};

/// What a rule's events become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mapper) enum Kind {
    Counter,
    Gauge,
    Summary,
    Histogram,
}

impl Kind {
    pub(in crate::mapper) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
            Self::Histogram => "histogram",
        }
    }

    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter | Self::Gauge => &[],
            Self::Summary => &["_sum", "_count"],
            Self::Histogram => &["_sum", "_count", "_bucket"],
        }
    }
}

/// `None` if events of any type go through the rule.
pub(in crate::mapper) fn kind(rule: &Rule) -> Option<Kind> {
    Some(match (rule.metric_type?, rule.counter, rule.series.observer) {
        (MetricType::Counter, CounterType::Counter, _) => Kind::Counter,
        (MetricType::Counter, CounterType::UpDown, _) | (MetricType::Gauge, ..) => Kind::Gauge,
        (MetricType::Observer, _, ObserverType::Summary) => Kind::Summary,
        (MetricType::Observer, _, ObserverType::Histogram) => Kind::Histogram,
    })
}

/// Reports rules that cannot both fill the family that they name, or not well.
pub(super) fn check(mapper: &Mapper, findings: &mut Findings) {
    let mut by_name: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    for rule in mapper.rules().iter().filter(|rule| rule.action == RuleAction::Map) {
        if let Some(name) = rule.name.constant() {
            by_name.entry(name).or_default().push(rule);
        }
    }
    for (name, rules) in &by_name {
        let Some((first, others)) = rules.split_first() else { continue };
        for rule in others {
            same_name(name, first, rule, findings);
        }
        if let Some((rule, kind)) = rules.iter().find_map(|rule| Some((rule, kind(rule)?))) {
            for suffix in kind.suffixes() {
                let other = by_name.get(&*format!("{name}{suffix}")).and_then(|rules| rules.first());
                if let Some(other) = other {
                    let text = format!(
                        "name {}{suffix} is what the {} of rule {} (line {}) calls its own samples, so one of both is \
                         refused; rename it",
                        Shown(name),
                        kind.name(),
                        rule.number + 1,
                        rule.line
                    );
                    findings.add(Severity::Warning, other, text);
                }
            }
        }
    }
}

/// Keys that each series of the rule has.
pub(in crate::mapper) fn label_keys(rule: &Rule) -> BTreeSet<String> {
    let tags = rule.tags.iter().flat_map(|tags| tags.present());
    let tags = tags.filter_map(|key| rule.tag_changes.renamed(key));
    tags.chain(rule.labels.iter().map(|(key, _)| &**key)).map(str::to_owned).collect()
}

fn same_name(name: &str, first: &Rule, rule: &Rule, findings: &mut Findings) {
    let name = Shown(name);
    let other = format!("rule {} (line {})", first.number + 1, first.line);
    if let (Some(kind), Some(first_kind)) = (kind(rule), kind(first))
        && kind != first_kind
    {
        let text = format!(
            "name {name} is a {} here and a {} in {other}; whichever comes second is refused, rename one",
            kind.name(),
            first_kind.name()
        );
        findings.add(Severity::Warning, rule, text);
        return;
    }
    if rule.series.help != first.series.help {
        let text =
            format!("help of {name} differs from that in {other}; a family has one, the first that comes");
        findings.add(Severity::Note, rule, text);
    }
    let (own, known) = (label_keys(rule), label_keys(first));
    // Copies of one event differ in what they tell, and one of them counts at a time.
    let event = |rule: &Rule| rule.same_event.as_ref().map(|same| same.name.clone());
    if own != known && (event(rule).is_none() || event(rule) != event(first)) {
        let differing: Vec<_> = own.symmetric_difference(&known).take(5).cloned().collect();
        let text = format!(
            "labels of {name} differ from those in {other} ({}); queries that group by them miss some series",
            differing.join(", ")
        );
        findings.add(Severity::Note, rule, text);
    }
    let budget = |rule: &Rule| rule.series.label_budget.as_ref().map(|budget| budget.label.clone());
    if let (Some(own), Some(known)) = (budget(rule), budget(first))
        && own != known
    {
        let text = format!(
            "max_series_per_label of {name} is by {} here and by {} in {other}; the first that comes holds",
            Shown(&own),
            Shown(&known)
        );
        findings.add(Severity::Warning, rule, text);
    }
    if rule.series.sender_gauge != first.series.sender_gauge
        && kind(rule).is_none_or(|kind| kind == Kind::Gauge)
    {
        let text = format!("gauge_combine of {name} differs from that in {other}; the last that comes holds");
        findings.add(Severity::Note, rule, text);
    }
    let observes = |rule: &Rule| matches!(kind(rule), Some(Kind::Summary | Kind::Histogram));
    let series = |rule: &Rule| (rule.series.summary.clone(), rule.series.histogram.clone());
    if observes(rule) && observes(first) && series(rule) != series(first) {
        let text =
            format!("buckets or quantiles of {name} differ from those in {other}; the first that come hold");
        findings.add(Severity::Note, rule, text);
    }
}
