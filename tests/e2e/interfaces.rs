//! Interfaces and addresses that come and go while the daemon runs.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use super::daemon::Daemon;
use super::figures::Figures;
use super::world::{Family, OUR_MAC, PORT, World};

const TIMER: &[u8] = b"interfaces.timer:1.5|ms";
const BURST: u64 = 50;

/// Sends to `target` until XDP takes it, which is as soon as the daemon has followed the change;
/// then a burst, which XDP must take whole. Returns how many were sent.
#[track_caller]
fn send_until_xdp_takes(daemon: &Daemon, socket: &UdpSocket, target: &str) -> u64 {
    let taken = || daemon.figures().door("xdp", "ringed");
    let (before, mut sent) = (taken(), 0);
    let send = || {
        let bytes = socket.send_to(TIMER, (target, PORT)).expect("a route");
        assert_eq!(bytes, TIMER.len());
    };
    let mut now = before;
    daemon.wait_for_figures("XDP takes it", |figures| {
        now = figures.door("xdp", "ringed");
        if now == before {
            send();
            sent += 1;
        }
        now > before
    });
    (0..BURST).for_each(|_| send());
    let wanted = now + BURST;
    daemon.wait_for_figures("the burst", |figures| figures.door("xdp", "ringed") >= wanted);
    sent + BURST
}

fn bound(world: &World, address: &str) -> UdpSocket {
    world.theirs.inside(|| UdpSocket::bind((address, 0)).expect("our own address"))
}

fn open_on(daemon: &Daemon) -> u64 {
    daemon.figures().sum("rotameter_door_open", &[("door", "xdp")])
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn an_interface_that_appears_is_taken_and_one_that_goes_is_let_go() {
    let world = World::without_cable();
    let daemon = world.start(&["--ebpf=required", "--xdp.interface=veth-*"]);
    assert_eq!(open_on(&daemon), 0);
    let mut sent = 0;
    for _ in 0..2 {
        world.lay_cable("veth-d", "veth-s");
        daemon.wait_for_figures("attached", |figures| figures.doors_open().xdp);
        for family in Family::ALL {
            let socket = bound(&world, &family.theirs().to_string());
            sent += send_until_xdp_takes(&daemon, &socket, &family.ours().to_string());
        }
        world.theirs.ip("link del veth-s");
        daemon.wait_for_figures("detached", |figures| !figures.doors_open().xdp);
    }
    let figures = daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
    figures.check_datagrams(sent);
    let log = daemon.log();
    for happened in ["XDP attached", "XDP detached"] {
        assert_eq!(log.matches(happened).count(), 2, "{happened}\n{log}");
    }
    assert!(!log.contains("level=error") && !log.contains("level=warn"), "{log}");
    daemon.stop();
}

/// Whoever saves and restores containers gives an interface the index that it had.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn an_interface_that_comes_again_with_its_index_is_taken_again() {
    let world = World::without_cable();
    world.lay_cable_as("veth-d", "veth-s", Some(77));
    let daemon = world.start(&["--ebpf=required", "--xdp.interface=veth-d"]);
    let mut sent = 0;
    for _ in 0..2 {
        let socket = bound(&world, &Family::V4.theirs().to_string());
        sent += send_until_xdp_takes(&daemon, &socket, &Family::V4.ours().to_string());
        world.ours.ip("link del veth-d");
        world.lay_cable_as("veth-d", "veth-s", Some(77));
    }
    let figures = daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
    figures.check_datagrams(sent);
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn an_address_that_is_added_is_listened_on_and_one_that_goes_is_not() {
    let world = World::new();
    let daemon = world.start(&["--ebpf=required", "--xdp.interface=veth-d"]);
    let mut sent = 0;
    for (family, address, prefix) in [(Family::V4, "10.77.0.9", 24), (Family::V6, "fd77::9", 64)] {
        let socket = bound(&world, &family.theirs().to_string());
        world.theirs.ip(&format!("neigh replace {address} lladdr {OUR_MAC} dev veth-s nud permanent"));
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        world.ours.ip(&format!("addr add {address}/{prefix} dev veth-d{nodad}"));
        sent += send_until_xdp_takes(&daemon, &socket, address);
        daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent).check_datagrams(sent);
        // Gone, its frames are nobody's: XDP must leave them to the stack, which drops them.
        world.ours.ip(&format!("addr del {address}/{prefix} dev veth-d"));
        let left = |figures: &Figures| figures.passed("xdp", "other_destination");
        let before = left(&daemon.figures());
        daemon.wait_for_figures("XDP leaves it", |figures| {
            let left_now = left(figures) > before;
            if !left_now {
                socket.send_to(TIMER, (address, PORT)).expect("a route");
            }
            left_now
        });
        // XDP took some before it heard of the change, and the stack has dropped the others.
        sent = daemon.figures().accounted();
    }
    daemon.figures().check_datagrams(sent);
    daemon.stop();
}

/// A VLAN's frames cross the interface below, where XDP sees them: with the tag in the frame, or
/// beside it where the sending side has left the tagging to its card.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn frames_of_a_vlan_interface_are_taken() {
    let world = World::new();
    if !world.ours.try_ip("link add link veth-d name veth-d.7 type vlan id 7") {
        println!("this kernel has no VLAN interfaces (8021q); only raw tagged frames are tried");
        return;
    }
    world.theirs.ip("link add link veth-s name veth-s.7 type vlan id 7");
    for (namespace, end, address) in [(&*world.ours, "veth-d", 1), (&world.theirs, "veth-s", 2)] {
        namespace.ip(&format!("addr add 10.77.7.{address}/24 dev {end}.7"));
        namespace.ip(&format!("addr add fd77:7::{address}/64 dev {end}.7 nodad"));
        namespace.ip(&format!("link set {end}.7 up"));
    }
    let daemon = world.start(&["--ebpf=required", "--xdp.interface=veth-d"]);
    let mut sent = 0;
    for (theirs, ours) in [("10.77.7.2", "10.77.7.1"), ("fd77:7::2", "fd77:7::1")] {
        let socket = bound(&world, theirs);
        sent += send_until_xdp_takes(&daemon, &socket, ours);
    }
    let figures = daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
    figures.check_datagrams(sent);
    daemon.stop();
}

/// A tag with id 0 carries a priority and names no VLAN, so the frame is the interface's own. One of a
/// VLAN that we have no interface in is nobody's.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn of_tagged_frames_those_without_a_vlan_of_ours_are_left() {
    let world = World::new();
    let daemon = world.start(&["--ebpf=required", "--xdp.interface=veth-d"]);
    for _ in 0..BURST {
        send_frame(&world, &tagged_frame(0, TIMER));
        send_frame(&world, &tagged_frame(7, TIMER));
    }
    let figures = daemon.wait_for_figures("all sent", |figures| {
        figures.accounted() >= BURST && figures.passed("xdp", "other_destination") >= BURST
    });
    assert_eq!(figures.door("xdp", "ringed"), BURST);
    figures.check_datagrams(BURST);
    daemon.stop();
}

/// A frame from the senders' end to the daemon's port over IPv4, with an 802.1Q tag.
fn tagged_frame(vlan: u16, payload: &[u8]) -> Vec<u8> {
    let udp_bytes = u16::try_from(8 + payload.len()).expect("short");
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 0, 2, 10, 77, 0, 1];
    ip[2..4].copy_from_slice(&(20 + udp_bytes).to_be_bytes());
    let sum: u32 = ip.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).expect("ten small words carry once");
    ip[10..12].copy_from_slice(&(!folded).to_be_bytes());
    let mut frame = vec![2, 0x77, 0, 0, 0, 1, 2, 0x77, 0, 0, 0, 2, 0x81, 0];
    frame.extend(vlan.to_be_bytes());
    frame.extend([8, 0]);
    frame.extend(ip);
    frame.extend(4711_u16.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend(udp_bytes.to_be_bytes());
    // Over IPv4, a zero says that there is no checksum.
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// Sends a frame as it is out of the senders' end.
fn send_frame(world: &World, frame: &[u8]) {
    world.theirs.inside(|| {
        // SAFETY: socket takes three integers, and a descriptor or -1 comes back.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: a descriptor that was just opened, and that nobody else has.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: the name is a string with its NUL at the end.
        let index = unsafe { libc::if_nametoindex(c"veth-s".as_ptr()) };
        // SAFETY: the address is integers and an array of them, which may all be zero.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = u16::try_from(libc::AF_PACKET).expect("a small number");
        to.sll_ifindex = i32::try_from(index).expect("a small number");
        let to_bytes = libc::socklen_t::try_from(size_of_val(&to)).expect("20 bytes");
        // SAFETY: frame and address are alive with their true lengths; the kernel copies both.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                to_bytes,
            )
        };
        assert_eq!(usize::try_from(sent), Ok(frame.len()), "{}", std::io::Error::last_os_error());
    });
}
