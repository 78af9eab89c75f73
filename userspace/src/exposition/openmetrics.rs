//! Families and series -> OpenMetrics 1.0 text.
//!
//! A counter whose name ends in `_total` is written as a counter; another one as `unknown`, because
//! giving it the suffix would rename what people's dashboards show. `expfmt` of the Go client does the
//! same.
//!
//! Source: prometheus/OpenMetrics, specification 1.0.

use super::number::write_float;
use super::text::{Figure, Samples, write_encoded_name, write_head};
use crate::clock::WallClock;
use crate::registry::{FamilyKind, FamilyView, Reading, SeriesView};

pub(super) const END: &[u8] = b"# EOF\n";

/// How a family is named here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    /// Of the samples, without the suffixes of observers; for a counter with `_total`.
    samples: &'a str,
    /// In HELP and TYPE, and before `_created`.
    family: &'a str,
    kind: &'static str,
    created: bool,
}

impl<'a> Names<'a> {
    /// `is_taken` tells which names are those of other families.
    pub(super) fn new(name: &'a str, kind: FamilyKind, is_taken: impl Fn(&str) -> bool) -> Self {
        let mut names = Self { samples: name, family: name, kind: kind.name(), created: false };
        if kind == FamilyKind::Gauge {
            return names;
        }
        if kind == FamilyKind::Counter {
            match name.strip_suffix("_total").filter(|base| !base.is_empty() && !clashes(base, &is_taken)) {
                Some(base) => names.family = base,
                None => {
                    names.kind = "unknown";
                    return names;
                }
            }
        }
        let created = format!("{}_created", names.family);
        names.created = !is_taken(&created) && !is_taken(&format!("{created}_total"));
        names
    }
}

/// Whether a family called `base` would be, or would hold samples of, another one.
fn clashes(base: &str, is_taken: &impl Fn(&str) -> bool) -> bool {
    let suffixes = ["_sum", "_count", "_bucket", "_created"];
    is_taken(base) || suffixes.iter().any(|suffix| base.strip_suffix(suffix).is_some_and(is_taken))
}

pub(super) fn write_family(out: &mut Vec<u8>, names: Names<'_>, help: &str) {
    write_head::<true>(out, names.family, help, names.kind);
}

pub(super) fn write_series(out: &mut Vec<u8>, names: Names<'_>, series: SeriesView<'_>, clock: WallClock) {
    Samples::<true>::new(out, names.samples, series.labels).write_reading(series.reading);
    let (Reading::Counter { created, .. }
    | Reading::Summary { created, .. }
    | Reading::Histogram { created, .. }) = series.reading
    else {
        return;
    };
    if names.created {
        let figure = Figure::Float(clock.unix_seconds(created));
        Samples::<true>::new(out, names.family, series.labels).write("_created", None, figure);
    }
}

/// A family of the daemon's own, whose labels are encoded already.
pub(super) fn write_own(
    out: &mut Vec<u8>,
    names: Names<'_>,
    family: FamilyView<'_>,
    samples: &[(String, f64)],
    clock: WallClock,
) {
    write_family(out, names, family.help);
    let created_name = format!("{}_created", names.family);
    for (labels, value) in samples {
        write_encoded_name(out, names.samples, labels);
        write_float(out, *value);
        out.push(b'\n');
        if names.created {
            write_encoded_name(out, &created_name, labels);
            write_float(out, clock.unix_seconds(clock.started()));
            out.push(b'\n');
        }
    }
}
