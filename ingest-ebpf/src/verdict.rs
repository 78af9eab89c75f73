//! Why a datagram was counted, put into the ring, or passed: one counter for every outcome.

/// Which program saw the datagram.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// Door 1, XDP.
    Xdp = 0,
    /// Door 2, the socket filter.
    SocketFilter = 1,
    /// Door 3, TCX where the loopback device sends.
    Loopback = 2,
}

impl Door {
    pub const ALL: [Self; 3] = [Self::Xdp, Self::SocketFilter, Self::Loopback];

    /// Label value of the datagram counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::SocketFilter => "socket_filter",
            Self::Loopback => "loopback",
        }
    }
}

/// What became of a datagram: consumed (counted, or ringed for a reason) or passed for a reason.
///
/// The numbers are columns of the counter table and therefore part of the layout.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Every line was hot; all are counted in slots.
    Counted = 0,
    /// Ringed: at least one line's identity is not promoted.
    NotHot = 1,
    /// Ringed: a line's value is not 1 to 15 digits, the line holds a byte that is not printable, or the last
    /// line is a timer's.
    OddLine = 2,
    /// Ringed: an identity is longer than the table holds.
    LongLine = 3,
    /// Ringed: a value is larger than a slot takes.
    LargeValue = 4,
    /// Ringed: more lines than a door resolves.
    ManyLines = 5,
    /// Passed: the ring had no room.
    RingFull = 6,
    /// Passed: no payload.
    Empty = 7,
    /// Passed: the payload is longer than one Ethernet frame carries.
    LongPayload = 8,
    /// Passed by doors 1 and 3: not IPv4 or IPv6 with UDP, or another port.
    OtherTraffic = 9,
    /// Passed by doors 1 and 3: our port, but not an address or MAC of this interface that we listen on.
    OtherDestination = 10,
    /// Passed by doors 1 and 3: the source is not in the allow-list.
    SourceNotAllowed = 11,
    /// Passed by doors 1 and 3: IPv4 with options.
    IpOptions = 12,
    /// Passed by doors 1 and 3: a fragment.
    Fragment = 13,
    /// Passed by doors 1 and 3: lengths of frame, IP and UDP do not fit together.
    BadLength = 14,
    /// Passed by doors 1 and 3: TTL or hop limit 0.
    TtlZero = 15,
    /// Passed by doors 1 and 3: wrong IPv4 header checksum.
    BadIpChecksum = 16,
    /// Passed by doors 1 and 3: wrong UDP checksum, or none over IPv6.
    BadUdpChecksum = 17,
    /// Passed: the CPU has no ring.
    NoRing = 18,
    /// Passed by door 3: several datagrams in one buffer, which the stack takes apart later.
    SuperPacket = 19,
    /// Passed by door 3: made by something else than a UDP socket of this network namespace.
    NoUdpSender = 20,
}

/// The three ways out of a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Counted,
    Ringed,
    Passed,
}

impl Outcome {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Ringed => "ringed",
            Self::Passed => "passed",
        }
    }
}

impl Verdict {
    pub const ALL: [Self; 21] = [
        Self::Counted,
        Self::NotHot,
        Self::OddLine,
        Self::LongLine,
        Self::LargeValue,
        Self::ManyLines,
        Self::RingFull,
        Self::Empty,
        Self::LongPayload,
        Self::OtherTraffic,
        Self::OtherDestination,
        Self::SourceNotAllowed,
        Self::IpOptions,
        Self::Fragment,
        Self::BadLength,
        Self::TtlZero,
        Self::BadIpChecksum,
        Self::BadUdpChecksum,
        Self::NoRing,
        Self::SuperPacket,
        Self::NoUdpSender,
    ];

    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Counted => Outcome::Counted,
            Self::NotHot | Self::OddLine | Self::LongLine | Self::LargeValue | Self::ManyLines => {
                Outcome::Ringed
            }
            _ => Outcome::Passed,
        }
    }

    /// Label value of the datagram counters; fixed, people alert on it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Counted => "hot",
            Self::NotHot => "not_hot",
            Self::OddLine => "odd_line",
            Self::LongLine => "long_line",
            Self::LargeValue => "large_value",
            Self::ManyLines => "many_lines",
            Self::RingFull => "ring_full",
            Self::Empty => "empty",
            Self::LongPayload => "long_payload",
            Self::OtherTraffic => "other_traffic",
            Self::OtherDestination => "other_destination",
            Self::SourceNotAllowed => "source_not_allowed",
            Self::IpOptions => "ip_options",
            Self::Fragment => "fragment",
            Self::BadLength => "bad_length",
            Self::TtlZero => "ttl_zero",
            Self::BadIpChecksum => "bad_ip_checksum",
            Self::BadUdpChecksum => "bad_udp_checksum",
            Self::NoRing => "no_ring",
            Self::SuperPacket => "super_packet",
            Self::NoUdpSender => "no_udp_sender",
        }
    }
}

/// Columns of one CPU's row in `COUNTERS`: 32 for each door.
pub const COUNTERS_PER_CPU: u32 = 96;
/// Distance between the doors' columns.
const DOOR_COLUMNS: u32 = 32;
/// Empty last lines (the datagram ended with `\n`) of counted datagrams: lines that no slot sees.
const EMPTY_LINES_COLUMN: u32 = 31;

const _: () = assert!(Verdict::ALL.len() < EMPTY_LINES_COLUMN as usize);
const _: () = assert!(COUNTERS_PER_CPU as usize == Door::ALL.len() * DOOR_COLUMNS as usize);

/// The column in which a door counts a verdict.
#[inline(always)]
#[must_use]
pub const fn verdict_column(door: Door, verdict: Verdict) -> u32 {
    door as u32 * DOOR_COLUMNS + verdict as u32
}

/// The column in which a door counts the empty last lines of datagrams that it counted in slots.
#[inline(always)]
#[must_use]
pub const fn empty_lines_column(door: Door) -> u32 {
    door as u32 * DOOR_COLUMNS + EMPTY_LINES_COLUMN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_has_its_own_column_and_reason() {
        for (i, a) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*a as usize, i);
            for b in &Verdict::ALL[..i] {
                assert_ne!(a.reason(), b.reason());
            }
        }
        assert!(empty_lines_column(Door::Loopback) < COUNTERS_PER_CPU);
    }
}
