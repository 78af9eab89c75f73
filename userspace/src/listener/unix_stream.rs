//! Unix address -> listening stream socket, with lines framed as over TCP.

use std::io;

use socket2::{Socket, Type};

use super::stream::{Acceptor, StreamListener};
use super::unix::{self, SocketFile};
use super::{ListenError, LocalAddress};
use crate::config::UnixAddress;

/// Binds a socket, with the file that stands for it unless its name is abstract; needs a runtime
/// around it. `mode` holds the file's permission bits; `None` leaves what the umask gives.
///
/// # Errors
///
/// The path cannot be had: somebody listens there, or a file is in the way.
pub fn bind(
    address: &UnixAddress,
    mode: Option<u32>,
) -> Result<(StreamListener, Option<SocketFile>), ListenError> {
    let bound = unix::bind(address, Type::STREAM, mode).and_then(|(socket, file)| Ok((adopt(socket)?, file)));
    bound.map_err(|error| ListenError {
        transport: "unix",
        flag: "statsd.listen-unix",
        address: address.to_string(),
        error,
    })
}

/// Makes a listener of a socket that listens already; needs a runtime around it.
///
/// # Errors
///
/// It is no Unix socket.
pub fn adopt(socket: Socket) -> io::Result<StreamListener> {
    let address = LocalAddress::of_unix(&socket.local_addr()?)?;
    socket.set_nonblocking(true)?;
    let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket));
    let listener = tokio::net::UnixListener::from_std(listener)?;
    Ok(StreamListener::new(Acceptor::Unix(listener), address))
}
