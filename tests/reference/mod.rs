//! Datagrams -> what the exposition must show.
//!
//! A second implementation of the whole way, for tests: slow, obvious, and without a line in common
//! with the daemon. It has no clock, no threads and no bounds; it keeps every sample. It knows the
//! default settings only: all tag dialects, no mapping rules, no TTL, everything within one window
//! of the summaries.

pub mod compare;
pub mod line;
pub mod number;
pub mod totals;

use std::collections::BTreeMap;

use totals::Totals;

/// What a run over some datagrams must come to.
#[derive(Debug, Default)]
pub struct Expected {
    pub datagrams: u64,
    /// Empty ones included.
    pub lines: u64,
    pub empty_lines: u64,
    pub samples: u64,
    pub tagged_samples: u64,
    pub tag_errors: u64,
    pub vanished: u64,
    /// By reason, as `statsd_exporter_sample_errors_total` counts them.
    pub errors: BTreeMap<&'static str, u64>,
    /// Events that the parser handed on; an observation that counts several times is one.
    pub events_parsed: u64,
    /// Events that reached a series, by type (`counter`, `gauge`, `observer`), an observation as often
    /// as it counts: what `statsd_exporter_events_total` shows.
    pub events: BTreeMap<&'static str, u64>,
    /// Events that did not, by reason, counted likewise.
    pub refused: BTreeMap<&'static str, u64>,
    pub totals: Totals,
    order_free: bool,
}

/// Reads `datagrams` one after the other, as one listener would.
pub fn expect(datagrams: &[impl AsRef<[u8]>]) -> Expected {
    let mut expected = Expected::default();
    for datagram in datagrams {
        expected.datagrams += 1;
        for line in datagram.as_ref().split(|&byte| byte == b'\n') {
            expected.line(line);
        }
    }
    expected
}

impl Expected {
    /// Says that events may reach a series in another order than they were sent, through several
    /// rings: sums of floats may differ by rounding, up to one part in 10^9. Gauges must not.
    #[must_use]
    pub fn order_free(self) -> Self {
        Self { order_free: true, ..self }
    }

    fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        self.empty_lines += u64::from(line.is_empty());
        let read = line::read(line, false);
        self.samples += read.samples;
        self.tagged_samples += read.tagged_samples;
        self.tag_errors += read.tag_errors;
        self.vanished += read.vanished;
        for (reason, count) in read.errors {
            *self.errors.entry(reason).or_default() += count;
        }
        for event in read.events {
            self.events_parsed += 1;
            let kind = event.kind.name();
            let times = event.times;
            match self.totals.record(event) {
                Ok(()) => *self.events.entry(kind).or_default() += times,
                Err(reason) => *self.refused.entry(reason).or_default() += times,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(datagrams: &[&str], exposition: &str) {
        assert_eq!(expect(datagrams).compare(exposition), Ok(()));
    }

    #[track_caller]
    fn check_refused(datagrams: &[&str], reason: &str, exposition: &str) {
        let expected = expect(datagrams);
        assert_eq!(expected.refused, BTreeMap::from([(reason, 1)]));
        assert_eq!(expected.compare(exposition), Ok(()));
    }

    #[test]
    fn counters_are_summed_and_gauges_keep_their_last_value() {
        check(
            &["a.b:1|c\na.b:2|c|@0.5", "g:5|g\ng:3|g", "g:-1|g"],
            "# TYPE a_b counter\na_b 5\n# TYPE g gauge\ng 2\n",
        );
    }

    #[test]
    fn label_sets_are_told_apart() {
        check(
            &["x:1|c|#k:a,l:b\nx:2|c|#l:b,k:a\nx,k=\"\\:4|c\nx:8|c"],
            "# TYPE x counter\nx 8\nx{k=\"\\\"\\\\\"} 4\nx{k=\"a\",l=\"b\"} 3\n",
        );
    }

    #[test]
    fn timers_are_summaries_in_seconds() {
        let ten: String = (1..=10).map(|at| format!("t:{at}000|ms\n")).collect();
        check(
            &[&ten],
            "# TYPE t summary\nt{quantile=\"0.5\"} 5\nt{quantile=\"0.9\"} 9\nt{quantile=\"0.99\"} 10\nt_sum 55\nt_count 10\n",
        );
    }

    #[test]
    fn a_repeated_observation_counts_each_time() {
        check(
            &["t:2|h|@0.5\nt:1|h"],
            "# TYPE t summary\nt{quantile=\"0.5\"} 2\nt{quantile=\"0.9\"} 2\nt{quantile=\"0.99\"} 2\nt_sum 5\nt_count 3\n",
        );
    }

    #[test]
    fn many_samples_leave_quantiles_their_rank_error() {
        let lines: String = (1..=1000).map(|at| format!("t:{at}|h\n")).collect();
        let expected = expect(&[&lines]);
        let with = |half: u32, last: u32| {
            format!(
                "# TYPE t summary\nt{{quantile=\"0.5\"}} {half}\nt{{quantile=\"0.9\"}} 905\nt{{quantile=\"0.99\"}} {last}\nt_sum 500500\nt_count 1000\n"
            )
        };
        assert_eq!(expected.compare(&with(540, 991)), Ok(()));
        assert!(expected.compare(&with(570, 990)).is_err());
        assert!(expected.compare(&with(500, 995)).is_err());
    }

    #[test]
    fn a_name_keeps_its_first_type() {
        check_refused(&["x:1|c", "x:2|g|#k:v"], "conflict", "# TYPE x counter\nx 1\n");
    }

    #[test]
    fn series_that_would_be_written_alike_are_refused() {
        check_refused(&["x:1|g", "x_count:2|g"], "conflict", "# TYPE x gauge\nx 1\n");
        check_refused(&["x_sum:1|c", "x:2|h"], "conflict", "# TYPE x_sum counter\nx_sum 1\n");
        check(&["x:1|c", "x_count:2|g"], "# TYPE x counter\nx 1\n# TYPE x_count gauge\nx_count 2\n");
        check(&["x_sum:1|c", "x:2|c"], "# TYPE x counter\nx 2\n# TYPE x_sum counter\nx_sum 1\n");
    }

    #[test]
    fn negative_counters_and_impossible_labels_are_refused() {
        check_refused(&["x:-1|c"], "illegal_negative_counter", "");
        check_refused(&["#k=v:1|c"], "empty_metric_name", "");
        check_refused(&["x:1|c|#__k:v"], "reserved_label", "");
        check_refused(&["x:1|h|#quantile:v"], "reserved_label", "");
    }

    #[test]
    fn what_is_missing_extra_or_different_is_found() {
        let expected = expect(&["a:1|c"]);
        for text in [
            "",
            "# TYPE a counter\na 2\n",
            "# TYPE a gauge\na 1\n",
            "# TYPE a counter\na 1\nb 1\n",
            "# TYPE a counter\na 1\n# TYPE b counter\n",
            "# TYPE a counter\na{k=\"v\"} 1\n",
            "# TYPE a counter\na 1\na 1\n",
            "# TYPE a counter\na 1",
            "# TYPE a counter\na x\n",
        ] {
            assert!(expected.compare(text).is_err(), "{text}");
        }
        let own = "# TYPE a counter\na 1\n# TYPE statsd_exporter_lines_total counter\nstatsd_exporter_lines_total 1\n";
        assert_eq!(expected.compare(own), Ok(()));
    }

    #[test]
    fn sums_may_differ_by_rounding_only_where_order_is_free() {
        let text = "# TYPE a counter\na 0.6\n";
        let lines = ["a:0.1|c\na:0.2|c\na:0.3|c"];
        assert!(expect(&lines).compare(text).is_err());
        assert_eq!(expect(&lines).order_free().compare(text), Ok(()));
    }

    #[test]
    fn everything_is_counted() {
        let expected = expect(&["a:1|c\n", "b:1|h|@0.5\nc\nd:1|s|#k:v\ne:1|c|#k", "f:1|h|@2"]);
        assert_eq!((expected.datagrams, expected.lines, expected.empty_lines), (3, 7, 1));
        assert_eq!((expected.samples, expected.tagged_samples, expected.tag_errors), (5, 1, 1));
        assert_eq!((expected.events_parsed, expected.vanished), (3, 1));
        assert_eq!(expected.errors, BTreeMap::from([("malformed_line", 1), ("illegal_event", 1)]));
        assert_eq!(expected.events, BTreeMap::from([("counter", 2), ("observer", 2)]));
    }
}
