//! Measured values -> rows of a table, a JSON file.

use serde::Serialize;

use crate::machine::Machine;

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// One figure, over all runs.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub scenario: &'static str,
    pub case: String,
    pub unit: &'static str,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// The median less what the harness itself costs, where that is known.
    pub net: Option<f64>,
    pub limit: Option<Limit>,
}

impl Row {
    /// A row of the values of all runs; NaN where there are none.
    #[must_use]
    pub fn new(scenario: &'static str, case: impl Into<String>, unit: &'static str, values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |place: Option<&f64>| place.copied().unwrap_or(f64::NAN);
        Self {
            scenario,
            case: case.into(),
            unit,
            median: at(sorted.get(sorted.len() / 2)),
            min: at(sorted.first()),
            max: at(sorted.last()),
            net: None,
            limit: None,
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

/// Everything of one call.
#[derive(Debug, Serialize)]
pub struct Report {
    pub command: String,
    pub machine: Machine,
    pub rows: Vec<Row>,
}

impl Report {
    /// The report as a Markdown table.
    #[must_use]
    pub fn table(&self) -> String {
        let heading =
            ["scenario", "case", "median", "min", "max", "net", "unit", "limit", ""].map(str::to_owned);
        let mut rows = vec![heading];
        for row in &self.rows {
            let (limit, verdict) = match (row.limit, row.reached()) {
                (Some(Limit::AtMost(limit)), reached) => (format!("<= {}", number(limit)), reached),
                (Some(Limit::AtLeast(limit)), reached) => (format!(">= {}", number(limit)), reached),
                (None, _) => (String::new(), None),
            };
            let verdict = verdict.map_or("", |reached| if reached { "reached" } else { "missed" });
            rows.push([
                row.scenario.to_owned(),
                row.case.clone(),
                number(row.median),
                number(row.min),
                number(row.max),
                row.net.map_or_else(String::new, number),
                row.unit.to_owned(),
                limit,
                verdict.to_owned(),
            ]);
        }
        let mut widths = [3; 9];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = format!("{}\n`{}`\n\n", self.machine, self.command);
        for (place, row) in rows.iter().enumerate() {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
            if place == 0 {
                let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                text.push_str(&format!("| {} |\n", rules.join(" | ")));
            }
        }
        text
    }
}

/// Three or four digits are as many as a figure is good for.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_holds_the_median_and_the_spread() {
        let row = Row::new("s", "c", "ns", &[3.0, 1.0, 2.0]).at_most(2.0).net_of(0.5);
        assert_eq!((row.median, row.min, row.max, row.net), (2.0, 1.0, 3.0, Some(1.5)));
        assert_eq!(row.reached(), Some(true));
        assert_eq!(row.at_least(2.5).reached(), Some(false));
    }
}
