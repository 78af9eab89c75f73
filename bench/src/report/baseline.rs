//! An earlier report -> what moved since, by more than the noise.

use std::{collections::HashMap, fmt::Write as _, path::Path};

use anyhow::Context as _;
use serde::Deserialize;

use super::{Row, table::number};

/// A median must move by this share at least, however small the spread of both was.
const SHARE_MIN: f64 = 0.03;
/// The same where one side has too few runs to know its spread.
const SHARE_MIN_WITHOUT_SPREAD: f64 = 0.15;
const RUNS_FOR_SPREAD: usize = 3;

/// Rows of an earlier report.
#[derive(Debug)]
pub struct Baseline {
    rows: HashMap<(String, String), Row>,
}

/// What is read of a report's file.
#[derive(Deserialize)]
struct File {
    chapters: Vec<Rows>,
}

#[derive(Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

impl Baseline {
    /// Reads the JSON of an earlier report.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is none of ours.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("reading the baseline {}", path.display()))?;
        let file: File = serde_json::from_slice(&text).with_context(|| {
            format!("{}: not a report; `cargo xtask bench --output DIR` writes one", path.display())
        })?;
        Ok(Self::of(file.chapters.into_iter().flat_map(|chapter| chapter.rows)))
    }

    fn of(rows: impl Iterator<Item = Row>) -> Self {
        Self { rows: rows.map(|row| ((row.scenario.clone(), row.case.clone()), row)).collect() }
    }

    /// One Markdown line for each figure that moved: its ranges do not touch, and its median is
    /// another by a share that means something.
    #[must_use]
    pub fn compare<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> String {
        let (mut text, mut compared) = (String::new(), 0);
        for new in rows {
            let Some(old) = self.rows.get(&(new.scenario.clone(), new.case.clone())) else { continue };
            if old.unit != new.unit {
                continue;
            }
            compared += 1;
            if let Some(change) = moved(old, new) {
                let (scenario, case, unit) = (&new.scenario, &new.case, &new.unit);
                let (from, to) = (number(old.median), number(new.median));
                let _ = writeln!(text, "- {scenario}, {case}: {from} -> {to} {unit} ({change:+.0} %)");
            }
        }
        match compared {
            0 => "The baseline has none of these figures.\n".to_owned(),
            _ if text.is_empty() => {
                format!("None of {compared} figures moved by more than the noise.\n")
            }
            _ => format!("Moved by more than the noise, of {compared} figures:\n\n{text}"),
        }
    }
}

/// By how many percent the median moved, if that is more than noise.
fn moved(old: &Row, new: &Row) -> Option<f64> {
    let change = (new.median - old.median) / old.median.abs();
    let spread_known = old.runs.len().min(new.runs.len()) >= RUNS_FOR_SPREAD;
    let apart = new.min > old.max || new.max < old.min;
    let share_min = if spread_known { SHARE_MIN } else { SHARE_MIN_WITHOUT_SPREAD };
    (apart && change.abs() >= share_min).then_some(change * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64]) -> Row {
        Row::new("live", "rate", "M/s", values)
    }

    #[test]
    fn only_what_lies_outside_the_old_range_has_moved() {
        let old = row(&[1.0, 1.1, 1.2]);
        assert_eq!(moved(&old, &row(&[1.15, 1.3, 1.4])), None);
        assert_eq!(moved(&old, &row(&[2.2, 2.2, 2.2])).map(f64::round), Some(100.0));
        // Apart, but by 2 % only.
        assert_eq!(moved(&row(&[1.0; 3]), &row(&[1.02; 3])), None);
        // One run each: no spread is known.
        assert_eq!(moved(&row(&[1.0]), &row(&[1.1])), None);
        assert!(moved(&row(&[1.0]), &row(&[1.2])).is_some());
    }

    #[test]
    fn a_report_is_compared_by_scenario_and_case() {
        let baseline = Baseline::of([row(&[1.0, 1.0, 1.0])].into_iter());
        assert!(baseline.compare([row(&[2.0; 3])].iter()).contains("live, rate: 1.00 -> 2.00 M/s (+100 %)"));
        assert!(baseline.compare([row(&[1.0; 3])].iter()).starts_with("None of 1 figures"));
        let other = Row::new("live", "other", "M/s", &[1.0]);
        assert!(baseline.compare([other].iter()).starts_with("The baseline has none"));
    }
}
