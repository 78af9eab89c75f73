//! Ring records, socket reads, stream chunks -> [`Datagram`], the form in which they meet.

use std::net::SocketAddr;

use crate::clock::Timestamp;

/// One UDP or unixgram payload, or the complete lines of one read from a stream.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The lines, split by `\n`; any bytes.
    pub payload: &'a [u8],
    /// When it reached this machine, or when it was read where the kernel does not say.
    pub received: Timestamp,
    /// The sender, where there is an address.
    pub source: Option<SocketAddr>,
    pub transport: Transport,
}

/// The way by which a datagram came to userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Ring, put there by the XDP program.
    Xdp,
    /// Ring, put there by the socket filter.
    SocketFilter,
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
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Unixgram => "unixgram",
            Self::Unix => "unix",
        }
    }
}
