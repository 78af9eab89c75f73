//! One line -> the series that it makes, by a pipeline of its own.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use crate::clock::Timestamp;
use crate::datagram::{Datagram, Source, Transport};
use crate::exposition::Format;
use crate::ledger::EventError;
use crate::line::{Dialects, LineError, Tally};
use crate::mapper::{Mapper, results::ResultCacheType};
use crate::pipeline::{Pipeline, PipelineOptions};
use crate::self_metrics;

/// What a line came to.
pub(crate) struct Outcome {
    /// `type name{labels}`, sorted.
    pub(crate) series: BTreeSet<String>,
    /// Reasons of what was refused, each with the counter that has it as a label.
    pub(crate) refused: Vec<(&'static str, &'static str)>,
    /// Events that the line gave, whatever became of them.
    pub(crate) events: u64,
}

/// What our own metrics are called, which a sender may not use.
static RESERVED: LazyLock<Vec<String>> = LazyLock::new(self_metrics::names);

/// Takes `line` as the daemon does: parses, maps and records it, from an empty registry.
pub(super) fn of_line(mapper: &Arc<Mapper>, line: &[u8]) -> Outcome {
    of_line_in(mapper, all_dialects(), line)
}

/// The same with the dialects of a daemon.
pub(crate) fn of_line_in(mapper: &Arc<Mapper>, dialects: Dialects, line: &[u8]) -> Outcome {
    let pipeline = Pipeline::new(
        PipelineOptions {
            dialects,
            mapper: Arc::clone(mapper),
            result_cache: (ResultCacheType::Lru, 0),
            cached_lines_max: 1,
            ..PipelineOptions::default()
        },
        None,
    );
    pipeline.reserve(RESERVED.iter().map(String::as_str));
    let received = Timestamp::now();
    pipeline.ingest(&[Datagram {
        payload: line,
        received,
        source: Source::Nameless,
        transport: Transport::Udp,
    }]);
    let mut text = Vec::new();
    pipeline.write_exposition(Vec::new(), Format::Text, &mut text);
    pipeline.look(|core| {
        let errors = EventError::ALL.into_iter().filter(|error| core.ledger.errors(*error) > 0);
        let errors = errors.map(|error| (error.reason(), "statsd_exporter_events_error_total"));
        let conflicts = core.ledger.refused().filter(|(_, times)| *times > 0);
        let conflicts = conflicts.map(|(reason, _)| (reason, "rotameter_events_refused_total"));
        Outcome {
            series: series(&String::from_utf8_lossy(&text)),
            refused: reasons(&core.ledger.tally).chain(errors).chain(conflicts).collect(),
            events: core.ledger.tally.events,
        }
    })
}

/// Those that are on without flags; Graphite's tags and packed counters are additions that are off.
pub(super) fn all_dialects() -> Dialects {
    Dialects::default()
}

fn reasons(tally: &Tally) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
    let refused = |error: &LineError| {
        // A sample rate that is no number may cost its sample or not.
        let kept = if *error == LineError::InvalidSampleFactor { tally.kept } else { 0 };
        tally.error(*error) > kept
    };
    let errors = LineError::ALL.into_iter().filter(refused);
    errors.map(|error| (error.reason(), "statsd_exporter_sample_errors_total"))
}

/// The series of an exposition, histograms and summaries as one each.
fn series(text: &str) -> BTreeSet<String> {
    let mut kind = "untyped";
    let mut series = BTreeSet::new();
    for line in text.lines() {
        if let Some((_, found)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind = found;
        }
        let Some((sample, _)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else { continue };
        let sample = match kind {
            "summary" | "histogram" => {
                let (name, labels) = sample.split_at(sample.find('{').unwrap_or(sample.len()));
                let Some(family) = name.strip_suffix("_count") else { continue };
                format!("{family}{labels}")
            }
            _ => sample.to_owned(),
        };
        series.insert(format!("{kind} {sample}"));
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, series: &[&str], refused: &[&str]) {
        let outcome = of_line(&Arc::default(), line.as_bytes());
        assert_eq!(outcome.series.iter().map(String::as_str).collect::<Vec<_>>(), series, "{line}");
        let reasons: Vec<&str> = outcome.refused.iter().map(|(reason, _)| *reason).collect();
        assert_eq!(reasons, refused, "{line}");
    }

    #[test]
    fn names_of_our_own_are_refused_as_in_the_daemon() {
        check("statsd_exporter_lines_total:1|c", &[], &["reserved_metric_name"]);
        check("rotameter_slots:1|g", &[], &["reserved_metric_name"]);
    }

    #[test]
    fn a_line_comes_to_series_or_to_reasons() {
        check("a.b:1|c", &["counter a_b"], &[]);
        check("a:1|g|#k:v w", &["gauge a{k=\"v w\"}"], &[]);
        check("a:1|ms", &["summary a"], &[]);
        check("a:-1|c", &[], &["illegal_negative_counter"]);
        check("a", &[], &["malformed_line"]);
        check("a:1|c|@x", &["counter a"], &[]);
        check("a:1|c|x", &[], &["invalid_sample_factor"]);
    }
}
