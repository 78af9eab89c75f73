//! Lines -> packets of whole lines.

/// Lines in the form in which they are sent, each with its `\n`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) bytes: Box<[u8]>,
    pub(super) lines: u64,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packed {
    Taken,
    /// There is nothing to send of an empty line.
    Empty,
    /// With its `\n` it is longer than a packet may be.
    TooLong,
}

/// The packet that is being filled.
#[derive(Debug)]
pub(super) struct Packer {
    buffer: Vec<u8>,
    lines: u64,
    bytes_max: usize,
    /// Each line is a packet of its own.
    alone: bool,
}

/// The largest payload that UDP over IPv4 carries.
const PACKET_BYTES_MAX: usize = 65_507;

impl Packer {
    /// `bytes_max` as in [`Relay::packet_bytes_max`](crate::config::Relay::packet_bytes_max).
    pub(super) fn new(bytes_max: Option<usize>) -> Self {
        let limit = bytes_max.unwrap_or(PACKET_BYTES_MAX).min(PACKET_BYTES_MAX);
        Self { buffer: Vec::new(), lines: 0, bytes_max: limit, alone: bytes_max.is_none() }
    }

    /// Adds a line, and hands a packet to `full` where it has no room for the line.
    pub(super) fn push(&mut self, line: &[u8], full: &mut impl FnMut(Packet)) -> Packed {
        if line.is_empty() {
            return Packed::Empty;
        }
        let length = line.len() + 1;
        if length > self.bytes_max {
            return Packed::TooLong;
        }
        if self.alone || self.buffer.len() + length > self.bytes_max {
            self.take().map(&mut *full);
        }
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        self.lines += 1;
        Packed::Taken
    }

    /// What has gathered so far, if anything has.
    pub(super) fn take(&mut self) -> Option<Packet> {
        let packet =
            (self.lines > 0).then(|| Packet { bytes: self.buffer.as_slice().into(), lines: self.lines });
        self.buffer.clear();
        self.lines = 0;
        packet
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(bytes_max: Option<usize>, lines: &[&[u8]]) -> (Vec<Packet>, Vec<Packed>) {
        let (mut packer, mut packets) = (Packer::new(bytes_max), Vec::new());
        let packed = lines.iter().map(|line| packer.push(line, &mut |packet| packets.push(packet))).collect();
        packets.extend(packer.take());
        (packets, packed)
    }

    #[track_caller]
    fn check(bytes_max: Option<usize>, lines: &[&str], expected: &[&str]) {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        let packets = pack(bytes_max, &lines).0;
        let packets: Vec<&str> = packets.iter().map(|p| std::str::from_utf8(&p.bytes).unwrap()).collect();
        assert_eq!(packets, expected);
    }

    #[test]
    fn packets_hold_whole_lines_up_to_the_length() {
        check(Some(20), &["a:1|c", "b:1|c", "c:1|c", "d:1|c"], &["a:1|c\nb:1|c\nc:1|c\n", "d:1|c\n"]);
        check(Some(12), &["a:1|c", "b:1|c", "c:1|c"], &["a:1|c\nb:1|c\n", "c:1|c\n"]);
    }

    #[test]
    fn a_line_may_be_as_long_as_a_packet_with_its_newline() {
        check(Some(6), &["a:1|c", "bb:1|c", "c:1|c"], &["a:1|c\n", "c:1|c\n"]);
        assert_eq!(pack(Some(6), &[b"bb:1|c", b""]).1, [Packed::TooLong, Packed::Empty]);
    }

    #[test]
    fn without_a_length_each_line_goes_alone_as_far_as_udp_carries_it() {
        check(None, &["a:1|c", "b:1|c"], &["a:1|c\n", "b:1|c\n"]);
        assert_eq!(pack(None, &[&[b'x'; 65_506], &[b'x'; 65_507]]).1, [Packed::Taken, Packed::TooLong]);
    }

    proptest! {
        #[test]
        fn every_line_is_in_one_packet_in_order(
            lines in prop::collection::vec("[a-z]{0,30}", 0..50),
            bytes_max in prop_oneof![Just(None), (1_usize..64).prop_map(Some)],
        ) {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let (packets, packed) = pack(bytes_max, &lines);
            let taken: Vec<u8> = lines
                .iter()
                .zip(&packed)
                .filter(|(_, packed)| **packed == Packed::Taken)
                .flat_map(|(line, _)| [*line, b"\n"].concat())
                .collect();
            let sent: Vec<u8> = packets.iter().flat_map(|packet| packet.bytes.to_vec()).collect();
            prop_assert_eq!(sent, taken);
            for packet in &packets {
                prop_assert!(packet.bytes.len() <= bytes_max.unwrap_or(PACKET_BYTES_MAX));
                prop_assert_eq!(packet.lines, packet.bytes.iter().filter(|b| **b == b'\n').count() as u64);
            }
        }
    }
}
