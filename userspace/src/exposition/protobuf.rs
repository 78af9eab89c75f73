//! Families and series -> `io.prometheus.client` messages.
//!
//! Source: `io/prometheus/client/metrics.proto` of prometheus/client_model.

use super::fields::{Binary, Field, Fields, TextForm, insert_length};
use super::format::Encoding;
use super::labels::encoded_labels;
use crate::clock::{Timestamp, WallClock};
use crate::registry::{
    FamilyKind, FamilyView, NativeBucket, NativeView, Reading, SeriesView, ZERO_THRESHOLD,
};

const FAMILY_NAME: Field = Field(1, "name");
const FAMILY_HELP: Field = Field(2, "help");
const FAMILY_TYPE: Field = Field(3, "type");
const FAMILY_METRIC: Field = Field(4, "metric");

const METRIC_LABEL: Field = Field(1, "label");
const METRIC_GAUGE: Field = Field(2, "gauge");
const METRIC_COUNTER: Field = Field(3, "counter");
const METRIC_SUMMARY: Field = Field(4, "summary");
const METRIC_HISTOGRAM: Field = Field(7, "histogram");

const LABEL_NAME: Field = Field(1, "name");
const LABEL_VALUE: Field = Field(2, "value");

/// Of a gauge and of a counter.
const VALUE: Field = Field(1, "value");
const COUNTER_CREATED: Field = Field(3, "created_timestamp");

const SUMMARY_COUNT: Field = Field(1, "sample_count");
const SUMMARY_SUM: Field = Field(2, "sample_sum");
const SUMMARY_QUANTILE: Field = Field(3, "quantile");
const SUMMARY_CREATED: Field = Field(4, "created_timestamp");
const QUANTILE_QUANTILE: Field = Field(1, "quantile");
const QUANTILE_VALUE: Field = Field(2, "value");

const HISTOGRAM_COUNT: Field = Field(1, "sample_count");
const HISTOGRAM_SUM: Field = Field(2, "sample_sum");
const HISTOGRAM_BUCKET: Field = Field(3, "bucket");
const HISTOGRAM_SCHEMA: Field = Field(5, "schema");
const HISTOGRAM_ZERO_THRESHOLD: Field = Field(6, "zero_threshold");
const HISTOGRAM_ZERO_COUNT: Field = Field(7, "zero_count");
const HISTOGRAM_NEGATIVE_SPAN: Field = Field(9, "negative_span");
const HISTOGRAM_NEGATIVE_DELTA: Field = Field(10, "negative_delta");
const HISTOGRAM_POSITIVE_SPAN: Field = Field(12, "positive_span");
const HISTOGRAM_POSITIVE_DELTA: Field = Field(13, "positive_delta");
const HISTOGRAM_CREATED: Field = Field(15, "created_timestamp");
const BUCKET_COUNT: Field = Field(1, "cumulative_count");
const BUCKET_BOUND: Field = Field(2, "upper_bound");
const SPAN_OFFSET: Field = Field(1, "offset");
const SPAN_LENGTH: Field = Field(2, "length");

const TIMESTAMP_SECONDS: Field = Field(1, "seconds");
const TIMESTAMP_NANOS: Field = Field(2, "nanos");

/// One `MetricFamily` being written.
pub(super) enum Message<'a> {
    Binary(Binary<'a>),
    TextForm(TextForm<'a>),
}

impl Message<'_> {
    /// Appends what `write` writes as one message, or nothing if it returns false.
    pub(super) fn write(out: &mut Vec<u8>, encoding: Encoding, write: impl FnOnce(&mut Message<'_>) -> bool) {
        let start = out.len();
        let mut message = match encoding {
            Encoding::Delimited => Message::Binary(Binary(out)),
            Encoding::Text => Message::TextForm(TextForm::new(out, false)),
            Encoding::CompactText => Message::TextForm(TextForm::new(out, true)),
        };
        if !write(&mut message) {
            return out.truncate(start);
        }
        match encoding {
            Encoding::Delimited => insert_length(out, start),
            Encoding::Text | Encoding::CompactText => out.push(b'\n'),
        }
    }

    pub(super) fn family(&mut self, family: FamilyView<'_>) {
        match self {
            Self::Binary(out) => write_family(out, family),
            Self::TextForm(out) => write_family(out, family),
        }
    }

    pub(super) fn series(&mut self, series: SeriesView<'_>, clock: WallClock) {
        match self {
            Self::Binary(out) => write_series(out, series, clock),
            Self::TextForm(out) => write_series(out, series, clock),
        }
    }

    /// A sample of the daemon's own, whose labels are encoded for the text format.
    pub(super) fn own_sample(&mut self, kind: FamilyKind, labels: &str, value: f64, clock: WallClock) {
        match self {
            Self::Binary(out) => write_own_sample(out, kind, labels, value, clock),
            Self::TextForm(out) => write_own_sample(out, kind, labels, value, clock),
        }
    }
}

fn write_family(out: &mut impl Fields, family: FamilyView<'_>) {
    out.text(FAMILY_NAME, family.name.as_bytes());
    out.text(FAMILY_HELP, family.help.as_bytes());
    let (value, name) = match family.kind {
        FamilyKind::Counter => (0, "COUNTER"),
        FamilyKind::Gauge => (1, "GAUGE"),
        FamilyKind::Summary => (2, "SUMMARY"),
        FamilyKind::Histogram => (4, "HISTOGRAM"),
    };
    out.symbol(FAMILY_TYPE, value, name);
}

fn write_series(out: &mut impl Fields, series: SeriesView<'_>, clock: WallClock) {
    out.message(FAMILY_METRIC, |out| {
        for (name, value) in series.labels.iter() {
            write_label(out, name, value);
        }
        write_reading(out, series.reading, clock);
    });
}

fn write_own_sample(out: &mut impl Fields, kind: FamilyKind, labels: &str, value: f64, clock: WallClock) {
    out.message(FAMILY_METRIC, |out| {
        for (name, value) in encoded_labels(labels) {
            write_label(out, name.as_bytes(), value.as_bytes());
        }
        let reading = match kind {
            FamilyKind::Counter => Reading::Counter { value, created: clock.started() },
            _ => Reading::Gauge(value),
        };
        write_reading(out, reading, clock);
    });
}

fn write_label(out: &mut impl Fields, name: &[u8], value: &[u8]) {
    out.message(METRIC_LABEL, |out| {
        out.text(LABEL_NAME, name);
        out.text(LABEL_VALUE, value);
    });
}

fn write_reading(out: &mut impl Fields, reading: Reading<'_>, clock: WallClock) {
    match reading {
        Reading::Gauge(value) => out.message(METRIC_GAUGE, |out| out.double(VALUE, value)),
        Reading::Counter { value, created } => out.message(METRIC_COUNTER, |out| {
            out.double(VALUE, value);
            write_timestamp(out, COUNTER_CREATED, created, clock);
        }),
        Reading::Summary { quantiles, values, sum, count, created } => out.message(METRIC_SUMMARY, |out| {
            out.unsigned(SUMMARY_COUNT, count);
            out.double(SUMMARY_SUM, sum);
            for (wanted, value) in quantiles.iter().zip(values) {
                out.message(SUMMARY_QUANTILE, |out| {
                    out.double(QUANTILE_QUANTILE, wanted.quantile);
                    out.double(QUANTILE_VALUE, *value);
                });
            }
            write_timestamp(out, SUMMARY_CREATED, created, clock);
        }),
        Reading::Histogram { bounds, counts, sum, created, native } => out.message(METRIC_HISTOGRAM, |out| {
            let count = counts.iter().fold(0_u64, |total, count| total.saturating_add(*count));
            out.unsigned(HISTOGRAM_COUNT, count);
            out.double(HISTOGRAM_SUM, sum);
            let mut total = 0_u64;
            // The bucket of `+Inf` is the count.
            for (bound, count) in bounds.iter().zip(counts) {
                total = total.saturating_add(*count);
                out.message(HISTOGRAM_BUCKET, |out| {
                    out.unsigned(BUCKET_COUNT, total);
                    out.double(BUCKET_BOUND, *bound);
                });
            }
            if let Some(native) = native {
                write_native(out, native);
            }
            write_timestamp(out, HISTOGRAM_CREATED, created, clock);
        }),
    }
}

fn write_native(out: &mut impl Fields, native: NativeView<'_>) {
    out.signed(HISTOGRAM_SCHEMA, native.schema.into());
    out.double(HISTOGRAM_ZERO_THRESHOLD, ZERO_THRESHOLD);
    out.unsigned(HISTOGRAM_ZERO_COUNT, native.zero_count);
    write_buckets(out, HISTOGRAM_NEGATIVE_SPAN, HISTOGRAM_NEGATIVE_DELTA, native.negative);
    write_buckets(out, HISTOGRAM_POSITIVE_SPAN, HISTOGRAM_POSITIVE_DELTA, native.positive);
}

/// A gap of up to this many empty buckets is cheaper written out than as a new span.
const GAP_MAX: i32 = 2;

/// Writes buckets as runs of neighbours, and the counts as the difference to the one before.
fn write_buckets(out: &mut impl Fields, span: Field, delta: Field, buckets: &[NativeBucket]) {
    let mut next = 0;
    let mut rest = buckets;
    while let Some(first) = rest.first() {
        let (mut length, mut end) = (1, first.index + 1);
        while let Some(bucket) = rest.get(length).filter(|bucket| bucket.index - end <= GAP_MAX) {
            (length, end) = (length + 1, bucket.index + 1);
        }
        out.message(span, |out| {
            out.signed(SPAN_OFFSET, (first.index - next).into());
            out.unsigned(SPAN_LENGTH, u64::from((end - first.index).unsigned_abs()));
        });
        next = end;
        rest = rest.get(length..).unwrap_or_default();
    }
    let (mut before, mut end) = (0_u64, None);
    for bucket in buckets {
        let gap = end.map_or(0, |end| bucket.index - end);
        if gap <= GAP_MAX {
            for _ in 0..gap {
                out.signed(delta, 0_u64.wrapping_sub(before).cast_signed());
                before = 0;
            }
        }
        out.signed(delta, bucket.count.wrapping_sub(before).cast_signed());
        (before, end) = (bucket.count, Some(bucket.index + 1));
    }
}

fn write_timestamp(out: &mut impl Fields, field: Field, at: Timestamp, clock: WallClock) {
    let nanos = clock.unix_nanos(at);
    out.message(field, |out| {
        out.unsigned(TIMESTAMP_SECONDS, nanos / 1_000_000_000);
        out.unsigned(TIMESTAMP_NANOS, nanos % 1_000_000_000);
    });
}
