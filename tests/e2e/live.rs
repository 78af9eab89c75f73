//! What goes on, seen from outside: top, tail, capture, replay, doctor against a running daemon.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::daemon::{Daemon, PATIENCE, binary};
use super::world::{Family, OUR_END, PORT, World};

const HOT: &[u8] = b"airflow.ti.start.etl.load:1|c";
const COLD: &[u8] = b"airflow.dag.etl.load.duration:3.5|ms";

fn tool(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.ours.command(binary());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn run(world: &World, arguments: &[&str]) -> String {
    let output = tool(world, arguments).output().expect("the binary starts");
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn sender(world: &World) -> UdpSocket {
    let socket = world.ours.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    socket.connect((Ipv4Addr::LOCALHOST, PORT)).expect("the loopback is up");
    socket
}

/// Sends both lines until `done`.
#[track_caller]
fn send_until(sender: &UdpSocket, what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        for line in [HOT, COLD] {
            sender.send(line).expect("the loopback is up");
        }
        assert!(start.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn has_ended(child: &mut Child) -> bool {
    child.try_wait().expect("our child").is_some()
}

#[track_caller]
fn output(child: Child) -> Output {
    let output = child.wait_with_output().expect("our child");
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

fn start(world: &World) -> Daemon {
    world.start(&["--ebpf=required", "--promotion.interval=100ms", "--promotion.min-rate=5"])
}

#[test]
#[ignore = "needs root: CAP_BPF, network namespaces"]
fn top_shows_what_the_kernel_counts_and_tail_can_have_it_back() {
    let world = World::without_cable();
    let (daemon, sender) = (start(&world), sender(&world));
    let rows = [
        "kernel  airflow.ti.start.etl.load:|c",
        "        airflow.dag.etl.load.duration:|ms",
        "kernel  etl",
        "127.0.0.1",
        "% counted in the kernel",
    ];
    send_until(&sender, "what is hot, what is not, and from whom", || {
        let page = run(&world, &["top"]);
        rows.iter().all(|row| page.contains(row))
    });

    let cold = ["tail", "--limit=5", "--mapped", "--filter=airflow.dag.*"];
    let mut tail = tool(&world, &cold).spawn().expect("the binary starts");
    send_until(&sender, "five lines", || has_ended(&mut tail));
    let shown = text(&output(tail).stdout);
    assert_eq!(shown.matches("\n    -> summary airflow_dag_etl_load_duration").count(), 5, "{shown}");

    let hot = ["tail", "--limit=200", "--whole", "--regex=ti[.]start"];
    let mut tail = tool(&world, &hot).spawn().expect("the binary starts");
    send_until(&sender, "hot lines, whole", || has_ended(&mut tail));
    assert_eq!(text(&output(tail).stdout).matches("airflow.ti.start.etl.load:1|c").count(), 200);
    // Nobody follows any more, so the kernel counts again.
    send_until(&sender, "a hot identity", || {
        let (_, promoted) = daemon.get("/promoted").expect("it answers");
        text(&promoted).contains("airflow.ti.start")
    });
    daemon.stop();
}

#[test]
#[ignore = "needs root: CAP_BPF, network namespaces"]
fn a_capture_that_was_cut_off_is_replayed_up_to_the_cut() {
    let world = World::without_cable();
    let (daemon, sender) = (start(&world), sender(&world));
    let folder = tempfile::tempdir().expect("room for a folder");
    let file = folder.path().join("capture.gz");
    let out = format!("--out={}", file.display());
    let mut capture = tool(&world, &["capture", &out, "--whole"]).spawn().expect("the binary starts");
    // Something is flushed once a second.
    send_until(&sender, "a file", || file.metadata().is_ok_and(|file| file.len() > 200));
    capture.kill().expect("our child");
    capture.wait().expect("our child");
    daemon.stop();

    let daemon = world.start(&["--ebpf=off"]);
    let path = file.display().to_string();
    let replay = tool(&world, &["replay", &path, "--to=127.0.0.1:9125", "--speed=0"]).output();
    let replay = replay.expect("the binary starts");
    let told = text(&replay.stderr);
    assert!(!replay.status.success() && told.contains("is cut off behind its first"), "{replay:?}");
    let sent: u64 = text(&replay.stdout).split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(sent > 10, "{sent}");
    daemon.wait_for_exposition("what was sent", |text| {
        text.contains(&format!("statsd_exporter_lines_total {sent}\n"))
    });
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_NET_RAW"]
fn an_interface_is_recorded_beside_the_daemon_and_replayed() {
    let world = World::new();
    let folder = tempfile::tempdir().expect("room for a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let outs: Vec<String> =
        ["c.gz", "c.pcap", "c.pcapng"].map(|name| format!("--out={}", file(name))).to_vec();
    let interface = format!("--interface={OUR_END}");
    let captures: Vec<Child> = outs
        .iter()
        .map(|out| {
            // Until it is ended.
            let arguments = ["capture", &interface, out, "--duration=1h", "--filter=airflow.*"];
            tool(&world, &arguments).spawn().expect("the binary starts")
        })
        .collect();
    let has_packet_sockets = || {
        let table = world.ours.inside(|| std::fs::read_to_string("/proc/thread-self/net/packet"));
        table.expect("proc is mounted").lines().count() > captures.len()
    };
    let start = Instant::now();
    while !has_packet_sockets() {
        assert!(start.elapsed() < PATIENCE, "nobody looks");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Nobody receives them, and that makes no difference. The last is too long for a frame.
    for family in Family::ALL {
        let socket = world.socket(family);
        for line in [HOT, COLD, b"other:1|c", &b"airflow.long:1|c\n".repeat(200)] {
            // That nobody listens is told at the next one.
            while socket.send(line).is_err() {}
        }
        let other = SocketAddr::new(family.ours(), 53);
        socket.connect(other).expect("a route");
        while socket.send(HOT).is_err() {}
    }
    // They look at their file's clock five times a second.
    std::thread::sleep(Duration::from_millis(500));
    for capture in captures {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&capture),
            rustix::process::Signal::TERM,
        )
        .expect("our child");
        let output = output(capture);
        let (said, told) = (text(&output.stdout), text(&output.stderr));
        assert!(said.contains(": 4 datagrams, "), "{said}");
        assert!(told.contains("2 datagrams that came in fragments"), "{told}");
    }
    let daemon = world.start(&["--ebpf=off"]);
    for (round, name) in ["c.gz", "c.pcap", "c.pcapng"].into_iter().enumerate() {
        let said = run(&world, &["replay", &file(name), "--to=127.0.0.1:9125", "--speed=0"]);
        assert!(said.starts_with("4 datagrams to "), "{name}: {said}");
        let lines = format!("statsd_exporter_lines_total {}\n", (round + 1) * 4);
        daemon.wait_for_exposition("what was sent", |text| text.contains(&lines));
    }
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces"]
fn the_doctor_finds_what_is_wrong() {
    let world = World::without_cable();
    let daemon = world.start(&["--ebpf=off"]);
    let folder = tempfile::tempdir().expect("room for a folder");
    let env = folder.path().join("airflow.env");
    std::fs::write(&env, "AIRFLOW_METRICS__STATSD_ON=True\n").expect("the folder is ours");
    let doctor = |arguments: &[&str]| {
        let arguments = [&["doctor", "--json"], arguments].concat();
        let output = tool(&world, &arguments).output().expect("the binary starts");
        let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
        let rules = findings.iter().filter_map(|finding| Some(finding["rule"].as_str()?.to_owned()));
        (output.status.code(), rules.collect::<Vec<_>>())
    };
    let is_note =
        |rule: &String| ["door-shut", "capabilities", "kernel", "rmem-max"].contains(&rule.as_str());
    let (code, rules) = doctor(&[]);
    assert!(code == Some(0) && rules.iter().all(is_note), "{rules:?}");
    let env = format!("--env-file={}", Path::new(&env).display());
    let (code, rules) = doctor(&[&env, "--no-probe"]);
    assert!(code == Some(2) && rules[0] == "single-underscore", "{rules:?}");
    daemon.stop();
    let (code, rules) = doctor(&[]);
    assert_eq!((code, rules[0].as_str()), (Some(2), "daemon-away"));
}

#[test]
#[ignore = "needs root: network namespaces"]
fn the_doctor_finds_mistakes_of_the_network() {
    let world = World::new();
    let daemon = world.start(&["--ebpf=off", "--statsd.listen-udp=127.0.0.1:9125"]);
    // The old exporter on another address of our port; Airflow's default port; an address that nobody has.
    let _shadow = world.ours.inside(|| UdpSocket::bind((Family::V4.ours(), PORT)).expect("a free address"));
    let lost = world.ours.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    let arguments = ["doctor", "--json", "--statsd=10.77.0.99:9125"];
    let mut doctor = tool(&world, &arguments).spawn().expect("the binary starts");
    let start = Instant::now();
    while !has_ended(&mut doctor) {
        // That nobody listens is told at the next one.
        let _ = lost.send_to(HOT, (Ipv4Addr::LOCALHOST, 8125));
        assert!(start.elapsed() < PATIENCE, "the doctor does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = doctor.wait_with_output().expect("our child");
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    for rule in ["nobody-listens", "shadowed", "udp-blocked"] {
        assert!(findings.iter().any(|finding| finding["rule"] == rule), "no {rule} in {findings:#?}");
    }
    assert_eq!(output.status.code(), Some(2));
    daemon.stop();
}
