//! Ring records, socket reads, stream chunks -> [`Datagram`], the form in which they meet.

use std::net::{IpAddr, SocketAddr};

use crate::clock::Timestamp;

/// One UDP or unixgram payload, or the complete lines of one read from a stream.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The lines, split by `\n`; any bytes.
    pub payload: &'a [u8],
    /// When it reached this machine, or when it was read where the kernel does not say.
    pub received: Timestamp,
    pub source: Source,
    pub transport: Transport,
}

/// What is known of a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// It sent by a Unix socket, and the kernel does not say more.
    #[default]
    Nameless,
    Address(SocketAddr),
    /// The process at the other end of a Unix socket, by its number here.
    Process(u32),
}

impl Source {
    /// The address, without a port and in its simple form: clients that start again have another port,
    /// and a dual-stack socket shows IPv4 as mapped.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address.ip().to_canonical()),
            Self::Nameless | Self::Process(_) => None,
        }
    }
}

impl From<Option<SocketAddr>> for Source {
    fn from(address: Option<SocketAddr>) -> Self {
        address.map_or(Self::Nameless, Self::Address)
    }
}

/// The way by which a datagram came to userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Ring, put there by the XDP program.
    Xdp,
    /// Ring, put there by the socket filter.
    SocketFilter,
    /// Ring, put there by the program on the loopback device.
    Loopback,
    /// Our UDP socket, by `recvmmsg`.
    Udp,
    Tcp,
    Unixgram,
    /// A Unix stream socket.
    Unix,
}

impl Transport {
    /// Label value of `rotameter_received_datagrams_total`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "ring_xdp",
            Self::SocketFilter => "ring_socket_filter",
            Self::Loopback => "ring_loopback",
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Unixgram => "unixgram",
            Self::Unix => "unix",
        }
    }
}
