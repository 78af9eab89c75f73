//! Several senders of one gauge on the cable, some of which fall silent -> the value of those alive.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::world::{Family, PORT, World};

/// Long enough for a slow machine to send again in time, short enough to wait for.
const EXPIRY: Duration = Duration::from_secs(2);
const RULES: &str = "mappings:\n\
    - {match: slots.*, match_metric_type: gauge, name: slots, labels: {pool: $1}, gauge_combine: sum, \
       gauge_expiry: 2s}\n\
    - {match: newest, match_metric_type: gauge, name: newest, gauge_combine: last, gauge_expiry: 2s}\n\
    - {match: busy, name: busy_total, labels: {state: ok}, zero_siblings: {label: state, values: [failed]}}\n";

/// A sender with an address of its own; its value is a power of two, so that a sum names its parts.
struct Sender {
    socket: UdpSocket,
    value: u32,
}

impl Sender {
    fn new(world: &World, family: Family, address: &str, value: u32) -> Self {
        let address: IpAddr = address.parse().expect("an address");
        let socket = world.theirs.inside(|| {
            let socket = UdpSocket::bind((address, 0)).expect("the address is ours");
            socket.connect(World::target(family)).expect("a route");
            socket
        });
        Self { socket, value }
    }

    /// Also what the kernel counts, once it is busy.
    fn send(&self) {
        for line in
            [format!("slots.a:{}|g", self.value), format!("newest:{}|g", self.value), "busy:1|c".into()]
        {
            self.socket.send(line.as_bytes()).expect("the daemon listens");
        }
    }
}

fn check(flags: &[&str], transports: &[&str]) {
    let directory = tempfile::tempdir().expect("room for a directory");
    let path = directory.path().join("mapping.yml");
    fs::write(&path, RULES).expect("room for a file");
    let mapping = format!("--statsd.mapping-config={}", path.display());
    let world = World::new();
    world.theirs.ip("addr add 10.77.0.3/24 dev veth-s");
    world.theirs.ip("addr add fd77::3/64 dev veth-s nodad");
    let mut all = vec![mapping.as_str(), "--promotion.interval=100ms"];
    all.extend(flags);
    let daemon = world.start(&all);
    let senders = [
        Sender::new(&world, Family::V4, "10.77.0.2", 1),
        Sender::new(&world, Family::V4, "10.77.0.3", 2),
        Sender::new(&world, Family::V6, "fd77::2", 4),
        Sender::new(&world, Family::V6, "fd77::3", 8),
    ];
    // By another way, and yet the first sender.
    let mut stream =
        world.theirs.inside(|| TcpStream::connect((Family::V4.ours(), PORT))).expect("it listens");
    let mut sent = 0;
    // Sends until `line` shows, and what is left of `senders` does not fall silent meanwhile.
    let mut until = |alive: &[&Sender], line: &str| {
        let start = Instant::now();
        loop {
            for sender in alive {
                sender.send();
                sent += 3;
            }
            let text = daemon.scrape();
            if text.lines().any(|shown| shown == line) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "never came: {line}\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let [one, two, three, four] = &senders;
    until(&[one, two, three, four], "slots{pool=\"a\"} 15");
    stream.write_all(b"slots.a:+16|g\n").expect("the daemon reads");
    until(&[two, three, four], "slots{pool=\"a\"} 31");
    until(&[two, three, four, one], "newest 1");
    daemon.signal(Signal::HUP);
    until(&[one, two, three, four], "statsd_exporter_config_reloads_total{outcome=\"success\"} 1");
    until(&[one, two, three, four], "slots{pool=\"a\"} 15");
    // The second and the third die; the newest value dies with them.
    until(&[one, four, three], "newest 4");
    let silent = Instant::now();
    until(&[one, four], "slots{pool=\"a\"} 9");
    assert!(silent.elapsed() > EXPIRY / 2, "they left before their time");
    until(&[four, one], "newest 1");
    let gone = |text: &str| !text.contains("\nslots{") && !text.contains("\nnewest ");
    daemon.wait_for_exposition("the end of both gauges", gone);
    let figures = daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
    figures.check_datagrams(sent);
    assert_eq!(figures.sum("rotameter_sender_values", &[]), 0);
    for transport in transports {
        assert!(figures.received(transport) > 0, "{transport}\n{}", figures.ledger());
    }
    let text = daemon.scrape();
    for line in
        [format!("busy_total{{state=\"ok\"}} {}", sent / 3), "busy_total{state=\"failed\"} 0".to_owned()]
    {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_gauge_is_that_of_the_senders_that_are_alive_by_every_way() {
    // Each waits most of the time.
    std::thread::scope(|scope| {
        scope.spawn(|| check(&["--ebpf=off"], &["udp", "tcp"]));
        scope.spawn(|| check(&["--ebpf=required"], &["ring_socket_filter", "tcp"]));
        scope.spawn(|| check(&["--ebpf=required", "--xdp.interface=veth-d"], &["ring_xdp", "tcp"]));
    });
}
