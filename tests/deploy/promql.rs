//! Every query of dashboards and rules -> a real Prometheus that scrapes our daemon.
//!
//! No rights are needed: the daemon and Prometheus listen on a loopback address of this process' own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::dashboards::{dashboards, queries};
use super::rules::rules;
use super::tools::{files, named, output};
use crate::corpus;

const PATIENCE: Duration = Duration::from_secs(30);

/// One recording of each kind of names: plain, with tags of either dialect, and of an older Airflow.
const RECORDINGS: [&str; 4] = [
    "airflow-v3-celery-default",
    "airflow-v3-celery-influx",
    "airflow-v2-celery-datadog",
    "airflow-v2-local-default",
];
/// Of each recording so much is played in a round.
const DATAGRAMS_MAX: usize = 8_000;
const ROUNDS: usize = 5;

/// What went wrong in no recording.
const MISHAPS: [&str; 3] = [
    "airflow.sla_missed:1|c",
    "airflow.dag_processing.processor_timeouts:1|c",
    "airflow.scheduler_heartbeat_failure:1|c",
];

/// Families that only what a test will not set up brings into being.
const NOT_HERE: &[&str] = &[
    // A relay would keep the kernel from counting.
    "rotameter_relay_lines_dropped_total",
];

/// Beginnings of what other exporters serve: their rows stand empty where there is none.
const OTHERS: [&str; 4] = ["node_", "container_", "celery_", "flower_"];

/// Families that exist only where the kernel object is loaded.
const DOORS: &[&str] = &[
    "rotameter_datagrams_total",
    "rotameter_promoted_identities",
    "rotameter_slots",
    "rotameter_slot_lines_total",
    "instance:rotameter_kernel_lines:ratio_rate5m",
];

/// The daemon and its Prometheus; ended on drop.
struct World {
    address: String,
    folder: TempDir,
    children: Vec<(&'static str, Child)>,
}

impl World {
    fn start(flags: &[&str]) -> Self {
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        let (pid, number) = (std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.{}.{}.{}", 98 + number, pid / 250 % 250, pid % 250 + 1);
        let mut world =
            Self { address, folder: tempfile::tempdir().expect("room for a folder"), children: Vec::new() };
        world.start_daemon(flags);
        world.start_prometheus();
        world
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn start_daemon(&mut self, flags: &[&str]) {
        let address = self.address.clone();
        let mapping = self.path("mapping.yml");
        fs::write(&mapping, "mappings:\n- {match: clash.one, name: clash, match_metric_type: counter}\n")
            .expect("the folder is ours");
        let mut daemon = Command::new(named("ROTAMETER_BIN"));
        daemon
            .arg(format!("--statsd.listen-udp={address}:9125"))
            .arg("--statsd.listen-tcp=")
            .arg(format!("--web.listen-address={address}:9102"))
            .arg(format!("--statsd.mapping-config={}", mapping.display()))
            .args(["--promotion.interval=100ms", "--promotion.min-rate=5"])
            .args(flags);
        self.spawn("rotameter", &mut daemon, 9102, "/-/ready");
    }

    fn start_prometheus(&mut self) {
        for file in files("deploy/prometheus", ".rules.yml") {
            fs::copy(&file, self.path(&file.file_name().expect("a name").to_string_lossy())).expect("a copy");
        }
        let config = self.path("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['*.rules.yml']\n\
             scrape_configs: [{{job_name: rotameter, static_configs: [{{targets: ['{}:9102']}}]}}]\n",
            self.address
        );
        fs::write(&config, text).expect("the folder is ours");
        let mut prometheus = Command::new(named("ROTAMETER_PROMETHEUS"));
        prometheus
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", self.path("data").display()))
            .arg(format!("--web.listen-address={}:9090", self.address));
        self.spawn("prometheus", &mut prometheus, 9090, "/-/ready");
    }

    #[track_caller]
    fn spawn(&mut self, name: &'static str, command: &mut Command, port: u16, ready: &str) {
        let log = File::create(self.path(name)).expect("the folder is ours");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.children.push((name, child.unwrap_or_else(|error| panic!("{name}: {error}"))));
        let start = Instant::now();
        while !matches!(self.get(port, ready), Ok((200, _))) {
            let log = || fs::read_to_string(self.path(name)).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "{name} is not ready: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn get(&self, port: u16, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect((self.address.as_str(), port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, body.to_owned()))
    }

    /// Traffic of Airflow and, beside it, of clients that get things wrong.
    fn play(&self) {
        let socket = UdpSocket::bind((self.address.as_str(), 0)).expect("a port");
        let target = (self.address.as_str(), 9125);
        let recordings: Vec<_> =
            RECORDINGS.iter().map(|name| corpus::load(name).expect("the recording loads")).collect();
        for _ in 0..ROUNDS {
            for recording in &recordings {
                for (number, datagram) in recording.iter().take(DATAGRAMS_MAX).enumerate() {
                    socket.send_to(&datagram.payload, target).expect("room in the buffer");
                    if number % 100 == 99 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            }
            for line in ["no value", "clash.one:1|c", "clash:1|g"].iter().chain(&MISHAPS) {
                socket.send_to(line.as_bytes(), target).expect("room in the buffer");
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Has the daemon read a mapping file that is right, then one that is not.
    fn reload(&self) {
        let daemon = self.children.first().expect("the daemon runs").1.id();
        let daemon = i32::try_from(daemon).ok().and_then(Pid::from_raw).expect("a process id");
        for text in ["mappings: []\n", "mappings: 3\n"] {
            fs::write(self.path("mapping.yml"), text).expect("the folder is ours");
            kill_process(daemon, Signal::HUP).expect("our own child");
            std::thread::sleep(Duration::from_millis(700));
        }
    }

    /// The result of an instant query, asked again while it is empty: on a busy machine a scrape can fail,
    /// and its series are gone until the next one.
    #[track_caller]
    fn query_until(&self, query: &str, deadline: Instant) -> Vec<Value> {
        loop {
            let result = self.query(query);
            if !result.is_empty() || Instant::now() > deadline {
                return result;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// The result of an instant query.
    #[track_caller]
    fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let (status, body) =
            self.get(9090, &format!("/api/v1/query?query={encoded}")).expect("prometheus answers");
        assert_eq!(status, 200, "{query}: {body}");
        let answer: Value = serde_json::from_str(&body).expect("an answer is JSON");
        answer["data"]["result"].as_array().expect("a list").clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A dashboard's query as Grafana sends it: with every value of each variable.
fn filled(query: &str) -> String {
    let query = query.replace("$__rate_interval", "1m").replace("$__range", "1m");
    let mut filled = String::new();
    let mut rest = query.as_str();
    while let Some((before, after)) = rest.split_once('$') {
        filled.push_str(before);
        filled.push_str(".*");
        rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    }
    filled + rest
}

/// Names in a query that can only be those of series.
fn series(query: &str) -> BTreeSet<&str> {
    let outside_quotes: Vec<&str> = query.split('"').step_by(2).collect();
    outside_quotes
        .into_iter()
        .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':'))
        .filter(|word| {
            [
                "rotameter_",
                "statsd_",
                "process_",
                "airflow_",
                "node_",
                "container_",
                "celery_",
                "flower_",
                "instance:",
                "job:",
                "dag:",
            ]
            .iter()
            .any(|start| word.starts_with(start))
                || matches!(*word, "up" | "scrape_duration_seconds")
        })
        .collect()
}

#[test]
#[ignore = "needs prometheus and the daemon's binary; cargo xtask test brings both"]
fn every_query_has_an_answer() {
    let help = output(Command::new(named("ROTAMETER_BIN")).arg("--help"));
    // A daemon without profiles has none of the series that the dashboard about Airflow shows.
    let profiles = help.contains("--profile ");
    let world = World::start(if profiles { &["--profile=airflow"] } else { &[] });
    world.play();
    world.reload();
    // Recording rules are a step behind the scrapes, and those that build upon them another one.
    std::thread::sleep(Duration::from_secs(2));

    let deadline = Instant::now() + PATIENCE;
    assert!(!world.query_until("rotameter_build_info", deadline).is_empty(), "prometheus does not scrape");
    let doors = !world.query_until("rotameter_slots", Instant::now() + Duration::from_secs(3)).is_empty();
    let here = |query: &str| {
        !series(query).iter().any(|name| {
            NOT_HERE.contains(name)
                || (!doors && DOORS.contains(name))
                || (!profiles && name.contains("airflow_"))
                || OTHERS.iter().any(|start| name.starts_with(start))
        })
    };
    let (mut empty, mut answered) = (BTreeMap::new(), 0);
    for (file, dashboard) in dashboards() {
        for (panel, query) in queries(&dashboard) {
            let query = filled(&query);
            if !here(&query) {
                continue;
            }
            if world.query_until(&query, deadline).is_empty() {
                empty.insert(format!("{file}: {panel}"), query);
            } else {
                answered += 1;
            }
        }
        for variable in dashboard["templating"]["list"].as_array().expect("a list") {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (series, label) =
                inner.and_then(|inner| inner.rsplit_once(", ")).expect("label_values(series, label)");
            let series = filled(series);
            if !here(&series) {
                continue;
            }
            let result = world.query_until(&series, deadline);
            assert!(result.iter().any(|series| series["metric"][label].is_string()), "{file}: {query}");
        }
    }
    assert!(empty.is_empty(), "no data: {empty:#?}");
    assert!(answered > 30, "only {answered} queries were asked");

    for rule in rules() {
        // An alert's answer is empty where all is well, so the series are asked for one by one.
        world.query(&rule.expr);
        for name in series(&rule.expr) {
            if here(name) {
                assert!(
                    !world.query_until(name, deadline).is_empty(),
                    "there is no {name}, of {:?}",
                    rule.alert
                );
            }
        }
        if rule.alert.is_none() && here(&rule.expr) {
            assert!(!world.query_until(&rule.expr, deadline).is_empty(), "no data: {}", rule.expr);
        }
    }
    rules_are_in_force(&world);
}

/// Prometheus itself has loaded every rule, and none of them fails.
#[track_caller]
fn rules_are_in_force(world: &World) {
    let (_, body) = world.get(9090, "/api/v1/rules").expect("prometheus answers");
    let answer: Value = serde_json::from_str(&body).expect("an answer is JSON");
    let groups = answer["data"]["groups"].as_array().expect("a list");
    let loaded: Vec<&Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().expect("a list")).collect();
    assert_eq!(loaded.len(), rules().len());
    for rule in loaded {
        assert_eq!(rule["health"], "ok", "{}: {}", rule["name"], rule["lastError"]);
    }
}

/// What the guides tell people to look at first works with nothing but the defaults.
#[test]
#[ignore = "needs prometheus and the daemon's binary; cargo xtask test brings both"]
fn parse_time_is_there_by_default() {
    let world = World::start(&[]);
    let socket = UdpSocket::bind((world.address.as_str(), 0)).expect("a port");
    socket
        .send_to(b"airflow.dag_processing.total_parse_time:12.5|g", (world.address.as_str(), 9125))
        .expect("room in the buffer");
    let start = Instant::now();
    loop {
        let result = world.query("airflow_dag_processing_total_parse_time");
        if let Some(series) = result.first() {
            assert_eq!(series["value"][1], "12.5");
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the series does not come");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(world.query("up == 1").len(), 1);
    assert!(Path::new(&world.path("rotameter")).exists());
}
