//! TCP address -> listening socket.

use std::io;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use super::stream::{Acceptor, StreamListener};
use super::{ListenError, LocalAddress, socket};
use crate::config::HostPort;

/// A peer that vanished without a word is found out in two minutes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Binds a socket; needs a runtime around it. Connections queue from now on.
///
/// # Errors
///
/// The address cannot be had.
pub fn bind(address: &HostPort) -> Result<StreamListener, ListenError> {
    socket::bind(address, Type::STREAM).and_then(adopt).map_err(|error| ListenError {
        transport: "tcp",
        flag: "statsd.listen-tcp",
        address: address.to_string(),
        error,
    })
}

/// Makes a listener of a socket that listens already; needs a runtime around it.
///
/// # Errors
///
/// It is no TCP socket.
pub fn adopt(socket: Socket) -> io::Result<StreamListener> {
    let local_address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    socket.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(socket.into())?;
    Ok(StreamListener::new(Acceptor::Tcp(listener), LocalAddress::Inet(local_address)))
}

pub(super) fn keep_alive(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    // Without it a vanished peer only costs its place for longer.
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}
