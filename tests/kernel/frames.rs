//! Nasty frames -> door 1's verdict, and no other trace.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ingest_ebpf::layout::LISTEN_VIRTUAL;
use ingest_ebpf::verdict::{Door, Verdict};
use rotameter_bench::frame::{FrameBuilder, UdpChecksum, frame, frame_v6};

use super::loaded::{Effect, Loaded};

const HOT: &[u8] = b"airflow.ti_successes:1|c";
const COLD: &[u8] = b"airflow.dag.etl.load.duration:12.345678|ms";
/// The slot of [`HOT`].
const SLOT: u32 = 3;

/// The VLAN that [`kernel`] has an interface for.
const VLAN: u16 = 7;
/// An address on a virtual interface, where senders leave the checksum to the hardware.
const VIRTUAL_V4: &str = "10.77.0.3";
const VIRTUAL_V6: &str = "fd77::3";

fn kernel() -> Loaded {
    let mut kernel = Loaded::new();
    kernel.promote(HOT, SLOT);
    for address in ["10.77.0.1", "fd77::1"] {
        kernel.listen(address_v6(address), VLAN, 0);
    }
    for address in [VIRTUAL_V4, VIRTUAL_V6] {
        kernel.listen(address_v6(address), 0, LISTEN_VIRTUAL);
    }
    kernel
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn address_v6(text: &str) -> Ipv6Addr {
    match address(text) {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Sender of `frame()` and of `frame_v6()`.
fn sender(v6: bool) -> SocketAddr {
    SocketAddr::new(address(if v6 { "fd77::2" } else { "10.77.0.2" }), 40_000)
}

fn to_virtual_v4() -> FrameBuilder {
    frame().addresses(address("10.77.0.2"), address(VIRTUAL_V4))
}

fn to_virtual_v6() -> FrameBuilder {
    frame_v6().addresses(address("fd77::2"), address(VIRTUAL_V6))
}

#[track_caller]
fn check(kernel: &mut Loaded, what: &str, frame: &[u8], expected: &Effect) {
    assert_eq!(&kernel.run_xdp(frame), expected, "{what}");
}

/// Frames that the stack would deliver to us: a hot line is counted, a cold one put into the ring.
#[track_caller]
fn check_accepted(cases: &[(&str, FrameBuilder, bool)]) {
    let mut kernel = kernel();
    let mut counted = Effect::of(Door::Xdp, Verdict::Counted);
    counted.slots.insert(SLOT, (1, 1));
    for (what, builder, v6) in cases {
        check(&mut kernel, what, &builder.payload(HOT), &counted);
        let ringed = Effect::ringed(Door::Xdp, Verdict::OddLine, COLD, sender(*v6));
        check(&mut kernel, what, &builder.payload(COLD), &ringed);
    }
}

/// Frames for the stack: passed for the reason given, hot or not, and nothing counted or ringed.
#[track_caller]
fn check_passed(cases: &[(&str, FrameBuilder, Verdict)]) {
    let mut kernel = kernel();
    for (what, builder, verdict) in cases {
        for payload in [HOT, COLD] {
            check(&mut kernel, what, &builder.payload(payload), &Effect::of(Door::Xdp, *verdict));
        }
    }
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn what_the_stack_would_deliver_is_consumed() {
    check_accepted(&[
        ("IPv4", frame(), false),
        ("IPv6", frame_v6(), true),
        ("IPv4 without a checksum", frame().udp_checksum(UdpChecksum::Zero), false),
        ("IPv4, last hop", frame().ttl(1), false),
        ("IPv4 without \"don't fragment\"", frame().fragment(0), false),
        ("IPv4, padded as short frames are", frame().padding(18), false),
        ("IPv6, padded", frame_v6().padding(2), true),
        ("VLAN with an interface, IPv4", frame().vlan(VLAN), false),
        ("VLAN with an interface, IPv6", frame_v6().vlan(VLAN), true),
        ("VLAN with a priority", frame().vlan(0xa000 | VLAN), false),
        ("priority tag, which is no VLAN", frame().vlan(0xa000), false),
        ("virtual interface, full checksum", to_virtual_v4(), false),
        ("virtual interface, IPv6, full checksum", to_virtual_v6(), true),
        (
            "virtual interface, IPv4, CHECKSUM_PARTIAL",
            to_virtual_v4().udp_checksum(UdpChecksum::Partial),
            false,
        ),
        (
            "virtual interface, IPv6, CHECKSUM_PARTIAL",
            to_virtual_v6().udp_checksum(UdpChecksum::Partial),
            true,
        ),
    ]);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn fragments_and_options_are_passed() {
    let extension = |next_header| frame_v6().ipv6_extension(next_header);
    check_passed(&[
        ("first fragment", frame().fragment(0x2000), Verdict::Fragment),
        ("middle fragment", frame().fragment(0x2010), Verdict::Fragment),
        ("last fragment", frame().fragment(0x0010), Verdict::Fragment),
        ("IPv4 with options", frame().ipv4_options(), Verdict::IpOptions),
        ("IPv6, hop-by-hop options", extension(0), Verdict::IpOptions),
        ("IPv6, routing header", extension(43), Verdict::IpOptions),
        ("IPv6, destination options", extension(60), Verdict::IpOptions),
        ("IPv6, fragment header", extension(44), Verdict::Fragment),
        ("IPv6, authentication header", extension(51), Verdict::OtherTraffic),
    ]);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn bad_checksums_are_passed() {
    let (wrong, partial) = (UdpChecksum::Wrong, UdpChecksum::Partial);
    check_passed(&[
        ("IPv4 header", frame().wrong_ip_checksum(), Verdict::BadIpChecksum),
        ("UDP over IPv4", frame().udp_checksum(wrong), Verdict::BadUdpChecksum),
        ("UDP over IPv6", frame_v6().udp_checksum(wrong), Verdict::BadUdpChecksum),
        ("none over IPv6", frame_v6().udp_checksum(UdpChecksum::Zero), Verdict::BadUdpChecksum),
        ("CHECKSUM_PARTIAL off a wire", frame().udp_checksum(partial), Verdict::BadUdpChecksum),
        ("CHECKSUM_PARTIAL off a wire, IPv6", frame_v6().udp_checksum(partial), Verdict::BadUdpChecksum),
        ("virtual interface, wrong", to_virtual_v4().udp_checksum(wrong), Verdict::BadUdpChecksum),
        ("virtual interface, IPv6, wrong", to_virtual_v6().udp_checksum(wrong), Verdict::BadUdpChecksum),
        (
            "virtual interface, IPv6, none",
            to_virtual_v6().udp_checksum(UdpChecksum::Zero),
            Verdict::BadUdpChecksum,
        ),
    ]);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn what_is_for_others_is_passed() {
    let (v4, v6) = (address("10.77.0.2"), address("fd77::2"));
    check_passed(&[
        ("VLAN without an interface", frame().vlan(VLAN + 1), Verdict::OtherDestination),
        (
            "VLAN of a listed id, service tag inside",
            frame().vlan(VLAN).ethertype(0x8100),
            Verdict::OtherTraffic,
        ),
        ("another MAC", frame().destination_mac([2, 0, 0, 0, 0, 9]), Verdict::OtherDestination),
        ("broadcast", frame().destination_mac([0xff; 6]), Verdict::OtherDestination),
        ("IPv4 multicast MAC", frame().destination_mac([1, 0, 0x5e, 77, 0, 1]), Verdict::OtherDestination),
        (
            "IPv6 multicast MAC",
            frame_v6().destination_mac([0x33, 0x33, 0, 0, 0, 1]),
            Verdict::OtherDestination,
        ),
        ("another IPv4 address", frame().addresses(v4, address("10.77.0.9")), Verdict::OtherDestination),
        ("IPv4 multicast", frame().addresses(v4, address("224.0.0.1")), Verdict::OtherDestination),
        ("another IPv6 address", frame_v6().addresses(v6, address("fd77::9")), Verdict::OtherDestination),
        ("another port", frame().destination_port(9126), Verdict::OtherTraffic),
        ("another port, IPv6", frame_v6().destination_port(53), Verdict::OtherTraffic),
        ("port 0, which marks the end of the list", frame().destination_port(0), Verdict::OtherTraffic),
        ("a public source", frame().source(address("8.8.8.8")), Verdict::SourceNotAllowed),
        ("beside a private network", frame().source(address("172.32.0.1")), Verdict::SourceNotAllowed),
        ("a public source, IPv6", frame_v6().source(address("2001:db8::1")), Verdict::SourceNotAllowed),
        ("TCP", frame().protocol(6), Verdict::OtherTraffic),
        ("ICMPv6", frame_v6().protocol(58), Verdict::OtherTraffic),
        ("ARP", frame().ethertype(0x0806), Verdict::OtherTraffic),
        ("IPv6 behind IPv4's type", frame_v6().ethertype(0x0800), Verdict::OtherTraffic),
        ("IPv4 behind IPv6's type", frame().ethertype(0x86dd), Verdict::OtherTraffic),
        ("TTL 0", frame().ttl(0), Verdict::TtlZero),
        ("hop limit 0", frame_v6().ttl(0), Verdict::TtlZero),
    ]);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_service_tag_is_not_the_vlan_of_that_id() {
    let mut kernel = kernel();
    for tag in [0, VLAN] {
        let mut frame = frame().vlan(tag).payload(HOT);
        frame[12..14].copy_from_slice(&0x88a8_u16.to_be_bytes());
        check(&mut kernel, "802.1ad", &frame, &Effect::of(Door::Xdp, Verdict::OtherTraffic));
    }
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn lengths_that_do_not_fit_are_passed() {
    let lengths = |builder: FrameBuilder, delta| builder.udp_length_delta(delta).ip_length_delta(delta);
    let mut cases = Vec::new();
    for (version, builder) in [("IPv4", frame()), ("IPv6", frame_v6())] {
        cases.extend([
            (version, "UDP too long", builder.clone().udp_length_delta(1)),
            (version, "UDP too short", builder.clone().udp_length_delta(-1)),
            (version, "UDP too long, padded", builder.clone().udp_length_delta(1).padding(8)),
            (version, "IP too long", builder.clone().ip_length_delta(1)),
            (version, "IP too short", builder.clone().ip_length_delta(-1)),
            (version, "IP length 0", builder.clone().ip_length_delta(-2000)),
            (version, "both too long for the frame", lengths(builder.clone(), 1)),
        ]);
    }
    let mut kernel = kernel();
    for (version, what, builder) in cases {
        let what = format!("{version}, {what}");
        for payload in [HOT, COLD] {
            let expected = Effect::of(Door::Xdp, Verdict::BadLength);
            check(&mut kernel, &what, &builder.payload(payload), &expected);
        }
    }
    // A datagram that is said to end inside of its own header.
    for builder in [frame(), frame_v6()] {
        let expected = Effect::of(Door::Xdp, Verdict::BadLength);
        for missing in 1..=8 {
            let shorter = lengths(builder.clone(), -missing).payload(b"");
            check(&mut kernel, "UDP length below 8", &shorter, &expected);
        }
    }
    // Lengths that agree and leave bytes outside: a shorter datagram, whose checksum is wrong.
    let shorter = lengths(frame(), -1).payload(HOT);
    let mut sum_over_all = frame().payload(HOT);
    sum_over_all[..40].copy_from_slice(&shorter[..40]);
    check(&mut kernel, "both too short", &sum_over_all, &Effect::of(Door::Xdp, Verdict::BadUdpChecksum));
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_frame_cut_anywhere_is_passed() {
    let mut kernel = kernel();
    for (what, builder) in [("IPv4", frame()), ("IPv6", frame_v6()), ("VLAN", frame().vlan(VLAN))] {
        for payload in [HOT, COLD] {
            let whole = builder.payload(payload);
            // Shorter ones the kernel does not take for frames.
            for length in 14..whole.len() {
                let effect = kernel.run_xdp(&whole[..length]);
                let headers = whole.len() - payload.len();
                let verdict = if length < headers { Verdict::OtherTraffic } else { Verdict::BadLength };
                assert_eq!(
                    effect,
                    Effect::of(Door::Xdp, verdict),
                    "{what}, {length} of {} bytes",
                    whole.len()
                );
            }
        }
    }
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_frame_with_any_byte_changed_is_never_counted_twice_or_half() {
    let mut kernel = kernel();
    let mut counted = Effect::of(Door::Xdp, Verdict::Counted);
    counted.slots.insert(SLOT, (1, 1));
    for (what, builder) in [("IPv4", frame()), ("IPv6", frame_v6())] {
        let whole = builder.payload(HOT);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            let effect = kernel.run_xdp(&changed);
            let one: u64 = effect.verdicts.values().sum();
            assert_eq!(one, 1, "{what}, byte {at}");
            // A MAC of the sender, type of service, identification or flow label: not ours to check.
            // All else is covered by a checksum or compared.
            assert!(
                effect == counted || (effect.slots.is_empty() && effect.records.is_empty()),
                "{what}, byte {at}"
            );
        }
    }
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_change_of_the_listen_set_is_seen_at_once() {
    let mut kernel = kernel();
    let to = || frame().addresses(address("10.77.0.2"), address("10.77.0.4")).payload(HOT);
    let mut counted = Effect::of(Door::Xdp, Verdict::Counted);
    counted.slots.insert(SLOT, (1, 1));
    check(&mut kernel, "before", &to(), &Effect::of(Door::Xdp, Verdict::OtherDestination));
    kernel.listen(address_v6("10.77.0.4"), 0, 0);
    check(&mut kernel, "listening", &to(), &counted);
    kernel.forget(address_v6("10.77.0.4"), 0);
    check(&mut kernel, "after", &to(), &Effect::of(Door::Xdp, Verdict::OtherDestination));
}
