use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::mapper::{Captures, CounterType, RuleAction, TimerUnit};
use crate::registry::{Combine, LabelBudget, SenderGaugeOptions};

fn load_text(text: &str, strict: bool) -> Result<Loaded, LoadError> {
    from_bytes(text.as_bytes(), "m.yml", LoadOptions { strict })
}

#[track_caller]
fn check_ok(text: &str) -> Mapper {
    let loaded = load_text(text, true).unwrap_or_else(|error| panic!("{text}\n{error}"));
    assert_eq!(loaded.warnings, []);
    loaded.mapper
}

/// The file is taken, with a warning; under strict rules it is not.
#[track_caller]
fn check_warning(text: &str, expected: &str) -> Mapper {
    let loaded = load_text(text, false).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|warning| warning.contains(expected)), "{text}: {warnings:?}");
    let error = load_text(text, true).expect_err("a warning is an error under strict rules").to_string();
    assert!(error.contains(expected), "{text}: {error}");
    loaded.mapper
}

#[track_caller]
fn check_error(text: &str, expected: &str) {
    let error = load_text(text, false).expect_err(text).to_string();
    assert!(error.contains(expected), "{text}\n{error}");
    assert!(error.starts_with("mapping file m.yml: line "), "{error}");
}

/// Name and labels that a counter gets, as `rule name{key=value,...}`.
#[track_caller]
fn check_map(rules: &str, name: &str, expected: Option<&str>) {
    let mapper = check_ok(rules);
    let mut captures = Captures::default();
    let found = mapper.find(MetricType::Counter, name, &mut captures).map(|rule| {
        let mut out = format!("{} ", rule.number);
        rule.name.expand(name, &captures, &mut out);
        for (key, template) in &rule.labels {
            let mut value = String::new();
            template.expand(name, &captures, &mut value);
            let _ = write!(out, " {key}={value}");
        }
        out
    });
    assert_eq!(found.as_deref(), expected, "{rules}");
}

#[test]
fn files_without_rules_are_valid() {
    for text in [
        "",
        "---\n",
        "mappings:\n",
        "defaults: null\n",
        "{}",
        "mappings: []",
        "# only this",
        "~",
        "---\n...\n",
    ] {
        assert_eq!(check_ok(text).rules().len(), 0);
    }
    assert_eq!(check_ok("mappings: [{match: a, name: aa}]\n---\nfoo: bar\n").rules().len(), 1);
}

#[test]
fn json_is_read_too() {
    let mapper = check_ok(
        "{\n\t\"mappings\": [{\"match\": \"a.*\", \"name\": \"n\", \"labels\": {\"ll\": \"$1\"}}]\n}\n",
    );
    assert_eq!(mapper.rules()[0].pattern.as_ref(), "a.*");
}

#[test]
fn every_key_has_its_effect() {
    let mapper = check_ok(
        "
defaults:
  observer_type: histogram
  match_type: regex
  ttl: 1m
  histogram_options: {buckets: [1, 2]}
  summary_options: {max_age: 5m, age_buckets: 2, buf_cap: 1000, quantiles: [{quantile: 0.5, error: 0.1}]}
mappings:
- match: a
  name: first
- match: b.*
  match_type: glob
  match_metric_type: gauge
  name: second
  labels: {one: 1, yes: yes, float: 1.0, none: ~}
  honor_labels: on
  observer_type: summary
  summary_options: {age_buckets: 7}
  help: 5
  action: drop
  ttl: 90s
  scale: 1e-3
  counter_type: up_down
  max_series: 1_000
",
    );
    let [first, second] = mapper.rules() else { panic!("two rules") };
    assert_eq!((first.number, first.line, second.number, second.line), (0, 9, 1, 11));
    assert_eq!(first.series.observer, ObserverType::Histogram);
    assert_eq!(first.series.histogram.buckets, [1.0, 2.0]);
    assert_eq!(first.series.ttl, Some(Duration::from_secs(60)));
    assert_eq!(&*first.series.help, DEFAULT_HELP);
    assert_eq!((first.scale, first.metric_type, first.honor_labels), (None, None, false));
    assert_eq!(second.series.observer, ObserverType::Summary);
    let summary = &second.series.summary;
    assert_eq!(summary.quantiles, [Quantile { quantile: 0.5, error: 0.1 }]);
    assert_eq!((summary.max_age, summary.age_buckets, summary.buf_cap), (Duration::from_secs(300), 7, 1000));
    assert_eq!(second.series.ttl, Some(Duration::from_secs(90)));
    assert_eq!((&*second.series.help, second.series.max_series), ("5", Some(1000)));
    assert_eq!((second.scale, second.metric_type), (Some(0.001), Some(MetricType::Gauge)));
    assert_eq!((second.action, second.counter), (RuleAction::Drop, CounterType::UpDown));
    assert!(second.honor_labels);
    let labels: Vec<_> =
        second.labels.iter().map(|(key, value)| (&**key, value.constant().unwrap())).collect();
    assert_eq!(labels, [("one", "1"), ("yes", "yes"), ("float", "1.0"), ("none", "")]);
    assert_eq!(mapper.unmapped().observer, ObserverType::Histogram);
    assert_eq!(mapper.unmapped().summary.max_age, Duration::from_secs(300));
    assert_eq!(mapper.unmapped().ttl, Some(Duration::from_secs(60)));
}

#[test]
fn an_empty_observer_type_is_summary_and_null_inherits() {
    let text = "defaults: {observer_type: histogram}\nmappings: [{match: a, name: aa, observer_type: ''}, \
                {match: b, name: bb, observer_type: ~}]";
    let mapper = check_ok(text);
    assert_eq!(mapper.rules()[0].series.observer, ObserverType::Summary);
    assert_eq!(mapper.rules()[1].series.observer, ObserverType::Histogram);
}

#[test]
fn summary_defaults_come_in_only_where_a_type_is_set() {
    let options = "summary_options: {max_age: 1m, quantiles: [{quantile: 0.1}]}";
    let rule = "mappings: [{match: a, name: aa, summary_options: {age_buckets: 3}}, {match: b, name: bb}]";
    let mapper = check_ok(&format!("defaults: {{{options}}}\n{rule}"));
    let summary = &mapper.rules()[0].series.summary;
    assert_eq!((summary.max_age, summary.age_buckets), (Duration::from_secs(600), 3));
    assert_eq!(summary.quantiles, [Quantile { quantile: 0.1, error: 0.0 }]);
    assert_eq!(mapper.rules()[1].series.summary.max_age, Duration::from_secs(60));
    let mapper = check_ok(&format!("defaults: {{observer_type: summary, {options}}}\n{rule}"));
    assert_eq!(mapper.rules()[0].series.summary.max_age, Duration::from_secs(60));
}

#[test]
fn native_histogram_options_inherit_where_they_are_zero() {
    let factors = |defaults: &str, own: &str| {
        let histogram = |options: &str| format!("histogram_options: {{{options}}}");
        let text = format!(
            "defaults: {{observer_type: histogram, {}}}\nmappings: [{{match: a, name: aa, {}}}]",
            histogram(defaults),
            histogram(own)
        );
        let options = check_ok(&text).rules()[0].series.histogram.clone();
        (options.native_bucket_factor, options.native_max_buckets)
    };
    let factor = "native_histogram_bucket_factor: ";
    assert_eq!(factors("", ""), (1.1, 256));
    assert_eq!(factors(&format!("{factor}1.5, native_histogram_max_buckets: 9"), ""), (1.5, 9));
    let own = format!("{factor}0.5, native_histogram_max_buckets: 7");
    assert_eq!(factors(&format!("{factor}1.5"), &own), (0.5, 7));
    assert_eq!(factors(&format!("{factor}-1"), &format!("{factor}0")), (-1.0, 256));
}

#[test]
fn keys_on_values_and_budgets_are_read() {
    let mapper = check_ok(
        "
defaults: {max_series_per_label: {label: dag_id, limit: 10_000}}
mappings:
- match: a.*
  name: aa
  gauge_combine: sum
  gauge_expiry: 90s
  timer_unit: seconds
  zero_siblings: {label: state, values: [success, failed, success, ~]}
- match: b
  name: bb
  gauge_combine: last
  max_series_per_label: {label: task_id, limit: 5}
  zero_siblings:
  - {label: one, values: [x, y]}
  - {label: two, values: [z]}
",
    );
    let [first, second] = mapper.rules() else { panic!("two rules") };
    let combined = |combine, seconds| SenderGaugeOptions { combine, expiry: Duration::from_secs(seconds) };
    assert_eq!(first.series.sender_gauge, Some(combined(Combine::Sum, 90)));
    assert_eq!(second.series.sender_gauge, Some(combined(Combine::Last, 300)));
    assert_eq!((first.timer_unit, second.timer_unit), (TimerUnit::Seconds, TimerUnit::Milliseconds));
    let budget = |label: &str, series_max| Some(LabelBudget { label: label.into(), series_max });
    assert_eq!(first.series.label_budget, budget("dag_id", 10_000));
    assert_eq!(second.series.label_budget, budget("task_id", 5));
    assert_eq!(mapper.unmapped().label_budget, budget("dag_id", 10_000));
    let siblings = |rule: &Rule| -> Vec<String> {
        rule.zero_siblings.iter().map(|of| format!("{}={}", of.label, of.values.join("|"))).collect()
    };
    assert_eq!(siblings(first), ["state=success|failed|"]);
    assert_eq!(siblings(second), ["one=x|y", "two=z"]);
}

#[test]
fn keys_on_values_and_budgets_say_what_is_wrong() {
    let check = |keys: &str, expected: &str| {
        check_error(&format!("mappings: [{{match: a, name: aa, {keys}}}]"), expected);
    };
    check("gauge_combine: avg", "invalid gauge_combine 'avg'; write last, sum, max or min");
    check("gauge_expiry: 5m", "gauge_expiry needs gauge_combine");
    check("gauge_combine: sum, gauge_expiry: -5m", "gauge_expiry is not above 0");
    check("gauge_combine: sum, gauge_expiry: 0s", "gauge_expiry is not above 0");
    check("drop_repeats_within: 2m", "drop_repeats_within takes a time from 1ms to 1m");
    check("drop_repeats_within: 0s", "drop_repeats_within takes a time from 1ms to 1m");
    check("timer_unit: s", "invalid timer unit 's'; write seconds");
    check("zero_siblings: {label: state}", "zero_siblings needs a label and values");
    check("zero_siblings: [{values: [x]}]", "zero_siblings needs a label and values");
    check("zero_siblings: state", "cannot unmarshal");
    check("zero_siblings: {label: a-b, values: [x]}", "invalid label name: a-b");
    let twice = "zero_siblings: [{label: aa, values: [x]}, {label: aa, values: [y]}]";
    check(twice, "names label aa twice");
    let values: Vec<String> = (0..9).map(|n| format!("v{n}")).collect();
    let values = values.join(", ");
    let many =
        format!("zero_siblings: [{{label: aa, values: [{values}]}}, {{label: bb, values: [{values}]}}]");
    check(&many, "makes 81 series of one");
    check("max_series_per_label: {label: dag_id}", "max_series_per_label needs a label and a limit");
    check("max_series_per_label: {limit: 5}", "max_series_per_label needs a label and a limit");
    check("max_series_per_label: {label: dag_id, limit: 0}", "limit is 0");
    check("max_series_per_label: 7", "cannot unmarshal");
    check_warning(
        "mappings: [{match: a, name: aa, max_series_per_label: {label: x, limit: 1, lim: 2}}]",
        "field lim not found in max_series_per_label",
    );
}

#[test]
fn a_rule_cannot_opt_out_of_a_default_ttl() {
    let mapper = check_ok("defaults: {ttl: 1s}\nmappings: [{match: a, name: aa, ttl: 0}]");
    assert_eq!(mapper.rules()[0].series.ttl, Some(Duration::from_secs(1)));
}

#[test]
fn anchors_and_merges_work() {
    let mapper = check_ok(
        "mappings:\n- &base {match: a.*, name: aa, help: base, labels: &l {one: $1}}\n- <<: *base\n  match: b.*\n  \
         labels: {<<: *l, two: x}\n- {name: cc, <<: [{match: c, name: no}, {help: second}]}\n",
    );
    let [_, merged, listed] = mapper.rules() else { panic!("three rules") };
    assert_eq!((&*merged.pattern, &*merged.series.help), ("b.*", "base"));
    assert_eq!(merged.labels.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!((&*listed.pattern, listed.name.constant(), &*listed.series.help), ("c", Some("no"), "second"));
}

#[test]
fn merges_hold_in_the_order_of_the_file() {
    let mapper = check_ok(
        "mappings:\n- &base {match: a, name: aa, help: base}\n- {match: b, <<: *base, name: bb}\n\
         - {<<: *base, match: c}\n- {<<: [{name: first}, {name: second}], match: d}\n",
    );
    let seen = mapper.rules().iter().map(|rule| (&*rule.pattern, rule.name.constant(), &*rule.series.help));
    let expected = [
        ("a", Some("aa"), "base"),
        ("a", Some("bb"), "base"),
        ("c", Some("aa"), "base"),
        ("d", Some("first"), DEFAULT_HELP),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    check_error(
        "mappings:\n- <<: null\n  match: a\n  name: aa\n",
        "line 2: mapping rule 1 (match \"a\"): cannot unmarshal !!null `null` into a mapping to merge",
    );
}

#[test]
fn labels_and_options_are_merged_with_what_they_meet() {
    let mapper = check_ok(
        "mappings:\n- &base {match: a, name: aa, labels: {one: x, two: x}, observer_type: summary, \
         summary_options: {age_buckets: 3}}\n\
         - {<<: *base, match: b, labels: {two: y, three: y}, summary_options: {max_age: 1s}}\n\
         - {<<: *base, match: c, labels: null}\n",
    );
    let [_, merged, cleared] = mapper.rules() else { panic!("three rules") };
    let labels: Vec<_> = merged.labels.iter().map(|(key, text)| (&**key, text.constant())).collect();
    assert_eq!(labels, [("one", Some("x")), ("two", Some("y")), ("three", Some("y"))]);
    let summary = &merged.series.summary;
    assert_eq!((summary.age_buckets, summary.max_age), (3, Duration::from_secs(1)));
    assert!(cleared.labels.is_empty());
}

#[test]
fn what_0_30_took_is_taken_with_a_warning() {
    let warned = |text: &str, expected: &str| check_warning(text, expected);
    warned("foo: 1", "field foo not found");
    warned("mappings: [{match: a, name: aa, nam: x}]", "field nam not found in a mapping rule");
    let mapper = warned("mappings: [{match: a, name: aa, name: bb}]", "key \"name\" already set");
    assert_eq!(mapper.rules()[0].name.constant(), Some("bb"));
    let mapper = warned("defaults: {timer_type: histogram}", "timer_type not found");
    assert_eq!(mapper.unmapped().observer, ObserverType::Histogram);
    let mapper =
        warned("mappings: [{match: a, name: aa, timer_type: histogram, buckets: [7]}]", "line 1: mapping");
    assert_eq!(mapper.rules()[0].series.histogram.buckets, [7.0]);
    assert_eq!(mapper.rules()[0].series.observer, ObserverType::Histogram);
    let text =
        "mappings: [{match: a, name: aa, observer_type: summary, quantiles: [{quantile: 0.2, error: 0.1}]}]";
    let mapper = warned(text, "field quantiles not found");
    assert_eq!(mapper.rules()[0].series.summary.quantiles, [Quantile { quantile: 0.2, error: 0.1 }]);
    let mapper =
        warned("defaults: {buckets: [3], histogram_options: {buckets: []}}", "field buckets not found");
    assert_eq!(mapper.unmapped().histogram.buckets, [3.0]);
    let text = "defaults: {quantiles: [{quantile: 0.2}], summary_options: {max_age: 1m}}";
    let mapper = warned(text, "field quantiles not found");
    assert_eq!(mapper.unmapped().summary.max_age, Duration::from_secs(600));
    let text = "mappings: [{match: a, name: aa, match_metric_type: timer}]";
    let mapper = warned(text, "invalid metric type 'timer'");
    assert_eq!(mapper.rules()[0].metric_type, Some(MetricType::Observer));
}

#[test]
fn what_0_30_took_and_failed_at_later_gets_a_sane_meaning() {
    let histogram = "defaults: {observer_type: histogram, histogram_options: {buckets: [5, 1, 1, .nan]}}";
    assert_eq!(check_warning(histogram, "buckets do not ascend").unmapped().histogram.buckets, [1.0, 5.0]);
    let mapper = check_warning("defaults: {summary_options: {max_age: -1s}}", "max_age is negative");
    assert_eq!(mapper.unmapped().summary.max_age, Duration::from_secs(600));
    let quantiles = "defaults: {summary_options: {quantiles: [{quantile: 1.5}, {quantile: 1}, {quantile: 1, error: .1}]}}";
    let mapper = check_warning(quantiles, "quantile 1.5 is not within 0 and 1");
    assert_eq!(mapper.unmapped().summary.quantiles, [Quantile { quantile: 1.0, error: 0.1 }]);
    let mapper =
        check_warning("mappings: [{match: a, name: aa, labels: {__x: y, zz: z}}]", "label __x is reserved");
    assert_eq!(mapper.rules()[0].labels.len(), 1);
    let quantile = "match_metric_type: observer, labels: {quantile: y}";
    let mapper = check_warning(&format!("mappings: [{{match: a, name: aa, {quantile}}}]"), "label quantile");
    assert_eq!(mapper.rules()[0].labels.len(), 0);
    check_ok("mappings: [{match: a, name: aa, match_metric_type: counter, labels: {quantile: y, le: x}}]");
    let mapper =
        check_warning("mappings: [{match: a, name: aa, ttl: 30}]", "30 means 30 nanoseconds; write 30s");
    assert_eq!(mapper.rules()[0].series.ttl, Some(Duration::from_nanos(30)));
    let mapper = check_warning("mappings: [{match: a, name: aa, ttl: -1s}]", "ttl is negative");
    assert_eq!(mapper.rules()[0].series.ttl, Some(Duration::from_nanos(1)));
}

#[test]
fn a_warning_about_a_rule_that_is_refused_is_told_with_the_error() {
    check_error(
        "mappings:\n- match: a\n  nam: x\n",
        "line 3: mapping rule 1 (match \"a\"): warning: field nam",
    );
}

#[test]
fn errors_say_where_and_what() {
    check_error(
        "mappings:\n- {match: a}\n",
        "line 2: mapping rule 1 (match \"a\"): metric mapping didn't set a metric name",
    );
    check_error("mappings: [{match: a, action: drop}]", "didn't set a metric name");
    check_error("mappings: [~]", "didn't set a metric name");
    for name in ["0a", "a.b", "a-b", "a:b", "${name}", "a$", "$x", "ä"] {
        check_error(&format!("mappings: [{{match: a, name: \"{name}\"}}]"), "doesn't match regex");
    }
    for name in ["$1", "${1}_x", "a${1", "$1}b", "_9", "true", "$0"] {
        check_ok(&format!("mappings: [{{match: a, name: \"{name}\"}}]"));
    }
    check_error("mappings: [{match: 1a.b, name: aa}]", "invalid match: 1a.b");
    check_error("mappings: [{name: aa}]", "invalid match: ");
    check_error("mappings: [{match: a, name: aa, labels: {a: x}}]", "invalid label key: a");
    check_error("mappings: [{match: a, name: aa, labels: {a-b: x}}]", "invalid label key: a-b");
    check_error("mappings: [{match: a, name: aa, labels: []}]", "cannot unmarshal !!seq");
    check_error("mappings: {match: a}", "cannot unmarshal !!map into a list");
    check_error("mappings: [[a]]", "cannot unmarshal !!seq");
    check_error("abc", "cannot unmarshal !!str `abc`");
    check_error("mappings: [{match: a, name: {a: b}}]", "cannot unmarshal !!map into text");
    check_error(
        "mappings: [{match: a, name: aa, scale: \"0.5\"}]",
        "cannot unmarshal !!str `0.5` into a number; leave",
    );
    check_error("mappings: [{match: a, name: aa, scale: foo}]", "cannot unmarshal");
    check_error("mappings: [{match: a, name: aa, ttl: \"30\"}]", "cannot unmarshal");
    check_error("mappings: [{match: a, name: aa, honor_labels: \"yes\"}]", "cannot unmarshal");
    check_error(
        "mappings: [{match: a, name: aa, histogram_options: {buckets: [\"x\"]}}]",
        "cannot unmarshal",
    );
    check_error("mappings: [{match: a, name: aa, match_type: Glob}]", "invalid match type 'Glob'");
    check_error("mappings: [{match: a, name: aa, observer_type: foo}]", "invalid observer type");
    check_error("mappings: [{match: a, name: aa, match_metric_type: \"\"}]", "invalid metric type");
    check_error("mappings: [{match: a, name: aa, action: Map}]", "invalid action type");
    check_error("mappings: [{match: a, name: aa, counter_type: up}]", "invalid counter type");
    check_error("mappings: [{match: a, name: aa, max_series: 0}]", "max_series is 0");
    check_error("mappings: [{match: \"(a\", match_type: regex, name: aa}]", "invalid regex (a in mapping");
    check_error("mappings: [{match: '(a)\\1', match_type: regex, name: aa}]", "invalid regex");
    check_error("mappings:\n- match: *.test.*\n  name: foo\n", "line 2: yaml:");
    check_error("mappings: [{match: a, name: aa", "yaml:");
    let histogram = "observer_type: histogram, summary_options: {max_age: 1m}";
    let expected = "cannot use histogram observer and summary options at the same time";
    check_error(&format!("mappings: [{{match: a, name: aa, {histogram}}}]"), expected);
    let text = "defaults: {observer_type: summary}\nmappings: [{match: a, name: aa, histogram_options: {}}]";
    check_error(text, "cannot use summary observer and histogram options");
    let text = "mappings: [{match: a, name: aa, buckets: [1], histogram_options: {buckets: [2]}}]";
    check_error(text, "cannot use buckets in both");
    check_ok("mappings: [{match: a, name: aa, summary_options: {}, histogram_options: {}}]");
}

#[test]
fn all_errors_of_a_file_are_told_in_their_order() {
    let error = load_text("mappings:\n- {match: a}\n- {match: b, name: 1, ttl: x}\n", false)
        .expect_err("three errors");
    let LoadError::Invalid { problems, .. } = error else { panic!("it is read") };
    assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2, 3, 3]);
    assert_eq!(problems[1].rule.as_ref().map(|rule| rule.number), Some(2));
}

#[test]
fn a_missing_file_and_foreign_bytes_are_errors() {
    let error =
        Mapper::load(Path::new("/nonexistent/m.yml"), LoadOptions::default()).expect_err("no such file");
    assert_eq!(error.to_string(), "reading mapping file /nonexistent/m.yml");
    let error = from_bytes(b"a: b\n\xff", "m.yml", LoadOptions::default()).expect_err("no UTF-8");
    assert!(error.to_string().contains("line 2: yaml: not UTF-8"), "{error}");
}

#[test]
fn globs_go_before_regular_expressions() {
    let rules = "mappings:\n- {match: a.*, match_type: regex, name: rx}\n- {match: a.*, name: glob, labels: {whole: $0}}\n";
    check_map(rules, "a.b", Some("1 glob whole=a.b"));
    check_map(rules, "xa.b.c", Some("0 rx"));
    check_map(rules, "b", None);
}

#[test]
fn regular_expressions_match_anywhere_and_the_first_wins() {
    let rule = "mappings: [{match: '(a|ab)(?P<seg>c|bcd)(x)?', match_type: regex, name: mm, labels: {gg: '$1/$seg/$3', \
                all: $0}}]";
    check_map(rule, "zabcdz", Some("0 mm gg=a/bcd/ all=abcd"));
    let many: String =
        (0..20).map(|n| format!("- {{match: 'a{n}b', match_type: regex, name: n{n}}}\n")).collect();
    let many =
        format!("mappings:\n{many}- {{match: '', match_type: regex, match_metric_type: gauge, name: all}}\n");
    check_map(&many, "xa17b.a3b", Some("3 n3"));
    check_map(&many, "nothing", None);
    check_map("mappings: [{name: aa, match_type: regex}]", "anything", Some("0 aa"));
}

#[test]
fn files_of_many_rules_stay_small() {
    let mut text = String::from("mappings:\n");
    for rule in 0..2000 {
        let _ = writeln!(
            text,
            "- match: \"*.service{rule}.*.requests.*\"\n  name: r{rule}\n  labels: {{aa: $1, bb: $2}}"
        );
    }
    let mapper = check_ok(&text);
    assert_eq!(mapper.rules().len(), 2000);
    // One way per rule after the star that all share.
    assert!(mapper.machine.nodes().len() < 2 + 4 * 2000 + 1);
}

/// Pieces of mapping files, so that the loader gets further than the first byte.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "mappings:",
        "defaults:",
        "match:",
        "name:",
        "labels:",
        "ttl:",
        "buckets:",
        "quantiles:",
        "<<:",
        "&a",
        "*a",
        "- ",
        "\n",
        "\n  ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "a.*",
        "'(a|b'",
        "regex",
        "match_type: ",
        "1s",
        "\"",
        "0x1",
        "~",
        "summary_options:",
        "histogram_options:",
        "---",
        "|\n",
        "? ",
        "!!int ",
        "\t",
        "#",
        "$1",
    ];
    prop_oneof![8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,3}"]
}

proptest! {
    #[test]
    fn any_bytes_load_or_fail_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_bytes(&bytes, "m.yml", LoadOptions::default());
    }

    #[test]
    fn any_text_loads_or_fails_without_a_panic(pieces in prop::collection::vec(piece(), 0..60)) {
        let text = pieces.concat();
        if let Ok(loaded) = load_text(&text, false) {
            // Strict rules refuse more, and never less.
            prop_assert_eq!(load_text(&text, true).is_ok(), loaded.warnings.is_empty());
        }
    }

    #[test]
    fn any_expression_compiles_or_is_refused(pattern in "[-a-z0-9\\\\\\[\\](){}?*+|^$.:<>PpQEdwbi,]{0,24}") {
        let mut regexes = Regexes::default();
        let _ = regexes.add(0, &pattern, None);
        if let Ok(translated) = crate::mapper::go_regex::translate(&pattern) {
            let names = translated.group_names.len();
            if let Ok(groups) = Regexes::default().add(0, &pattern, None) {
                prop_assert_eq!(groups.len(), names);
            }
        }
    }
}

#[test]
fn the_examples_of_the_documentation_load_and_are_clean() {
    let text = include_str!("../../../docs/mapping.md");
    let examples: Vec<_> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 5);
    for example in examples {
        assert_eq!(crate::mapper::lint(&check_ok(example)), [], "{example}");
    }
    let mapper = check_ok(text.split("```yaml\n").nth(2).and_then(|rest| rest.split("```").next()).unwrap());
    let mut captures = Captures::default();
    let name = "airflow.dag.etl.group.load.duration";
    assert!(mapper.find(MetricType::Observer, name, &mut captures).is_some());
    assert_eq!((captures.text(1, name), captures.text(2, name)), ("etl", "group.load"));
}
