//! Report of a daemon -> what is wrong with it, or with what it gets.

use std::time::Duration;

use super::finding::{Finding, Severity};
use crate::{live::Report, startup::NO_INTERFACE_NAMED};

/// A share of the budget of series from which it is time to act.
const SERIES_SHARE_MAX: f64 = 0.8;
/// Seconds that two clocks may differ.
const CLOCK_SECONDS_MAX: f64 = 5.0;
/// A receive buffer of less holds a burst of some thousand datagrams only.
const BUFFER_KIB_MIN: u64 = 4096;

pub(super) fn away(url: &str, error: &str) -> Finding {
    Finding {
        rule: "daemon-away",
        severity: Severity::Error,
        text: "no daemon answers".to_owned(),
        evidence: format!("{url}: {error}"),
        way_out: "start it; or name its HTTP address with --url".to_owned(),
    }
}

/// Ports of the UDP sockets, by the start-up table.
pub(super) fn udp_ports(report: &Report) -> Vec<u16> {
    let rows = report.startup.iter().filter(|(feature, state, _)| feature == "udp" && state == "on");
    rows.filter_map(|(_, _, why)| why.split(',').next()?.rsplit_once(':')?.1.parse().ok()).collect()
}

/// What is wrong, at `now` by our own clock.
pub(super) fn look(report: &Report, quiet: Duration, now: f64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |rule, severity, text: &str, evidence: String, way_out: &str| {
        let (text, way_out) = (text.to_owned(), way_out.to_owned());
        findings.push(Finding { rule, severity, text, evidence, way_out });
    };
    if !report.ready {
        find(
            "not-ready",
            Severity::Error,
            "the daemon does not receive yet, or no longer",
            "ready is false".to_owned(),
            "look again; its log says what it waits for",
        );
    }
    if udp_ports(report).is_empty() {
        find(
            "no-udp",
            Severity::Warning,
            "the daemon has no UDP socket, and Airflow's own client sends by UDP",
            "no row `udp on` in the start-up table".to_owned(),
            "start it with --statsd.listen-udp=:9125",
        );
    }
    silence(report, quiet).into_iter().for_each(|(evidence, severity)| {
        find(
            "no-lines",
            severity,
            "no line has come for minutes",
            evidence,
            "look at Airflow's side: --env-file, --airflow-cfg, --pid and --airflow-log let the doctor do so; \
             then at what lies between, such as a NetworkPolicy without UDP",
        );
    });
    for loss in report.losses.iter().filter(|loss| loss.total > 0.0) {
        let evidence = format!(
            "{}{{{}}} is {:.0}, {:.1} a second now",
            loss.metric, loss.reason, loss.total, loss.per_second
        );
        if loss.metric == "rotameter_lost_datagrams_total" {
            find(
                "datagrams-lost",
                Severity::Warning,
                "datagrams were lost because the socket's queue was full",
                evidence,
                "raise net.core.rmem_max and --statsd.read-buffer, or open the doors; give the daemon more CPU",
            );
        } else {
            find(
                "refused",
                if loss.per_second > 0.0 { Severity::Warning } else { Severity::Note },
                "some of what came was refused",
                evidence,
                "docs/self-metrics.md says what each reason means; rotameter tail shows the lines",
            );
        }
    }
    for (feature, state, why) in &report.startup {
        let unwanted = why == NO_INTERFACE_NAMED;
        if state == "off" && !unwanted && matches!(feature.as_str(), "socket filter" | "xdp") {
            find(
                "door-shut",
                Severity::Note,
                "a door into the kernel is shut; everything is right, only dearer",
                format!("{feature}: {why}"),
                "docs/privileges.md lists what each door needs",
            );
        }
        if let Some(kib) = buffer_kib(why).filter(|kib| feature == "udp" && *kib < BUFFER_KIB_MIN) {
            find(
                "buffer-small",
                Severity::Warning,
                "the receive buffer is small: a burst of some thousand datagrams fills it",
                format!("{kib} KiB on {why}"),
                "sysctl -w net.core.rmem_max=16777216 and start the daemon anew, or give it CAP_NET_ADMIN",
            );
        }
    }
    let share = report.now.series / report.now.series_max.max(1.0);
    if share > SERIES_SHARE_MAX {
        find(
            "series-budget",
            Severity::Warning,
            "the budget of series is nearly used up; beyond it new ones add up in overflow series",
            format!("{:.0} of {:.0}", report.now.series, report.now.series_max),
            "raise --registry.max-series, or let a mapping rule drop or join what grows",
        );
    }
    let difference = report.time - now;
    if difference.abs() > CLOCK_SECONDS_MAX {
        find(
            "clock",
            Severity::Warning,
            "the daemon's clock and this machine's differ",
            format!("by {difference:.0} s"),
            "set both by NTP: Prometheus takes its own time, but created timestamps come from the daemon",
        );
    }
    prefixes(report).into_iter().for_each(|(seen, prefix)| {
        find(
            "prefix",
            Severity::Note,
            "most names do not begin with airflow, so that rules and dashboards for airflow.* do not fit",
            format!("{seen} of the {} hottest names begin with {prefix:?}", report.identities.len()),
            "set AIRFLOW__METRICS__STATSD_PREFIX=airflow, or say the prefix to the profile with --profile.prefix",
        );
    });
    findings
}

/// Why it is quiet, if it has been so for long enough to say so.
fn silence(report: &Report, quiet: Duration) -> Option<(String, Severity)> {
    let quiet = quiet.as_secs_f64();
    if report.totals.lines == 0.0 && report.uptime_seconds >= quiet {
        return Some((format!("not one in {:.0} s", report.uptime_seconds), Severity::Error));
    }
    let history = report.history.as_ref()?;
    let since = report.time - quiet;
    let covered = history.time.first().is_some_and(|first| *first <= since);
    let mut recent = history.time.iter().zip(&history.lines_per_second).filter(|(time, _)| **time >= since);
    let silent = covered && recent.all(|(_, rate)| *rate == 0.0);
    silent.then(|| {
        (format!("none in the last {quiet:.0} s, {:.0} before", report.totals.lines), Severity::Error)
    })
}

/// How many names begin with the prefix that most begin with, if that is not Airflow's own.
fn prefixes(report: &Report) -> Option<(usize, &str)> {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for talker in &report.identities {
        *counts.entry(talker.name.split(['.', ':']).next()?).or_default() += 1;
    }
    let (prefix, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (prefix != "airflow" && count * 2 > report.identities.len() && count >= 10).then_some((count, prefix))
}

fn buffer_kib(why: &str) -> Option<u64> {
    why.split("receive buffer ").nth(1)?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::report::{Columns, Now, Totals};
    use crate::live::{Loss, Talker};

    fn row(feature: &str, state: &str, why: &str) -> crate::startup::Row {
        (feature.to_owned(), state.to_owned(), why.to_owned())
    }

    fn healthy() -> Report {
        Report {
            ready: true,
            time: 10_000.0,
            uptime_seconds: 4000.0,
            totals: Totals { lines: 100.0, ..Totals::default() },
            now: Now { series_max: 100.0, ..Now::default() },
            startup: vec![row("udp", "on", "[::]:9125, receive buffer 16384 KiB")],
            ..Report::default()
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Report), rules: &[&str]) {
        let mut report = healthy();
        change(&mut report);
        let found = look(&report, Duration::from_secs(300), 10_000.0);
        assert_eq!(found.iter().map(|finding| finding.rule).collect::<Vec<_>>(), rules, "{found:#?}");
    }

    #[test]
    fn a_healthy_daemon_has_no_finding() {
        check(|_| {}, &[]);
        assert_eq!(udp_ports(&healthy()), [9125]);
    }

    #[test]
    fn silence_is_told_when_it_has_lasted() {
        check(|report| report.totals.lines = 0.0, &["no-lines"]);
        check(
            |report| {
                report.totals.lines = 0.0;
                report.uptime_seconds = 200.0;
            },
            &[],
        );
        let history = |rates: [f64; 3]| {
            Some(Columns {
                time: vec![9600.0, 9800.0, 10_000.0],
                lines_per_second: rates.to_vec(),
                ..Columns::default()
            })
        };
        check(|report| report.history = history([5.0, 0.0, 0.0]), &["no-lines"]);
        check(|report| report.history = history([5.0, 1.0, 0.0]), &[]);
    }

    #[test]
    fn losses_refusals_and_small_buffers_are_told() {
        let loss = |metric: &str, per_second| Loss {
            metric: metric.to_owned(),
            reason: "r".to_owned(),
            total: 1.0,
            per_second,
        };
        check(
            |report| report.losses = vec![loss("rotameter_lost_datagrams_total", 0.0)],
            &["datagrams-lost"],
        );
        check(|report| report.losses = vec![loss("statsd_exporter_sample_errors_total", 1.0)], &["refused"]);
        check(
            |report| report.startup = vec![row("udp", "on", "[::]:9125, receive buffer 416 KiB")],
            &["buffer-small"],
        );
    }

    #[test]
    fn shut_doors_the_budget_the_clock_and_the_prefix_are_told() {
        check(|report| report.startup.push(row("xdp", "off", "why")), &["door-shut"]);
        check(|report| report.startup.push(row("xdp", "off", NO_INTERFACE_NAMED)), &[]);
        check(|report| report.now.series = 81.0, &["series-budget"]);
        check(|report| report.time = 10_060.0, &["clock"]);
        check(|report| report.ready = false, &["not-ready"]);
        check(|report| report.startup.clear(), &["no-udp"]);
        let names = |prefix: &str| {
            (0..20)
                .map(|n| Talker { name: format!("{prefix}.x{n}:|c"), ..Talker::default() })
                .collect::<Vec<_>>()
        };
        check(|report| report.identities = names("prod"), &["prefix"]);
        check(|report| report.identities = names("airflow"), &[]);
    }
}
