//! Nodes -> keys of a rule that say what its values mean and how many series they may have.

use std::time::Duration;

use super::file::{RuleText, invalid};
use super::problem::{Report, Shown};
use super::rule::{TimerUnit, ZeroSiblings};
use super::walk::{Field, Walk};
use super::yaml::{NodeId, Value};
use crate::registry::{Combine, LabelBudget, SenderGaugeOptions};

/// Airflow's schedulers send their gauges every few seconds to a minute.
const GAUGE_EXPIRY: Duration = Duration::from_secs(300);
/// A repeat comes right behind what it repeats; later ones are chance.
const REPEATS_MILLIS_MAX: u32 = 60_000;
/// Siblings of one series, for they are made while a line waits.
const SIBLINGS_MAX: usize = 64;

/// `gauge_combine`.
pub(super) fn combine(walk: &mut Walk<'_>, id: NodeId) -> Option<Combine> {
    let word = walk.word(id)?;
    let known = Combine::ALL.into_iter().find(|combine| combine.name() == word);
    known.or_else(|| invalid(walk, id, "gauge_combine", &word, "last, sum, max or min"))
}

/// `timer_unit`.
pub(super) fn timer_unit(walk: &mut Walk<'_>, id: NodeId) -> TimerUnit {
    let Some(word) = walk.word(id) else { return TimerUnit::default() };
    let known = TimerUnit::ALL.into_iter().find(|unit| unit.name() == word);
    let units = "seconds, milliseconds, microseconds or nanoseconds";
    known.or_else(|| invalid(walk, id, "timer unit", &word, units)).unwrap_or_default()
}

/// `drop_repeats_within`, in milliseconds.
pub(super) fn repeats_within(walk: &mut Walk<'_>, of: &Field) -> Option<u32> {
    let millis = walk.duration_nanos(of.value)? / 1_000_000;
    let within = u32::try_from(millis).ok().filter(|millis| (1..=REPEATS_MILLIS_MAX).contains(millis));
    if within.is_none() {
        walk.report.error(of.line, "drop_repeats_within takes a time from 1ms to 1m, such as 1s");
    }
    within
}

/// `max_series_per_label`.
pub(super) fn label_budget(walk: &mut Walk<'_>, of: &Field) -> Option<LabelBudget> {
    if walk.is_null(of.value) {
        return None;
    }
    let (mut label, mut limit) = (String::new(), None);
    for field in walk.fields_of(of, "a mapping with `label` and `limit`") {
        match field.key.as_str() {
            "label" => label = label_name(walk, field.value),
            "limit" => limit = walk.unsigned(field.value),
            _ => walk.unknown(&field, "max_series_per_label"),
        }
    }
    match limit {
        Some(series_max) if series_max > 0 && !label.is_empty() => {
            return Some(LabelBudget { label: label.into(), series_max });
        }
        Some(0) => {
            walk.report.error(of.line, "max_series_per_label: limit is 0; write a number from 1");
        }
        _ => {
            let text = "max_series_per_label needs a label and a limit; write {label: dag_id, limit: 10000}";
            walk.report.error(of.line, text);
        }
    }
    None
}

/// `zero_siblings`: one label with its values, or a list of such.
pub(super) fn zero_siblings(walk: &mut Walk<'_>, of: &Field) -> Vec<ZeroSiblings> {
    const WANTED: &str = "a mapping with `label` and `values`";
    let mut siblings: Vec<ZeroSiblings> = Vec::new();
    if walk.is_null(of.value) {
        return siblings;
    }
    let document = walk.document;
    if matches!(document.node(of.value).value, Value::Sequence(_)) {
        for item in walk.items(of.value, WANTED) {
            let fields = walk.fields(*item, WANTED);
            siblings.push(one_sibling(walk, fields, walk.line(*item)));
        }
    } else {
        let fields = walk.fields_of(of, WANTED);
        siblings.push(one_sibling(walk, fields, of.line));
    }
    let twice = |place: usize| siblings.iter().take(place).any(|other| other.label == siblings[place].label);
    if let Some(place) = (0..siblings.len()).find(|place| twice(*place)) {
        let text = format!(
            "zero_siblings names label {} twice; put its values into one list",
            Shown(&siblings[place].label)
        );
        walk.report.error(of.line, text);
    }
    let combinations = siblings.iter().map(|siblings| siblings.values.len()).fold(1, usize::saturating_mul);
    if combinations > SIBLINGS_MAX {
        let text = format!(
            "zero_siblings makes {combinations} series of one; leave out values until there are at most {SIBLINGS_MAX}"
        );
        walk.report.error(of.line, text);
    }
    siblings
}

fn one_sibling(walk: &mut Walk<'_>, fields: Vec<Field>, line: usize) -> ZeroSiblings {
    let mut siblings = ZeroSiblings::default();
    for field in fields {
        match field.key.as_str() {
            "label" => siblings.label = label_name(walk, field.value).into(),
            "values" => {
                for item in walk.items(field.value, "a list of label values") {
                    let value = walk.text(*item).unwrap_or_default().into();
                    if !siblings.values.contains(&value) {
                        siblings.values.push(value);
                    }
                }
            }
            _ => walk.unknown(&field, "zero_siblings"),
        }
    }
    if siblings.label.is_empty() || siblings.values.is_empty() {
        let text = "zero_siblings needs a label and values; write {label: state, values: [success, failed]}";
        walk.report.error(line, text);
    }
    siblings
}

fn label_name(walk: &mut Walk<'_>, id: NodeId) -> String {
    let name = walk.text(id).unwrap_or_default();
    let mut bytes = name.bytes();
    let good_start = bytes.next().is_none_or(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !good_start || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        let text = format!("invalid label name: {}; write letters, digits and _", Shown(&name));
        walk.report.error(walk.line(id), text);
    }
    name
}

/// `gauge_combine` with `gauge_expiry`.
pub(super) fn sender_gauge(rule: &RuleText, report: &mut Report) -> Option<SenderGaugeOptions> {
    let (line, nanos) = rule.gauge_expiry.unwrap_or((rule.line, 0));
    if rule.gauge_expiry.is_some() && nanos <= 0 {
        report.error(line, "gauge_expiry is not above 0; write a duration such as 5m");
    }
    let Some(combine) = rule.combine else {
        if rule.gauge_expiry.is_some() {
            report.error(line, "gauge_expiry needs gauge_combine; add gauge_combine: last, sum, max or min");
        }
        return None;
    };
    let expiry = u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos);
    Some(SenderGaugeOptions { combine, expiry: expiry.unwrap_or(GAUGE_EXPIRY) })
}
