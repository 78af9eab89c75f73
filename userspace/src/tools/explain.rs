//! One line -> which rule takes each sample, what it becomes, or why not.

use std::{path::PathBuf, sync::Arc};

use super::capture::{PortFlags, distinct_lines};
use super::{check::load_layers, outcome, print};
use crate::cli::ProfileFlags;
use crate::line::{Parser, Tally};
use crate::mapper::{Mapper, MetricType, Reason, Rule, RuleAction, TimerUnit};
use crate::registry::{LabelBudget, SenderGaugeOptions};

/// Rules that are listed with their reason.
const PASSED_OVER_MAX: usize = 50;

/// Says which mapping rule takes each sample of a line, and what it becomes.
#[derive(Debug, clap::Parser)]
#[command(name = "rotameter explain", bin_name = "rotameter explain")]
pub struct ExplainFlags {
    /// Mapping file, YAML. Without it nothing is mapped.
    #[arg(long, alias = "statsd.mapping-config", value_name = "FILE")]
    mapping_config: Option<PathBuf>,
    #[command(flatten)]
    profile: ProfileFlags,
    /// A StatsD line, such as 'airflow.ti_failures:1|c'.
    #[arg(required_unless_present = "capture", conflicts_with = "capture")]
    line: Option<String>,
    /// Explain the lines of a capture instead, each once apart from its value: a file of rotameter capture,
    /// a pcap or pcapng, or StatsD lines.
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
    #[command(flatten)]
    ports: PortFlags,
}

/// Prints the explanation.
///
/// # Errors
///
/// A mapping file that does not load; a capture that cannot be read, or was cut off.
pub fn explain(flags: &ExplainFlags) -> anyhow::Result<()> {
    let mapper = Arc::new(load_layers(flags.mapping_config.as_deref(), &flags.profile)?);
    if let Some(file) = &flags.capture {
        let see = |line: &[u8]| {
            print(&format!("line: {}", line.escape_ascii()));
            explanation(&mapper, line).iter().for_each(|line| print(&format!("  {line}")));
        };
        return distinct_lines(file, &flags.ports, see)?.end;
    }
    for line in crate::line::lines(flags.line.as_deref().unwrap_or_default().as_bytes()) {
        explanation(&mapper, line).iter().for_each(|line| print(line));
    }
    Ok(())
}

/// The explanation, line by line.
fn explanation(mapper: &Arc<Mapper>, line: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    let mut tally = Tally::default();
    Parser::new(outcome::all_dialects()).parse_line(line, &mut tally, &mut |event| {
        let metric_type = MetricType::from(event.kind);
        let tags: Vec<String> = event.tags.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        let (kind, name, value) = (metric_type.name(), event.name, event.value());
        out.push(format!("sample: {kind} {name:?}, value {value}, tags {{{}}}", tags.join(", ")));
        let explained = mapper.explain_event(metric_type, event.name, (&event).into());
        // A profile has hundreds of rules; of those only near misses say something.
        let near = |reason: Reason<'_>| {
            matches!(reason, Reason::TagAbsent(_) | Reason::TagPresent(_) | Reason::Dialect)
        };
        let passed_over = explained.passed_over.iter();
        let passed_over: Vec<_> =
            passed_over.filter(|other| other.rule.profile.is_none() || near(other.reason)).collect();
        for other in passed_over.iter().take(PASSED_OVER_MAX) {
            out.push(format!("  not {}: {}", rule_name(other.rule), other.reason));
        }
        if let Some(more) = passed_over.len().checked_sub(PASSED_OVER_MAX + 1) {
            out.push(format!("  nor {} others", more + 1));
        }
        let Some(rule) = explained.rule else {
            out.push("  no rule takes it: it keeps its name".to_owned());
            return;
        };
        let action = if rule.action == RuleAction::Drop { ", which drops it" } else { "" };
        let ttl = rule.series.ttl.map(|ttl| format!(", ttl {ttl:?}")).unwrap_or_default();
        let copy = rule.same_event.as_ref();
        let copy = copy.map(|copy| format!(", copy {} of {:?}", copy.rank, copy.name)).unwrap_or_default();
        let (number, pattern, line) = (rule.number + 1, &rule.pattern, rule.line);
        let of = rule.profile.map_or_else(|| "the file".to_owned(), |profile| format!("profile {profile}"));
        out.push(format!("  rule {number} (match {pattern:?}, line {line} of {of}){action}{copy}{ttl}"));
        out.extend(keys(rule).into_iter().map(|key| format!("    {key}")));
    });
    let outcome = outcome::of_line(mapper, line);
    out.extend(outcome.series.iter().map(|series| format!("series: {series}")));
    let refused = outcome.refused.iter();
    out.extend(refused.map(|(reason, counter)| format!("refused: {reason}, counted by {counter}")));
    out.extend(notes(&tally));
    if outcome.series.is_empty() && outcome.refused.is_empty() {
        out.push("no series".to_owned());
    }
    out
}

/// What the rule says about values and budgets, if it says anything.
fn keys(rule: &Rule) -> Vec<String> {
    let mut keys = Vec::new();
    if let Some(SenderGaugeOptions { combine, expiry }) = rule.series.sender_gauge {
        let combine = combine.name();
        keys.push(format!(
            "gauge_combine {combine}: kept for each sender, until it was silent for {expiry:?}"
        ));
    }
    if rule.timer_unit != TimerUnit::default() {
        keys.push(format!("timer_unit {}: of values typed ms", rule.timer_unit.name()));
    }
    if let Some(millis) = rule.drop_repeats_within {
        keys.push(format!("drop_repeats_within {millis}ms: the same value again counts once"));
    }
    for siblings in &rule.zero_siblings {
        let values = siblings.values.join(", ");
        keys.push(format!("zero_siblings: with label {} also {values}", siblings.label));
    }
    if let Some(max) = rule.series.max_series {
        keys.push(format!("max_series {max}"));
    }
    if let Some(LabelBudget { label, series_max }) = &rule.series.label_budget {
        keys.push(format!("max_series_per_label: {series_max} for each {label}"));
    }
    keys
}

/// `rule 3 (match "a.*")`, with its profile if it has one.
pub(super) fn rule_name(rule: &Rule) -> String {
    let of = rule.profile.map(|profile| format!(" of profile {profile}")).unwrap_or_default();
    format!("rule {}{of} (match {:?})", rule.number + 1, rule.pattern)
}

/// What else is counted, and by which metric.
fn notes(tally: &Tally) -> impl Iterator<Item = String> {
    let notes = [
        (tally.empty, "an empty line", "statsd_exporter_lines_total"),
        (tally.notice_events, "a DogStatsD event, which is no metric", "rotameter_dogstatsd_events_total"),
        (
            tally.service_checks,
            "a DogStatsD service check, which is no metric",
            "rotameter_dogstatsd_service_checks_total",
        ),
        (tally.tag_errors, "a tag that does not parse, and is left out", "statsd_exporter_tag_errors_total"),
        (
            tally.kept,
            "a sample rate that is no number, and is left out",
            "statsd_exporter_sample_errors_total",
        ),
        (
            tally.vanished,
            "an observation that its sample rate repeats zero times",
            "rotameter_events_vanished_total",
        ),
    ];
    let seen = notes.into_iter().filter(|(times, ..)| *times > 0);
    seen.map(|(_, what, counter)| format!("note: {what}, counted by {counter}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapper::LoadOptions;

    const FILE: &str = "\
mappings:
- {match: \"a.*.x\", name: one, labels: {key: \"$1\"}, ttl: 30s}
- {match: \"drop.*\", name: two, action: drop}
";

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        let loaded = Mapper::from_text(FILE.as_bytes(), "m.yml", LoadOptions::default()).unwrap();
        assert_eq!(explanation(&Arc::new(loaded.mapper), line.as_bytes()), expected, "{line}");
    }

    #[test]
    fn a_rule_is_named_with_what_it_makes() {
        check(
            "a.b.x:2|c",
            &[
                "sample: counter \"a.b.x\", value 2, tags {}",
                "  rule 1 (match \"a.*.x\", line 2 of the file), ttl 30s",
                "series: counter one{key=\"b\"}",
            ],
        );
    }

    #[test]
    fn keys_on_values_and_budgets_are_said_and_siblings_shown() {
        let file = "mappings: [{match: \"a.*.*\", name: one, labels: {dag: $1, state: $2}, gauge_combine: sum, \
                    timer_unit: seconds, max_series: 9, max_series_per_label: {label: dag, limit: 5}, \
                    zero_siblings: {label: state, values: [ok, failed]}}]";
        let loaded = Mapper::from_text(file.as_bytes(), "m.yml", LoadOptions::default()).unwrap();
        let lines = explanation(&Arc::new(loaded.mapper), b"a.x.ok:1|c");
        let expected = [
            "sample: counter \"a.x.ok\", value 1, tags {}",
            "  rule 1 (match \"a.*.*\", line 1 of the file)",
            "    gauge_combine sum: kept for each sender, until it was silent for 300s",
            "    timer_unit seconds: of values typed ms",
            "    zero_siblings: with label state also ok, failed",
            "    max_series 9",
            "    max_series_per_label: 5 for each dag",
            "series: counter one{dag=\"x\",state=\"failed\"}",
            "series: counter one{dag=\"x\",state=\"ok\"}",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_dropped_makes_no_series() {
        let loaded = Mapper::from_text(FILE.as_bytes(), "m.yml", LoadOptions::default()).unwrap();
        let lines = explanation(&Arc::new(loaded.mapper), b"drop.it:1|c");
        assert!(lines.iter().any(|line| line.ends_with("which drops it")), "{lines:?}");
        assert_eq!(lines.last().map(String::as_str), Some("no series"));
    }

    #[test]
    fn rules_that_did_not_take_it_say_why() {
        check(
            "a.b.y:1|c",
            &[
                "sample: counter \"a.b.y\", value 1, tags {}",
                "  not rule 1 (match \"a.*.x\"): segment 3 differs",
                "  not rule 2 (match \"drop.*\"): the match has 2 segments, the name 3",
                "  no rule takes it: it keeps its name",
                "series: counter a_b_y",
            ],
        );
    }

    #[test]
    fn a_refused_line_says_the_reason() {
        check("a.b.x", &["refused: malformed_line, counted by statsd_exporter_sample_errors_total"]);
    }

    #[test]
    fn what_is_left_out_is_noted() {
        check(
            "_e{2,2}:ab|cd",
            &[
                "note: a DogStatsD event, which is no metric, counted by rotameter_dogstatsd_events_total",
                "no series",
            ],
        );
        check("", &["note: an empty line, counted by statsd_exporter_lines_total", "no series"]);
        let loaded = Mapper::from_text(FILE.as_bytes(), "m.yml", LoadOptions::default()).unwrap();
        let lines = explanation(&Arc::new(loaded.mapper), b"drop.x:1|c|@y|#valueless");
        let notes: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("note: ")).collect();
        assert_eq!(
            notes,
            [
                "a tag that does not parse, and is left out, counted by statsd_exporter_tag_errors_total",
                "a sample rate that is no number, and is left out, counted by statsd_exporter_sample_errors_total",
            ]
        );
    }
}
