//! Registry -> where its series are: families, label values, offenders.
//!
//! For people who look for what makes so many series; nobody asks for it often. It goes through all
//! series in slices, as a scrape does, in bounded memory: of a label with too many values the smaller
//! ones are given up (Misra and Gries, "Finding repeated elements", 1982), and those that stay are
//! undercounted by `undercounted_by` at most.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::BuildHasher as _;

use hashbrown::HashMap;
use parking_lot::MutexGuard;
use serde_json::json;

use super::Pipeline;
use crate::registry::{Distinct, LabelsView, SeriesMark};

/// Series that one hold of the lock looks at.
const SLICE_SERIES: usize = 512;
const FAMILIES_SHOWN: usize = 50;
const VALUES_SHOWN: usize = 20;
const OFFENDERS_SHOWN: usize = 64;
/// Label names come from tags, too.
const LABELS_MAX: usize = 64;
/// Values of one label that are counted.
const VALUES_MAX: usize = 4096;
/// Of a name or value.
const SHOWN_BYTES_MAX: usize = 128;

/// Where the series are.
#[derive(Debug, Default)]
pub struct Cardinality {
    series: u64,
    series_max: u32,
    families: Vec<(String, &'static str, u64)>,
    labels: BTreeMap<String, Label>,
    /// Series with labels beyond [`LABELS_MAX`].
    other_labels: u64,
    offenders: Vec<serde_json::Value>,
}

/// What is known of one label name.
#[derive(Debug, Default)]
struct Label {
    series: u64,
    distinct: Distinct,
    values: HashMap<Box<[u8]>, u64, foldhash::fast::RandomState>,
    undercounted_by: u64,
}

impl Label {
    fn add(&mut self, value: &[u8]) {
        self.series += 1;
        self.distinct.add(self.values.hasher().hash_one(value));
        let value = value.get(..SHOWN_BYTES_MAX).unwrap_or(value);
        if let Some(series) = self.values.get_mut(value) {
            *series += 1;
        } else if self.values.len() < VALUES_MAX {
            self.values.insert(value.into(), 1);
        } else {
            // Each series is taken back once at most, so this costs little on average.
            self.undercounted_by += 1;
            self.values.retain(|_, series| {
                *series -= 1;
                *series > 0
            });
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let mut values: Vec<_> = self.values.iter().collect();
        values.sort_by_key(|(value, series)| (Reverse(**series), *value));
        let top = values
            .iter()
            .take(VALUES_SHOWN)
            .map(|(value, series)| json!({"value": String::from_utf8_lossy(value), "series": series}));
        let distinct =
            if self.undercounted_by == 0 { float(self.values.len()) } else { self.distinct.estimate() };
        json!({
            "series": self.series,
            "distinct_values": distinct,
            "undercounted_by": self.undercounted_by,
            "top": top.collect::<Vec<_>>(),
        })
    }
}

impl Cardinality {
    fn add(&mut self, labels: LabelsView<'_>) {
        for (name, value) in labels.iter() {
            let name = shown(name);
            let room = self.labels.len() < LABELS_MAX;
            match self.labels.get_mut(&*name) {
                Some(label) => label.add(value),
                None if room => {
                    self.labels.entry(name.into_owned()).or_default().add(value);
                }
                None => self.other_labels += 1,
            }
        }
    }

    /// Keeps the families with the most series.
    fn add_family(&mut self, name: &str, kind: &'static str, series: u64) {
        self.series += series;
        let place = self.families.partition_point(|(_, _, other)| *other >= series);
        if place < FAMILIES_SHOWN {
            self.families.insert(place, (shown(name.as_bytes()).into_owned(), kind, series));
            self.families.truncate(FAMILIES_SHOWN);
        }
    }

    /// The page `/cardinality`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let families = self
            .families
            .iter()
            .map(|(name, kind, series)| json!({"name": name, "type": kind, "series": series}));
        let labels = self.labels.iter().map(|(name, label)| (name.clone(), label.to_json()));
        let page = json!({
            "series": self.series,
            "series_max": self.series_max,
            "families": families.collect::<Vec<_>>(),
            "labels": labels.collect::<serde_json::Map<_, _>>(),
            "labels_left_out": self.other_labels,
            "offenders": self.offenders,
        });
        page.to_string()
    }
}

impl Pipeline {
    /// Counts the series by family and by label value. The lock is given back after each slice; what comes
    /// or goes meanwhile is counted or not.
    #[must_use]
    pub fn cardinality(&self) -> Cardinality {
        let mut cardinality = Cardinality::default();
        self.look(|core| {
            cardinality.series_max = core.registry.stats().series_max;
            let offender = |of: crate::registry::Offender<'_>| {
                json!({
                    "family": shown(of.family.as_bytes()),
                    "label": shown(of.label.as_bytes()),
                    "value": shown(of.value.as_bytes()),
                    "series": of.series,
                    "events_without_room": of.events,
                    "refused_series": of.refused_series,
                })
            };
            cardinality.offenders =
                core.registry.offenders(OFFENDERS_SHOWN).into_iter().map(offender).collect();
        });
        let mut name: Option<String> = None;
        let mut next = Vec::with_capacity(1);
        loop {
            let mut core = self.core.lock();
            next.clear();
            core.registry.families_after(name.as_deref(), 1, &mut next);
            let Some(family) = next.first().copied() else { return cardinality };
            let Some(head) = core.registry.family(family) else { return cardinality };
            let (family_name, kind) = (head.name.to_owned(), head.kind.name());
            let (mut mark, mut series) = (SeriesMark::default(), 0);
            loop {
                let visited = core.registry.visit_labels(family, &mut mark, SLICE_SERIES, |labels| {
                    cardinality.add(labels);
                });
                series += visited as u64;
                if visited < SLICE_SERIES {
                    break;
                }
                MutexGuard::bump(&mut core);
            }
            MutexGuard::unlock_fair(core);
            cardinality.add_family(&family_name, kind, series);
            name = Some(family_name);
        }
    }
}

fn shown(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text.get(..SHOWN_BYTES_MAX).unwrap_or(text))
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_label_with_too_many_values_the_large_ones_stay() {
        let mut label = Label::default();
        for n in 0..20_000_u32 {
            label.add(format!("small{n}").as_bytes());
            label.add(if n % 2 == 0 { b"large" } else { b"other" });
        }
        let json = label.to_json();
        assert!(label.values.len() <= VALUES_MAX);
        let top: Vec<_> = json["top"].as_array().unwrap().iter().take(2).collect();
        let error = json["undercounted_by"].as_u64().unwrap();
        assert!(error > 0 && error < 40_000 / VALUES_MAX as u64);
        for (entry, value) in top.iter().zip(["large", "other"]) {
            assert_eq!(entry["value"], value);
            let series = entry["series"].as_u64().unwrap();
            assert!(series <= 10_000 && series + error >= 10_000, "{series}");
        }
        let distinct = json["distinct_values"].as_f64().unwrap();
        // An estimate, by hashes that differ from run to run.
        assert!((distinct - 20_002.0).abs() < 9_000.0, "{distinct}");
    }

    #[test]
    fn the_largest_families_are_kept_in_order() {
        let mut cardinality = Cardinality::default();
        for n in 0..200_u64 {
            cardinality.add_family(&format!("f{n}"), "counter", n * 37 % 200);
        }
        let sizes: Vec<u64> = cardinality.families.iter().map(|family| family.2).collect();
        assert_eq!(sizes, (150..200).rev().collect::<Vec<_>>());
        assert_eq!(cardinality.series, (0..200).sum::<u64>());
    }
}
