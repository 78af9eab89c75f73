//! Families and series -> Prometheus text format 0.0.4.
//!
//! Source: prometheus/docs "Exposition formats", and how `expfmt` of the Go client writes it.

use std::ops::Range;

use super::number::write_number;
use crate::registry::{FamilyView, LabelsView, Reading, SeriesView};

/// The content type of what this module writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

pub(super) fn write_family(out: &mut Vec<u8>, family: FamilyView<'_>) {
    for part in ["# HELP ", family.name, " "] {
        out.extend_from_slice(part.as_bytes());
    }
    write_escaped(out, family.help.as_bytes(), false);
    for part in ["\n# TYPE ", family.name, " ", family.kind.name(), "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

pub(super) fn write_series(out: &mut Vec<u8>, name: &str, series: SeriesView<'_>) {
    let mut samples = Samples { out, name, labels: series.labels, encoded: None };
    match series.reading {
        Reading::Counter { value, .. } | Reading::Gauge(value) => samples.write("", None, value),
        Reading::Summary { quantiles, values, sum, count, .. } => {
            for (wanted, value) in quantiles.iter().zip(values) {
                samples.write("", Some(("quantile", wanted.quantile)), *value);
            }
            samples.write("_sum", None, sum);
            samples.write("_count", None, as_float(count));
        }
        Reading::Histogram { bounds, counts, sum, .. } => {
            let mut total = 0_u64;
            for (bound, count) in bounds.iter().copied().chain([f64::INFINITY]).zip(counts) {
                total = total.saturating_add(*count);
                samples.write("_bucket", Some(("le", bound)), as_float(total));
            }
            samples.write("_sum", None, sum);
            samples.write("_count", None, as_float(total));
        }
    }
}

/// A sample whose labels are encoded already: `name="value"`, by commas.
pub(super) fn write_encoded_sample(out: &mut Vec<u8>, name: &str, labels: &str, value: f64) {
    out.extend_from_slice(name.as_bytes());
    if !labels.is_empty() {
        for part in ["{", labels, "}"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.push(b' ');
    write_number(out, value);
    out.push(b'\n');
}

#[expect(clippy::cast_precision_loss, reason = "the format has only floats; exact up to 2^53")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// Writes the samples of one series; its labels are encoded once.
struct Samples<'a> {
    out: &'a mut Vec<u8>,
    name: &'a str,
    labels: LabelsView<'a>,
    /// Where in `out` the encoded labels stand, from the first sample on.
    encoded: Option<Range<usize>>,
}

impl Samples<'_> {
    fn write(&mut self, suffix: &str, last: Option<(&str, f64)>, value: f64) {
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
            write_number(self.out, value);
            self.out.push(b'"');
        }
        if self.out.len() > start {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        write_number(self.out, value);
        self.out.push(b'\n');
    }
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
