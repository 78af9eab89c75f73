//! Sent lines, and what a mapping file makes of them -> the samples that an exposition must hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Combine, Copy, Judge, Place,
    text::{same, sample, series},
};
use crate::{
    load::{Identity, Last, LineTotal, LineType, Totals},
    server::is_own,
};

/// What must be shown, and what may be.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// By series as text: counters, gauges, `_sum` and `_count` of observers.
    samples: BTreeMap<String, f64>,
    /// Series of counters, and `_count` of observers, that stand at 0 beside others.
    siblings: BTreeSet<String>,
}

/// Values of a gauge's senders.
#[derive(Default)]
struct Gauge {
    combine: Combine,
    newest: Last,
    senders: BTreeMap<u32, Last>,
}

impl Totals {
    /// The samples that these lines must come to.
    #[must_use]
    pub fn expected(&self, judge: &Judge) -> Expected {
        let placed: Vec<(Place, &Identity, &LineTotal)> = self
            .iter()
            .filter_map(|(identity, total)| Some((judge.place(identity)?, identity, total)))
            .collect();
        let copies: BTreeSet<Copy> = placed.iter().filter_map(|(place, ..)| place.copy.clone()).collect();
        let mut expected = Expected::default();
        let mut gauges: BTreeMap<String, Gauge> = BTreeMap::new();
        for (place, identity, total) in placed {
            if place.copy.as_ref().is_some_and(|copy| is_worse(copy, &copies)) {
                continue;
            }
            expected.add(&place, identity.line_type, total, &mut gauges);
        }
        expected.samples.extend(gauges.into_iter().map(|(series, gauge)| (series, gauge.shown())));
        expected
    }
}

/// Whether a better copy of the event came.
fn is_worse(copy: &Copy, came: &BTreeSet<Copy>) -> bool {
    let best = came.range(Copy { event: copy.event.clone(), rank: 0 }..).next();
    best.is_some_and(|best| best.event == copy.event && best.rank < copy.rank)
}

impl Expected {
    fn add(
        &mut self,
        place: &Place,
        line_type: LineType,
        total: &LineTotal,
        gauges: &mut BTreeMap<String, Gauge>,
    ) {
        let text = |suffix: &str| series(&place.name, suffix, &place.labels);
        let mut add = |suffix: &str, value: f64| *self.samples.entry(text(suffix)).or_default() += value;
        match line_type {
            LineType::Counter if place.up_down => add("", (total.sum + total.refused_sum) * place.scale),
            LineType::Counter if total.lines == total.refused => {}
            LineType::Counter => add("", total.sum * place.scale),
            LineType::Observer => {
                add("_count", total.observations);
                add("_sum", (total.sum + total.timer_sum / place.timer_per_second) * place.scale);
            }
            LineType::Gauge => {
                let gauge = gauges.entry(text("")).or_default();
                gauge.combine = place.combine;
                gauge.newest.replace(total.last, place.scale);
                for (sender, last) in &total.senders {
                    gauge.senders.entry(*sender).or_default().replace(*last, place.scale);
                }
            }
        }
        let suffix = match line_type {
            LineType::Counter => "",
            LineType::Observer => "_count",
            LineType::Gauge => return,
        };
        for labels in siblings(&place.labels, &place.siblings) {
            self.siblings.insert(series(&place.name, suffix, &labels));
        }
    }

    /// Samples that must be there.
    #[must_use]
    pub fn samples(&self) -> &BTreeMap<String, f64> {
        &self.samples
    }

    /// Where an exposition in the text format differs, at most `most` of it; empty if all is there, with
    /// the right values, and nothing else but the server's own metrics. Of observers counts and sums are
    /// compared.
    #[must_use]
    pub fn differences(&self, exposition: &str, most: usize) -> Vec<String> {
        let shown = Shown::read(exposition);
        let wrong = self.samples.iter().filter_map(|(series, &wanted)| match shown.samples.get(series) {
            None => Some(format!("{series}: not exposed, {wanted} expected")),
            Some(&value) if same(value, wanted) => None,
            Some(&value) => Some(format!("{series}: {value}, {wanted} expected")),
        });
        let surplus = shown.series.iter().filter_map(|series| {
            let value = shown.samples.get(series).copied().unwrap_or(f64::NAN);
            let wanted =
                self.samples.contains_key(series) || (value == 0.0 && self.siblings.contains(series));
            (!wanted).then(|| format!("{series}: {value}, and nothing was sent for it"))
        });
        wrong.chain(surplus).take(most).collect()
    }
}

impl Gauge {
    fn shown(&self) -> f64 {
        let values = || self.senders.values().map(|last| last.value);
        match self.combine {
            Combine::Newest => self.newest.value,
            Combine::Sum => values().sum(),
            Combine::Max => values().fold(f64::NEG_INFINITY, f64::max),
            Combine::Min => values().fold(f64::INFINITY, f64::min),
        }
    }
}

impl Last {
    /// Takes `other` if it is newer.
    fn replace(&mut self, other: Self, scale: f64) {
        if other.newest >= self.newest {
            *self = other;
            self.value *= scale;
        }
    }
}

/// The label sets that stand at 0 beside one.
fn siblings(labels: &[(String, String)], siblings: &[(String, Vec<String>)]) -> Vec<Vec<(String, String)>> {
    let mut sets = vec![labels.to_vec()];
    if siblings.iter().any(|(label, _)| !labels.iter().any(|(key, _)| key == label)) {
        return Vec::new();
    }
    for (label, values) in siblings {
        let with = |set: &Vec<(String, String)>, value: &String| {
            let mut set = set.clone();
            set.iter_mut().filter(|(key, _)| key == label).for_each(|pair| pair.1.clone_from(value));
            set
        };
        sets = sets.iter().flat_map(|set| values.iter().map(move |value| with(set, value))).collect();
    }
    sets
}

/// What an exposition holds, the server's own metrics left out.
struct Shown {
    samples: BTreeMap<String, f64>,
    /// Counters, gauges, and `_count` of observers.
    series: Vec<String>,
}

impl Shown {
    fn read(exposition: &str) -> Self {
        let mut shown = Self { samples: BTreeMap::new(), series: Vec::new() };
        let (mut family, mut kind) = ("", "");
        for line in exposition.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                (family, kind) = rest.split_once(' ').unwrap_or((rest, ""));
            }
            let Some((series, value)) = sample(line) else { continue };
            if is_own(&series) {
                continue;
            }
            let name = series.split('{').next().unwrap_or_default();
            if matches!(kind, "counter" | "gauge") || name.strip_prefix(family) == Some("_count") {
                shown.series.push(series.clone());
            }
            shown.samples.insert(series, value);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(lines: &[&str]) -> Totals {
        let mut totals = Totals::default();
        lines.iter().for_each(|line| totals.add(line.as_bytes()));
        totals
    }

    #[track_caller]
    fn check(rules: &str, lines: &[&str], expected: &[(&str, f64)]) {
        let judge = Judge::read(rules).expect("rules");
        let expected: BTreeMap<String, f64> =
            expected.iter().map(|(series, value)| ((*series).to_owned(), *value)).collect();
        assert_eq!(totals(lines).expected(&judge).samples, expected);
    }

    #[test]
    fn counters_are_summed_and_refused_below_zero() {
        check("", &["a.b:1|c", "a.b:0|c", "a.b:3|c|@0.5", "a.b:-1|c", "n:-1|c"], &[("a_b", 7.0)]);
        let rules = "mappings: [{match: a.*, name: \"${1}_x\", counter_type: up_down, scale: 2}]";
        check(rules, &["a.b:5|c", "a.b:-1|c"], &[("b_x", 8.0)]);
    }

    #[test]
    fn gauges_keep_the_last_and_take_signs_as_changes() {
        check("", &["g:5|g", "g:0|g\ng:-4|g", "h:inf|g|@0.1", "h:2.5|g|@0.1"], &[("g", -4.0), ("h", 2.5)]);
        // Two identities, one series: the newest line of both.
        check("", &["a-b:1|g", "a_b:2|g", "a-b:3|g"], &[("a_b", 3.0)]);
    }

    #[test]
    fn tags_of_both_dialects_become_labels() {
        let expected = [
            ("t_count{dag_id=\"a.b\",env=\"x\"}", 1.0),
            ("t_sum{dag_id=\"a.b\",env=\"x\"}", 1.5),
            ("t_count{k=\"v\"}", 2.0),
            ("t_sum{k=\"v\"}", 0.003),
        ];
        check("", &["t:1.5|h|#env:x,dag_id:a.b\n", "t,k=v:1|ms", "t,k=v:2|ms"], &expected);
    }

    #[test]
    fn only_the_best_copy_of_an_event_counts() {
        let rules = "
mappings:
- {match: s, match_tags: {present: [d]}, name: n, same_event: {name: e, rank: 1}}
- {match: s.*, name: n, labels: {d: $1}, same_event: {name: e, rank: 2}}
- {match: s, name: n, same_event: {name: e, rank: 3}}
- {match: gone, name: n, action: drop}
";
        check(rules, &["s:1|c", "s.x:1|c", "gone:1|c"], &[("n{d=\"x\"}", 1.0)]);
        check(rules, &["s:1|c", "s.x:1|c", "s,d=x:5|c"], &[("n{d=\"x\"}", 5.0)]);
        check(rules, &["s:1|c"], &[("n", 1.0)]);
    }

    #[test]
    fn a_timer_in_seconds_is_one_where_its_rule_says_so() {
        let rules = "mappings: [{match: t, name: t_seconds, timer_unit: seconds}]";
        check(rules, &["t:3|ms", "t:4|h"], &[("t_seconds_count", 2.0), ("t_seconds_sum", 7.0)]);
    }

    #[test]
    fn a_gauge_is_combined_over_its_senders() {
        let mut totals = Totals::default();
        for (sender, value) in [(1, 5), (2, 7), (1, 3)] {
            totals.add_from(format!("g:{value}|g").as_bytes(), sender);
        }
        for (combine, expected) in [("sum", 10.0), ("max", 7.0), ("min", 3.0), ("last", 3.0)] {
            let judge = Judge::read(&format!("mappings: [{{match: g, name: gg, gauge_combine: {combine}}}]"));
            assert_eq!(totals.expected(&judge.expect("a rule")).samples["gg"], expected, "{combine}");
        }
    }

    #[test]
    fn an_exposition_is_compared_series_by_series() {
        let expected = totals(&["c:2|c|#b:2,a:1", "g:1|g", "t:4|ms"]).expected(&Judge::default());
        let right = "# TYPE c counter\nc{b=\"2\",a=\"1\"} 2\n# TYPE g gauge\ng 1\n# TYPE t summary\nt_sum 0.004\n\
                     t_count 1\n# TYPE go_x gauge\ngo_x 9\n";
        assert_eq!(expected.differences(right, 9), Vec::<String>::new());
        let wrong = "# TYPE c counter\nc{a=\"1\",b=\"2\"} 3\n# TYPE t summary\nt_sum 0.004\nt_count 1\n";
        assert_eq!(expected.differences(wrong, 9).len(), 2);
        let more = format!("{right}# TYPE other counter\nother 0\n");
        assert_eq!(expected.differences(&more, 9).len(), 1);
    }

    #[test]
    fn siblings_may_stand_at_zero() {
        let rules = "mappings: [{match: f.*, name: n, labels: {state: $1}, zero_siblings: {label: state, values: [a, b]}}]";
        let expected = totals(&["f.a:2|c"]).expected(&Judge::read(rules).expect("rules"));
        let with = |other: &str| format!("# TYPE n counter\nn{{state=\"a\"}} 2\n{other}\n");
        assert_eq!(expected.differences(&with("n{state=\"b\"} 0"), 9), Vec::<String>::new());
        assert_eq!(expected.differences(&with("n{state=\"b\"} 1"), 9).len(), 1);
        assert_eq!(expected.differences(&with("n{state=\"c\"} 0"), 9).len(), 1);
    }
}
