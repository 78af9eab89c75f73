//! Measured values -> a report: rows, plots, what the machine was like.

use serde::{Deserialize, Serialize};

use crate::{conditions::Conditions, machine::Machine};

mod table;

mod plot;
pub use plot::{Curve, Plot, Scale};

mod baseline;
pub use baseline::Baseline;

mod files;

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// One figure, over all runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub scenario: String,
    /// With the scenario's name it tells a row from all others, from one call to the next.
    pub case: String,
    pub unit: String,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// The median less what the harness itself costs, where that is known.
    pub net: Option<f64>,
    pub limit: Option<Limit>,
    /// Every run, in the order in which they were made.
    pub runs: Vec<f64>,
}

impl Row {
    /// A row of the values of all runs; NaN where there are none.
    #[must_use]
    pub fn new(scenario: &str, case: impl Into<String>, unit: &str, values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |place: Option<&f64>| place.copied().unwrap_or(f64::NAN);
        Self {
            scenario: scenario.to_owned(),
            case: case.into(),
            unit: unit.to_owned(),
            median: at(sorted.get(sorted.len() / 2)),
            min: at(sorted.first()),
            max: at(sorted.last()),
            net: None,
            limit: None,
            runs: values.to_vec(),
        }
    }

    #[must_use]
    pub fn at_most(mut self, limit: f64) -> Self {
        self.limit = Some(Limit::AtMost(limit));
        self
    }

    #[must_use]
    pub fn at_least(mut self, limit: f64) -> Self {
        self.limit = Some(Limit::AtLeast(limit));
        self
    }

    #[must_use]
    pub fn net_of(mut self, harness: f64) -> Self {
        self.net = Some(self.median - harness);
        self
    }

    /// Whether the median reaches its limit; nothing but the table depends on it.
    #[must_use]
    pub fn reached(&self) -> Option<bool> {
        self.limit.map(|limit| match limit {
            Limit::AtMost(limit) => self.median <= limit,
            Limit::AtLeast(limit) => self.median >= limit,
        })
    }
}

/// What one scenario found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    pub rows: Vec<Row>,
    pub plots: Vec<Plot>,
    /// What a reader must know beside the figures: what could not be measured, what was tuned.
    pub notes: Vec<String>,
}

impl From<Vec<Row>> for Findings {
    fn from(rows: Vec<Row>) -> Self {
        Self { rows, ..Self::default() }
    }
}

/// A scenario as it was run.
#[derive(Debug, Serialize)]
pub struct Chapter {
    pub scenario: &'static str,
    pub about: &'static str,
    pub conditions: Conditions,
    #[serde(flatten)]
    pub findings: Findings,
    /// Why it has no figures.
    pub failure: Option<String>,
}

/// A program that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    pub name: String,
    pub path: String,
    /// The first line that it says to `--version`.
    pub version: String,
}

/// Everything of one call.
#[derive(Debug, Serialize)]
pub struct Report {
    pub command: String,
    /// Seconds since 1970.
    pub began: u64,
    pub machine: Machine,
    pub programs: Vec<Program>,
    pub chapters: Vec<Chapter>,
}

impl Report {
    /// All rows, in the order of the chapters.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.chapters.iter().flat_map(|chapter| &chapter.findings.rows)
    }

    /// Scenarios without figures, with the reason.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.chapters.iter().filter_map(|chapter| Some((chapter.scenario, chapter.failure.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_holds_the_median_and_the_spread() {
        let row = Row::new("s", "c", "ns", &[3.0, 1.0, 2.0]).at_most(2.0).net_of(0.5);
        assert_eq!((row.median, row.min, row.max, row.net), (2.0, 1.0, 3.0, Some(1.5)));
        assert_eq!(row.runs, [3.0, 1.0, 2.0]);
        assert_eq!(row.reached(), Some(true));
        assert_eq!(row.at_least(2.5).reached(), Some(false));
    }
}
