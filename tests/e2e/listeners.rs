//! Every way in beside one UDP socket: other ports, TCP, Unix sockets, sockets that were passed.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Stdio;

use rustix::net::{RecvFlags, recv};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::daemon::{Daemon, PATIENCE, binary};
use super::figures::Figures;
use super::world::{Family, OUR_END, World};

/// Everything that the exposition says about one sender's series.
#[track_caller]
fn check_series(daemon: &Daemon, expected: &[&str]) {
    let text = daemon.scrape();
    for line in expected {
        assert!(text.lines().any(|found| found == *line), "no line `{line}`");
    }
}

/// Lines, samples and events are each in one place.
#[track_caller]
fn check_ledger(figures: &Figures, lines: u64, refused: u64) {
    let sum = |family: &str| figures.sum(family, &[]);
    assert_eq!(sum("statsd_exporter_lines_total"), lines);
    assert_eq!(sum("rotameter_events_recorded_total"), sum("rotameter_events_total"));
    assert_eq!(sum("statsd_exporter_sample_errors_total"), refused);
}

fn tcp(world: &World) -> TcpStream {
    let stream = world.ours.inside(|| TcpStream::connect((Ipv4Addr::LOCALHOST, 9125)));
    let stream = stream.expect("the daemon listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a duration");
    stream
}

/// Ends our side of the stream and waits until the daemon has ended its own.
fn finish(mut stream: TcpStream) {
    stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
    let read = stream.read(&mut [0; 1]);
    assert_eq!(read.expect("the daemon closes"), 0);
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn two_udp_ports_are_read_with_doors_open_and_shut() {
    const SENT: u64 = 3_000;
    let named = format!("--xdp.interface={OUR_END}");
    for flags in [&["--ebpf=off"][..], &["--ebpf=required"], &["--ebpf=required", &named]] {
        let world = World::new();
        let mut all = vec!["--statsd.listen-udp=:9125", "--statsd.listen-udp=:8125"];
        all.extend(flags);
        let daemon = world.start(&all);
        for family in Family::ALL {
            let (first, second) = (world.socket(family), world.socket(family));
            second.connect((family.ours(), 8125)).expect("a route");
            for n in 0..SENT {
                let socket = if n % 3 == 0 { &first } else { &second };
                socket.send(b"ports.hot:1|c\nports.time:3|ms").expect("the daemon listens");
                socket.send(b"ports.only:1|c").expect("the daemon listens");
            }
        }
        let sent = 4 * SENT;
        let figures = daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
        figures.check_datagrams(sent);
        check_series(&daemon, &["ports_hot 6000", "ports_only 6000", "ports_time_count 6000"]);
        if *flags != ["--ebpf=off"] {
            assert!(figures.received("udp") < sent / 2, "the doors are open for both\n{}", figures.ledger());
        }
        daemon.stop();
    }
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_unix_datagram_socket_replaces_a_stale_file_and_goes_with_the_daemon() {
    let (world, folder) = (World::without_cable(), tempfile::tempdir().expect("room"));
    let path = folder.path().join("statsd.sock");
    let flag = format!("--statsd.listen-unixgram={}", path.display());
    for (mode, expected) in [("777", 0o777), ("700", 0o700), ("unreadable", 0o755)] {
        drop(UnixDatagram::bind(&path).expect("a file that nobody listens on"));
        let mode = format!("--statsd.unixsocket-mode={mode}");
        let daemon = world.start(&["--ebpf=off", &flag, &mode]);
        let found = path.metadata().expect("the socket is there").permissions().mode() & 0o777;
        assert_eq!(found, expected, "{mode}");
        assert_eq!(daemon.log().contains("no octal number"), expected == 0o755);
        let sender = UnixDatagram::unbound().expect("a socket");
        // More than the queue holds: a sender waits, and nothing is lost.
        for _ in 0..5_000 {
            sender.send_to(b"u:1|c\nv:2|c\n", &path).expect("the daemon listens");
        }
        let figures = daemon.wait_for_figures("all sent", |figures| figures.received("unixgram") == 5_000);
        check_ledger(&figures, 15_000, 0);
        assert_eq!(figures.sum("statsd_exporter_unixgram_packets_total", &[]), 5_000);
        check_series(&daemon, &["u 5000", "v 10000"]);
        daemon.stop();
        assert!(!path.exists());
    }
}

#[track_caller]
fn check_refused(world: &World, flags: &[&str], words: &[&str]) {
    let mut command = world.ours.command(binary());
    command.args(flags);
    let mut daemon = Daemon::spawn(&world.ours, command, flags);
    assert_eq!(daemon.ended().code(), Some(1));
    let log = daemon.log();
    for word in words {
        assert!(log.contains(word), "the error does not say `{word}`\n{log}");
    }
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_path_that_is_taken_ends_the_start_and_stays() {
    let (world, folder) = (World::without_cable(), tempfile::tempdir().expect("room"));
    let path = folder.path().join("s");
    for name in ["statsd.listen-unixgram", "statsd.listen-unix"] {
        let flag = format!("--{name}={}", path.display());
        let other = UnixDatagram::bind(&path).expect("a free path");
        check_refused(&world, &[&flag], &[name, "another process listens there"]);
        assert!(path.exists());
        drop(other);
        std::fs::remove_file(&path).expect("it is there");
        std::fs::write(&path, "precious").expect("room");
        check_refused(&world, &[&flag], &[name, "no socket"]);
        assert_eq!(std::fs::read(&path).expect("it is there"), b"precious");
        std::fs::remove_file(&path).expect("it is there");
        let nowhere = format!("--{name}={}/not/here", folder.path().display());
        check_refused(&world, &[&nowhere], &[name, "directory does not exist"]);
    }
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    drop(taken);
    let flag = format!("--statsd.listen-unix={}", path.display());
    check_refused(&world, &[&flag, "--web.listen-address=192.0.2.1:80"], &["web.listen-address"]);
    assert!(!path.exists(), "a start that fails leaves nothing");
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_unix_stream_is_read_on_after_a_bad_line() {
    let (world, folder) = (World::without_cable(), tempfile::tempdir().expect("room"));
    let path = folder.path().join("statsd.sock");
    let daemon = world.start(&["--ebpf=off", &format!("--statsd.listen-unix={}", path.display())]);
    let mut stream = UnixStream::connect(&path).expect("the daemon listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a duration");
    for piece in [&b"a:1|c\nno colon\n\xff\n"[..], &[b'x'; 10_000], b"\na:1", b"|c\r\na:1|c"] {
        stream.write_all(piece).expect("the daemon reads");
    }
    stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
    assert_eq!(stream.read(&mut [0; 1]).expect("the daemon closes"), 0);
    let figures = daemon.figures();
    check_series(&daemon, &["a 3"]);
    check_ledger(&figures, 5, 2);
    assert_eq!(figures.sum("rotameter_unix_connections_total", &[]), 1);
    assert_eq!(figures.sum("rotameter_unix_too_long_lines_total", &[]), 1);
    assert!(figures.received("unix") > 0);
    daemon.stop();
    assert!(!path.exists());
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_too_long_tcp_line_costs_itself_and_nothing_else() {
    let world = World::without_cable();
    let daemon = world.start(&["--ebpf=off"]);
    // With its terminator 4,096 bytes long, then one more, then without an end.
    let line = |length: usize| format!("long:1|c|#k:{}", "v".repeat(length - "long:1|c|#k:".len()));
    let mut stream = tcp(&world);
    for text in [
        "a:1|c\n",
        &format!("{}\n", line(4_095)),
        "a:1|c\n",
        &format!("{}\n", line(4_096)),
        "a:1|c\r\n",
        &format!("{}\r\n", line(4_094)),
        &format!("{}\r\n", line(4_095)),
        "a:1|c\n",
        &"x".repeat(300_000),
        "\na:1|c",
    ] {
        stream.write_all(text.as_bytes()).expect("the connection lives");
    }
    finish(stream);
    let figures = daemon.figures();
    check_series(&daemon, &["a 5"]);
    check_ledger(&figures, 7, 0);
    assert_eq!(figures.sum("statsd_exporter_tcp_too_long_lines_total", &[]), 3);
    assert_eq!(figures.sum("statsd_exporter_tcp_connections_total", &[]), 1);
    assert_eq!(figures.sum("statsd_exporter_tcp_connection_errors_total", &[]), 0);
    daemon.stop();
}

/// Opens connections until so many are open, each with a line begun.
fn open_idle(world: &World, count: usize) -> Vec<TcpStream> {
    world.ours.inside(|| {
        let open = |_| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 9125)).expect("room in the backlog");
            // Those that the daemon closes at once may be closed by now.
            let _ = stream.write_all(b"begun:1");
            stream
        };
        (0..count).map(open).collect()
    })
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn ten_thousand_idle_connections_are_bounded_and_harmless() {
    const OPEN: u64 = 10_240;
    const TOO_MANY: u64 = 100;
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    assert!(maximum.is_none_or(|maximum| maximum > 12_000), "the hard limit of open files is {maximum:?}");
    let world = World::without_cable();
    let daemon = world.start(&["--ebpf=off"]);
    let resident = |daemon: &Daemon| daemon.figures().sum("process_resident_memory_bytes", &[]);
    let before = resident(&daemon);
    let idle = open_idle(&world, usize::try_from(OPEN + TOO_MANY).expect("few"));
    let refused =
        |figures: &Figures| figures.sum("rotameter_tcp_connections_refused_total", &[("reason", "too_many")]);
    daemon.wait_for_figures("the bound", |figures| refused(figures) == TOO_MANY);
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for idle connections");
    let socket = world.ours.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    socket.send_to(b"beside:1|c", (Ipv4Addr::LOCALHOST, 9125)).expect("the daemon listens");
    daemon.wait_for_figures("the datagram", |figures| figures.received("udp") == 1);
    // Each ends its line by closing; then there is room again.
    drop(idle);
    daemon.wait_for_figures("all closed", |figures| figures.sum("process_open_fds", &[]) < 100);
    let mut stream = tcp(&world);
    stream.write_all(b"again:1|c\n").expect("the daemon reads");
    finish(stream);
    check_series(&daemon, &["beside 1", "again 1"]);
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn where_few_files_may_be_open_scrapes_still_find_a_descriptor() {
    let world = World::without_cable();
    let mut command = world.ours.command("prlimit");
    command.arg("--nofile=700").arg(binary()).arg("--ebpf=off");
    let mut daemon = Daemon::spawn(&world.ours, command, &[]);
    assert!(daemon.wait_for(|daemon| matches!(daemon.get("/-/ready"), Ok((200, _)))));
    assert!(daemon.log().contains("188 connections at most"));
    let idle = open_idle(&world, 800);
    daemon.wait_for_figures("the bound", |figures| {
        figures.sum("rotameter_tcp_connections_refused_total", &[("reason", "too_many")]) == 800 - 188
    });
    drop(idle);
    daemon.stop();
}

/// Starts the daemon with a socket each as descriptors 3 and 4, the way a service manager does.
fn activated(world: &World, sockets: [OwnedFd; 2], names: &str, notify: &Path, flags: &[&str]) -> Daemon {
    let [third, fourth] = sockets;
    let mut command = world.ours.command("sh");
    let script = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$@\"";
    command.args(["-c", script, "sh"]).arg(binary()).args(flags);
    command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names).env("NOTIFY_SOCKET", notify);
    command.stdin(Stdio::from(third)).stdout(Stdio::from(fourth));
    Daemon::spawn_with(&world.ours, command, flags)
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn sockets_that_were_passed_replace_those_of_the_flags() {
    let (world, folder) = (World::without_cable(), tempfile::tempdir().expect("room"));
    let notify = folder.path().join("notify");
    let manager = UnixDatagram::bind(&notify).expect("a free path");
    manager.set_read_timeout(Some(PATIENCE)).expect("a duration");
    let told = || {
        let mut state = [0; 64];
        let length = manager.recv(&mut state).expect("the daemon tells");
        String::from_utf8_lossy(&state[..length]).into_owned()
    };
    let (udp, web) = world.ours.inside(|| {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 7125)).expect("a free port");
        (udp, TcpListener::bind((Ipv4Addr::LOCALHOST, 7102)).expect("a free port"))
    });
    // Sent before there was a daemon; the flags' own addresses could not even be bound.
    let sender = world.ours.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    sender.send_to(b"early:1|c", (Ipv4Addr::LOCALHOST, 7125)).expect("the socket is there");
    let flags = ["--ebpf=off", "--statsd.listen-udp=192.0.2.1:1", "--web.listen-address=:7102"];
    let mut daemon = activated(&world, [udp.into(), web.into()], "statsd:web", &notify, &flags);
    assert!(daemon.wait_for(|daemon| matches!(daemon.get("/-/ready"), Ok((200, _)))));
    assert_eq!(told(), "READY=1\n");
    check_series(&daemon, &["early 1"]);
    let mut stream = tcp(&world);
    stream.write_all(b"flagged:1|c\n").expect("TCP is as the flags say");
    finish(stream);
    check_series(&daemon, &["flagged 1"]);
    daemon.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1\n");
    assert_eq!(daemon.ended().code(), Some(0));
}

/// Whether something waits in the socket; it stays there.
fn something_waits(socket: &UdpSocket) -> bool {
    recv(socket, &mut [0_u8; 64][..], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok()
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn what_comes_to_a_passed_socket_between_a_killed_daemon_and_the_next_waits_for_that() {
    let (world, folder) = (World::without_cable(), tempfile::tempdir().expect("room"));
    let notify = folder.path().join("nobody");
    let (udp, web) = world.ours.inside(|| {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 7125)).expect("a free port");
        (udp, TcpListener::bind((Ipv4Addr::LOCALHOST, 7102)).expect("a free port"))
    });
    let start = || {
        let (udp, web) = (udp.try_clone().expect("a descriptor"), web.try_clone().expect("a descriptor"));
        let flags = ["--ebpf=required", "--web.listen-address=:7102"];
        let mut daemon = activated(&world, [udp.into(), web.into()], "statsd:web", &notify, &flags);
        assert!(daemon.wait_for(|daemon| matches!(daemon.get("/-/ready"), Ok((200, _)))));
        daemon
    };
    let sender = world.ours.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let send = |line: &str| {
        sender.send_to(line.as_bytes(), (Ipv4Addr::LOCALHOST, 7125)).expect("the socket is there");
    };
    let mut daemon = start();
    send("before:1|c");
    check_series(&daemon, &["before 1"]);
    daemon.signal(Signal::KILL);
    daemon.ended();
    // A moment passes until the kernel has closed what the process had.
    let deadline = std::time::Instant::now() + PATIENCE;
    while !something_waits(&udp) {
        assert!(std::time::Instant::now() < deadline, "a program without a daemon still consumes");
        send("probe:1|c");
    }
    for _ in 0..10 {
        send("between:1|c");
    }
    let daemon = start();
    check_series(&daemon, &["between 10"]);
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_passed_descriptor_of_no_use_is_named() {
    let (world, folder) = (World::without_cable(), tempfile::tempdir().expect("room"));
    let (connection, _peer) = UnixStream::pair().expect("a pair");
    let socket = UnixDatagram::bind(folder.path().join("s")).expect("a free path");
    let notify = folder.path().join("nobody");
    let mut daemon = activated(&world, [socket.into(), connection.into()], "a:b", &notify, &["--ebpf=off"]);
    assert_eq!(daemon.ended().code(), Some(1));
    assert!(daemon.log().contains("error: LISTEN_FDS: descriptor 4 (b) is a connection"));
}
