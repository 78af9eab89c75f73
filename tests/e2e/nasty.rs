//! Datagrams at the edges, by real sockets through the real stack: each is counted exactly once.

use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;

use super::daemon::Daemon;
use super::figures::{Figures, Open};
use super::world::{Family, PORT, World};
use crate::reference;

/// From `linux/udp.h`; a super-packet is cut into datagrams of so many bytes.
const UDP_SEGMENT: libc::c_int = 103;
/// The longest payload over IPv4.
const PAYLOAD_BYTES_MAX_V4: usize = 65_507;

/// The way from a sender to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Loopback,
    Cable,
}

const WAYS: [(Way, Family); 4] = [
    (Way::Loopback, Family::V4),
    (Way::Loopback, Family::V6),
    (Way::Cable, Family::V4),
    (Way::Cable, Family::V6),
];

impl Way {
    fn socket(self, world: &World, family: Family) -> UdpSocket {
        match self {
            Self::Cable => world.socket(family),
            Self::Loopback => world.ours.inside(|| {
                let (any, to) = match family {
                    Family::V4 => ("127.0.0.1:0", "127.0.0.1"),
                    Family::V6 => ("[::1]:0", "::1"),
                };
                let socket = UdpSocket::bind(any).expect("a free port");
                socket.connect((to, PORT)).expect("a route");
                socket
            }),
        }
    }
}

/// Runs `send` by every way against a daemon with two doors open, one with all open, and one with all
/// shut. `send` returns the datagrams as they must have arrived. `look` sees the figures of each run.
fn each_way(
    send: impl Fn(&UdpSocket, Family) -> Vec<Vec<u8>>,
    look: impl Fn(&Figures, Open, Way, &[Vec<u8>]),
) {
    let world = World::new();
    let two = ["--ebpf=required", "--xdp.interface=veth-d"];
    let all = [two[0], two[1], "--ebpf.loopback"];
    for flags in [&two[..], &all, &["--ebpf=off"]] {
        for (way, family) in WAYS {
            let daemon = world.start(flags);
            let datagrams = send(&way.socket(&world, family), family);
            let figures = arrived(&daemon, &datagrams);
            look(&figures, figures.doors_open(), way, &datagrams);
            daemon.stop();
        }
    }
    assert_eq!(world.cable_drops(), 0);
}

/// Waits for `datagrams` and holds the exposition against the reference.
#[track_caller]
fn arrived(daemon: &Daemon, datagrams: &[Vec<u8>]) -> Figures {
    let sent = datagrams.len() as u64;
    daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
    let text = daemon.scrape();
    let figures = Figures::read(&text);
    figures.check_datagrams(sent);
    let expected = reference::expect(datagrams).order_free();
    figures.check_lines(&expected);
    assert_eq!(expected.compare(&text), Ok(()), "{}", figures.ledger());
    figures
}

fn send_all(socket: &UdpSocket, datagrams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    for datagram in &datagrams {
        assert_eq!(socket.send(datagram).expect("the daemon listens"), datagram.len());
    }
    datagrams
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn odd_bytes_are_read_as_the_reference_reads_them() {
    let datagrams: Vec<Vec<u8>> = [
        &b""[..],
        b"\n",
        b"\n\n\n",
        b"a:1|c\n",
        b"a:1|c\r\nb:2|c\r\n",
        b"nul\0inside:1|c",
        b"a:1\0|c",
        b"\0",
        b"\xff\xfe:1|c",
        b"tagged:1|c|#k:\xc3\x28",
        b"caf\xc3\xa9:1|c",
        b"a:1|c\n\n\nb:+2|c",
        b"a:1|c|@0.5|#k:v\na:-1|c\na:1|g",
        b"no value",
        b"x:1:2:3|c",
        b"long:9999999999999999999|c",
        b"\xe2\x80\xa8:1|ms",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    each_way(|socket, _| send_all(socket, datagrams.clone()), |_, _, _, _| {});
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn long_datagrams_and_fragments_take_the_socket() {
    let of = |bytes: usize| {
        let mut payload = Vec::new();
        while payload.len() + 32 < bytes {
            writeln!(payload, "long.{}:1|c", payload.len() % 7).expect("a vector has room");
        }
        payload.resize(bytes, b'x');
        payload
    };
    // Around what the doors take, around what a frame of 1500 bytes takes, and the longest there is.
    let sizes = [1400, 1452, 1453, 1472, 1473, 1500, 4000, 9000, 30_000, PAYLOAD_BYTES_MAX_V4];
    each_way(
        |socket, _| send_all(socket, sizes.map(of).to_vec()),
        |figures, open, way, datagrams| {
            if open.socket_filter {
                let long = datagrams.iter().filter(|datagram| datagram.len() > 1472).count() as u64;
                assert_eq!(figures.passed("socket_filter", "long_payload"), long);
                assert_eq!(figures.received("udp"), long);
                if open.loopback && way == Way::Loopback {
                    // Over IPv6 the longest one is more than the device takes in one piece.
                    let fragments = u64::from(figures.passed("loopback", "fragment") > 0);
                    assert_eq!(figures.passed("loopback", "long_payload"), long - fragments);
                }
            }
            if open.xdp && way == Way::Cable {
                assert!(figures.passed("xdp", "fragment") > 50, "the longest one alone has 45 fragments");
            }
        },
    );
}

/// The kernel cuts a super-packet as late as it can: on the loopback device just before our socket, on
/// the cable before XDP sees it.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn each_segment_of_a_super_packet_is_counted_once() {
    const SEGMENTS: usize = 40;
    let segment = |number: usize| {
        let line = format!("gso.segment:{}|c|#n:{}", 1 + number % 3, number % 5);
        assert_eq!(line.len(), 20);
        line.into_bytes()
    };
    each_way(
        |socket, _| {
            set_option(socket, libc::IPPROTO_UDP, UDP_SEGMENT, 20);
            let mut datagrams = Vec::new();
            for _ in 0..50 {
                let segments: Vec<Vec<u8>> = (0..SEGMENTS).map(segment).collect();
                let packet = segments.concat();
                assert_eq!(socket.send(&packet).expect("the kernel can cut"), packet.len());
                datagrams.extend(segments);
                // A shorter last segment.
                let packet = [&segment(7)[..], b"gso.tail:1|c"].concat();
                assert_eq!(socket.send(&packet).expect("the kernel can cut"), packet.len());
                datagrams.extend([segment(7), b"gso.tail:1|c".to_vec()]);
            }
            datagrams
        },
        |figures, open, way, datagrams| {
            if open.xdp && way == Way::Cable {
                assert_eq!(figures.ringed() + figures.counted(), datagrams.len() as u64);
            }
            if open.loopback && way == Way::Loopback {
                assert_eq!(figures.passed("loopback", "super_packet"), 2 * 50);
            }
        },
    );
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn datagrams_without_a_checksum_are_taken_over_ipv4() {
    each_way(
        |socket, family| {
            if family == Family::V4 {
                set_option(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
            }
            send_all(socket, vec![b"unchecked:1|c".to_vec(); 50])
        },
        |figures, open, way, _| {
            if open.xdp && way == Way::Cable {
                assert_eq!(figures.door("xdp", "ringed") + figures.door("xdp", "counted"), 50);
            }
            if open.loopback && way == Way::Loopback {
                assert_eq!(figures.door("loopback", "ringed") + figures.door("loopback", "counted"), 50);
            }
        },
    );
}

/// Lines over TCP, cut anywhere, with a last one that has no end.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn lines_over_tcp_are_taken() {
    let world = World::new();
    let daemon = world.start(&["--ebpf=required", "--xdp.interface=veth-d"]);
    let text: String = (0..2_000).map(|n| format!("tcp.lines:{}|c\ntcp.time:{n}|ms\n", n % 3)).collect();
    for family in Family::ALL {
        let mut stream =
            world.theirs.inside(|| TcpStream::connect(World::target(family))).expect("it listens");
        stream.set_nodelay(true).expect("an option of every stream");
        for piece in text.as_bytes().chunks(7_001) {
            stream.write_all(piece).expect("it reads");
        }
    }
    let lines = 2 * text.lines().count() as u64;
    let both = [text.trim_end(), text.trim_end()];
    let expected = reference::expect(&both).order_free();
    daemon.wait_for_figures("all lines", |figures| figures.sum("statsd_exporter_lines_total", &[]) >= lines);
    let text = daemon.scrape();
    assert_eq!(expected.compare(&text), Ok(()));
    let figures = Figures::read(&text);
    figures.check_datagrams(0);
    figures.check_lines(&expected);
    assert_eq!(figures.sum("statsd_exporter_tcp_connections_total", &[]), 2);
    daemon.stop();
}

fn set_option(socket: &UdpSocket, level: libc::c_int, option: libc::c_int, value: libc::c_int) {
    let bytes = libc::socklen_t::try_from(size_of_val(&value)).expect("four bytes");
    // SAFETY: the socket is open while it is borrowed; the value is alive with its true length.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), bytes) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
