use proptest::prelude::*;

use super::*;
use crate::mapper::{Captures, LoadOptions};

/// Findings for rules, each as `severity rule: text`; every expected one must be the beginning of one.
#[track_caller]
fn check(defaults: &str, rules: &[&str], expected: &[&str]) {
    let rules: String = rules.iter().map(|rule| format!("- {{{rule}}}\n")).collect();
    let text = format!("defaults: {{{defaults}}}\nmappings:\n{rules}");
    let loaded = Mapper::from_text(text.as_bytes(), "m.yml", LoadOptions::default());
    let mapper = loaded.unwrap_or_else(|error| panic!("{error}")).mapper;
    let findings: Vec<_> = lint(&mapper)
        .iter()
        .map(|finding| format!("{} {}: {}", finding.severity, finding.rule.number, finding.text))
        .collect();
    assert_eq!(findings.len(), expected.len(), "{findings:#?}");
    for (finding, expected) in findings.iter().zip(expected) {
        assert!(finding.starts_with(expected), "{finding}\n{expected}");
    }
}

#[test]
fn a_good_file_has_no_findings() {
    check(
        "ttl: 1h, observer_type: histogram",
        &[
            "match: a.*.b, match_metric_type: counter, name: one_total, labels: {ll: $1}",
            "match: a.*.b, match_metric_type: gauge, name: two",
            "match: a.x.*, name: \"${1}_x\"",
            "match: '^a\\.([^.]+)\\.c$', match_type: regex, name: four, labels: {ll: $1}",
        ],
        &[],
    );
}

#[test]
fn keys_without_effect_are_found() {
    let rule = "match: a.*, name: aa, match_metric_type";
    let siblings = "zero_siblings: {label: ll, values: [x]}";
    let with =
        |of: &str, keys: &str, expected: &[&str]| check("", &[&format!("{rule}: {of}, {keys}")], expected);
    with("counter", "gauge_combine: sum", &["note 1: gauge_combine has no effect"]);
    with("counter", "gauge_combine: sum, counter_type: up_down", &[]);
    with("gauge", "gauge_combine: sum", &[]);
    with("gauge", "gauge_combine: sum, gauge_expiry: 5ms", &["warning 1: gauge_expiry is below a second"]);
    with("gauge", siblings, &["note 1: zero_siblings has no effect"]);
    with("counter", &format!("{siblings}, counter_type: up_down"), &["note 1: zero_siblings has no effect"]);
    with("counter", siblings, &[]);
    with("observer", siblings, &[]);
    with("observer", "timer_unit: seconds", &[]);
    with("gauge", "timer_unit: seconds", &["note 1: timer_unit has no effect"]);
}

#[test]
fn shadowed_rules_are_found() {
    let never = "warning 2: never reached: rule 1 (line 3) takes all";
    check("", &["match: a.*, name: aa", "match: a.b, name: bb"], &[never]);
    check("", &["match: a.b, name: aa", "match: a.*, name: bb"], &[]);
    check("", &["match: a.**, name: aa", "match: a.*.c, name: bb"], &[never]);
    check("", &["match: '**.z', name: aa", "match: a.**.b.z, name: bb"], &[never]);
    check("", &["match: a.*.c, name: aa", "match: a.**, name: bb"], &[]);
    check("", &["match: 'a*', name: aa", "match: ab*c, name: bb"], &[never]);
    check("", &["match: 'a*c', name: aa", "match: ab*, name: bb"], &[]);
    check("", &["match: a.*, match_metric_type: gauge, name: aa", "match: a.b, name: bb"], &[]);
    check(
        "",
        &["match: a.b, name: aa", "match: a.b, name: bb"],
        &["warning 2: never reached: the same match"],
    );
    check(
        "",
        &[
            "match: a.*, match_metric_type: gauge, name: aa",
            "match: a.*, match_metric_type: counter, name: bb",
            "match: a.b, match_metric_type: observer, name: cc",
            "match: a.b, name: dd",
        ],
        &["warning 4: never reached: rule 2 (line 4), 1 (line 3), 3 (line 5)"],
    );
    check("glob_disable_ordering: true", &["match: a.*, name: aa", "match: a.b, name: bb"], &[]);
    check(
        "",
        &["match: a.*, name: aa, action: drop", "match: a.b, name: aa, action: drop"],
        &["note 2: never reached"],
    );
}

#[test]
fn expressions_that_globs_always_beat_are_found() {
    let beaten = "warning 1: never reached: a glob goes before every regular expression, and rule 2";
    let regex = |pattern: &str| format!("match: '{pattern}', match_type: regex, name: aa");
    check("", &[&regex("^a\\.([^.]+)\\.c$"), "match: a.*.*, name: bb"], &[beaten]);
    check("", &[&regex("^a\\.(.+)\\.c$"), "match: a.**, name: bb"], &[beaten]);
    check("", &[&regex("^a\\.(.+)\\.c$"), "match: a.*.c, name: bb"], &[]);
    check("", &[&regex("^a(b|c)$"), "match: '**', name: bb"], &[beaten]);
    check("", &[&regex("^a$"), &regex("^a$")], &["warning 2: never reached: the same match as rule 1"]);
}

#[test]
fn families_that_cannot_be_are_found() {
    check(
        "",
        &["match: a, match_metric_type: gauge, name: xx", "match: b, match_metric_type: counter, name: xx"],
        &["warning 2: name xx is a counter here and a gauge in rule 1 (line 3)"],
    );
    check(
        "",
        &["match: a, match_metric_type: observer, name: xx", "match: b, name: xx_count"],
        &["warning 2: name xx_count is what the summary of rule 1 (line 3) calls its own samples"],
    );
    check("", &["match: a, match_metric_type: observer, name: xx", "match: b, name: xx_bucket"], &[]);
    check(
        "",
        &["match: a, name: xx, help: one, labels: {l1: x}", "match: b, name: xx, labels: {l2: x}"],
        &["note 2: help of xx differs", "note 2: labels of xx differ from those in rule 1 (line 3) (l1, l2)"],
    );
    check(
        "observer_type: histogram",
        &[
            "match: a, match_metric_type: observer, name: xx",
            "match: b, match_metric_type: observer, name: xx, histogram_options: {buckets: [1]}",
        ],
        &["note 2: buckets or quantiles of xx differ"],
    );
}

#[test]
fn references_without_a_capture_are_found() {
    check(
        "",
        &["match: a.*, name: aa, labels: {ll: $2}"],
        &["warning 1: label \"ll\" uses $2, which the match"],
    );
    check(
        "",
        &["match: a.*, name: $1_total"],
        &["warning 1: the name uses $1_total, which the match does not capture; \
        it stands for nothing; write ${1} to end the number there"],
    );
    let regex =
        "match: '^(?P<one>a)$', match_type: regex, name: aa, labels: {l1: $one, l2: $two, l3: '${3}'}";
    check("", &[regex], &["warning 1: label \"l2\" uses $two", "warning 1: label \"l3\" uses ${3}"]);
}

#[test]
fn odd_amounts_and_expressions_are_found() {
    check("", &["match: a, name: aa, ttl: 30"], &["warning 1: its series leave within a second"]);
    check("", &["match: a, name: aa, scale: 0"], &["warning 1: scale is 0"]);
    check("", &["match: a, name: aa, scale: .nan"], &["warning 1: scale is NaN"]);
    check("", &["match: a, name: aa, scale: -1"], &["warning 1: scale is negative"]);
    check("", &["match: a, name: aa, scale: -1, match_metric_type: gauge"], &[]);
    let gauge = "match: a, name: aa, counter_type: up_down, match_metric_type: gauge";
    check("", &[gauge], &["note 1: counter_type has no effect"]);
    let regex = |pattern: &str| format!("match: '{pattern}', match_type: regex, name: aa");
    let anywhere = "note 1: the regular expression matches anywhere";
    check("", &[&regex("a.b")], &[anywhere, "note 1: a dot in a regular expression"]);
    check("", &[&regex("^a.*b[x.y]\\.c$")], &[]);
    check("", &[&regex("")], &["note 1: an empty regular expression"]);
}

fn rule() -> impl Strategy<Value = String> {
    let segment =
        prop_oneof![3 => "[ab]{1,2}", 2 => Just("*".to_owned()), 1 => Just("**".to_owned()), 1 => "a?\\*b?"];
    let pattern = prop::collection::vec(segment, 1..4).prop_map(|segments| segments.join("."));
    let regex = prop::collection::vec(prop::sample::select(vec!["a", "(.*)", "([^.]+)", "b"]), 1..4)
        .prop_map(|segments| format!("^{}$', match_type: 'regex", segments.join("\\.")));
    let kind = prop::sample::select(vec!["", ", match_metric_type: counter", ", match_metric_type: gauge"]);
    (prop_oneof![3 => pattern, 1 => regex], kind)
        .prop_map(|(pattern, kind)| format!("- {{match: '{pattern}', name: nn{kind}}}\n"))
}

proptest! {
    #[test]
    fn what_is_called_unreachable_is_never_found(
        rules in prop::collection::vec(rule(), 1..8),
        names in prop::collection::vec("[ab.]{0,8}", 30),
        unordered in any::<bool>(),
    ) {
        let text = format!("defaults: {{glob_disable_ordering: {unordered}}}\nmappings:\n{}", rules.concat());
        let mapper = Mapper::from_text(text.as_bytes(), "m.yml", LoadOptions::default()).expect("it loads").mapper;
        let unreachable: Vec<_> = lint(&mapper)
            .into_iter()
            .filter(|finding| finding.text.starts_with("never reached"))
            .map(|finding| finding.rule.number - 1)
            .collect();
        for name in &names {
            for metric_type in MetricType::ALL {
                let found = mapper.find(metric_type, name, &mut Captures::default());
                prop_assert!(found.is_none_or(|rule| !unreachable.contains(&rule.number)));
            }
        }
    }
}
