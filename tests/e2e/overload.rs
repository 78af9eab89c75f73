//! More than there is room for, and an end without warning: what is lost is counted where it was lost.

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use super::daemon::Daemon;
use super::figures::Figures;
use super::world::{Family, OUR_END, World};
use crate::reference;

const TIMER: &[u8] = b"overload.timer:3.5|ms";

/// Sends `count` timers, which no slot takes.
fn send(socket: &UdpSocket, count: u64) {
    for _ in 0..count {
        socket.send(TIMER).expect("the daemon's port is there");
    }
}

/// What a recorded timer adds up to, over all that reached the registry.
#[track_caller]
fn check_timers(daemon: &Daemon, recorded: u64) -> Figures {
    let text = daemon.scrape();
    let datagrams: Vec<&[u8]> = std::iter::repeat_n(TIMER, usize::try_from(recorded).expect("few")).collect();
    let expected = reference::expect(&datagrams).order_free();
    assert_eq!(expected.compare(&text), Ok(()));
    Figures::read(&text)
}

/// The daemon is stopped, so nobody drains: the ring fills, then the socket takes the rest.
fn full_ring(flags: &[&str], door: &str) {
    const SENT: u64 = 6_000;
    let world = World::new();
    let mut all = vec!["--ebpf=required", "--ebpf.ring-bytes=64Ki"];
    all.extend(flags);
    let daemon = world.start(&all);
    let socket = world.socket(Family::V4);
    daemon.signal(Signal::STOP);
    send(&socket, SENT);
    daemon.signal(Signal::CONT);
    let figures = daemon.wait_for_figures("all sent", |figures| figures.accounted() >= SENT);
    figures.check_datagrams(SENT);
    assert_eq!(world.cable_drops(), 0);
    assert_eq!(figures.lost(), 0, "the socket had room");
    let full = figures.passed(door, "ring_full");
    // A record of this size takes 64 bytes; at most one ring for each CPU that sent.
    assert!(full > SENT / 4, "{full} of {SENT} found the ring full");
    assert!(figures.received("udp") > 0 && figures.ringed() > 0);
    check_timers(&daemon, SENT);
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn what_a_full_ring_has_no_room_for_takes_the_socket() {
    full_ring(&["--xdp.interface=veth-d", "--ebpf.doors=xdp"], "xdp");
    full_ring(&[], "socket_filter");
    // What the ring of XDP has no room for, the filter finds full too.
    full_ring(&["--xdp.interface=veth-d"], "socket_filter");
}

/// With ring and socket full, every datagram that nobody has is counted as lost.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn what_a_full_socket_has_no_room_for_is_counted_as_lost() {
    const SENT: u64 = 20_000;
    let every = [
        &["--ebpf=off"][..],
        &["--ebpf=required"],
        &["--ebpf=required", "--xdp.interface=veth-d"],
        &["--ebpf=required", "--xdp.interface=veth-d", "--ebpf.doors=xdp"],
    ];
    for flags in every {
        let world = World::new();
        let mut all = vec!["--ebpf.ring-bytes=64Ki", "--statsd.read-buffer=256Ki"];
        all.extend(flags);
        let daemon = world.start(&all);
        let socket = world.socket(Family::V6);
        for round in 1..=2 {
            daemon.signal(Signal::STOP);
            send(&socket, SENT);
            daemon.signal(Signal::CONT);
            let sent = round * SENT;
            let figures = daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
            // Exactly: sent = counted + ringed + read from the socket + lost.
            figures.check_datagrams(sent);
            assert_eq!(world.cable_drops(), 0);
            assert!(figures.lost() > SENT / 2, "{flags:?}: {} lost", figures.lost());
            check_timers(&daemon, sent - figures.lost());
        }
        daemon.stop();
    }
}

/// Killed while it counts, and started again. What the first one had counted and nobody had scraped
/// is gone with it, that is the nature of a counter in memory; what comes while nobody listens the
/// kernel counts (`NoPorts`); the second one counts all that is sent after it is ready.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_killed_daemon_leaves_nothing_behind() {
    const HOT: &[u8] = b"overload.counter:1|c";
    const SENT: u64 = 5_000;
    let world = World::new();
    let flags =
        ["--ebpf=required", "--xdp.interface=veth-d", "--promotion.interval=100ms", "--promotion.min-rate=1"];
    for family in Family::ALL {
        let mut daemon = world.start(&flags);
        assert!(xdp_attached(&world));
        let socket = world.socket(family);
        // Until it counts in the kernel, and then without a pause.
        while daemon.figures().counted() == 0 {
            (0..500).for_each(|_| drop(socket.send(HOT)));
        }
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                for _ in 0..20_000 {
                    // Refused by the other side once nobody listens there.
                    let _ = socket.send(HOT);
                }
            });
            sleep(Duration::from_millis(2));
            daemon.signal(Signal::KILL);
            daemon.ended();
            sender.join().expect("sending does not fail");
        });
        drop(daemon);

        // Its descriptors are closed when the process is gone; the kernel takes the program off and frees
        // the port in that very step, or shortly after.
        wait_until("no XDP program is left", || !xdp_attached(&world));
        wait_until("datagrams find no port", || {
            let before = world.ours.udp_no_ports();
            let _ = world.socket(family).send(HOT);
            world.ours.udp_no_ports() > before
        });
        let before = world.ours.udp_no_ports();
        let unheard = unconnected(&world, family);
        for _ in 0..SENT {
            unheard.send_to(HOT, World::target(family)).expect("an unconnected socket sees no refusal");
        }
        wait_until("all are counted", || world.ours.udp_no_ports() - before >= SENT);
        assert_eq!(world.ours.udp_no_ports() - before, SENT, "what nobody heard, the kernel counts");

        let daemon = world.start(&flags);
        assert!(xdp_attached(&world));
        let socket = world.socket(family);
        for sent in [SENT, 2 * SENT, 3 * SENT] {
            for _ in 0..SENT {
                socket.send(HOT).expect("the daemon listens");
            }
            daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent).check_datagrams(sent);
            daemon.wait_for_figures("a promotion", |figures| {
                figures.sum("rotameter_promotions_total", &[]) > 0
            });
        }
        let datagrams = vec![HOT; 3 * usize::try_from(SENT).expect("few")];
        assert_eq!(reference::expect(&datagrams).compare(&daemon.scrape()), Ok(()));
        assert_eq!(world.ours.udp_no_ports() - before, SENT);
        daemon.stop();
        assert!(!xdp_attached(&world), "a clean end leaves nothing either");
    }
    assert_eq!(world.cable_drops(), 0);
}

fn unconnected(world: &World, family: Family) -> UdpSocket {
    world.theirs.inside(|| UdpSocket::bind((family.theirs(), 0)).expect("a free port"))
}

fn xdp_attached(world: &World) -> bool {
    world.ours.ip(&format!("-d link show dev {OUR_END}")).contains("xdp")
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < super::daemon::PATIENCE, "never came: {what}");
        sleep(Duration::from_millis(2));
    }
}
