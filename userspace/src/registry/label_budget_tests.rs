use std::time::Duration;

use proptest::prelude::*;

use super::super::{HistogramOptions, RegistryConfig, SummaryOptions};
use super::*;

const TTL: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Timestamp {
    Timestamp(1_000_000_000 * (1 + seconds))
}

struct Fixture {
    registry: Registry,
    budget: LabelBudget,
    kind: FamilyKind,
}

impl Fixture {
    fn new(series_max: u32, config: RegistryConfig) -> Self {
        let budget = LabelBudget { label: "dag".into(), series_max };
        Self { registry: Registry::new(config), budget, kind: FamilyKind::Counter }
    }

    fn resolve(&mut self, labels: &[(&str, &str)], now: u64) -> Result<Resolved, Refusal> {
        let request = SeriesRequest {
            family: "f",
            kind: self.kind,
            labels,
            help: "h",
            ttl: Some(TTL),
            max_series: None,
            label_budget: Some(&self.budget),
            sender_gauge: None,
            summary: &SummaryOptions::default(),
            histogram: &HistogramOptions::default(),
        };
        self.registry.resolve(&request, at(now))
    }

    /// Counts one event; whether an overflow series has it.
    #[track_caller]
    fn count(&mut self, dag: &str, task: &str, now: u64) -> bool {
        let resolved = self.resolve(&[("dag", dag), ("task", task)], now).expect("there is room");
        self.registry.add(resolved.id, 1.0, at(now)).expect("it is a counter");
        resolved.overflow
    }

    /// `dag/task=value` in order.
    fn shown(&mut self, now: u64) -> Vec<String> {
        let mut out = Vec::new();
        let Some(id) = self.registry.family_id("f") else { return out };
        let mut mark = crate::registry::SeriesMark::default();
        self.registry.visit_series(id, &mut mark, 10_000, at(now), |_, series| {
            let values: Vec<_> =
                series.labels.iter().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect();
            if let crate::registry::Reading::Counter { value, .. } = series.reading {
                out.push(format!("{}={value}", values.join("/")));
            }
        });
        out
    }

    /// What is counted agrees with what is there.
    #[track_caller]
    fn check(&self) {
        let registry = &self.registry;
        let overflow = registry.overflow_series() as usize;
        let own: u32 = registry.families.iter().map(|family| family.own_series).sum();
        assert_eq!(registry.slots.live(), own as usize + overflow, "own and overflow series");
        let uses = registry.uses.index.iter().map(|place| &registry.uses.uses[*place as usize]);
        let (series, with_overflow) = uses.fold((0, 0), |(series, overflows), known| {
            assert!(known.series > 0 || registry.is_live(known.overflow), "{known:?}");
            (series + known.series, overflows + usize::from(registry.is_live(known.overflow)))
        });
        let labelled = registry.slots.all.iter().filter(|series| series.key.len() > 2).count();
        let families = registry.families.iter().filter(|family| registry.is_live(family.overflow)).count();
        assert_eq!(labelled, series as usize + with_overflow + families.min(labelled));
        assert_eq!(registry.uses.uses.len(), registry.uses.index.len() + registry.uses.free.len());
    }
}

#[test]
fn a_label_value_beyond_its_budget_goes_to_a_series_of_its_own_and_others_do_not_notice() {
    let mut fixture = Fixture::new(2, RegistryConfig::default());
    for task in ["a", "b", "c", "d", "c"] {
        let beyond = !["a", "b"].contains(&task);
        assert_eq!(fixture.count("big", task, 0), beyond, "{task}");
    }
    assert!(!fixture.count("small", "a", 0) && !fixture.count("big", "a", 0));
    fixture.check();
    assert_eq!(fixture.shown(0), ["big/__overflow__=3", "big/a=2", "big/b=1", "small/a=1"]);
    let [offender] = fixture.registry.offenders(10)[..] else { panic!("one offender") };
    // Two, or one if their hashes, which differ from run to run, share a register.
    assert!((1.0..=2.0).contains(&offender.refused_series), "{offender:?}");
    let expected = Offender {
        family: "f",
        label: "dag",
        value: "big",
        series: 2,
        events: 3,
        refused_series: offender.refused_series,
    };
    assert_eq!(offender, expected);
}

#[test]
fn room_comes_back_when_series_expire() {
    let mut fixture = Fixture::new(1, RegistryConfig::default());
    fixture.count("x", "a", 0);
    assert!(fixture.count("x", "b", 30));
    fixture.registry.expire(at(61));
    fixture.check();
    assert!(!fixture.count("x", "b", 70), "the first one is gone");
    assert_eq!(fixture.shown(70), ["x/__overflow__=1", "x/b=1"]);
    fixture.registry.expire(at(91));
    fixture.check();
    assert_eq!(fixture.registry.overflow_series(), 0);
    fixture.registry.expire(at(200));
    fixture.check();
    assert_eq!((fixture.registry.uses.index.len(), fixture.registry.offenders(10).len()), (0, 0));
}

#[test]
fn gauges_beyond_the_budget_are_refused_and_their_sender_is_named() {
    let mut fixture = Fixture::new(1, RegistryConfig::default());
    fixture.kind = FamilyKind::Gauge;
    assert!(fixture.resolve(&[("dag", "x"), ("task", "a")], 0).is_ok());
    for _ in 0..2 {
        assert_eq!(fixture.resolve(&[("dag", "x"), ("task", "b")], 0), Err(Refusal::LabelLimit));
    }
    assert_eq!(fixture.registry.offenders(10)[0].events, 2);
}

#[test]
fn series_without_the_label_have_no_budget() {
    let mut fixture = Fixture::new(1, RegistryConfig::default());
    for task in ["a", "b", "c"] {
        assert_eq!(fixture.resolve(&[("task", task)], 0).map(|resolved| resolved.overflow), Ok(false));
    }
    fixture.check_series(3);
}

impl Fixture {
    #[track_caller]
    fn check_series(&self, series: usize) {
        assert_eq!((self.registry.slots.live(), self.registry.uses.index.len()), (series, 0));
    }
}

#[test]
fn without_room_for_overflow_series_the_family_takes_the_sum() {
    let mut fixture = Fixture::new(1, RegistryConfig::default());
    // Room for 250,000 of them; take it away.
    fixture.count("x", "a", 0);
    fixture.registry.config.series_max = 1;
    for n in 0..100 {
        let dag = format!("dag{n}");
        fixture.count(&dag, "a", 0);
        assert!(fixture.count(&dag, "b", 0));
    }
    assert!(fixture.registry.overflow_series() <= 64 + 2);
    let total: f64 =
        fixture.shown(0).iter().filter_map(|line| line.rsplit('=').next()?.parse::<f64>().ok()).sum();
    assert_eq!(total, 201.0, "{:?}", fixture.shown(0));
}

#[test]
fn rules_that_change_their_label_count_anew() {
    let mut fixture = Fixture::new(2, RegistryConfig::default());
    for task in ["a", "b", "c"] {
        fixture.count("x", task, 0);
    }
    fixture.count("y", "a", 0);
    fixture.budget = LabelBudget { label: "task".into(), series_max: 2 };
    // Without a reload the first rule holds.
    assert!(!fixture.count("z", "a", 0));
    assert!(!fixture.count("u", "a", 0));
    fixture.check();
    fixture.registry.rules_changed();
    assert!(fixture.count("v", "a", 0), "a has four");
    assert!(!fixture.count("v", "b", 0), "b has one");
    fixture.check();
    let expected =
        ["__overflow__/a=1", "u/a=1", "v/b=1", "x/__overflow__=1", "x/a=1", "x/b=1", "y/a=1", "z/a=1"];
    assert_eq!(fixture.shown(0), expected);
    fixture.registry.expire(at(100));
    fixture.check();
    assert_eq!(fixture.registry.overflow_series(), 0);
}

#[test]
fn a_budget_that_a_reload_brings_counts_what_is_there() {
    let mut fixture = Fixture::new(100, RegistryConfig::default());
    fixture.budget.label = "other".into();
    for task in ["a", "b"] {
        fixture.count("x", task, 0);
    }
    fixture.budget = LabelBudget { label: "dag".into(), series_max: 2 };
    fixture.registry.rules_changed();
    assert!(fixture.count("x", "c", 0) && !fixture.count("y", "c", 0));
    fixture.check();
}

#[test]
fn only_so_many_offenders_are_told_apart_and_the_worst_stay() {
    let mut fixture = Fixture::new(1, RegistryConfig::default());
    for dag in 0..300_u32 {
        let name = format!("dag{dag:03}");
        for task in 0..1 + dag % 97 {
            fixture.count(&name, &task.to_string(), 0);
        }
    }
    assert_eq!(fixture.registry.uses.offenders.len(), OFFENDERS_MAX);
    let offenders = fixture.registry.offenders(3);
    assert!(offenders.iter().all(|offender| offender.events == 96), "{offenders:?}");
    // Those that came late were told apart from then on only.
    assert!(
        offenders.iter().all(|offender| (1.0..160.0).contains(&offender.refused_series)),
        "{offenders:?}"
    );
}

proptest! {
    /// Whatever comes in whatever order, each event is in one series, and the counts agree.
    #[test]
    fn sums_and_counts_hold(
        events in prop::collection::vec((0..4_u8, 0..6_u8, 0..40_u64, 0..60_u8), 0..150),
        series_max in 1..5_u32,
        room in 1..20_u32,
    ) {
        let mut fixture = Fixture::new(series_max, RegistryConfig::new(room, 12));
        let (mut now, mut counted, mut gone) = (0, 0.0, 0.0);
        let value = |line: &String| line.rsplit('=').next().unwrap().parse::<f64>().unwrap();
        for (dag, task, wait, odd) in events {
            now += if odd == 0 { 61 } else { wait / 10 };
            if fixture.registry.is_any_due(at(now)) {
                let before: f64 = fixture.shown(now).iter().map(value).sum();
                fixture.registry.expire(at(now));
                gone += before - fixture.shown(now).iter().map(value).sum::<f64>();
            }
            if odd == 1 {
                fixture.registry.rules_changed();
                fixture.budget.label = ["dag", "task"][usize::from(dag) % 2].into();
            }
            let (dag, task) = (["a", "b", "__overflow__", "d"][usize::from(dag)], task.to_string());
            let task = if task == "5" { OVERFLOW_VALUE } else { &task };
            fixture.count(dag, task, now);
            counted += 1.0;
        }
        let overflow = fixture.registry.family_id("rotameter_overflow_counter_total").is_some();
        let shown: f64 = fixture.shown(now).iter().map(value).sum();
        prop_assert!(overflow || shown + gone == counted, "{shown} {gone} {counted}");
        let registry = &fixture.registry;
        let own: u32 = registry.families.iter().map(|family| family.own_series).sum();
        prop_assert_eq!(registry.slots.live(), own as usize + registry.overflow_series() as usize);
    }
}
