//! A report -> Markdown.

use std::fmt::Write as _;

use super::{Chapter, Limit, Report, Row};

const HEADING: [&str; 9] = ["scenario", "case", "median", "min", "max", "net", "unit", "limit", ""];

impl Report {
    /// The report as Markdown: machine, one table, then what the scenarios have to say.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n`{}`\n\n", self.machine, self.command);
        for program in &self.programs {
            let _ = writeln!(text, "- {}: `{}`, {}", program.name, program.path, program.version);
        }
        if !self.programs.is_empty() {
            text.push('\n');
        }
        text.push_str(&table(self.rows()));
        for chapter in &self.chapters {
            text.push_str(&remarks(chapter));
        }
        text
    }
}

/// Rows as one Markdown table.
fn table<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut lines = vec![HEADING.map(str::to_owned)];
    lines.extend(rows.map(cells));
    let mut widths = [3; HEADING.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for (place, line) in lines.iter().enumerate() {
        let cells: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if place == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            let _ = writeln!(text, "| {} |", rules.join(" | "));
        }
    }
    text
}

fn cells(row: &Row) -> [String; HEADING.len()] {
    let limit = match row.limit {
        Some(Limit::AtMost(limit)) => format!("<= {}", number(limit)),
        Some(Limit::AtLeast(limit)) => format!(">= {}", number(limit)),
        None => String::new(),
    };
    let verdict = row.reached().map_or("", |reached| if reached { "reached" } else { "missed" });
    [
        row.scenario.clone(),
        row.case.clone(),
        number(row.median),
        number(row.min),
        number(row.max),
        row.net.map_or_else(String::new, number),
        row.unit.clone(),
        limit,
        verdict.to_owned(),
    ]
}

/// Failure, disturbances and notes of one scenario; nothing for one that had none of them.
fn remarks(chapter: &Chapter) -> String {
    let mut remarks = Vec::new();
    if let Some(failure) = &chapter.failure {
        remarks.push(format!("**no figures**: {failure}"));
    }
    remarks.extend(chapter.conditions.disturbance());
    remarks.extend(chapter.findings.notes.iter().cloned());
    if remarks.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}:\n\n", chapter.scenario);
    for remark in remarks {
        let _ = writeln!(text, "- {remark}");
    }
    text
}

/// Three or four digits are as many as a figure is good for.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            Row::new("live", "a long case", "ns", &[1.0]).at_most(0.5),
            Row::new("s", "c", "M/s", &[123.4, 0.05]),
        ];
        assert_eq!(
            table(rows.iter()),
            "\
| scenario | case        | median | min    | max  | net | unit | limit   |        |
| -------- | ----------- | ------ | ------ | ---- | --- | ---- | ------- | ------ |
| live     | a long case | 1.00   | 1.00   | 1.00 |     | ns   | <= 0.50 | missed |
| s        | c           | 123    | 0.0500 | 123  |     | M/s  |         |        |
"
        );
    }
}
