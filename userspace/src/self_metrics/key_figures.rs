//! Families -> the few figures that the landing page shows.

use crate::exposition::OwnFamily;

/// What the landing page shows, and as which.
const KEY_FIGURES: [(&str, &str); 8] = [
    ("statsd_exporter_lines_total", "lines received"),
    ("rotameter_events_total", "events in them"),
    ("statsd_exporter_sample_errors_total", "samples that did not parse"),
    ("rotameter_lost_datagrams_total", "datagrams lost"),
    ("rotameter_series", "series"),
    ("rotameter_promoted_identities", "identities counted in the kernel"),
    ("statsd_exporter_loaded_mappings", "mapping rules"),
    ("process_resident_memory_bytes", "bytes of memory"),
];

/// The sum of each key figure that is among `families`, under its name for people.
#[must_use]
pub fn key_figures(families: &[OwnFamily]) -> Vec<(&'static str, f64)> {
    let sum = |name: &str| {
        let family = families.iter().find(|family| family.name == name)?;
        Some(family.samples.iter().map(|(_, value)| value).sum())
    };
    KEY_FIGURES.iter().filter_map(|(name, text)| Some((*text, sum(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::families::{Families, label};
    use super::*;

    #[test]
    fn a_key_figure_is_the_sum_of_its_family() {
        let mut out = Families(Vec::new());
        let samples = vec![(label("reason", "a"), 1), (label("reason", "b"), 2)];
        out.labelled("statsd_exporter_sample_errors_total", "", samples, true);
        out.gauge("rotameter_series", "", 7.0);
        assert_eq!(key_figures(&out.0), [("samples that did not parse", 3.0), ("series", 7.0)]);
    }
}
