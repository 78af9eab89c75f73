//! Log of an Airflow component -> why its metrics do not come.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use anyhow::Context as _;
use memchr::memmem;

use super::finding::{Finding, Severity};

/// Bytes of a line that are looked at.
const LINE_BYTES_MAX: u64 = 1 << 16;

/// What a line says, which rule that is, and the way out.
const SIGNS: [(&str, &str, &str, &str); 5] = [
    (
        "No module named 'statsd'",
        "package-missing",
        "the package statsd is not installed, so Airflow sends nothing",
        "pip install 'apache-airflow[statsd]' in the image of every component, and restart",
    ),
    (
        "No module named 'datadog'",
        "package-missing",
        "the package datadog is not installed, so Airflow sends nothing",
        "pip install 'apache-airflow[datadog]' in the image of every component, or set statsd_datadog_enabled to False",
    ),
    (
        "Could not configure StatsClient: [Errno -2] Name or service not known",
        "host-unknown",
        "the name in statsd_host was not known when the component started, and it does not try again",
        "set statsd_host to a name that resolves, or to an address; then restart",
    ),
    (
        "Could not configure StatsClient: [Errno -3] Temporary failure in name resolution",
        "host-unknown",
        "the name in statsd_host was not known when the component started, and it does not try again",
        "set statsd_host to an address, or start the component after its name service; then restart",
    ),
    (
        "Could not configure StatsClient",
        "client-failed",
        "Airflow could not make its StatsD client, and sends nothing",
        "the rest of the log line names the reason",
    ),
];

/// What the log says, each rule once, by its last line.
pub(super) fn look(path: &Path) -> anyhow::Result<Vec<Finding>> {
    let reading = || format!("reading {}", path.display());
    let mut reader = BufReader::new(File::open(path).with_context(reading)?);
    let finders = SIGNS.map(|(sign, ..)| memmem::Finder::new(sign));
    let mut last: [Option<(u64, String)>; SIGNS.len()] = Default::default();
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.with_context(reading)? == 0 {
            break;
        }
        number += 1;
        if let Some(at) = finders.iter().position(|finder| finder.find(&line).is_some()) {
            let text = String::from_utf8_lossy(line.trim_ascii()).chars().take(300).collect();
            last[at] = Some((number, text));
        }
    }
    let found = SIGNS.iter().zip(last).filter_map(|(sign, last)| Some((sign, last?)));
    Ok(found
        .map(|((_, rule, text, way_out), (number, line))| Finding {
            rule,
            severity: Severity::Error,
            text: (*text).to_owned(),
            evidence: format!("line {number} of {}: {line}", path.display()),
            way_out: (*way_out).to_owned(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[track_caller]
    fn check(log: &str, rules: &[&str]) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(log.as_bytes()).unwrap();
        let found = look(file.path()).unwrap();
        assert_eq!(found.iter().map(|finding| finding.rule).collect::<Vec<_>>(), rules, "{log}");
    }

    #[test]
    fn a_missing_package_is_told_once() {
        let line = "[2024-01-01] ERROR - Could not configure StatsClient: No module named 'statsd', \
                    using NoStatsLogger instead.\n";
        check(&line.repeat(3), &["package-missing"]);
        check("all is well\n", &[]);
        check(
            "Could not configure StatsClient: [Errno -2] Name or service not known, using",
            &["host-unknown"],
        );
        check("Could not configure StatsClient: odd", &["client-failed"]);
    }

    #[test]
    fn any_bytes_are_a_log() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0xff; 300_000]).unwrap();
        assert!(look(file.path()).unwrap().is_empty());
    }
}
