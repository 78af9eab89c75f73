//! Lines in, the same lines out at another server, whatever becomes of that server.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use super::daemon::PATIENCE;
use super::figures::Figures;
use super::world::{Family, OUR_END, World};

/// A socket in the daemon's namespace, for lines to be relayed to.
fn target(world: &World) -> (UdpSocket, String) {
    let socket = world.ours.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a duration");
    let address = socket.local_addr().expect("it is bound").to_string();
    (socket, address)
}

/// Reads packets until `count` lines have come; the lines.
#[track_caller]
fn receive(socket: &UdpSocket, count: usize, packet_bytes_max: usize) -> Vec<Vec<u8>> {
    let (mut lines, mut packet) = (Vec::new(), [0; 2_000]);
    while lines.len() < count {
        let length = match socket.recv(&mut packet) {
            // A wait with a limit is not begun again behind a signal, such as that of a child's end.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            length => length.expect("a packet comes"),
        };
        assert!(length <= packet_bytes_max);
        let whole = packet[..length].strip_suffix(b"\n").expect("a packet holds whole lines");
        lines.extend(whole.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
    }
    lines
}

fn relayed(figures: &Figures, target: &str) -> u64 {
    figures.sum("statsd_exporter_relay_lines_relayed_total", &[("target", target)])
}

fn dropped(figures: &Figures, target: &str) -> u64 {
    figures.sum("rotameter_relay_lines_dropped_total", &[("target", target)])
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn every_line_is_relayed_with_doors_open_and_shut() {
    const SENT: u64 = 2_000;
    let named = format!("--xdp.interface={OUR_END}");
    for flags in [&["--ebpf=off"][..], &["--ebpf=required", "--promotion.interval=100ms", &named]] {
        let world = World::new();
        let (socket, address) = target(&world);
        let relay = format!("--statsd.relay.address={address}");
        let mut all = vec![relay.as_str(), "--statsd.relay.packet-length=512"];
        all.extend(flags);
        let daemon = world.start(&all);
        let sender = world.socket(Family::V4);
        let mut lines = 0;
        for round in 1..=3 {
            for _ in 0..SENT {
                sender.send(b"relay.hot:1|c\n\nrelay.hot:2|c\n").expect("the daemon listens");
            }
            let mut odd = b"no colon\xff\r\n".to_vec();
            odd.extend(b"x".repeat(512));
            sender.send(&odd).expect("the daemon listens");
            let sent = round * (SENT + 1);
            let figures = daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
            figures.check_datagrams(sent);
            lines = round * (2 * SENT + 1);
            assert_eq!(relayed(&figures, &address), lines);
            // Long enough for a window to end, in which it would have been promoted.
            let got = receive(&socket, usize::try_from(2 * SENT + 1).expect("few"), 512);
            assert_eq!(got.iter().filter(|line| *line == b"relay.hot:1|c").count() as u64, SENT);
            assert_eq!(got.iter().filter(|line| *line == b"relay.hot:2|c").count() as u64, SENT);
            assert_eq!(got.iter().filter(|line| *line == b"no colon\xff\r").count(), 1);
            std::thread::sleep(Duration::from_millis(300));
        }
        let figures = daemon.figures();
        assert_eq!(figures.counted(), 0, "a line that is counted in the kernel has no bytes");
        assert_eq!(figures.sum("statsd_exporter_relay_long_lines_total", &[]), 3);
        assert_eq!((relayed(&figures, &address), dropped(&figures, &address)), (lines, 0));
        assert!(daemon.scrape().contains("\nrelay_hot 18000\n"));
        assert!(daemon.log().contains("promotion"));
        // What has gathered is sent at the end.
        sender.send(b"relay.last:1|c").expect("the daemon listens");
        daemon.wait_for_figures("the last", |figures| relayed(figures, &address) == lines + 1);
        daemon.stop();
        assert_eq!(receive(&socket, 1, 512), [b"relay.last:1|c"]);
    }
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_dead_target_costs_its_own_lines_and_ingestion_nothing() {
    const SENT: u64 = 20_000;
    let world = World::new();
    let (alive, alive_address) = target(&world);
    let (dead, dead_address) = target(&world);
    drop(dead);
    // Nobody answers for this one, and there is no route to it either.
    let flags = [
        "--ebpf=off".to_owned(),
        format!("--statsd.relay.address={alive_address}"),
        format!("--statsd.relay.address={dead_address}"),
        "--statsd.relay.address=10.77.0.99:8125".to_owned(),
    ];
    let daemon = world.start(&flags.each_ref().map(String::as_str));
    let reader =
        std::thread::spawn(move || receive(&alive, usize::try_from(SENT).expect("few"), 1_400).len());
    let sender = world.socket(Family::V4);
    for n in 0..SENT {
        sender.send(b"relay.line:1|c").expect("the daemon listens");
        if n % 2_000 == 0 {
            daemon.figures();
        }
    }
    let figures = daemon.wait_for_figures("all sent", |figures| figures.accounted() >= SENT);
    figures.check_datagrams(SENT);
    assert_eq!(figures.lost(), 0);
    assert!(daemon.scrape().contains("\nrelay_line 20000\n"));
    assert_eq!(reader.join().expect("the reader counts") as u64, SENT, "the live target has them all");
    let figures = daemon.wait_for_figures("refusals", |figures| dropped(figures, &dead_address) > SENT / 2);
    for target in [&*alive_address, &dead_address, "10.77.0.99:8125"] {
        assert_eq!(relayed(&figures, target), SENT);
    }
    assert_eq!(dropped(&figures, &alive_address), 0);
    daemon.wait_for_figures("the log", |_| daemon.log().contains("relaying failed"));
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_target_that_comes_back_gets_lines_again() {
    let world = World::without_cable();
    let (socket, address) = target(&world);
    let port = socket.local_addr().expect("it is bound").port();
    let daemon = world.start(&["--ebpf=off", &format!("--statsd.relay.address={address}")]);
    let sender = world.ours.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let send = |line: &[u8]| {
        sender.send_to(line, (Ipv4Addr::LOCALHOST, 9125)).expect("the daemon listens");
    };
    send(b"relay.one:1|c");
    assert_eq!(receive(&socket, 1, 1_400), [b"relay.one:1|c"]);
    drop(socket);
    send(b"relay.two:1|c");
    daemon.wait_for_figures("the refusal", |figures| dropped(figures, &address) == 1);
    let again = world.ours.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, port))).expect("it is free");
    again.set_read_timeout(Some(PATIENCE)).expect("a duration");
    send(b"relay.three:1|c");
    assert_eq!(receive(&again, 1, 1_400), [b"relay.three:1|c"]);
    daemon.stop();
}
