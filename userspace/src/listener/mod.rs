//! Sockets -> datagrams.
//!
//! Every listener reads as much as one call gives, and hands it on as one batch. Datagram sockets
//! (`udp`, `unixgram`) are read by `recvmmsg` on plain threads, one each; streams (`tcp`,
//! `unix_stream`) live on the async runtime.

pub mod activation;
pub mod set;

pub mod tcp;
pub mod udp;
pub mod unix_stream;
pub mod unixgram;

pub mod datagram_socket;
pub mod framing;
pub mod stream;
pub mod unix;

mod receive;
mod socket;

pub(crate) use receive::ReceiveBatch;
pub(crate) use socket::{bind, raise_receive_buffer, report_overflow, report_timestamps};

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;

use socket2::SockAddr;

use crate::datagram::Datagram;

/// Where listeners hand their batches to.
pub trait Intake: Send + Sync + 'static {
    /// Takes the lines of `batch`, in its order. Called once per batch, never per datagram, from
    /// threads and from tasks of the runtime: it may take a lock, and it must not wait for anything
    /// slow.
    fn ingest(&self, batch: &[Datagram<'_>]);
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    Inet(SocketAddr),
    /// Printable: a path, or `@` and an abstract name.
    Unix(String),
}

impl LocalAddress {
    #[must_use]
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    fn of_unix(address: &SockAddr) -> io::Result<Self> {
        if !address.is_unix() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let name = match (address.as_pathname(), address.as_abstract_namespace()) {
            (Some(path), _) => path.as_os_str().as_bytes().escape_ascii().to_string(),
            (None, Some(name)) => format!("@{}", name.escape_ascii()),
            (None, None) => String::new(),
        };
        Ok(Self::Unix(name))
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(name) => f.write_str(name),
        }
    }
}

/// A listener that could not be had, and the way out.
#[derive(Debug)]
pub struct ListenError {
    /// `udp`, `tcp`, `unixgram`, `unix` or `http`.
    pub transport: &'static str,
    /// The flag that gave the address.
    pub flag: &'static str,
    /// As configured.
    pub address: String,
    pub error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, flag, address, error } = self;
        write!(f, "listening on {transport} {address}: ")?;
        let unix = transport.starts_with("unix");
        match error.kind() {
            io::ErrorKind::NotFound if unix => {
                write!(f, "its directory does not exist; make it, or choose another path by --{flag}")
            }
            io::ErrorKind::PermissionDenied if unix => {
                write!(
                    f,
                    "permission denied; the daemon needs to write its directory, or choose another path by --{flag}"
                )
            }
            io::ErrorKind::AddrInUse if unix => {
                write!(f, "another process listens there; stop it, or choose another name by --{flag}")
            }
            _ if unix => write!(f, "{error}, or choose another path by --{flag}"),
            io::ErrorKind::AddrInUse => {
                let (kind, port) = (if *transport == "udp" { 'u' } else { 't' }, port(address));
                write!(
                    f,
                    "address in use; another process has the port, `ss -ln{kind}p 'sport = :{port}'` names it; \
                     stop it, or choose another port by --{flag}"
                )
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(
                    f,
                    "this machine does not have that address; `ip address` lists its own, --{flag} takes one"
                )
            }
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "permission denied; low ports need CAP_NET_BIND_SERVICE, or choose another port by --{flag}"
                )
            }
            _ => write!(f, "{error}; --{flag} sets the address"),
        }
    }
}

// No source: the cause is part of the message, which says something about it.
impl std::error::Error for ListenError {}

/// The part behind the last colon.
fn port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_, port)| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: io::ErrorKind, expected: &str) {
        let error = ListenError {
            transport: "udp",
            flag: "statsd.listen-udp",
            address: ":9125".to_owned(),
            error: kind.into(),
        };
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_bind_error_says_the_way_out() {
        check(
            io::ErrorKind::AddrInUse,
            "listening on udp :9125: address in use; another process has the port, \
             `ss -lnup 'sport = :9125'` names it; stop it, or choose another port by --statsd.listen-udp",
        );
        check(
            io::ErrorKind::PermissionDenied,
            "listening on udp :9125: permission denied; low ports need CAP_NET_BIND_SERVICE, \
             or choose another port by --statsd.listen-udp",
        );
    }
}
