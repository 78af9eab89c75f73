//! A description of a datagram -> an Ethernet frame, right or wrong in every way that matters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How the UDP checksum field is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    Valid,
    Wrong,
    /// 0: none was computed.
    Zero,
    /// Just the pseudo-header sum, which a sender with checksum offload leaves (`CHECKSUM_PARTIAL`).
    Partial,
}

/// Builds one frame. Start from [`frame`], change what the case is about, end with
/// [`FrameBuilder::payload`].
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
    vlan: Option<u16>,
    ethertype: Option<u16>,
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    destination_port: u16,
    ttl: u8,
    protocol: u8,
    ipv4_options: bool,
    ipv6_extension: Option<u8>,
    fragment: Option<u16>,
    ip_checksum_wrong: bool,
    udp_checksum: UdpChecksum,
    udp_length_delta: i32,
    ip_length_delta: i32,
    padding: usize,
    cut: usize,
}

/// A plain IPv4 frame from 10.77.0.2:40000 to 10.77.0.1:9125, MACs 02::2 to 02::1.
#[must_use]
pub fn frame() -> FrameBuilder {
    FrameBuilder {
        source_mac: [2, 0, 0, 0, 0, 2],
        destination_mac: [2, 0, 0, 0, 0, 1],
        vlan: None,
        ethertype: None,
        source: Ipv4Addr::new(10, 77, 0, 2).into(),
        destination: Ipv4Addr::new(10, 77, 0, 1).into(),
        source_port: 40_000,
        destination_port: 9125,
        ttl: 64,
        protocol: 17,
        ipv4_options: false,
        ipv6_extension: None,
        fragment: None,
        ip_checksum_wrong: false,
        udp_checksum: UdpChecksum::Valid,
        udp_length_delta: 0,
        ip_length_delta: 0,
        padding: 0,
        cut: 0,
    }
}

/// The addresses of [`frame`], over IPv6: fd77::2 to fd77::1.
#[must_use]
pub fn frame_v6() -> FrameBuilder {
    frame().addresses(
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2).into(),
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1).into(),
    )
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])* #[must_use] pub fn $name(mut self, $name: $type) -> Self { self.$name = $name; self })*
    };
}

impl FrameBuilder {
    setters! {
        source_mac: [u8; 6];
        destination_mac: [u8; 6];
        source_port: u16;
        destination_port: u16;
        ttl: u8;
        protocol: u8;
        udp_checksum: UdpChecksum;
        /// Added to the length that the UDP header states.
        udp_length_delta: i32;
        /// Added to the length that the IP header states.
        ip_length_delta: i32;
        /// Bytes behind the datagram, as a short frame has them.
        padding: usize;
        /// Bytes cut off the frame's end.
        cut: usize;
    }

    /// Source and destination, both of one family.
    #[must_use]
    pub fn addresses(mut self, source: IpAddr, destination: IpAddr) -> Self {
        (self.source, self.destination) = (source, destination);
        self
    }

    #[must_use]
    pub fn source(mut self, source: IpAddr) -> Self {
        self.source = source;
        self
    }

    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    #[must_use]
    pub fn ethertype(mut self, ethertype: u16) -> Self {
        self.ethertype = Some(ethertype);
        self
    }

    #[must_use]
    pub fn ipv4_options(mut self) -> Self {
        self.ipv4_options = true;
        self
    }

    /// Puts an eight-byte extension header of this type before UDP.
    #[must_use]
    pub fn ipv6_extension(mut self, next_header: u8) -> Self {
        self.ipv6_extension = Some(next_header);
        self
    }

    /// Flags and offset of the IPv4 header: 0x2000 for "more fragments".
    #[must_use]
    pub fn fragment(mut self, field: u16) -> Self {
        self.fragment = Some(field);
        self
    }

    #[must_use]
    pub fn wrong_ip_checksum(mut self) -> Self {
        self.ip_checksum_wrong = true;
        self
    }

    /// The finished frame.
    #[must_use]
    pub fn payload(&self, payload: &[u8]) -> Vec<u8> {
        let udp = self.udp(payload);
        let mut out = Vec::with_capacity(86 + payload.len() + self.padding);
        out.extend_from_slice(&self.destination_mac);
        out.extend_from_slice(&self.source_mac);
        if let Some(id) = self.vlan {
            out.extend_from_slice(&0x8100_u16.to_be_bytes());
            out.extend_from_slice(&id.to_be_bytes());
        }
        let ethertype = self.ethertype.unwrap_or(if self.source.is_ipv4() { 0x0800 } else { 0x86dd });
        out.extend_from_slice(&ethertype.to_be_bytes());
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.ipv4(source, destination, &udp, &mut out),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.ipv6(source, destination, &udp, &mut out),
            _ => {}
        }
        out.extend_from_slice(&udp);
        out.resize(out.len() + self.padding, 0);
        out.truncate(out.len().saturating_sub(self.cut));
        out
    }

    fn ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr, udp: &[u8], out: &mut Vec<u8>) {
        let header_bytes = if self.ipv4_options { 24 } else { 20 };
        let mut header = vec![0; header_bytes];
        header[0] = 0x40 | u8::try_from(header_bytes / 4).unwrap_or(5);
        header[2..4].copy_from_slice(&changed(header_bytes + udp.len(), self.ip_length_delta).to_be_bytes());
        header[6..8].copy_from_slice(&self.fragment.unwrap_or(0x4000).to_be_bytes());
        header[8] = self.ttl;
        header[9] = self.protocol;
        header[12..16].copy_from_slice(&source.octets());
        header[16..20].copy_from_slice(&destination.octets());
        if self.ipv4_options {
            header[20..24].copy_from_slice(&[1, 1, 1, 0]);
        }
        let mut sum = !ones_complement_sum(&[&header]);
        if self.ip_checksum_wrong {
            sum = sum.wrapping_add(1);
        }
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&header);
    }

    fn ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr, udp: &[u8], out: &mut Vec<u8>) {
        let extension = self.ipv6_extension.map(|_| [self.protocol, 0, 1, 4, 0, 0, 0, 0]);
        let length = udp.len() + extension.map_or(0, |bytes| bytes.len());
        out.extend_from_slice(&[0x60, 0, 0, 0]);
        out.extend_from_slice(&changed(length, self.ip_length_delta).to_be_bytes());
        out.push(self.ipv6_extension.unwrap_or(self.protocol));
        out.push(self.ttl);
        out.extend_from_slice(&source.octets());
        out.extend_from_slice(&destination.octets());
        out.extend_from_slice(&extension.map_or_else(Vec::new, |bytes| bytes.to_vec()));
    }

    fn udp(&self, payload: &[u8]) -> Vec<u8> {
        let mut udp = Vec::with_capacity(8 + payload.len());
        udp.extend_from_slice(&self.source_port.to_be_bytes());
        udp.extend_from_slice(&self.destination_port.to_be_bytes());
        udp.extend_from_slice(&changed(8 + payload.len(), self.udp_length_delta).to_be_bytes());
        udp.extend_from_slice(&[0, 0]);
        udp.extend_from_slice(payload);
        let mut pseudo = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                pseudo.extend_from_slice(&source.octets());
                pseudo.extend_from_slice(&destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                pseudo.extend_from_slice(&source.octets());
                pseudo.extend_from_slice(&destination.octets());
            }
            _ => {}
        }
        pseudo.extend_from_slice(&[0, self.protocol]);
        pseudo.extend_from_slice(&udp[4..6]);
        let valid = match !ones_complement_sum(&[&pseudo, &udp]) {
            0 => 0xffff,
            sum => sum,
        };
        let checksum = match self.udp_checksum {
            UdpChecksum::Valid => valid,
            UdpChecksum::Wrong => valid.wrapping_add(1).max(1),
            UdpChecksum::Zero => 0,
            UdpChecksum::Partial => ones_complement_sum(&[&pseudo]),
        };
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        udp
    }
}

fn changed(length: usize, delta: i32) -> u16 {
    let length = i32::try_from(length).unwrap_or(i32::MAX).saturating_add(delta);
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// RFC 1071's sum over parts of even length (the last may be odd), not complemented.
fn ones_complement_sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}
