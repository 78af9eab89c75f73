//! A real Prometheus scrapes the daemon while traffic flows: what PromQL answers is what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use super::daemon::{PATIENCE, get};
use super::figures::is_own;
use super::namespace::Namespace;
use super::traffic::{Pace, play};
use super::world::{Family, World};
use crate::corpus;
use crate::reference::{self, totals::Type};

const PORT: u16 = 9090;

fn program(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
        panic!("{variable} names no program; `cargo xtask test` installs Debian's prometheus and sets it")
    })
}

/// A Prometheus that scrapes the daemon once a second; ended on drop.
pub(super) struct Prometheus {
    child: Child,
    namespace: Arc<Namespace>,
    _folder: TempDir,
}

impl Prometheus {
    fn start(namespace: &Arc<Namespace>) -> Self {
        Self::with_jobs(namespace, &[("e2e", "")])
    }

    /// One that scrapes the daemon by jobs of these names, each with further settings in YAML's flow
    /// style (`, scheme: https`).
    pub(super) fn with_jobs(namespace: &Arc<Namespace>, jobs: &[(&str, &str)]) -> Self {
        Self::with_flags(namespace, jobs, &[])
    }

    fn with_flags(namespace: &Arc<Namespace>, jobs: &[(&str, &str)], flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("room for a folder");
        let config = folder.path().join("prometheus.yml");
        let mut scrape = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n".to_owned();
        for (name, rest) in jobs {
            let targets = "static_configs: [{targets: ['127.0.0.1:9102']}]";
            scrape.push_str(&format!("- {{job_name: {name}, {targets}{rest}}}\n"));
        }
        std::fs::write(&config, scrape).expect("the folder is ours");
        let log = std::fs::File::create(folder.path().join("log")).expect("the folder is ours");
        let child = namespace
            .command(program("ROTAMETER_PROMETHEUS"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{PORT}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        let prometheus = Self { child, namespace: Arc::clone(namespace), _folder: folder };
        let start = Instant::now();
        while !matches!(get(namespace, PORT, "/-/ready"), Ok((200, _))) {
            assert!(start.elapsed() < PATIENCE, "prometheus is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        prometheus
    }

    /// The `result` of a query, evaluated at `time` (in ms), or now.
    #[track_caller]
    pub(super) fn query(&self, query: &str, time: Option<u64>) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let time = time.map_or(String::new(), |ms| format!("&time={}.{:03}", ms / 1000, ms % 1000));
        let path = format!("/api/v1/query?query={encoded}{time}");
        let (status, body) = get(&self.namespace, PORT, &path).expect("prometheus answers");
        let answer: Value = serde_json::from_slice(&body).expect("an answer is JSON");
        assert_eq!(status, 200, "{query}: {answer}");
        answer["data"]["result"].as_array().expect("a list").clone()
    }

    /// Times (in ms) of the scrapes so far, oldest first. All series of a scrape have one time.
    fn scrapes(&self) -> Vec<u64> {
        let result = self.query("rotameter_scrapes_total[10m]", None);
        let Some(series) = result.first() else { return Vec::new() };
        let points = series["values"].as_array().expect("points");
        points.iter().map(|point| milliseconds(&point[0])).collect()
    }

    /// Waits for a scrape that began later than now; its time.
    #[track_caller]
    pub(super) fn next_scrape(&self) -> u64 {
        // One may be under way that began earlier; the second one from now cannot.
        let (start, before) = (Instant::now(), self.scrapes().len());
        loop {
            let scrapes = self.scrapes();
            if let (Some(last), true) = (scrapes.last(), scrapes.len() >= before + 2) {
                return *last;
            }
            assert!(start.elapsed() < PATIENCE, "prometheus does not scrape");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its data go too, so it may end at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn milliseconds(seconds: &Value) -> u64 {
    let seconds = seconds.as_f64().expect("seconds");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time of this century")]
    let ms = (seconds * 1000.0).round() as u64;
    ms
}

/// Value of each label set in the answer to an instant query.
fn by_labels(result: &[Value]) -> BTreeMap<BTreeMap<String, String>, f64> {
    let mut values = BTreeMap::new();
    for series in result {
        let mut labels: BTreeMap<String, String> =
            serde_json::from_value(series["metric"].clone()).expect("labels are text");
        // What Prometheus itself adds.
        labels.retain(|name, _| !["__name__", "instance", "job"].contains(&name.as_str()));
        let value = series["value"][1].as_str().expect("a number as text").parse().expect("a number");
        values.insert(labels, value);
    }
    values
}

/// The names of the series in the answer to a query.
fn by_name(result: &[Value]) -> BTreeSet<String> {
    result.iter().filter_map(|series| series["metric"]["__name__"].as_str()).map(str::to_owned).collect()
}

/// The value of the one series in the answer to a query at `time`.
#[track_caller]
fn single(prometheus: &Prometheus, query: &str, time: u64) -> f64 {
    let values = by_labels(&prometheus.query(query, Some(time)));
    assert_eq!(values.len(), 1, "{query}: {values:?}");
    values.into_values().sum()
}

/// `increase()` guesses what lies between the first and last point in its range and the ends of that
/// range, so in general it is no whole number. Where the range begins and ends exactly on a point,
/// nothing is left to guess, and it is the last value less the first. So the recording is played
/// once, that all series be there; a scrape later it is played again, and after one more scrape the
/// range is chosen from one scrape to the other.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn increase_over_a_replay_is_what_was_sent() {
    let world = World::new();
    let daemon = world.start(&[
        "--ebpf=required",
        "--xdp.interface=veth-d",
        "--promotion.interval=100ms",
        "--promotion.min-rate=5",
    ]);
    let prometheus = Prometheus::start(&world.ours);
    let mut datagrams = corpus::load("airflow-v3-celery-default").expect("the recording loads");
    datagrams.truncate(20_000);
    let sent = datagrams.len() as u64;
    let expected = reference::expect(&datagrams);

    play(&world, &daemon, Family::V4, &datagrams, Pace::FlatOut, 0);
    let from = prometheus.next_scrape();
    let half = datagrams.len() / 2;
    play(&world, &daemon, Family::V6, &datagrams[..half], Pace::Times(50), sent);
    play(&world, &daemon, Family::V4, &datagrams[half..], Pace::FlatOut, sent + half as u64);
    let to = prometheus.next_scrape();
    let scrapes = prometheus.scrapes().iter().filter(|at| (from..=to).contains(*at)).count();
    assert!(scrapes >= 3, "only {scrapes} scrapes while traffic flowed");

    let increase =
        |name: &str| by_labels(&prometheus.query(&format!("increase({name}[{}ms])", to - from), Some(to)));
    let sum = |query: &str| by_labels(&prometheus.query(query, Some(to))).values().sum::<f64>();
    let (mut counters, mut summaries) = (0, 0);
    for (name, family) in &expected.totals.families {
        let (name, kind) = match family.kind {
            Type::Counter => (name.clone(), "counter"),
            Type::Summary => (format!("{name}_count"), "summary"),
            Type::Gauge => continue,
        };
        let increases = increase(&name);
        assert_eq!(increases.len(), family.series.len(), "{name}");
        for (labels, series) in &family.series {
            let wanted = if kind == "counter" { series.value } else { series.count() as f64 };
            assert_eq!(increases.get(labels), Some(&wanted), "increase of {name}{labels:?}");
        }
        if kind == "counter" { counters += 1 } else { summaries += 1 }
    }
    assert!(counters > 10 && summaries > 10, "{counters} counters, {summaries} summaries");

    // And our own: every datagram, by either door.
    let range = format!("[{}ms]", to - from);
    assert_eq!(sum(&format!("increase(statsd_exporter_udp_packets_total{range})")), sent as f64);
    assert_eq!(sum(&format!("increase(statsd_exporter_lines_total{range})")), expected.lines as f64);
    let consumed = format!("increase(rotameter_datagrams_total{{verdict=~\"counted|ringed\"}}{range})");
    assert_eq!(sum(&consumed), sent as f64);
    assert!(sum(&format!("increase(rotameter_datagrams_total{{verdict=\"counted\"}}{range})")) > 0.0);
    assert_eq!(sum("up"), 1.0);
    drop(prometheus);
    daemon.stop();
}

/// It takes text by default, OpenMetrics where we offer it, and protobuf when it wants native
/// histograms; series mean the same in all three. Only OpenMetrics has `_created` as series.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn prometheus_takes_each_format() {
    const NATIVE: &[&str] = &["--enable-feature=native-histograms"];
    let mut datagrams = corpus::load("airflow-v3-celery-default").expect("the recording loads");
    datagrams.truncate(2_000);
    let expected = reference::expect(&datagrams);
    for (ours, theirs, created) in
        [(None, &[][..], false), (Some("--web.enable-openmetrics"), &[], true), (None, NATIVE, false)]
    {
        let world = World::new();
        let flags: Vec<&str> = ["--ebpf=required"].into_iter().chain(ours).collect();
        let daemon = world.start(&flags);
        let prometheus = Prometheus::with_flags(&world.ours, &[("e2e", "")], theirs);
        play(&world, &daemon, Family::V4, &datagrams, Pace::FlatOut, 0);
        prometheus.next_scrape();
        for (name, family) in &expected.totals.families {
            let (name, count) = match family.kind {
                Type::Counter => (name.clone(), false),
                Type::Summary => (format!("{name}_count"), true),
                Type::Gauge => continue,
            };
            let values = by_labels(&prometheus.query(&name, None));
            for (labels, series) in &family.series {
                let wanted = if count { series.count() as f64 } else { series.value };
                assert_eq!(
                    values.get(labels),
                    Some(&wanted),
                    "{name}{labels:?} with {flags:?} and {theirs:?}"
                );
            }
        }
        let mut found = by_name(&prometheus.query("{__name__=~\".+_created\"}", None));
        // Airflow has a counter that ends so.
        found.retain(|name| !expected.totals.families.contains_key(name));
        assert_eq!(!found.is_empty(), created, "{found:?} with {flags:?} and {theirs:?}");
        drop(prometheus);
        daemon.stop();
    }
}

/// A mapping rule makes timers a histogram. A Prometheus that knows native ones takes it as such, any
/// other has the classic buckets; both know what came between two scrapes, and its median.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_histogram_comes_through_native_or_classic() {
    const NATIVE: &[&str] = &["--enable-feature=native-histograms"];
    const MAPPING: &str = "mappings:\n- {match: task.*, name: task_duration, observer_type: histogram}\n";
    let mut mapping = NamedTempFile::new().expect("room for a file");
    mapping.write_all(MAPPING.as_bytes()).expect("the file is ours");
    let mapping = format!("--statsd.mapping-config={}", mapping.path().display());
    for (ours, theirs) in [(None, &[][..]), (Some("--web.enable-openmetrics"), &[]), (None, NATIVE)] {
        let world = World::new();
        let flags: Vec<&str> = ["--ebpf=required", &mapping].into_iter().chain(ours).collect();
        let daemon = world.start(&flags);
        let prometheus = Prometheus::with_flags(&world.ours, &[("e2e", "")], theirs);
        let (socket, mut sent) = (world.socket(Family::V4), 0);
        let mut observe = |milliseconds: RangeInclusive<u32>| {
            for value in milliseconds {
                socket.send(format!("task.load:{value}|ms").as_bytes()).expect("room in the buffer");
                sent += 1;
            }
            daemon.wait_for_figures("all observed", |figures| figures.accounted() >= sent);
        };
        observe(1..=100);
        let from = prometheus.next_scrape();
        observe(1000..=1200);
        let to = prometheus.next_scrape();

        let near = |query: &str, time: u64, wanted: f64, tolerance: f64| {
            let value = single(&prometheus, query, time);
            let about = (wanted / value - 1.0).abs() <= tolerance;
            assert!(about, "{query} is {value}, not {wanted}, with {flags:?} and {theirs:?}");
        };
        let range = format!("[{}ms]", to - from);
        let (exactly, bucket) = (1e-9, 0.1);
        if theirs == NATIVE {
            near("histogram_count(task_duration)", from, 100.0, exactly);
            near("histogram_sum(task_duration)", from, 5.05, exactly);
            near("histogram_quantile(0.9, task_duration)", from, 0.09, bucket);
            near(&format!("histogram_count(increase(task_duration{range}))"), to, 201.0, exactly);
            near(&format!("histogram_quantile(0.5, increase(task_duration{range}))"), to, 1.1, bucket);
        } else {
            near("task_duration_count", from, 100.0, exactly);
            near("task_duration_sum", from, 5.05, exactly);
            near("histogram_quantile(0.9, task_duration_bucket)", from, 0.09, bucket);
            near(&format!("increase(task_duration_count{range})"), to, 201.0, exactly);
            // One is in the bucket up to 1, all others lie in the one up to 2.5: a straight line through it.
            let median = 1.0 + 1.5 * (100.5 - 1.0) / 200.0;
            let quantile = format!("histogram_quantile(0.5, increase(task_duration_bucket{range}))");
            near(&quantile, to, median, exactly);
        }
        assert_eq!(single(&prometheus, "up", to), 1.0);
        drop(prometheus);
        daemon.stop();
    }
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn promtool_finds_nothing_in_our_own_metrics() {
    let world = World::new();
    let daemon = world.start(&["--ebpf=required", "--xdp.interface=veth-d"]);
    let datagrams = corpus::load("airflow-v2-celery-datadog").expect("the recording loads");
    play(&world, &daemon, Family::V4, &datagrams, Pace::FlatOut, 0);
    let text = daemon.scrape();
    let own: String = text.split_inclusive('\n').filter(|line| is_own(line)).collect();
    assert!(own.lines().count() > 100);
    let (code, findings) = promtool(&own);
    let findings: Vec<&str> = findings.lines().filter(|line| !WANTED_FINDINGS.contains(line)).collect();
    assert!(findings.is_empty(), "{code:?}: {findings:#?}");
    // Names of senders are theirs to choose: 3 says that promtool would have chosen others.
    let (code, findings) = promtool(&text);
    assert!(matches!(code, Some(0 | 3)), "{code:?}: {findings}");
    daemon.figures().check_datagrams(datagrams.len() as u64);
    daemon.stop();
}

/// What statsd_exporter calls one of its gauges; people have it in their dashboards.
const WANTED_FINDINGS: [&str; 1] =
    ["statsd_exporter_metrics_total non-counter metrics should not have \"_total\" suffix"];

/// Exit code and findings of `promtool check metrics`.
fn promtool(text: &str) -> (Option<i32>, String) {
    let mut command = Command::new(program("ROTAMETER_PROMTOOL"));
    command.args(["check", "metrics"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("promtool starts");
    let mut input = child.stdin.take().expect("a pipe");
    let writer = std::thread::scope(|scope| {
        scope.spawn(|| {
            // It reads all before it writes; if it ends early, its output says why.
            let _ = input.write_all(text.as_bytes());
            drop(input);
        });
        child.wait_with_output()
    });
    let output = writer.expect("promtool ends");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}
