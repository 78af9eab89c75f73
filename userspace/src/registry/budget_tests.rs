//! What becomes of events when there is no room for their series.

use FamilyKind::{Counter as C, Gauge as G, Histogram as H, Summary as S};

use super::tests::Fixture;
use super::*;

const NOW: Timestamp = Timestamp(1_000_000_000);

/// Budgets for all series and for those of a family.
fn fixture(series_max: u32, series_per_family_max: u32) -> Fixture {
    Fixture::new(RegistryConfig::new(series_max, series_per_family_max))
}

impl Fixture {
    /// Records 1 for a counter or an observer, and returns whether it went to an overflow series.
    #[track_caller]
    fn take(&mut self, kind: FamilyKind, family: &str, labels: &[(&str, &str)]) -> Result<bool, Refusal> {
        let resolved = self.resolved(kind, family, labels, Some(TTL), None)?;
        match kind {
            C => self.registry.add(resolved.id, 1.0, NOW).unwrap(),
            G => drop(self.registry.set(resolved.id, 1.0, NOW, NOW).unwrap()),
            S | H => self.registry.observe(resolved.id, 1.0, 1, NOW).unwrap(),
        }
        Ok(resolved.overflow)
    }

    /// All samples that count: `name{values}` with counter values or numbers of observations.
    fn totals(&mut self) -> Vec<(String, f64)> {
        let mut families = Vec::new();
        self.registry.families_after(None, usize::MAX, &mut families);
        let mut totals = Vec::new();
        for family in families {
            let mut mark = SeriesMark::default();
            self.registry.visit_series(family, &mut mark, usize::MAX, NOW, |family, series| {
                let values = series.labels.joined_values().escape_ascii().to_string();
                let total = match series.reading {
                    Reading::Counter { value, .. } | Reading::Gauge(value) => value,
                    Reading::Summary { count, .. } => count as f64,
                    Reading::Histogram { counts, .. } => counts.iter().sum::<u64>() as f64,
                };
                totals.push((format!("{}{{{values}}}", family.name), total));
            });
        }
        totals
    }
}

const TTL: Duration = Duration::from_secs(10);

#[test]
fn a_full_family_adds_up_in_one_series() {
    for kind in [C, S, H] {
        let mut fixture = fixture(100, 2);
        let taken = ["1", "2", "3", "4", "3", "1"].map(|n| fixture.take(kind, "x", &[("a", n), ("b", "y")]));
        assert_eq!(taken, [false, false, true, true, true, false].map(Ok));
        // Other label names, and none at all: still one overflow series.
        assert_eq!(fixture.take(kind, "x", &[("c", "1")]), Ok(true));
        assert_eq!(fixture.take(kind, "x", &[]), Ok(true));
        assert_eq!(fixture.take(kind, "y", &[("c", "1")]), Ok(false), "another family has its own room");
        let expected = [
            ("x{1\\x00y}", 2.0),
            ("x{2\\x00y}", 1.0),
            ("x{__overflow__\\x00__overflow__}", 5.0),
            ("y{1}", 1.0),
        ];
        assert_eq!(fixture.totals(), expected.map(|(name, total)| (name.to_owned(), total)));
    }
}

#[test]
fn names_without_room_add_up_in_families_of_our_own() {
    let mut fixture = fixture(2, 0);
    fixture.take(C, "a", &[]).unwrap();
    fixture.take(S, "b", &[]).unwrap();
    for n in 0..1000 {
        let name = format!("new_{n}");
        assert_eq!(fixture.take([C, S, H][n % 3], &name, &[]), Ok(true));
        assert_eq!(fixture.take(C, &format!("{name}_labelled"), &[("k", "v")]), Ok(true));
    }
    let expected = [
        ("a{}", 1.0),
        ("b{}", 1.0),
        ("rotameter_overflow_counter_total{}", 1334.0),
        ("rotameter_overflow_observations{}", 666.0),
    ];
    assert_eq!(fixture.totals(), expected.map(|(name, total)| (name.to_owned(), total)));
    assert_eq!(fixture.registry.stats().families, 4, "names without room are not bound");
    assert_eq!(fixture.take(G, "a", &[]), Err(Refusal::TypeConflict), "a conflict is one, room or not");
    assert_eq!(fixture.take(C, "not a name", &[]), Err(Refusal::InvalidName));
    assert_eq!(fixture.take(C, "b_sum", &[]), Err(Refusal::SuffixConflict));
}

#[test]
fn a_gauge_cannot_be_summed() {
    let mut full = fixture(1, 0);
    full.take(G, "g", &[]).unwrap();
    assert_eq!(full.take(G, "h", &[]), Err(Refusal::SeriesLimit));
    let mut full = fixture(100, 1);
    full.take(G, "g", &[("a", "1")]).unwrap();
    assert_eq!(full.take(G, "g", &[("a", "2")]), Err(Refusal::FamilyLimit));
}

#[test]
fn the_smallest_bound_of_a_family_wins() {
    for (own, of_rule, expected) in
        [(0, None, 50), (3, None, 3), (3, Some(2), 2), (3, Some(7), 3), (0, Some(0), 50)]
    {
        let mut fixture = fixture(50, own);
        for n in 0..60 {
            fixture.resolved(C, "x", &[("n", &n.to_string())], None, of_rule).unwrap();
        }
        let stats = fixture.registry.stats();
        assert_eq!((stats.series, stats.overflow_series), (expected + 1, 1), "{own} {of_rule:?}");
    }
}

#[test]
fn events_return_to_their_own_series_when_there_is_room() {
    let mut fixture = fixture(2, 0);
    let later = |seconds| NOW.after(Duration::from_secs(seconds));
    let a = fixture.resolved(C, "x", &[("a", "1")], Some(TTL), None).unwrap();
    fixture.take(C, "x", &[("a", "2")]).unwrap();
    assert_eq!(fixture.take(C, "x", &[("a", "3")]), Ok(true));
    assert_eq!(fixture.take(C, "y", &[("a", "3")]), Ok(true));
    fixture.registry.add(a.id, 1.0, later(8)).unwrap();
    // The second series and the overflow series of `x` go.
    assert_eq!(fixture.registry.expire(later(11)).series, 2);
    assert_eq!(fixture.take(C, "x", &[("a", "3")]), Ok(false));
    assert_eq!(fixture.registry.stats().overflow_series, 1, "our own stays");
    assert_eq!(fixture.take(C, "x", &[("a", "4")]), Ok(true), "it is made anew");
    let totals = fixture.totals();
    assert_eq!(totals.last(), Some(&("x{__overflow__}".to_owned(), 1.0)));
}

#[test]
fn a_sender_who_uses_the_value_of_overflow_series_meets_one() {
    let mut fixture = fixture(2, 0);
    assert_eq!(fixture.take(C, "x", &[("a", OVERFLOW_VALUE)]), Ok(false));
    assert_eq!(fixture.take(C, "x", &[("a", "1")]), Ok(false));
    assert_eq!(fixture.take(C, "x", &[("a", "2")]), Ok(true));
    assert_eq!(fixture.take(C, "x", &[("a", OVERFLOW_VALUE)]), Ok(true));
    let expected = [("x{1}", 1.0), ("x{__overflow__}", 3.0)];
    assert_eq!(fixture.totals(), expected.map(|(name, total)| (name.to_owned(), total)));
    let stats = fixture.registry.stats();
    assert_eq!((stats.series, stats.overflow_series), (2, 1));
}

#[test]
fn full_families_do_not_double_the_budget() {
    let mut fixture = fixture(1000, 1);
    for n in 0..1000 {
        fixture.take(C, &format!("x{n}"), &[("a", "1")]).unwrap();
    }
    for n in 0..1000 {
        assert_eq!(fixture.take(C, &format!("x{n}"), &[("a", "2")]), Ok(true));
    }
    let stats = fixture.registry.stats();
    assert!(stats.series <= 1000 + 1000 / 8 + 2, "{stats:?}");
    assert_eq!(fixture.totals().iter().map(|(_, total)| total).sum::<f64>(), 2000.0);
}

#[test]
fn our_own_overflow_families_take_no_senders_events() {
    let mut fixture = fixture(100, 0);
    for (kind, name) in [
        (C, "rotameter_overflow_counter_total"),
        (S, "rotameter_overflow_observations"),
        (C, "rotameter_overflow_observations_sum"),
    ] {
        assert_eq!(fixture.take(kind, name, &[]), Err(Refusal::ReservedName), "{name}");
    }
}
