//! Recordings -> families, label names, series and sums, as they were once looked through.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{replay, samples, settings, version_of};
use crate::corpus;

/// One line for each family and set of label names: how many series, and what they add up to.
fn summary(text: &str) -> String {
    let kinds: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut rows: BTreeMap<(String, String), (usize, f64, f64)> = BTreeMap::new();
    for sample in samples(text) {
        let base = ["_count", "_sum", "_bucket"].iter().find_map(|end| {
            let base = sample.name.strip_suffix(end)?;
            kinds
                .get(base)
                .is_some_and(|kind| matches!(*kind, "histogram" | "summary"))
                .then_some((base, *end))
        });
        let (family, part) = base.unwrap_or((sample.name, ""));
        if part == "_bucket" || sample.labels.iter().any(|(key, _)| *key == "quantile") {
            continue;
        }
        let keys: Vec<&str> = sample.labels.iter().map(|(key, _)| *key).collect();
        let row = rows.entry((family.to_owned(), keys.join(","))).or_default();
        if part == "_sum" {
            row.2 += sample.value;
        } else {
            row.0 += 1;
            row.1 += sample.value;
        }
    }
    let mut out = String::new();
    for ((family, keys), (series, total, sum)) in rows {
        let kind = kinds.get(&*family).copied().unwrap_or("untyped");
        let total = match kind {
            "histogram" | "summary" => format!("count {total}, sum {sum:.3}"),
            "counter" => format!("total {total}"),
            // Of gauges the sum says nothing, but shows what changed.
            _ => format!("sum {total:.3}"),
        };
        writeln!(out, "{family}{{{keys}}} {kind}, {series} series, {total}").expect("writing to a string");
    }
    out
}

fn check(profile: &str) {
    let mut text = String::new();
    for recording in corpus::names().expect("the corpus is there") {
        let exposition = replay(profile, &recording, &settings(version_of(&recording)));
        write!(text, "== {recording}\n{}\n", summary(&exposition)).expect("writing to a string");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("profiles/golden/{profile}.txt"));
    if std::env::var_os("ROTAMETER_ACCEPT").is_some() {
        std::fs::write(&path, &text).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (found, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(
            found,
            expected,
            "{}, line {}; look it through, then run with ROTAMETER_ACCEPT=1",
            path.display(),
            line + 1
        );
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "{}", path.display());
}

#[test]
fn the_airflow_profile_gives_what_was_looked_through() {
    check("airflow");
}

#[test]
fn the_chart_profile_gives_what_was_looked_through() {
    check("airflow-chart");
}

#[test]
fn the_mixin_profile_gives_what_was_looked_through() {
    check("airflow-mixin");
}

#[test]
#[ignore = "needs promtool"]
fn promtool_finds_nothing_in_the_airflow_profile() {
    let program = std::env::var_os("ROTAMETER_PROMTOOL").unwrap_or_else(|| "promtool".into());
    for recording in corpus::names().expect("the corpus is there") {
        let text = replay("airflow", &recording, &settings(version_of(&recording)));
        let (path, input) = (tempfile::NamedTempFile::new(), tempfile::NamedTempFile::new());
        let (findings, input) = (path.expect("a file can be had"), input.expect("a file can be had"));
        std::fs::write(input.path(), text.as_bytes()).expect("it can be written");
        let status = Command::new(&program)
            .args(["check", "metrics"])
            .stdin(std::fs::File::open(input.path()).expect("it was just written"))
            .stdout(Stdio::null())
            .stderr(findings.reopen().expect("it is there"))
            .status()
            .expect("promtool starts");
        let findings = std::fs::read_to_string(findings.path()).unwrap_or_default();
        assert!(status.success(), "{recording}: {findings}");
    }
}
