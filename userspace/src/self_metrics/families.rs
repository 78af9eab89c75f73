//! Names, help texts, values -> [`OwnFamily`]s.

use crate::{exposition::OwnFamily, registry::FamilyKind};

pub(super) struct Families(pub(super) Vec<OwnFamily>);

impl Families {
    pub(super) fn add(&mut self, kind: FamilyKind, name: &str, help: &str, samples: Vec<(String, f64)>) {
        self.0.push(OwnFamily { name: name.to_owned(), help: help.to_owned(), kind, samples });
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.add(FamilyKind::Counter, name, help, vec![(String::new(), float(value))]);
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.add(FamilyKind::Gauge, name, help, vec![(String::new(), value)]);
    }

    /// A counter with labels; samples of value 0 are left out if `sparse`, as statsd_exporter does.
    pub(super) fn labelled(&mut self, name: &str, help: &str, samples: Vec<(String, u64)>, sparse: bool) {
        let samples: Vec<_> = samples
            .into_iter()
            .filter(|(_, value)| !sparse || *value > 0)
            .map(|(labels, value)| (labels, float(value)))
            .collect();
        if !samples.is_empty() {
            self.add(FamilyKind::Counter, name, help, samples);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "an exposition holds floats; exact below 2^53")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

pub(super) fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

pub(super) fn sorted(mut samples: Vec<(String, u64)>) -> Vec<(String, u64)> {
    samples.sort();
    samples
}
