//! Report -> plain text.

use std::fmt::Write as _;

use crate::live::{Loss, Report, Talker};

/// The whole report, with so many rows of each list at most.
pub(super) fn page(report: &Report, rows_max: usize) -> String {
    let mut page = summary(report).join("\n");
    page.push('\n');
    for (title, talkers) in [
        ("identities", &report.identities),
        ("dags", &report.dags),
        ("senders", &report.senders),
        ("types", &report.types),
    ] {
        // Writing to a String cannot fail; the same holds below.
        let _ = writeln!(page, "\n{:>12}  {:6}  {title}", "lines/s", "");
        for talker in talkers.iter().take(rows_max) {
            let _ = writeln!(page, "{}", row(talker));
        }
        match talkers.len().saturating_sub(rows_max) {
            0 if talkers.is_empty() => page.push_str("           -\n"),
            0 => {}
            more => {
                let _ = writeln!(page, "              and {more} more");
            }
        }
    }
    page.push_str("\n       total      per s  lost or refused\n");
    for loss in &report.losses {
        let _ = writeln!(page, "{}", loss_row(loss));
    }
    if report.losses.is_empty() {
        page.push_str("           -\n");
    }
    page
}

/// The lines at the top.
pub(super) fn summary(report: &Report) -> [String; 3] {
    let now = &report.now;
    let share = now.kernel_share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let ready = if report.ready { "" } else { ", not ready" };
    [
        format!("rotameter {}, up {}{ready}", report.version, duration(report.uptime_seconds)),
        format!(
            "{} lines/s, {share} counted in the kernel; {} lost/s, {} refused/s",
            rate(now.lines_per_second),
            rate(now.lost_per_second),
            rate(now.refused_per_second)
        ),
        format!(
            "{} of {} series; {} of {} slots in use",
            count(now.series),
            count(now.series_max),
            count(now.promoted),
            count(now.slots)
        ),
    ]
}

pub(super) fn row(talker: &Talker) -> String {
    let place = if talker.in_kernel { "kernel" } else { "" };
    format!("{:>12}  {place:6}  {}", rate(talker.per_second), printable(&talker.name))
}

pub(super) fn loss_row(loss: &Loss) -> String {
    let reason = if loss.reason.is_empty() { String::new() } else { format!(" {}", printable(&loss.reason)) };
    format!("{:>12} {:>10}  {}{reason}", count(loss.total), rate(loss.per_second), printable(&loss.metric))
}

/// What came from the network must not move somebody's cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn rate(rate: f64) -> String {
    if rate >= 100.0 || rate == 0.0 { count(rate) } else { format!("{rate:.1}") }
}

/// A whole number with its digits in threes.
fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

fn duration(seconds: f64) -> String {
    let seconds = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::live::report::Now;

    pub(in super::super) fn report() -> Report {
        let talker =
            |name: &str, per_second, in_kernel| Talker { name: name.to_owned(), per_second, in_kernel };
        Report {
            version: "1.2.3".to_owned(),
            ready: true,
            uptime_seconds: 7300.0,
            now: Now {
                lines_per_second: 12_345.6,
                kernel_share: Some(0.75),
                lost_per_second: 0.0,
                refused_per_second: 1.5,
                series: 1234.0,
                series_max: 2e6,
                promoted: 3.0,
                slots: 8192.0,
            },
            losses: vec![Loss {
                metric: "rotameter_lost_datagrams_total".to_owned(),
                reason: "where=\"udp_socket_queue\"".to_owned(),
                total: 1000.0,
                per_second: 2.25,
            }],
            identities: vec![
                talker("airflow.ti.start.etl.t:|c", 9000.0, true),
                talker("evil\u{1b}[2J:|ms", 3.25, false),
            ],
            dags: vec![talker("etl", 9000.0, true)],
            senders: vec![talker("10.0.0.1", 3.0, false)],
            types: vec![talker("counter", 9000.0, false)],
            ..Report::default()
        }
    }

    #[test]
    fn the_page_has_every_list() {
        let expected = "\
rotameter 1.2.3, up 2 h
12,346 lines/s, 75.0 % counted in the kernel; 0 lost/s, 1.5 refused/s
1,234 of 2,000,000 series; 3 of 8,192 slots in use

     lines/s          identities
       9,000  kernel  airflow.ti.start.etl.t:|c
              and 1 more

     lines/s          dags
       9,000  kernel  etl

     lines/s          senders
         3.0          10.0.0.1

     lines/s          types
       9,000          counter

       total      per s  lost or refused
       1,000        2.2  rotameter_lost_datagrams_total where=\"udp_socket_queue\"
";
        assert_eq!(page(&report(), 1), expected);
    }

    #[test]
    fn control_characters_of_senders_do_nothing() {
        assert!(!page(&report(), 10).contains('\u{1b}'));
    }
}
