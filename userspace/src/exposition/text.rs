//! Families and series -> Prometheus text format 0.0.4.
//!
//! Source: prometheus/docs "Exposition formats", and how `expfmt` of the Go client writes it.

use std::ops::Range;

use super::number::{write_float, write_number};
use crate::registry::{FamilyView, LabelsView, Reading, SeriesView};

pub(super) fn write_family(out: &mut Vec<u8>, family: FamilyView<'_>) {
    write_head::<false>(out, family.name, family.help, family.kind.name());
}

pub(super) fn write_series(out: &mut Vec<u8>, name: &str, series: SeriesView<'_>) {
    Samples::<false>::new(out, name, series.labels).write_reading(series.reading);
}

/// A sample whose labels are encoded already: `name="value"`, by commas.
pub(super) fn write_encoded_sample(out: &mut Vec<u8>, name: &str, labels: &str, value: f64) {
    write_encoded_name(out, name, labels);
    write_number(out, value);
    out.push(b'\n');
}

pub(super) fn write_encoded_name(out: &mut Vec<u8>, name: &str, labels: &str) {
    out.extend_from_slice(name.as_bytes());
    if !labels.is_empty() {
        for part in ["{", labels, "}"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.push(b' ');
}

/// Appends HELP and TYPE; OpenMetrics (`OPEN`) escapes quotes there, too.
pub(super) fn write_head<const OPEN: bool>(out: &mut Vec<u8>, name: &str, help: &str, kind: &str) {
    for part in ["# HELP ", name, " "] {
        out.extend_from_slice(part.as_bytes());
    }
    write_escaped(out, help.as_bytes(), OPEN);
    for part in ["\n# TYPE ", name, " ", kind, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Writes the samples of one series; its labels are encoded once. OpenMetrics (`OPEN`) writes floats
/// with a point and counts without an exponent.
pub(super) struct Samples<'a, const OPEN: bool> {
    out: &'a mut Vec<u8>,
    name: &'a str,
    labels: LabelsView<'a>,
    /// Where in `out` the encoded labels stand, from the first sample on.
    encoded: Option<Range<usize>>,
}

/// A sample's value.
#[derive(Clone, Copy)]
pub(super) enum Figure {
    Float(f64),
    Count(u64),
}

impl<'a, const OPEN: bool> Samples<'a, OPEN> {
    pub(super) fn new(out: &'a mut Vec<u8>, name: &'a str, labels: LabelsView<'a>) -> Self {
        Self { out, name, labels, encoded: None }
    }

    pub(super) fn write_reading(&mut self, reading: Reading<'_>) {
        match reading {
            Reading::Counter { value, .. } | Reading::Gauge(value) => {
                self.write("", None, Figure::Float(value));
            }
            Reading::Summary { quantiles, values, sum, count, .. } => {
                for (wanted, value) in quantiles.iter().zip(values) {
                    self.write("", Some(("quantile", wanted.quantile)), Figure::Float(*value));
                }
                self.write("_sum", None, Figure::Float(sum));
                self.write("_count", None, Figure::Count(count));
            }
            Reading::Histogram { bounds, counts, sum, .. } => {
                let mut total = 0_u64;
                for (bound, count) in bounds.iter().copied().chain([f64::INFINITY]).zip(counts) {
                    total = total.saturating_add(*count);
                    self.write("_bucket", Some(("le", bound)), Figure::Count(total));
                }
                self.write("_sum", None, Figure::Float(sum));
                self.write("_count", None, Figure::Count(total));
            }
        }
    }

    pub(super) fn write(&mut self, suffix: &str, last: Option<(&str, f64)>, figure: Figure) {
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        let start = self.out.len();
        match &self.encoded {
            Some(encoded) => self.out.extend_from_within(encoded.clone()),
            None => {
                write_labels(self.out, self.labels);
                self.encoded = Some(start..self.out.len());
            }
        }
        if let Some((name, value)) = last {
            self.out.push(if self.out.len() == start { b'{' } else { b',' });
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"=\"");
            self.write_value(value);
            self.out.push(b'"');
        }
        if self.out.len() > start {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        match figure {
            Figure::Float(value) => self.write_value(value),
            Figure::Count(count) if OPEN => {
                self.out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
            }
            Figure::Count(count) => write_number(self.out, as_float(count)),
        }
        self.out.push(b'\n');
    }

    fn write_value(&mut self, value: f64) {
        if OPEN { write_float(self.out, value) } else { write_number(self.out, value) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "the format has only floats; exact up to 2^53")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// Appends `{name="value",name="value"`, or nothing if there are no labels.
fn write_labels(out: &mut Vec<u8>, labels: LabelsView<'_>) {
    // Hardly any value needs escaping, so they are all searched at once.
    let plain = memchr::memchr3(b'\\', b'\n', b'"', labels.joined_values()).is_none();
    let mut before = b'{';
    for (name, value) in labels.iter() {
        out.push(before);
        out.extend_from_slice(name);
        out.extend_from_slice(b"=\"");
        if plain {
            out.extend_from_slice(value)
        } else {
            write_escaped(out, value, true)
        }
        out.push(b'"');
        before = b',';
    }
}

/// Appends `text` with `\` and newline escaped, and `"` if it stands in quotes.
fn write_escaped(out: &mut Vec<u8>, mut text: &[u8], quoted: bool) {
    let next = |text: &[u8]| {
        if quoted { memchr::memchr3(b'\\', b'\n', b'"', text) } else { memchr::memchr2(b'\\', b'\n', text) }
    };
    while let Some((plain, [special, rest @ ..])) = next(text).and_then(|at| text.split_at_checked(at)) {
        out.extend_from_slice(plain);
        out.extend_from_slice(&[b'\\', if *special == b'\n' { b'n' } else { *special }]);
        text = rest;
    }
    out.extend_from_slice(text);
}
