//! Lines in -> what the exposition and the ledger show.

use super::growth::{exact_unit, is_still_of, scaled};
use super::*;
use crate::datagram::{Source, Transport};
use crate::kernel::identities::identity_of;
use crate::kernel::promotion::{Candidate, Growth};
use crate::ledger::EventError;
use crate::line::Tally;
use crate::mapper::{MetricType, SeriesOptions};

fn pipeline() -> Pipeline {
    Pipeline::new(PipelineOptions { cached_lines_max: 100, ..PipelineOptions::default() }, None)
}

fn ingest(pipeline: &Pipeline, payloads: &[&str], received: u64) {
    let batch: Vec<Datagram<'_>> = payloads
        .iter()
        .map(|payload| Datagram {
            payload: payload.as_bytes(),
            received: Timestamp(received),
            source: Source::Nameless,
            transport: Transport::Udp,
        })
        .collect();
    pipeline.ingest(&batch);
}

/// The exposition without its comments. The ledger must close, whatever came.
fn exposition(pipeline: &Pipeline) -> String {
    pipeline.look(|core| core.ledger.check()).expect("the ledger closes");
    let mut out = Vec::new();
    pipeline.write_exposition(Vec::new(), Format::Text, &mut out);
    let text = String::from_utf8(out).expect("an exposition is text");
    text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect()
}

/// In one batch and one by one, which must make no difference.
#[track_caller]
fn check(payloads: &[&str], expected: &str) {
    let cold = pipeline();
    ingest(&cold, payloads, 1);
    assert_eq!(exposition(&cold), expected);
    let warm = pipeline();
    for payload in payloads {
        ingest(&warm, &[payload], 1);
    }
    assert_eq!(exposition(&warm), expected);
}

#[test]
fn a_sampled_counter_is_scaled_by_its_rate() {
    check(&["airflow.ti_failures:2|c|@0.5"], "airflow_ti_failures 4\n");
}

#[test]
fn lines_of_one_name_add_up_however_they_are_cut_into_datagrams() {
    check(&["a:1|c\na:2|c", "a:3|c\n", "a:4|c\nb:0|c"], "a 10\nb 0\n");
}

#[test]
fn a_gauge_is_set_or_moved() {
    check(&["g:5|g", "g:+2|g", "g:-3|g"], "g 4\n");
    check(&["g:0|g\ng:-4|g"], "g -4\n");
}

#[test]
fn an_older_datagram_never_overwrites_a_newer_one() {
    let pipeline = pipeline();
    ingest(&pipeline, &["g:1|g"], 10);
    ingest(&pipeline, &["g:2|g"], 20);
    ingest(&pipeline, &["g:3|g"], 15);
    assert_eq!(exposition(&pipeline), "g 2\n");
    assert_eq!(pipeline.look(|core| core.ledger.outdated_gauges), 1);
}

#[test]
fn a_timer_is_a_summary_in_seconds() {
    check(
        &["t:100|ms", "t:200|ms|#k:v", "t:300|ms"],
        "t{quantile=\"0.5\"} 0.1\nt{quantile=\"0.9\"} 0.3\nt{quantile=\"0.99\"} 0.3\nt_sum 0.4\nt_count 2\n\
         t{k=\"v\",quantile=\"0.5\"} 0.2\nt{k=\"v\",quantile=\"0.9\"} 0.2\nt{k=\"v\",quantile=\"0.99\"} 0.2\n\
         t_sum{k=\"v\"} 0.2\nt_count{k=\"v\"} 1\n",
    );
}

#[test]
fn what_cannot_be_recorded_is_counted_under_its_reason() {
    let pipeline = pipeline();
    for _ in 0..2 {
        ingest(&pipeline, &["c:-1|c", "x:1|c", "x:1|g", ",k=v:1|c", "no colon", "c:-1|c"], 1);
    }
    assert_eq!(exposition(&pipeline), "x 2\n");
    pipeline.look(|core| {
        assert_eq!(core.ledger.errors(EventError::IllegalNegativeCounter), 4);
        assert_eq!(core.ledger.errors(EventError::EmptyMetricName), 2);
        assert_eq!(core.ledger.conflicts().collect::<Vec<_>>(), [("gauge", "x", 2)]);
        assert_eq!((core.ledger.tally.lines, core.ledger.tally.events), (12, 10));
    });
}

#[test]
fn a_remembered_line_counts_as_the_parser_counts() {
    let payloads = ["a:1|c|#k:v", "b:1.5|ms|@0.5", "g:1|g", "d:1:2:3|d", "e:1|c:2|g", "f:1|c|#bad", "\n"];
    let (once, warm) = (pipeline(), pipeline());
    for _ in 0..3 {
        ingest(&warm, &payloads, 1);
    }
    ingest(&once, &payloads, 1);
    let (once, warm) = (once.look(|core| core.ledger.tally), warm.look(|core| core.ledger.tally));
    let mut thrice = Tally::default();
    for _ in 0..3 {
        thrice += &once;
    }
    assert_eq!(warm, thrice);
}

#[test]
fn a_candidate_whose_entry_went_to_another_line_is_not_promoted() {
    const SEED: u64 = 7;
    let options = PipelineOptions { cached_lines_max: 1, ..PipelineOptions::default() };
    let pipeline = Pipeline::new(options, None);
    ingest(&pipeline, &["a:1|c"], 1);
    let identity = identity_of(b"a:0|c", SEED).expect("it fits the grammar");
    let candidate = Candidate { entry: 0, identity, lines_per_second: 1.0, gauge: None };
    assert!(pipeline.look(|core| is_still_of(&core.cache, &candidate, SEED)));
    ingest(&pipeline, &["b:1|c"], 1);
    assert!(!pipeline.look(|core| is_still_of(&core.cache, &candidate, SEED)));
}

/// A pipeline with room for `series_max` series, whose series expire after a minute.
fn bounded(series_max: u32) -> Pipeline {
    let registry = RegistryConfig::new(series_max, 0);
    let unmapped = SeriesOptions { ttl: Some(Duration::from_secs(60)), ..SeriesOptions::default() };
    let mapper = Arc::new(Mapper::of_unmapped(unmapped));
    let options = PipelineOptions { registry, mapper, cached_lines_max: 100, ..PipelineOptions::default() };
    Pipeline::new(options, None)
}

#[test]
fn without_room_nothing_is_lost_but_gauges() {
    let pipeline = bounded(1);
    for _ in 0..3 {
        ingest(&pipeline, &["a:1|c", "b:2|c", "b:3|c|@0.5", "t:250|ms|@0.25", "h:7|h", "g:1|g"], 1);
    }
    assert_eq!(
        exposition(&pipeline),
        "a 3\nrotameter_overflow_counter_total 24\nrotameter_overflow_observations_sum 24\n\
         rotameter_overflow_observations_count 15\n"
    );
    pipeline.look(|core| {
        assert_eq!(MetricType::ALL.map(|event| core.ledger.overflow(event)), [6, 3, 6]);
        assert_eq!(core.ledger.refused().collect::<Vec<_>>(), [("series_limit", 3)]);
        assert_eq!(core.ledger.conflicts().count(), 0);
        assert_eq!(core.cache.len(), 1, "what has no series of its own is not remembered");
    });
}

/// One line, taken at `now`.
fn take(core: &mut Core, line: &str, now: Timestamp) {
    let payload = line.as_bytes();
    core.take(&Datagram { payload, received: now, source: Source::Nameless, transport: Transport::Udp }, now);
}

fn later(seconds: u64) -> Timestamp {
    Timestamp::now().after(Duration::from_secs(seconds))
}

#[test]
fn what_the_kernel_counts_keeps_its_series_or_makes_it_anew() {
    let pipeline = bounded(1);
    let grow = |lines, sum, at| {
        pipeline.core.lock().grow(Growth { entry: 0, lines, sum, last: None }, later(at));
    };
    let expire = |at| pipeline.core.lock().registry.expire(later(at)).series;
    ingest(&pipeline, &["a:1|c|@0.1"], 1);
    // Counted every 40 s, it never expires.
    for n in 1..=5 {
        grow(2, 3, 40 * n);
        assert_eq!(expire(40 * n), 0);
    }
    assert_eq!(exposition(&pipeline), "a 160\n");
    assert_eq!(expire(300), 1);
    // Nobody has it now, and the kernel counts on.
    grow(1, 4, 301);
    grow(1, 5, 302);
    assert_eq!(exposition(&pipeline), "a 90\n");
    // It expires again, and another one takes its room until that one goes, too.
    assert_eq!(expire(400), 1);
    take(&mut pipeline.core.lock(), "b:1|c", later(400));
    grow(3, 6, 401);
    assert_eq!(exposition(&pipeline), "b 1\nrotameter_overflow_counter_total 60\n");
    assert_eq!(pipeline.look(|core| core.ledger.overflow(MetricType::Counter)), 3);
    assert_eq!(expire(500), 1);
    grow(1, 7, 501);
    assert_eq!(exposition(&pipeline), "a 70\nrotameter_overflow_counter_total 60\n");
}

#[test]
fn a_line_whose_series_found_no_room_again_is_no_candidate() {
    let pipeline = bounded(1);
    let mut core = pipeline.core.lock();
    core.promotion = Some(Promotion::new(
        8,
        PromotionOptions { promote_lines_per_second: 0.0, ..PromotionOptions::default() },
    ));
    take(&mut core, "a:1|c", later(0));
    take(&mut core, "a:1|c", later(0));
    assert_eq!(core.candidates(7, 1.0).len(), 1);
    core.registry.expire(later(100));
    take(&mut core, "b:1|c", later(100));
    take(&mut core, "a:1|c", later(100));
    assert_eq!(core.candidates(7, 1.0).len(), 0);
}

#[test]
fn an_absolute_gauge_is_a_candidate_until_a_relative_value_comes() {
    let pipeline = bounded(8);
    let mut core = pipeline.core.lock();
    let options = PromotionOptions { promote_lines_per_second: 0.0, ..PromotionOptions::default() };
    core.promotion = Some(Promotion::new(8, options));
    let mut send = |lines: &[&str]| {
        for line in lines.iter().flat_map(|line| [line, line]) {
            take(&mut core, line, later(0));
        }
        core.candidates(7, 1.0).iter().filter(|candidate| candidate.gauge.is_some()).count()
    };
    assert_eq!(send(&["a:1|g", "b:1.5|g", "c:1|c", "d:1|ms"]), 2);
    assert_eq!(send(&["a:+1|g"]), 0, "the line itself is the absolute one's");
    assert_eq!(send(&["a:1|g", "b:inf|g"]), 1);
}

#[test]
fn a_gauge_from_a_slot_is_as_new_as_its_datagram() {
    use ingest_ebpf::layout::LastValue;

    let pipeline = pipeline();
    let grow = |digits, decimals, received_ns| {
        let last = Some(LastValue { number: LastValue::pack(digits, decimals), received_ns });
        pipeline.core.lock().grow(Growth { entry: 0, lines: 3, sum: 0, last }, later(0));
    };
    ingest(&pipeline, &["a:1|g"], 10);
    grow(125, 1, 20);
    assert_eq!(exposition(&pipeline), "a 12.5\n");
    ingest(&pipeline, &["a:1|g"], 15);
    assert_eq!(exposition(&pipeline), "a 12.5\n", "a ring's record that is older");
    grow(7, 0, 14);
    assert_eq!(exposition(&pipeline), "a 12.5\n");
    ingest(&pipeline, &["a:1|g"], 30);
    assert_eq!(exposition(&pipeline), "a 1\n");
    assert_eq!(pipeline.look(|core| core.ledger.outdated_gauges), 2);
}

#[test]
fn a_scaled_sum_does_not_wrap() {
    assert_eq!(scaled(1 << 50, 1_000_000).to_bits(), ((1_u64 << 50) as f64 * 1e6).to_bits());
    assert_eq!(scaled(3, 10).to_bits(), 30.0_f64.to_bits());
}

#[test]
fn a_rate_is_scaled_exactly_or_not_at_all() {
    assert_eq!(exact_unit(1.0), Some(1));
    assert_eq!(exact_unit(0.5), Some(2));
    assert_eq!(exact_unit(0.1), Some(10));
    for divisor in [0.3, 0.7, 2.0, 0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9] {
        assert_eq!(exact_unit(divisor), None, "{divisor}");
    }
    for divisor in [1.0, 0.5, 0.25, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001] {
        let Some(unit) = exact_unit(divisor) else { continue };
        for value in (0..2000_u32).chain([999_999_999, 1 << 30]) {
            let value = f64::from(value);
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let unit = unit as f64;
            assert_eq!((value / divisor).to_bits(), (value * unit).to_bits(), "{value} / {divisor}");
        }
    }
}
