//! Which series exist, which are refused, and when they go.

use super::*;

const NOW: Timestamp = Timestamp(1_000_000_000);

/// A registry and what tests ask of it.
pub(super) struct Fixture {
    pub(super) registry: Registry,
    summary: SummaryOptions,
    histogram: HistogramOptions,
}

impl Fixture {
    pub(super) fn new(config: RegistryConfig) -> Self {
        let (summary, histogram) = (SummaryOptions::default(), HistogramOptions::default());
        Self { registry: Registry::new(config), summary, histogram }
    }

    fn resolve(
        &mut self,
        kind: FamilyKind,
        family: &str,
        labels: &[(&str, &str)],
        ttl: Option<Duration>,
    ) -> Result<SeriesId, Refusal> {
        self.resolved(kind, family, labels, ttl, None).map(|resolved| resolved.id)
    }

    pub(super) fn resolved(
        &mut self,
        kind: FamilyKind,
        family: &str,
        labels: &[(&str, &str)],
        ttl: Option<Duration>,
        max_series: Option<u32>,
    ) -> Result<Resolved, Refusal> {
        let (label_budget, sender_gauge) = (None, None);
        let (help, summary, histogram) = ("h", &self.summary, &self.histogram);
        let request = SeriesRequest {
            family,
            kind,
            labels,
            help,
            ttl,
            max_series,
            label_budget,
            sender_gauge,
            summary,
            histogram,
        };
        self.registry.resolve(&request, NOW)
    }
}

/// Resolves unlabelled series in order; each is taken or refused as it says.
#[track_caller]
fn check(requests: &[(FamilyKind, &str, Result<(), Refusal>)]) {
    let mut fixture = Fixture::new(RegistryConfig::default());
    fixture.registry.reserve(["rotameter_lines_total", "scrape_seconds"]);
    for (kind, family, expected) in requests {
        let outcome = fixture.resolve(*kind, family, &[], None).map(|_| ());
        assert_eq!(outcome, *expected, "{kind:?} {family}");
    }
}

use FamilyKind::{Counter as C, Gauge as G, Histogram as H, Summary as S};

#[test]
fn a_name_is_bound_to_its_first_type() {
    check(&[(C, "x", Ok(())), (G, "x", Err(Refusal::TypeConflict)), (C, "x", Ok(()))]);
    check(&[(S, "x", Ok(())), (H, "x", Err(Refusal::TypeConflict))]);
}

#[test]
fn counters_and_gauges_give_way_to_a_base_that_is_no_counter() {
    check(&[(G, "queue", Ok(())), (G, "queue_count", Err(Refusal::SuffixConflict))]);
    check(&[(S, "x", Ok(())), (C, "x_bucket", Err(Refusal::SuffixConflict))]);
    check(&[(C, "x", Ok(())), (C, "x_sum", Ok(())), (G, "x_count", Ok(()))]);
    check(&[(G, "queue_count", Ok(())), (G, "queue", Ok(()))]);
}

#[test]
fn observers_never_share_sample_names() {
    for kind in [S, H] {
        check(&[(C, "x_sum", Ok(())), (kind, "x", Err(Refusal::SuffixConflict))]);
        for other in [S, H] {
            check(&[(kind, "x", Ok(())), (other, "x_sum", Err(Refusal::SuffixConflict))]);
            check(&[(kind, "x_count", Ok(())), (other, "x", Err(Refusal::SuffixConflict))]);
        }
    }
    check(&[(S, "x", Ok(())), (S, "x_bucket", Ok(()))]);
    check(&[(H, "x", Ok(())), (S, "x_bucket", Err(Refusal::SuffixConflict))]);
}

#[test]
fn our_own_names_are_ours() {
    check(&[
        (C, "rotameter_lines_total", Err(Refusal::ReservedName)),
        (C, "scrape_seconds_sum", Err(Refusal::ReservedName)),
        (C, "rotameter_lines", Ok(())),
    ]);
    let mut fixture = Fixture::new(RegistryConfig::default());
    fixture.registry.reserve(["x_count"]);
    assert_eq!(fixture.resolve(S, "x", &[], None), Err(Refusal::ReservedName));
}

#[test]
fn a_name_that_is_none_is_refused() {
    check(&[(C, "", Err(Refusal::EmptyName)), (C, "a b", Err(Refusal::InvalidName))]);
    check(&[(C, "1a", Err(Refusal::InvalidName)), (C, "a:b", Ok(()))]);
}

#[test]
fn labels_in_any_order_name_one_series() {
    let mut fixture = Fixture::new(RegistryConfig::default());
    let one = fixture.resolve(C, "x", &[("a", "1"), ("b", "2")], None).unwrap();
    assert_eq!(fixture.resolve(C, "x", &[("b", "2"), ("a", "1")], None), Ok(one));
    let others: [&[(&str, &str)]; 4] = [&[("a", "2"), ("b", "1")], &[("a", "1")], &[("b", "1")], &[]];
    for labels in others {
        assert_ne!(fixture.resolve(C, "x", labels, None), Ok(one));
    }
    let stats = fixture.registry.stats();
    assert_eq!((stats.series, stats.families, stats.vectors(C)), (5, 1, 4));
}

/// As statsd_exporter has it: a reload with another TTL leaves the series that there are alone.
#[test]
fn a_series_keeps_the_ttl_it_was_made_with() {
    let mut fixture = Fixture::new(RegistryConfig::default());
    let ttl = |seconds| Some(Duration::from_secs(seconds));
    let later = |seconds| NOW.after(Duration::from_secs(seconds));
    for (n, way) in [[ttl(100), ttl(5)], [None, ttl(5)], [ttl(5), None]].into_iter().enumerate() {
        for ttl in way {
            fixture.resolve(C, "x", &[("n", &n.to_string())], ttl).unwrap();
        }
    }
    assert_eq!(fixture.registry.expire(later(6)).series, 1);
    assert_eq!(fixture.registry.expire(later(101)).series, 1);
    assert_eq!(fixture.registry.stats().series, 1);
}

#[test]
fn an_idle_series_expires_and_its_name_stays_bound() {
    let mut fixture = Fixture::new(RegistryConfig::default());
    let ttl = Some(Duration::from_secs(10));
    let later = |seconds| NOW.after(Duration::from_secs(seconds));
    let idle = fixture.resolve(C, "x", &[("a", "1")], ttl).unwrap();
    let busy = fixture.resolve(C, "x", &[("a", "2")], ttl).unwrap();
    let stays = fixture.resolve(C, "y", &[], None).unwrap();
    fixture.registry.add(busy, 5.0, later(8)).unwrap();
    assert_eq!(fixture.registry.expire(later(10)).series, 0, "the last moment belongs to it");
    assert_eq!(fixture.registry.expire(later(11)), Expired { series: 1, more: false });
    assert_eq!(fixture.registry.add(idle, 1.0, later(11)), Err(Stale));
    assert_eq!(fixture.registry.add(busy, 1.0, later(12)), Ok(()));
    assert_eq!(fixture.registry.expire(later(100)).series, 1);
    assert_eq!(fixture.registry.add(stays, 1.0, later(100)), Ok(()));
    assert_eq!(fixture.resolve(G, "x", &[("a", "1")], ttl), Err(Refusal::TypeConflict));
    assert_ne!(fixture.resolve(C, "x", &[("a", "1")], ttl), Ok(idle));
    assert_eq!(fixture.registry.stats().vectors(C), 2);
}

#[test]
fn expiry_is_done_in_portions_and_leaves_nothing() {
    let mut fixture = Fixture::new(RegistryConfig::default());
    let empty = fixture.registry.stats();
    for n in 0..10_000_u32 {
        fixture.resolve(C, "x", &[("n", &n.to_string())], Some(Duration::from_secs(1))).unwrap();
    }
    let (mut calls, mut removed, now) = (0, 0, NOW.after(Duration::from_secs(2)));
    loop {
        let expired = fixture.registry.expire(now);
        (calls, removed) = (calls + 1, removed + expired.series);
        if !expired.more {
            break;
        }
    }
    assert_eq!((calls, removed), (3, 10_000));
    assert_eq!(fixture.registry.stats().series, empty.series);
    let mut families = Vec::new();
    fixture.registry.families_after(None, 1, &mut families);
    assert!(families.is_empty());
    assert_eq!(fixture.registry.owned_bytes, "x".len() + "n".len());
}

#[test]
fn a_wrong_verb_is_refused() {
    let mut fixture = Fixture::new(RegistryConfig::default());
    let gauge = fixture.resolve(G, "g", &[], None).unwrap();
    assert_eq!(fixture.registry.add(gauge, 1.0, NOW), Err(Stale));
    assert_eq!(fixture.registry.observe(gauge, 1.0, 1, NOW), Err(Stale));
    assert_eq!(fixture.registry.set(gauge, 1.0, NOW, NOW), Ok(SetOutcome::Applied));
}

#[test]
fn a_series_is_found_again_however_many_came_and_went() {
    let mut fixture = Fixture::new(RegistryConfig::default());
    let (mut live, mut leaving) = (Vec::new(), Vec::new());
    for round in 0..6_u32 {
        // The first round leaves many slots empty behind it, the others some.
        let (made, kept) = if round == 0 { (6000, 60) } else { (700 * round, 3) };
        let values: Vec<String> = (0..made).map(|n| format!("{round}_{n}")).collect();
        for (n, value) in (0..).zip(&values) {
            let id = fixture.resolve(C, "x", &[("k", value.as_str())], None).unwrap();
            if n % kept == 0 {
                live.push((value.clone(), id));
            } else {
                leaving.push(id);
            }
        }
        for value in &values {
            assert!(!fixture.resolved(C, "x", &[("k", value.as_str())], None, None).unwrap().created);
        }
        leaving.drain(..).for_each(|id| fixture.registry.discard(id, NOW));
        assert_eq!(fixture.registry.series_index.len(), live.len());
        for (value, id) in &live {
            assert_eq!(fixture.resolve(C, "x", &[("k", value.as_str())], None), Ok(*id));
        }
    }
}
