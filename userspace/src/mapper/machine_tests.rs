use proptest::prelude::*;

use super::*;

fn machine(ordered: bool, rules: &[(&str, Option<MetricType>)]) -> Machine {
    let mut machine = Machine::new(ordered);
    for (pattern, metric_type) in rules {
        machine.add(Some(Glob::parse(pattern).expect("it is a glob")), *metric_type, false);
    }
    machine
}

#[track_caller]
fn check(patterns: &[&str], name: &str, expected: Option<usize>) {
    let rules: Vec<_> = patterns.iter().map(|pattern| (*pattern, None)).collect();
    let machine = machine(true, &rules);
    for metric_type in MetricType::ALL {
        let mut captures = Captures::default();
        let found = machine.find(metric_type, name, &mut captures, |_| true);
        assert_eq!(found, expected, "{patterns:?} on {name}");
        let mut of_glob = Captures::default();
        assert!(found.is_none_or(|rule| machine.globs[rule].capture(name, &mut of_glob)));
        assert_eq!(captures, of_glob, "{patterns:?} on {name}");
    }
}

#[track_caller]
fn check_unordered(patterns: &[&str], name: &str, expected: Option<usize>) {
    let rules: Vec<_> = patterns.iter().map(|pattern| (*pattern, None)).collect();
    assert_eq!(
        machine(false, &rules).find(MetricType::Gauge, name, &mut Captures::default(), |_| true),
        expected,
        "{patterns:?} on {name}"
    );
}

#[test]
fn the_first_rule_of_the_file_wins() {
    check(&["a.*", "a.b", "*.b"], "a.b", Some(0));
    check(&["*.b", "a.*"], "a.b", Some(0));
    check(&["a.b.c.d.e", "a.b.c.*.f", "a.*.c.*.z", "*.*.*.*.y"], "a.b.c.d.z", Some(2));
    check(&["client.*.request.count", "client.*.*.size"], "client.b.request.size", Some(1));
    check(&["a.**", "a.b"], "a.b", Some(0));
    check(&["a.b", "a.**"], "a.b", Some(0));
    check(&["*.x", "a.**", "a.b"], "a.b", Some(1));
    check(&["a.x*", "a.xy"], "a.xy", Some(0));
    check(&["*", "a*", "a"], "a", Some(0));
}

#[test]
fn a_rule_after_a_longer_one_with_the_same_beginning_lives() {
    check(&["a.b.c", "a.b"], "a.b", Some(1));
    check(&["*.b.*", "*.b"], "x.b", Some(1));
    check(&["a.*.c", "a.*"], "a.x", Some(1));
    check(&["a.b", "a.b.c"], "a.b.c", Some(1));
}

#[test]
fn of_duplicates_the_first_keeps_its_place() {
    check(&["a.b", "a.*", "a.b"], "a.b", Some(0));
    check_unordered(&["a.b", "a.b"], "a.b", Some(0));
}

#[test]
fn names_with_another_number_of_segments_do_not_match() {
    check(&["a.*", "b"], "a", None);
    check(&["a.*", "b"], "a.b.c", None);
    check(&["a.*"], "a.", Some(0));
    check(&["*"], "", Some(0));
    check(&[], "a", None);
    check(&["a.**.z"], "a.z", None);
    check(&["a.**.z"], &format!("a.{}z", "b.".repeat(5000)), Some(0));
    check(&["a.b"], &".".repeat(60_000), None);
}

#[test]
fn without_ordering_the_most_literal_way_wins() {
    check_unordered(&["*.b", "a.*"], "a.b", Some(1));
    check_unordered(&["backtrack.*.bbb", "backtrack.justatest.aaa"], "backtrack.justatest.bbb", Some(0));
    check_unordered(&["a.**", "a.*", "a.b*", "a.bc"], "a.bc", Some(3));
    check_unordered(&["a.**", "a.*", "a.b*", "a.bc"], "a.bd", Some(2));
    check_unordered(&["a.**", "a.*", "a.b*", "a.bc"], "a.x", Some(1));
    check_unordered(&["a.**", "a.*", "a.b*", "a.bc"], "a.x.y", Some(0));
    check_unordered(&["*.*", "a.c"], "a.b", Some(0));
}

#[test]
fn a_metric_type_restricts_a_rule() {
    use MetricType::{Counter, Gauge, Observer};
    let machine = machine(true, &[("a.*", Some(Gauge)), ("a.**", Some(Observer)), ("a.b", None)]);
    assert_eq!(machine.find(Counter, "a.b", &mut Captures::default(), |_| true), Some(2));
    assert_eq!(machine.find(Gauge, "a.b", &mut Captures::default(), |_| true), Some(0));
    assert_eq!(machine.find(Observer, "a.b", &mut Captures::default(), |_| true), Some(1));
    assert_eq!(machine.find(Counter, "a.c", &mut Captures::default(), |_| true), None);
    assert_eq!(machine.find(Observer, "a.c.d", &mut Captures::default(), |_| true), Some(1));
}

#[test]
fn looking_up_never_takes_more_steps_than_there_are_nodes() {
    // Every way through the tree fits the name but for its end.
    let mut patterns = Vec::new();
    for bits in 0..1_u32 << 12 {
        let segments: Vec<_> = (0..12).map(|bit| if bits >> bit & 1 == 1 { "*" } else { "a" }).collect();
        patterns.push(format!("{}.end{bits}", segments.join(".")));
    }
    let patterns: Vec<_> = patterns.iter().map(|pattern| (&**pattern, None)).collect();
    let machine = machine(true, &patterns);
    for _ in 0..100 {
        assert_eq!(
            machine.find(
                MetricType::Counter,
                &format!("{}nope", "a.".repeat(12)),
                &mut Captures::default(),
                |_| true
            ),
            None
        );
    }
    assert_eq!(
        machine.find(
            MetricType::Counter,
            &format!("{}end4095", "a.".repeat(12)),
            &mut Captures::default(),
            |_| true
        ),
        Some(4095)
    );
}

/// Whether the segments match, by trying everything.
fn obvious_match(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (["**", rest @ ..], [_, after @ ..]) => {
            (0..=after.len()).any(|taken| obvious_match(rest, &after[taken..]))
        }
        ([first, rest @ ..], [text, after @ ..]) => {
            obvious_segment(first.as_bytes(), text.as_bytes()) && obvious_match(rest, after)
        }
        _ => false,
    }
}

fn obvious_segment(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| obvious_segment(rest, &text[taken..])),
        ([first, rest @ ..], [byte, after @ ..]) => first == byte && obvious_segment(rest, after),
        _ => false,
    }
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof![4 => "[ab]{1,2}", 3 => Just("*".to_owned()), 1 => Just("**".to_owned()), 2 => "[ab]?\\*[ab]?"];
    prop::collection::vec(segment, 1..6).prop_map(|segments| segments.join("."))
}

fn metric_type() -> impl Strategy<Value = Option<MetricType>> {
    prop_oneof![3 => Just(None), 1 => prop::sample::select(MetricType::ALL.to_vec()).prop_map(Some)]
}

proptest! {
    #[test]
    fn the_machine_finds_what_trying_every_rule_finds(
        rules in prop::collection::vec((pattern(), metric_type()), 0..12),
        name in "[ab.]{0,12}",
    ) {
        let rules: Vec<_> = rules.iter().map(|(pattern, of_type)| (pattern.as_str(), *of_type)).collect();
        let segments: Vec<_> = name.split('.').collect();
        let (ordered, unordered) = (machine(true, &rules), machine(false, &rules));
        for metric_type in MetricType::ALL {
            let fits = |(pattern, of_type): &(&str, Option<MetricType>)| {
                let pattern: Vec<_> = pattern.split('.').collect();
                of_type.is_none_or(|of_type| of_type == metric_type) && obvious_match(&pattern, &segments)
            };
            let expected = rules.iter().position(fits);
            prop_assert_eq!(ordered.find(metric_type, &name, &mut Captures::default(), |_| true), expected);
            let found = unordered.find(metric_type, &name, &mut Captures::default(), |_| true);
            prop_assert_eq!(found.is_some(), expected.is_some());
            prop_assert!(found.is_none_or(|rule| fits(&rules[rule])));
        }
    }

    #[test]
    fn what_is_captured_puts_the_name_together_again(pattern in pattern(), name in "[ab.]{0,12}") {
        let glob = Glob::parse(&pattern).expect("it is a glob");
        let mut captures = Captures::default();
        if !glob.capture(&name, &mut captures) {
            return Ok(());
        }
        prop_assert_eq!(captures.len(), glob.captures());
        let mut texts = (0..captures.len()).map(|index| captures.text(index, &name));
        let mut rebuilt = String::new();
        let mut rest = pattern.as_str();
        while let Some((before, after)) = rest.split_once('*') {
            rebuilt.push_str(before);
            rebuilt.push_str(texts.next().expect("one for each star"));
            rest = after.strip_prefix('*').unwrap_or(after);
        }
        rebuilt.push_str(rest);
        prop_assert_eq!(rebuilt, name);
    }
}
