//! Packet -> the UDP datagram in it, or why none is taken.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, IpNumber, Ipv6ExtensionSlice, LaxNetSlice, LaxSlicedPacket, TransportSlice, UdpHeader,
};

use crate::tools::counted;

/// Where Airflow and `statsd_exporter` send to, each by its own default.
const PORTS_DEFAULT: [u16; 2] = [9125, 8125];
/// Of ports that were not asked for, so many are named.
const OTHERS_SHOWN_MAX: usize = 8;

/// Which of the datagrams that crossed a wire are StatsD.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct PortFlags {
    /// Of packets, take datagrams to this UDP port; repeatable. [default: 9125 and 8125]
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
}

impl PortFlags {
    pub(super) fn ports(&self) -> Vec<u16> {
        if self.ports.is_empty() { PORTS_DEFAULT.to_vec() } else { self.ports.clone() }
    }
}

/// What a packet begins with, by its number in the registry of link types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    Ip,
    /// Four bytes, then IP: the loopback of BSD systems.
    Loopback,
    /// An EtherType at the first number, the packet at the second: what `tcpdump -i any` writes.
    Cooked(usize, usize),
}

impl Link {
    pub(super) fn of(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Ethernet,
            12 | 14 | 101 | 228 | 229 => Self::Ip,
            0 | 108 => Self::Loopback,
            113 => Self::Cooked(14, 16),
            276 => Self::Cooked(0, 20),
            _ => return None,
        })
    }
}

/// A UDP datagram with its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Udp<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) payload: &'a [u8],
}

/// What was left out of a number of packets, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) taken: u64,
    /// Datagrams to a wanted port that came in fragments; their first ones are counted.
    fragmented: u64,
    /// Their end was not recorded.
    cut: u64,
    /// Segments of TCP to a wanted port.
    segments: u64,
    /// Datagrams to other ports. There are 65,536 at most.
    others: BTreeMap<u16, u64>,
}

impl Tally {
    /// The datagram in a packet, if it goes to one of `ports` and is whole. All else is counted.
    pub(super) fn look<'a>(&mut self, link: Link, bytes: &'a [u8], ports: &[u16]) -> Option<Udp<'a>> {
        let packet = sliced(link, bytes)?;
        let (source, destination, payload, is_first): (IpAddr, IpAddr, _, _) = match packet.net.as_ref()? {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                let is_first = header.fragments_offset().value() == 0;
                (header.source_addr().into(), header.destination_addr().into(), ip.payload(), is_first)
            }
            LaxNetSlice::Ipv6(ip) => {
                let is_first = !ip.extensions().clone().into_iter().any(|extension| {
                    matches!(extension, Ipv6ExtensionSlice::Fragment(f) if f.fragment_offset().value() != 0)
                });
                let header = ip.header();
                (header.source_addr().into(), header.destination_addr().into(), ip.payload(), is_first)
            }
            LaxNetSlice::Arp(_) => return None,
        };
        // Only the first fragment holds the ports.
        if payload.fragmented {
            let port = payload.payload.get(2..4).map(|port| u16::from_be_bytes([port[0], port[1]]));
            if payload.ip_number == IpNumber::UDP
                && is_first
                && port.is_some_and(|port| ports.contains(&port))
            {
                self.fragmented += 1;
            }
            return None;
        }
        let udp = match packet.transport? {
            TransportSlice::Udp(udp) => udp,
            TransportSlice::Tcp(tcp) => {
                self.segments += u64::from(ports.contains(&tcp.destination_port()));
                return None;
            }
            _ => return None,
        };
        let port = udp.destination_port();
        if !ports.contains(&port) {
            *self.others.entry(port).or_default() += 1;
            return None;
        }
        let whole = usize::from(udp.length()).saturating_sub(UdpHeader::LEN);
        if payload.incomplete || udp.payload().len() < whole {
            self.cut += 1;
            return None;
        }
        self.taken += 1;
        let source = SocketAddr::new(source, udp.source_port());
        Some(Udp { source, destination: SocketAddr::new(destination, port), payload: udp.payload() })
    }

    /// What was left out of the ports that were asked for, and how to have it; a phrase each.
    pub(super) fn missing(&self) -> Vec<String> {
        let counted = |number: u64, thing| counted(usize::try_from(number).unwrap_or(usize::MAX), thing);
        let mut missing = Vec::new();
        if self.fragmented > 0 {
            missing.push(format!(
                "{} that came in fragments, which are not put together here; a daemon does see them",
                counted(self.fragmented, "datagram")
            ));
        }
        if self.cut > 0 {
            missing.push(format!(
                "{} whose end was not recorded; `tcpdump -s 0` records all of it",
                counted(self.cut, "datagram")
            ));
        }
        if self.segments > 0 {
            missing.push(format!(
                "{} of TCP, whose streams are not put together here",
                counted(self.segments, "segment")
            ));
        }
        missing
    }

    /// Where else datagrams went, most first; what to say if there is none to the ports.
    pub(super) fn nothing(&self, ports: &[u16]) -> String {
        let wanted: Vec<String> = ports.iter().map(u16::to_string).collect();
        let mut others: Vec<(u64, u16)> = self.others.iter().map(|(port, number)| (*number, *port)).collect();
        others.sort_by_key(|(number, port)| (std::cmp::Reverse(*number), *port));
        let shown: Vec<String> =
            others.iter().take(OTHERS_SHOWN_MAX).map(|(number, port)| format!("{port} ({number})")).collect();
        let rest = match others.len().saturating_sub(OTHERS_SHOWN_MAX) {
            0 => String::new(),
            rest => format!(" and {rest} more"),
        };
        let wanted = wanted.join(" or ");
        if shown.is_empty() {
            return format!("no datagram to UDP port {wanted} is in it");
        }
        format!(
            "no datagram to UDP port {wanted} is in it, but to {}{rest}; --port names which to take",
            shown.join(", ")
        )
    }
}

fn sliced(link: Link, bytes: &[u8]) -> Option<LaxSlicedPacket<'_>> {
    match link {
        Link::Ethernet => LaxSlicedPacket::from_ethernet(bytes).ok(),
        Link::Ip => LaxSlicedPacket::from_ip(bytes).ok(),
        Link::Loopback => LaxSlicedPacket::from_ip(bytes.get(4..)?).ok(),
        Link::Cooked(at, begin) => {
            let kind = bytes.get(at..at + 2)?.first_chunk()?;
            let kind = EtherType(u16::from_be_bytes(*kind));
            Some(LaxSlicedPacket::from_ether_type(kind, bytes.get(begin..)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpFragOffset, Ipv4Header, Ipv6FragmentHeader, PacketBuilder, VlanId};

    use super::*;

    const PORTS: &[u16] = &[9125];
    const PAYLOAD: &[u8] = b"a:1|c";

    fn v4(port: u16) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(77, port);
        builder.write(&mut packet, PAYLOAD).unwrap();
        packet
    }

    #[track_caller]
    fn check(link: Link, bytes: &[u8], source: &str) {
        let mut tally = Tally::default();
        let udp = tally.look(link, bytes, PORTS).expect("there is one");
        assert_eq!((udp.payload, udp.source.to_string().as_str()), (PAYLOAD, source), "{link:?}");
        assert_eq!(tally, Tally { taken: 1, ..Tally::default() });
    }

    #[test]
    fn a_datagram_is_found_below_every_link() {
        let ip = v4(9125);
        check(Link::Ip, &ip, "10.0.0.1:77");
        check(Link::Loopback, &[&[2, 0, 0, 0][..], &ip].concat(), "10.0.0.1:77");
        check(Link::Cooked(14, 16), &[&[0; 14][..], &[8, 0], &ip].concat(), "10.0.0.1:77");
        check(Link::Cooked(0, 20), &[&[8, 0][..], &[0; 18], &ip].concat(), "10.0.0.1:77");
        let mut frame = Vec::new();
        let tag = |id| VlanId::try_new(id).unwrap();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).double_vlan(tag(5), tag(6));
        let builder = builder.ipv6([1; 16], [2; 16], 64).udp(77, 9125);
        builder.write(&mut frame, PAYLOAD).unwrap();
        check(Link::Ethernet, &frame, "[101:101:101:101:101:101:101:101]:77");
        // A short frame is padded; the padding is no payload.
        frame.extend([0; 20]);
        check(Link::Ethernet, &frame, "[101:101:101:101:101:101:101:101]:77");
    }

    #[test]
    fn what_is_left_out_is_counted_by_its_reason() {
        let mut tally = Tally::default();
        let whole = v4(9125);
        for end in 0..whole.len() {
            assert_eq!(tally.look(Link::Ip, &whole[..end], PORTS), None, "{end}");
        }
        // Where the ports were recorded it is known to be one of ours.
        assert_eq!(std::mem::take(&mut tally.cut), u64::try_from(PAYLOAD.len()).unwrap());
        for (offset, more) in [(0, true), (1, true), (2, false)] {
            let (mut header, rest) = Ipv4Header::from_slice(&whole).unwrap();
            header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
            header.more_fragments = more;
            assert_eq!(tally.look(Link::Ip, &[&header.to_bytes()[..], rest].concat(), PORTS), None);
        }
        assert_eq!(std::mem::take(&mut tally.fragmented), 1);
        assert_eq!(tally.look(Link::Ip, &v4(53), PORTS), None);
        assert!(tally.nothing(PORTS).contains("9125 is in it, but to 53 (1); --port"), "{tally:?}");
        let mut tcp = Vec::new();
        let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(77, 9125, 0, 9);
        builder.write(&mut tcp, PAYLOAD).unwrap();
        assert_eq!(tally.look(Link::Ip, &tcp, PORTS), None);
        assert!(tally.missing()[0].starts_with("1 segment of TCP,"), "{:?}", tally.missing());
    }

    #[test]
    fn fragments_of_ipv6_are_counted_once() {
        let mut tally = Tally::default();
        for (offset, more) in [(0, true), (1, false)] {
            let fragment =
                Ipv6FragmentHeader::new(IpNumber::UDP, IpFragOffset::try_new(offset).unwrap(), more, 7);
            let mut packet = vec![0x60, 0, 0, 0, 0, 8 + 8, 44, 64];
            packet.extend([1; 32]);
            packet.extend(fragment.to_bytes());
            packet.extend([0, 77, 0x23, 0xa5, 0, 100, 0, 0]);
            assert_eq!(tally.look(Link::Ip, &packet, PORTS), None);
        }
        assert_eq!(tally, Tally { fragmented: 1, ..Tally::default() });
    }

    proptest::proptest! {
        #[test]
        fn any_packet_is_looked_at_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120), at in 0..60_usize, byte: u8) {
            let mut tally = Tally::default();
            let mut damaged = v4(9125);
            if let Some(place) = damaged.get_mut(at) { *place = byte; }
            for number in [0, 1, 101, 113, 276] {
                let link = Link::of(number).unwrap();
                tally.look(link, &bytes, PORTS);
                tally.look(link, &damaged, PORTS);
            }
        }
    }
}
