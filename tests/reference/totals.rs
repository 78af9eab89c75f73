//! Events -> families: every sample kept, first come first served.

use std::collections::BTreeMap;

use super::line::{Event, Kind, escape};

pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Counter,
    Gauge,
    Summary,
}

impl Type {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
        }
    }
}

#[derive(Debug)]
pub struct Family {
    pub kind: Type,
    pub series: BTreeMap<Labels, Series>,
}

/// All that a series was told; which of it matters is a question of its family's type.
#[derive(Debug, Default)]
pub struct Series {
    /// A counter's or gauge's value, a summary's sum; added up in order of arrival.
    pub value: f64,
    /// Observations, each with how often it counts.
    pub observed: Vec<(f64, u64)>,
}

#[derive(Debug, Default)]
pub struct Totals {
    pub families: BTreeMap<String, Family>,
}

impl Totals {
    /// Brings one event to its series, or says why it has none.
    ///
    /// # Errors
    ///
    /// The reason, where there is one as statsd_exporter names it. `empty_metric_name` and
    /// `reserved_label` are those events that it takes, and that break each scrape thereafter.
    pub fn record(&mut self, event: Event) -> Result<(), &'static str> {
        let name = escape(&event.name);
        let kind = match event.kind {
            Kind::Counter => Type::Counter,
            Kind::Gauge { .. } => Type::Gauge,
            Kind::Observer => Type::Summary,
        };
        if name.is_empty() {
            return Err("empty_metric_name");
        }
        if kind == Type::Counter && event.value < 0.0 {
            return Err("illegal_negative_counter");
        }
        let reserved = |key: &String| key.starts_with("__") || (kind == Type::Summary && key == "quantile");
        if event.tags.keys().any(reserved) {
            return Err("reserved_label");
        }
        if !self.admits(&name, kind, &event.tags) {
            return Err("conflict");
        }
        let family = self.families.entry(name).or_insert_with(|| Family { kind, series: BTreeMap::new() });
        let series = family.series.entry(event.tags).or_default();
        match event.kind {
            Kind::Gauge { relative: false } => series.value = event.value,
            Kind::Gauge { relative: true } | Kind::Counter => series.value += event.value,
            Kind::Observer => {
                // Adding one by one where that is quick: it rounds as the original does.
                if event.times <= 1000 {
                    (0..event.times).for_each(|_| series.value += event.value);
                } else {
                    series.value += event.value * event.times as f64;
                }
                series.observed.push((event.value, event.times));
            }
        }
        Ok(())
    }

    /// Whether `name` may be of this type, and a new series written without looking like one of
    /// another family: `x_sum` and `x_count` are also lines of a summary `x`.
    fn admits(&self, name: &str, kind: Type, labels: &Labels) -> bool {
        if let Some(family) = self.families.get(name) {
            if family.kind != kind {
                return false;
            }
            if family.series.contains_key(labels) {
                return true;
            }
        }
        let kind_of = |name: String| self.families.get(&name).map(|family| family.kind);
        let base = |suffix| name.strip_suffix(suffix).and_then(|base| kind_of(base.to_owned()));
        match kind {
            // As wide as statsd_exporter has it: also a plain gauge blocks names that end so.
            Type::Counter | Type::Gauge => ["_sum", "_count", "_bucket"]
                .iter()
                .all(|suffix| matches!(base(suffix), None | Some(Type::Counter))),
            // statsd_exporter takes a summary beside a summary, and then every scrape fails.
            Type::Summary => ["_sum", "_count"].iter().all(|suffix| {
                kind_of(format!("{name}{suffix}")).is_none() && base(suffix) != Some(Type::Summary)
            }),
        }
    }
}

/// Quantiles that a summary shows, each with the share of all samples by which its rank may be off.
pub const QUANTILES: [(f64, f64); 3] = [(0.5, 0.05), (0.9, 0.01), (0.99, 0.001)];

/// Below this count all samples lie in a buffer, and quantiles are exact.
const EXACT_BELOW: u64 = 500;

impl Series {
    pub fn count(&self) -> u64 {
        self.observed.iter().map(|&(_, times)| times).sum()
    }

    /// Whether `shown` may stand for the quantile `q`: the exact nearest rank as long as there are few
    /// samples, and one whose rank is off by little more than `error` of them otherwise.
    ///
    /// # Errors
    ///
    /// What would have been right.
    pub fn check_quantile(&self, q: f64, error: f64, shown: f64) -> Result<(), String> {
        // No order holds a NaN; what a summary shows then means nothing.
        if self.observed.iter().any(|(value, _)| value.is_nan()) {
            return Ok(());
        }
        let count = self.count() as f64;
        let rank = (q * count).ceil().max(1.0);
        // Asked for rank r, the sketch of beorn7/perks looks up to f(r) / 2 further on, f(r) = 2 error r / q,
        // and its entries there are f(r + f(r) / 2) wide: so it may answer with a rank that is lower by
        // f(r) / 2 and the growth of f. One rank more for each of the two places where it rounds.
        let sketch = error * count * (1.0 + 2.0 * error / q) + 2.0;
        let tolerance = if self.count() < EXACT_BELOW { 0.0 } else { sketch };
        // The samples equal to `shown` hold the ranks from `below + 1` to `below + equal`.
        let weigh = |keep: &dyn Fn(f64) -> bool| -> f64 {
            self.observed.iter().filter(|(value, _)| keep(*value)).map(|&(_, times)| times as f64).sum()
        };
        let (below, equal) = (weigh(&|value| value < shown), weigh(&|value| value == shown));
        if equal > 0.0 && below < rank + tolerance && below + equal >= rank - tolerance {
            return Ok(());
        }
        let ranks = format!("ranks {} to {}", below + 1.0, below + equal);
        Err(format!("quantile {q} is {shown} with {ranks}, not within {tolerance} of rank {rank} of {count}"))
    }
}
