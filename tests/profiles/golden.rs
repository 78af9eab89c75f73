//! Recordings -> expositions, as they were once looked through.
//!
//! Of each recording and profile there is an exposition of a part of the recording, whole, and of the whole
//! recording a summary. `ROTAMETER_ACCEPT=1 cargo test -p rotameter-tests profiles::golden` writes both anew;
//! look through what that changes.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rotameter::profile::{ALL, Version};

use super::{exposition, ingest, mapper, pipeline, recorded, replay, samples, settings, version_of};
use crate::corpus::{self, Recorded};

/// Datagrams of each kind that a whole exposition is made of. All of them would make gigabytes.
const OF_A_KIND: usize = 4;

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
    compare(&format!("{profile}.txt"), &text);
}

/// Holds a text against the golden file of that name.
#[track_caller]
fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/golden").join(name);
    if std::env::var_os("ROTAMETER_ACCEPT").is_some() {
        std::fs::write(&path, text).expect("the golden file can be written");
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

/// What a datagram is about: the first two segments behind the prefix, and whether there are tags.
fn kind(payload: &[u8]) -> (String, bool) {
    let text = String::from_utf8_lossy(payload);
    let head = text.split(':').next().unwrap_or_default();
    let (name, tags) = head.split_once(',').unwrap_or((head, ""));
    let segments: Vec<&str> = name.split('.').skip(1).take(2).collect();
    (segments.join("."), !tags.is_empty() || text.contains("|#"))
}

/// The first datagrams of each kind.
fn part(recording: &str) -> Vec<Recorded> {
    let mut seen: HashMap<_, usize> = HashMap::new();
    let is_wanted = |datagram: &&Recorded| {
        let times = seen.entry(kind(&datagram.payload)).or_default();
        *times += 1;
        *times <= OF_A_KIND
    };
    recorded(recording).iter().filter(is_wanted).cloned().collect()
}

#[test]
fn each_recording_gives_the_expositions_that_were_looked_through() {
    for recording in corpus::names().expect("the corpus is there") {
        let datagrams = part(&recording);
        for profile in &ALL {
            let pipeline = pipeline(&mapper(profile.name, &settings(version_of(&recording))));
            datagrams.iter().for_each(|datagram| ingest(&pipeline, &datagram.payload));
            compare(&format!("{recording}.{}.prom", profile.name), &exposition(&pipeline));
        }
    }
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

/// Fails with what promtool finds fault with.
#[track_caller]
fn promtool(text: &str, of: &str) {
    let program = std::env::var_os("ROTAMETER_PROMTOOL").unwrap_or_else(|| "promtool".into());
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
    assert!(status.success(), "{of}: {findings}");
}

#[test]
#[ignore = "needs promtool"]
fn promtool_finds_nothing_in_the_airflow_profile() {
    for recording in corpus::names().expect("the corpus is there") {
        promtool(&replay("airflow", &recording, &settings(version_of(&recording))), &recording);
    }
    // A daemon for all of them, whatever it takes them for.
    for version in [Version::V2, Version::V3, Version::V32] {
        let pipeline = pipeline(&mapper("airflow", &settings(version)));
        for recording in corpus::names().expect("the corpus is there") {
            part(&recording).iter().for_each(|datagram| ingest(&pipeline, &datagram.payload));
        }
        promtool(&exposition(&pipeline), "all of them");
    }
}
