//! Datagrams of the daemon's own machine -> the door on the loopback device.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use rustix::net;

use super::daemon::Daemon;
use super::figures::{Figures, Open, SHUT};
use super::world::{Family, PORT, World};
use crate::corpus;
use crate::reference;

const FLAGS: [&str; 5] = [
    "--ebpf=required",
    "--ebpf.loopback",
    "--promotion.interval=100ms",
    "--promotion.min-rate=5",
    "--ebpf.ring-bytes=4Mi",
];

/// A socket in the daemon's namespace that sends to `to`.
fn socket(world: &World, to: impl Into<IpAddr>) -> UdpSocket {
    let to = to.into();
    world.ours.inside(|| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).expect("a free port");
        socket.connect((to, PORT)).expect("a route");
        socket
    })
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => [127, 0, 0, 1].into(),
        Family::V6 => "::1".parse().expect("an address"),
    }
}

fn start(world: &World, flags: &[&str]) -> Daemon {
    let daemon = world.start(&[&FLAGS, flags].concat());
    assert_eq!(daemon.figures().doors_open(), Open { socket_filter: true, loopback: true, ..SHUT });
    daemon
}

#[track_caller]
fn wait(daemon: &Daemon, sent: u64) -> Figures {
    let figures = daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
    figures.check_datagrams(sent);
    figures
}

/// Each recording over both families: the second time, what is hot is in slots.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn recordings_are_counted_exactly() {
    let world = World::without_cable();
    for name in corpus::names().expect("the corpus is there") {
        let datagrams = corpus::load(&name).expect("the recording loads");
        let expected = reference::expect(&[&datagrams[..], &datagrams].concat()).order_free();
        let daemon = start(&world, &[]);
        let mut sent = 0;
        for family in Family::ALL {
            let socket = socket(&world, loopback(family));
            for burst in datagrams.chunks(8_192) {
                for datagram in burst {
                    assert_eq!(socket.send(&datagram.payload).expect("it is sent"), datagram.payload.len());
                }
                sent += burst.len() as u64;
                wait(&daemon, sent);
            }
            daemon.wait_for_figures("a promotion", |f| f.sum("rotameter_promotions_total", &[]) > 0);
        }
        let text = daemon.scrape();
        let figures = Figures::read(&text);
        figures.check_lines(&expected);
        assert_eq!(expected.compare(&text), Ok(()), "{name}: {}", figures.ledger());
        let hot = figures.door("loopback", "counted");
        assert!(hot * 10 > datagrams.len() as u64, "{name}: only {hot} in slots");
        assert_eq!(figures.door("socket_filter", "counted") + figures.door("socket_filter", "ringed"), 0);
        daemon.stop();
    }
}

/// The sender sees what it would see without us: all sent, and no error counted.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_sender_is_told_that_it_sent() {
    let world = World::without_cable();
    let daemon = start(&world, &[]);
    let socket = socket(&world, [127, 0, 0, 1]);
    let report = 1;
    // SAFETY: the socket is open; the value is alive with its true length.
    let set = unsafe {
        let value = (&raw const report).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, value, 4)
    };
    assert_eq!(set, 0);
    for _ in 0..100 {
        socket.send(b"told:1|c").expect("also one who asked for errors has none");
    }
    let figures = wait(&daemon, 100);
    assert_eq!(figures.door("loopback", "counted") + figures.door("loopback", "ringed"), 100);
    let snmp = world.ours.inside(|| std::fs::read_to_string("/proc/thread-self/net/snmp").expect("proc"));
    let mut udp = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let names = udp.next().expect("names").split(' ');
    let errors: Vec<_> = names
        .zip(udp.next().expect("values").split(' '))
        .filter(|(name, value)| name.contains("Err") && *value != "0")
        .collect();
    assert_eq!(errors, []);
    daemon.stop();
}

/// All addresses of the machine lead here; what the door does not know, the socket filter takes.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn every_address_of_the_machine_is_served() {
    let world = World::new();
    let daemon = start(&world, &[]);
    let targets = [
        loopback(Family::V4),
        loopback(Family::V6),
        Family::V4.ours(),
        Family::V6.ours(),
        [127, 1, 2, 3].into(),
    ];
    for target in targets {
        let socket = socket(&world, target);
        for _ in 0..20 {
            socket.send(b"addressed:1|c").expect("it is sent");
        }
    }
    let figures = wait(&daemon, 20 * targets.len() as u64);
    assert_eq!(figures.door("loopback", "counted") + figures.door("loopback", "ringed"), 80);
    assert_eq!(figures.passed("loopback", "other_destination"), 20, "all of 127/8 is local");
    daemon.stop();
}

/// A socket on one address only: what goes to the others is not for us, and nobody is told that it was.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn another_address_than_the_sockets_is_left_alone() {
    let world = World::new();
    let daemon = start(&world, &["--statsd.listen-udp=127.0.0.1:9125"]);
    socket(&world, [127, 0, 0, 1]).send(b"ours:1|c").expect("it is sent");
    wait(&daemon, 1);
    let other = socket(&world, Family::V4.ours());
    other.send(b"others:1|c").expect("it is sent");
    let refused = other.recv(&mut [0]).expect_err("nobody listens there");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    wait(&daemon, 1);
    daemon.stop();
}

/// A raw socket can make up what the stack would not deliver; it takes the long way.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn what_no_udp_socket_sent_takes_the_socket() {
    let world = World::without_cable();
    let daemon = start(&world, &[]);
    let payload = b"forged:1|c";
    // Ports, length, no checksum.
    let udp =
        [&4711_u16.to_be_bytes()[..], &PORT.to_be_bytes(), &18_u16.to_be_bytes(), &[0; 2], payload].concat();
    world.ours.inside(|| {
        let raw = net::socket(net::AddressFamily::INET, net::SocketType::RAW, Some(net::ipproto::UDP));
        let to: SocketAddr = ([127, 0, 0, 1], 0).into();
        let sent = net::sendto(raw.expect("root may"), &udp, net::SendFlags::empty(), &to);
        assert_eq!(sent.expect("it is sent"), udp.len());
    });
    let figures = wait(&daemon, 1);
    assert_eq!(figures.passed("loopback", "no_udp_sender"), 1);
    assert_eq!(figures.door("socket_filter", "ringed"), 1);
    daemon.stop();
}

/// The door goes with the daemon, however it ends.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn nothing_stays_at_the_loopback_device() {
    let world = World::without_cable();
    for kill in [false, true] {
        let mut daemon = start(&world, &[]);
        let sender = socket(&world, [127, 0, 0, 1]);
        sender.send(b"before:1|c").expect("it is sent");
        wait(&daemon, 1);
        if kill {
            daemon.signal(rustix::process::Signal::KILL);
            daemon.ended();
        } else {
            daemon.stop();
        }
        sender.send(b"after:1|c").expect("it is sent");
        let refused = sender.recv(&mut [0]).expect_err("nobody listens there");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
