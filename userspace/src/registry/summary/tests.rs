//! The shared streams against independent ones, for random times, values and scrapes.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// One stream of the original: a buffer of 500, and a list into which it is merged.
#[derive(Default)]
struct SlowStream {
    buffer: Vec<f64>,
    /// Value, width, delta.
    list: Vec<(f64, f64, f64)>,
    count: f64,
}

impl SlowStream {
    fn error_at(&self, rank: f64, targets: &[Quantile]) -> f64 {
        targets.iter().fold(f64::MAX, |least, target| {
            let error = if target.quantile * self.count <= rank {
                2.0 * target.error * rank / target.quantile
            } else {
                2.0 * target.error * (self.count - rank) / (1.0 - target.quantile)
            };
            if error < least { error } else { least }
        })
    }

    fn insert(&mut self, value: f64, targets: &[Quantile]) {
        self.buffer.push(value);
        if self.buffer.len() == 500 {
            self.flush(targets);
        }
    }

    fn flush(&mut self, targets: &[Quantile]) {
        self.buffer.sort_by(f64::total_cmp);
        for value in std::mem::take(&mut self.buffer) {
            let place = self.list.iter().position(|kept| kept.0 > value).unwrap_or(self.list.len());
            let rank = self.list[..place].iter().map(|kept| kept.1).sum();
            let delta = if place == self.list.len() {
                0.0
            } else {
                (self.error_at(rank, targets).floor() - 1.0).max(0.0)
            };
            self.list.insert(place, (value, 1.0, delta));
            self.count += 1.0;
        }
        let mut at = self.list.len();
        let mut rank = self.count - 1.0 - self.list.last().map_or(0.0, |last| last.1);
        while at >= 2 {
            at -= 1;
            let (lower, upper) = (self.list[at - 1], self.list[at]);
            if lower.1 + upper.1 + upper.2 <= self.error_at(rank, targets) {
                self.list[at].1 += lower.1;
                self.list.remove(at - 1);
            }
            rank -= lower.1;
        }
    }

    fn query(&mut self, quantile: f64, targets: &[Quantile]) -> f64 {
        if self.list.is_empty() {
            if self.buffer.is_empty() {
                return f64::NAN;
            }
            self.buffer.sort_by(f64::total_cmp);
            let rank = (self.buffer.len() as f64 * quantile).ceil().max(1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1..500")]
            return self.buffer[rank as usize - 1];
        }
        self.flush(targets);
        let wanted = (quantile * self.count).ceil();
        let wanted = wanted + (self.error_at(wanted, targets) / 2.0).ceil();
        let mut rank = 0.0;
        for pair in self.list.windows(2) {
            rank += pair[0].1;
            if rank + pair[1].1 + pair[1].2 > wanted {
                return pair[0].0;
            }
        }
        self.list.last().map_or(f64::NAN, |last| last.0)
    }
}

/// The summary of the original: streams in a ring, each fed everything.
struct SlowSummary {
    streams: VecDeque<SlowStream>,
    expires: u64,
    step: u64,
    sum: f64,
}

impl SlowSummary {
    fn rotate(&mut self, now: u64) {
        while now > self.expires {
            self.expires += self.step;
            self.streams.pop_front();
            self.streams.push_back(SlowStream::default());
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Observe { count: u16, spread: u16, times: u64 },
    Scrape,
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| if value.is_nan() { u64::MAX } else { value.to_bits() }).collect()
}

#[track_caller]
fn check(options: &SummaryOptions, steps: &[Step]) {
    let plan = SummaryPlan::new(options);
    let targets = &plan.quantiles;
    let mut space = SummarySpace::default();
    let mut now = 1_000_000_000;
    let mut summary = Summary::new(&plan, Timestamp(now));
    let mut slow = SlowSummary {
        streams: (0..plan.age_buckets).map(|_| SlowStream::default()).collect(),
        expires: now + plan.stream_nanos,
        step: plan.stream_nanos,
        sum: 0.0,
    };
    let mut random = 1_u64;
    for step in steps {
        match *step {
            Step::Wait(nanos) => now += nanos,
            Step::Observe { count, spread, times } => {
                for _ in 0..count {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let value = ((random >> 40) % (u64::from(spread) + 1)) as f64 / 8.0;
                    summary.observe(&plan, &mut space, value, times, Timestamp(now));
                    slow.rotate(now);
                    for _ in 0..times {
                        slow.sum += value;
                        slow.streams.iter_mut().for_each(|stream| stream.insert(value, targets));
                    }
                }
            }
            Step::Scrape => {
                let mut quantiles = Vec::new();
                summary.quantiles(&plan, &mut space, Timestamp(now), &mut quantiles);
                slow.rotate(now);
                let head = slow.streams.front_mut().expect("a summary has streams");
                let expected: Vec<f64> =
                    targets.iter().map(|wanted| head.query(wanted.quantile, targets)).collect();
                assert_eq!(bits(&quantiles), bits(&expected), "at {now}: {quantiles:?} {expected:?}");
                assert!(summary.sum == slow.sum);
            }
        }
        assert_eq!(summary.streams.iter().map(|stream| stream.copies).sum::<u32>(), plan.age_buckets);
        assert!(summary.log.len() < 500);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..400_u64).prop_map(Step::Wait),
        (0..3000_u64).prop_map(Step::Wait),
        (0..60_u16, 0..9000_u16, 1..3_u64).prop_map(|(count, spread, times)| Step::Observe {
            count,
            spread,
            times
        }),
        (0..900_u16, 0..9000_u16).prop_map(|(count, spread)| Step::Observe { count, spread, times: 1 }),
        Just(Step::Scrape),
        Just(Step::Scrape),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn shared_streams_answer_as_independent_ones(steps in steps(), age_buckets in 1..7_u32) {
        let max_age = Duration::from_nanos(1000);
        check(&SummaryOptions { max_age, age_buckets, ..SummaryOptions::default() }, &steps);
    }
}

#[test]
fn many_observations_scraped_often_answer_as_independent_streams() {
    let mut steps = Vec::new();
    for round in 0..40 {
        steps.push(Step::Observe { count: 337, spread: 9000, times: 1 + round % 2 });
        steps.push(Step::Scrape);
        steps.push(Step::Wait(31));
    }
    check(&SummaryOptions { max_age: Duration::from_nanos(1000), ..SummaryOptions::default() }, &steps);
}

#[test]
fn odd_quantiles_answer_as_in_the_original() {
    let quantiles = [(1.0, 0.0), (0.0, 0.01), (0.5, 0.0), (7.0, 0.1), (f64::NAN, 0.1)];
    let quantiles = quantiles.map(|(quantile, error)| Quantile { quantile, error }).to_vec();
    let steps = [
        Step::Scrape,
        Step::Observe { count: 3, spread: 90, times: 1 },
        Step::Scrape,
        Step::Observe { count: 2000, spread: 9000, times: 1 },
        Step::Scrape,
    ];
    let options = SummaryOptions { quantiles, ..SummaryOptions::default() };
    assert_eq!(SummaryPlan::new(&options).quantiles.len(), 3);
    check(&options, &steps);
}

#[test]
fn a_long_pause_or_a_tiny_window_ends_soon() {
    let plan = SummaryPlan::new(&SummaryOptions {
        max_age: Duration::from_nanos(1),
        age_buckets: u32::MAX,
        ..SummaryOptions::default()
    });
    let (mut space, mut out) = (SummarySpace::default(), Vec::new());
    let mut summary = Summary::new(&plan, Timestamp(0));
    summary.observe(&plan, &mut space, f64::NAN, u64::MAX, Timestamp(5));
    summary.quantiles(&plan, &mut space, Timestamp(u64::MAX), &mut out);
    assert!(out.iter().all(|value| value.is_nan()) && out.len() == 3 && summary.count == u64::MAX);
}

#[test]
fn an_idle_summary_is_small() {
    let plan = SummaryPlan::new(&SummaryOptions::default());
    let (mut space, mut out) = (SummarySpace::default(), Vec::new());
    let mut summary = Summary::new(&plan, Timestamp(0));
    assert!(summary.heap_bytes() < 150, "{}", summary.heap_bytes());
    for tick in 0..20_u64 {
        summary.observe(&plan, &mut space, 0.5, 1, Timestamp(tick * 30_000_000_000));
    }
    assert!(summary.heap_bytes() < 512, "{}", summary.heap_bytes());
    summary.quantiles(&plan, &mut space, Timestamp(3_000_000_000_000), &mut out);
    assert!(summary.heap_bytes() < 300, "{}", summary.heap_bytes());
}
