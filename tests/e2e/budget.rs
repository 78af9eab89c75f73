//! Names and label values without end -> flat memory, exact totals, an exposition that can be read.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;

use super::daemon::Daemon;
use super::world::{Family, PORT, World};
use crate::reference::compare::Exposition;

const SENT: u64 = 200_000;
const BUDGET: u64 = 2_000;
/// What the daemon may take more after the last line than after the first tenth of them.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

/// The sums of all lines of the exposition whose names begin with `prefix`, and how many there are.
fn sum(text: &str, prefix: &str) -> (f64, usize) {
    let exposition = Exposition::read(text).expect("the exposition can be read");
    let lines = exposition.lines.iter().filter(|((name, _), _)| name.starts_with(prefix));
    lines.fold((0.0, 0), |(sum, count), (_, value)| (sum + value, count + 1))
}

/// Sends what `write` makes of each number over one connection. Half way to the first tenth the
/// budget is long used up.
fn flood(world: &World, daemon: &Daemon, mut write: impl FnMut(&mut String, u64)) -> String {
    let mut stream =
        world.theirs.inside(|| TcpStream::connect((Family::V4.ours(), PORT))).expect("it listens");
    let mut sent = 0;
    let mut send_until = |end: u64| {
        let mut lines = String::new();
        for n in sent..end {
            write(&mut lines, n);
        }
        stream.write_all(lines.as_bytes()).expect("the daemon reads");
        sent = end;
        let lines = 2 * sent;
        let figures = daemon.wait_for_figures("all lines", |figures| {
            figures.sum("statsd_exporter_lines_total", &[]) == lines
        });
        figures.sum("process_resident_memory_bytes", &[])
    };
    let early = send_until(SENT / 10);
    let late = send_until(SENT);
    assert!(late < early + GROWTH_BYTES_MAX, "resident: {early} bytes early, {late} late");
    daemon.scrape()
}

#[test]
#[ignore = "needs root: network namespaces"]
fn names_without_end_end_in_flat_memory_and_exact_totals() {
    let world = World::new();
    let daemon = world.start(&["--ebpf=off", "--registry.max-series=2000"]);
    let text = flood(&world, &daemon, |lines, n| {
        let _ = writeln!(lines, "flood.counter.{n}:{}|c\nflood.timer.{n}:{}|h", n % 7, n % 5);
    });
    let counters = (0..SENT).map(|n| n % 7).sum::<u64>() as f64;
    let observations = (0..SENT).map(|n| n % 5).sum::<u64>() as f64;
    let (own, _) = sum(&text, "flood_counter_");
    assert_eq!(own + sum(&text, "rotameter_overflow_counter_total").0, counters);
    let timers = |suffix: &str| {
        let of_names = text.lines().filter(|line| line.starts_with("flood_timer_")).filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            name.ends_with(suffix).then(|| value.parse::<f64>().expect("a number"))
        });
        of_names.sum::<f64>() + sum(&text, &format!("rotameter_overflow_observations{suffix}")).0
    };
    assert_eq!((timers("_sum"), timers("_count")), (observations, SENT as f64));
    let figures = daemon.figures();
    assert_eq!(figures.sum("rotameter_series", &[]), BUDGET + 2, "and the two that take the rest");
    assert_eq!(figures.sum("rotameter_series_max", &[]), BUDGET);
    assert_eq!(figures.sum("rotameter_overflow_events_total", &[]), 2 * SENT - BUDGET);
    assert_eq!(figures.sum("rotameter_events_recorded_total", &[]), 2 * SENT);
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces"]
fn label_values_without_end_add_up_in_one_series() {
    let world = World::new();
    let daemon = world.start(&["--ebpf=off", "--registry.max-series-per-family=1000"]);
    let text = flood(&world, &daemon, |lines, n| {
        let _ = writeln!(lines, "flood.runs:{}|c|#run:r{n}\nflood.level:{n}|g|#run:r{n}", n % 7);
    });
    let total = (0..SENT).map(|n| n % 7).sum::<u64>() as f64;
    assert_eq!(sum(&text, "flood_runs"), (total, 1001));
    assert!(text.contains("\nflood_runs{run=\"__overflow__\"} "));
    assert_eq!(sum(&text, "flood_level").1, 1000, "gauges cannot be summed");
    let figures = daemon.figures();
    let refused = figures.sum("rotameter_events_refused_total", &[("reason", "family_limit")]);
    assert_eq!(refused, SENT - 1000);
    assert_eq!(figures.sum("statsd_exporter_events_conflict_total", &[]), 0);
    daemon.stop();
}
