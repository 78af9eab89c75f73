use super::super::{HistogramOptions, Refusal, RegistryConfig, Resolved, SummaryOptions};
use super::*;
use crate::registry::{Reading, SeriesMark};

const SECOND: u64 = 1_000_000_000;

/// One gauge `g`, and a clock in seconds.
struct Fixture {
    registry: Registry,
    summary: SummaryOptions,
    histogram: HistogramOptions,
}

impl Fixture {
    fn new(senders_per_gauge_max: usize, shares_max: usize) -> Self {
        let config = RegistryConfig { senders_per_gauge_max, shares_max, ..RegistryConfig::new(100, 0) };
        let (summary, histogram) = (SummaryOptions::default(), HistogramOptions::default());
        Self { registry: Registry::new(config), summary, histogram }
    }

    fn resolve(&mut self, family: &str, combine: Option<(Combine, u64)>, at: u64) -> SeriesId {
        let options =
            |(combine, seconds)| SenderGaugeOptions { combine, expiry: Duration::from_secs(seconds) };
        let request = SeriesRequest {
            family,
            kind: FamilyKind::Gauge,
            labels: &[],
            help: "h",
            ttl: None,
            max_series: None,
            label_budget: None,
            sender_gauge: combine.map(options),
            summary: &self.summary,
            histogram: &self.histogram,
        };
        let resolved: Result<Resolved, Refusal> = self.registry.resolve(&request, Timestamp(at * SECOND));
        resolved.expect("there is room").id
    }

    fn change(&mut self, id: SeriesId, sender: u8, change: Change, at: u64) -> SetOutcome {
        let sender = Sender::from(Some(std::net::IpAddr::from([10, 0, 0, sender])));
        let at = Timestamp(at * SECOND);
        self.registry.change_share(id, sender, change, at, at).expect("it is a gauge")
    }

    fn set(&mut self, id: SeriesId, sender: u8, value: f64, at: u64) -> SetOutcome {
        self.change(id, sender, Change::Set(value), at)
    }

    /// `NaN` if the series is not there.
    fn value(&mut self, family: &str, at: u64) -> f64 {
        let mut value = f64::NAN;
        let Some(id) = self.registry.family_id(family) else { return value };
        let now = Timestamp(at * SECOND);
        self.registry.expire(now);
        self.registry.visit_series(id, &mut SeriesMark::default(), 10, now, |_, series| {
            if let Reading::Gauge(seen) = series.reading {
                value = seen;
            }
        });
        value
    }
}

#[track_caller]
fn check(combine: Combine, expected: f64) {
    let mut fixture = Fixture::new(8, 8);
    let id = fixture.resolve("g", Some((combine, 60)), 0);
    for (at, (sender, value)) in [(2, 5.0), (1, 7.0), (3, -2.0), (1, 1.0), (2, 4.0)].into_iter().enumerate() {
        assert_eq!(fixture.set(id, sender, value, at as u64), SetOutcome::Applied);
    }
    // 1: 1, 2: 4 (the newest), 3: -2.
    assert!(fixture.value("g", 10).to_bits() == expected.to_bits(), "{combine:?}");
}

#[test]
fn values_of_senders_are_combined() {
    check(Combine::Last, 4.0);
    check(Combine::Sum, 3.0);
    check(Combine::Max, 4.0);
    check(Combine::Min, -2.0);
}

#[test]
fn a_silent_sender_has_no_part_any_more_and_the_last_one_takes_the_series_with_it() {
    let mut fixture = Fixture::new(8, 8);
    let id = fixture.resolve("g", Some((Combine::Sum, 60)), 0);
    fixture.set(id, 1, 10.0, 0);
    fixture.set(id, 2, 5.0, 50);
    assert_eq!(fixture.value("g", 60), 15.0);
    assert_eq!(fixture.value("g", 61), 5.0);
    assert_eq!(fixture.registry.stats().sender_values, 1);
    assert_eq!(fixture.value("g", 110), 5.0);
    assert!(fixture.value("g", 111).is_nan());
    assert_eq!((fixture.registry.stats().sender_values, fixture.registry.stats().series), (0, 0));
}

#[test]
fn relative_values_move_the_share_of_their_sender() {
    let mut fixture = Fixture::new(8, 8);
    let id = fixture.resolve("g", Some((Combine::Sum, 60)), 0);
    for (sender, delta, at) in [(1, 3.0, 0), (2, -1.0, 1), (1, 2.0, 2), (1, -1.0, 3)] {
        fixture.change(id, sender, Change::Add(delta), at);
    }
    assert_eq!(fixture.value("g", 4), 3.0);
    fixture.set(id, 2, 0.5, 5);
    assert_eq!(fixture.value("g", 6), 4.5);
    // Sender 1 comes back after its share is over, and begins anew, looked at meanwhile or not.
    fixture.set(id, 2, 0.5, 60);
    fixture.change(id, 1, Change::Add(1.0), 70);
    assert_eq!(fixture.value("g", 71), 1.5);
}

#[test]
fn an_older_datagram_of_the_same_sender_does_not_count() {
    let mut fixture = Fixture::new(8, 8);
    let id = fixture.resolve("g", Some((Combine::Last, 60)), 0);
    fixture.set(id, 1, 1.0, 10);
    assert_eq!(fixture.set(id, 1, 2.0, 9), SetOutcome::Older);
    assert_eq!(fixture.set(id, 2, 3.0, 8), SetOutcome::Applied);
    assert_eq!(fixture.value("g", 11), 1.0);
}

#[test]
fn of_values_with_one_receive_time_the_later_one_is_the_newest() {
    let mut fixture = Fixture::new(8, 8);
    let id = fixture.resolve("g", Some((Combine::Last, 60)), 0);
    for sender in [3, 1, 2, 1, 3, 2] {
        fixture.set(id, sender, f64::from(sender), 10);
        assert_eq!(fixture.value("g", 10), f64::from(sender));
    }
    fixture.set(id, 1, 7.0, 9);
    assert_eq!(fixture.value("g", 10), 2.0);
}

#[test]
fn senders_beyond_the_bounds_are_refused_until_others_are_silent() {
    let mut fixture = Fixture::new(2, 3);
    let g = fixture.resolve("g", Some((Combine::Sum, 60)), 0);
    let h = fixture.resolve("h", Some((Combine::Sum, 60)), 0);
    assert_eq!(fixture.set(g, 1, 1.0, 0), SetOutcome::Applied);
    assert_eq!(fixture.set(g, 2, 1.0, 30), SetOutcome::Applied);
    assert_eq!(fixture.set(g, 3, 1.0, 40), SetOutcome::NoRoom, "in this gauge");
    assert_eq!(fixture.set(h, 1, 1.0, 40), SetOutcome::Applied);
    assert_eq!(fixture.set(h, 2, 1.0, 40), SetOutcome::NoRoom, "in all");
    assert_eq!(fixture.set(g, 2, 2.0, 50), SetOutcome::Applied, "known ones go on");
    assert_eq!(fixture.set(g, 3, 4.0, 61), SetOutcome::Applied, "the first is silent");
    assert_eq!((fixture.value("g", 61), fixture.registry.stats().sender_values), (6.0, 3));
}

#[test]
fn a_rule_that_changes_changes_the_gauges_that_are_there() {
    let mut fixture = Fixture::new(8, 8);
    let id = fixture.resolve("g", None, 0);
    let bytes = fixture.registry.stats().bytes;
    fixture.registry.set(id, 9.0, Timestamp(0), Timestamp(0)).unwrap();
    assert_eq!(fixture.resolve("g", Some((Combine::Sum, 60)), 10), id);
    fixture.set(id, 1, 1.0, 10);
    fixture.set(id, 2, 2.0, 40);
    assert_eq!(fixture.value("g", 40), 3.0, "what all of them said belongs to none");
    assert_eq!(fixture.resolve("g", Some((Combine::Max, 120)), 50), id);
    assert_eq!(fixture.value("g", 100), 2.0);
    assert_eq!(fixture.registry.stats().sender_values, 2);
    assert_eq!(fixture.resolve("g", None, 110), id);
    assert_eq!(fixture.value("g", 100_000), 2.0, "as a plain gauge it stays");
    assert_eq!(fixture.registry.stats().sender_values, 0);
    // Its deadline has a place of its own from then on.
    assert!(fixture.registry.stats().bytes < bytes + 500);
}

#[test]
fn rules_that_disagree_do_not_fill_the_memory() {
    let mut fixture = Fixture::new(8, 8);
    let id = fixture.resolve("g", None, 0);
    for n in 0..1000 {
        fixture.resolve("g", [None, Some((Combine::Sum, 60)), Some((Combine::Last, 9))][n % 3], 0);
        fixture.set(id, 1, 1.0, 0);
    }
    assert!(fixture.registry.stats().bytes < 5_000, "{}", fixture.registry.stats().bytes);
}
