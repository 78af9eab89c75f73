//! Address -> bound socket, with the options that we want of it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::HostPort;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// Binds the first of the address's candidates that the machine has: see [`HostPort::candidates`].
///
/// The socket does not block. A stream socket listens already.
pub(crate) fn bind(address: &HostPort, kind: Type) -> io::Result<Socket> {
    let mut unavailable = None;
    for candidate in address.candidates()? {
        match bind_one(candidate, kind) {
            // IPv6 switched off by the boot line or by sysctl.
            Err(e)
                if matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
                    && unavailable.is_none() =>
            {
                unavailable = Some(e);
            }
            result => return result,
        }
    }
    Err(unavailable.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

fn bind_one(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.ip().is_unspecified() && address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        // A restart must not wait for the last connections' TIME_WAIT.
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

/// Raises the receive buffer to `bytes` as far as the kernel lets us; returns what it is then, in the
/// kernel's count, which is twice what one asks for because it includes the kernel's own overhead.
pub(crate) fn raise_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<usize> {
    let before = socket.recv_buffer_size()?;
    if before < bytes.saturating_mul(2) {
        // Past `net.core.rmem_max`, with CAP_NET_ADMIN.
        if sockopt::set_socket_recv_buffer_size_force(socket, bytes).is_err() {
            // Without it the kernel cuts what we ask for, and says nothing.
            socket.set_recv_buffer_size(bytes)?;
        }
    }
    socket.recv_buffer_size()
}

/// Sets the receive buffer as `statsd_exporter` does, but past `rmem_max` where we may; see
/// [`raise_receive_buffer`] for what comes back.
pub(super) fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<usize> {
    if sockopt::set_socket_recv_buffer_size_force(socket, bytes).is_err() {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.recv_buffer_size()
}

/// Has the kernel send the count of datagrams that found the queue full along with each datagram.
pub(crate) fn report_overflow(socket: &Socket) -> io::Result<()> {
    switch_on(socket, libc::SO_RXQ_OVFL)
}

/// Has the kernel send each datagram's time of arrival along.
pub(crate) fn report_timestamps(socket: &Socket) -> io::Result<()> {
    switch_on(socket, libc::SO_TIMESTAMPNS)
}

/// Has the kernel send the process of each datagram's sender along.
pub(super) fn report_credentials(socket: &Socket) -> io::Result<()> {
    switch_on(socket, libc::SO_PASSCRED)
}

fn switch_on(socket: &Socket, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).expect("an int is short");
    // SAFETY: the descriptor is open as long as `socket` is borrowed; `on` is a c_int that outlives
    // the call, and `length` is its size. No safe wrapper knows these options.
    #[expect(unsafe_code, reason = "neither socket2 nor rustix has all of these options")]
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const on).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Datagrams that the socket dropped since it was made: those that found its queue full, and those
/// that a socket filter took. Counts in 32 bits and wraps.
///
/// Source: Linux `include/uapi/linux/sock_diag.h`, `SK_MEMINFO_DROPS`.
pub(super) fn drops(socket: &impl AsFd) -> io::Result<u32> {
    const SK_MEMINFO_DROPS: usize = 8;
    let mut words = [0_u32; SK_MEMINFO_DROPS + 1];
    let mut length = libc::socklen_t::try_from(size_of_val(&words)).expect("nine words are short");
    // SAFETY: the descriptor is open as long as `socket` is borrowed; `words` is writable for the
    // `length` bytes that the kernel is told, and both outlive the call.
    #[expect(unsafe_code, reason = "neither socket2 nor rustix has SO_MEMINFO")]
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(words[SK_MEMINFO_DROPS]) } else { Err(io::Error::last_os_error()) }
}
