//! Sockets that the service manager holds for us -> what each is for.
//!
//! Source: systemd `sd_listen_fds(3)`.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Socket, Type};

/// Standard input, output and error come first.
const FIRST_DESCRIPTOR: RawFd = 3;
const SOCKETS_MAX: usize = 64;
/// `FileDescriptorName=` of the socket that serves HTTP.
const WEB: &str = "web";

/// What was passed, by kind. Each kind replaces the listeners that the flags ask for.
#[derive(Debug, Default)]
pub struct Inherited {
    pub udp: Vec<Socket>,
    pub tcp: Vec<Socket>,
    pub unixgram: Vec<Socket>,
    pub unix: Vec<Socket>,
    pub web: Vec<Socket>,
}

/// Something was passed that we have no use for.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    #[error("LISTEN_FDS={0:?}: not a number from 0 to 64")]
    Count(String),
    #[error("LISTEN_FDS: descriptor {descriptor} ({name}) is no socket that is open")]
    NoSocket { descriptor: RawFd, name: String, source: io::Error },
    #[error(
        "LISTEN_FDS: descriptor {descriptor} ({name}) is {what}; a socket unit for this daemon has ListenDatagram= or \
         ListenStream= with a port or a path, and no Accept=yes"
    )]
    Kind { descriptor: RawFd, name: String, what: &'static str },
    #[error(
        "LISTEN_FDS: descriptor {0} is called web and is a Unix socket; HTTP takes ListenStream= with a port"
    )]
    Web(RawFd),
}

impl Inherited {
    /// Takes the sockets that were passed to this process. To be called before anything opens a
    /// descriptor of its own; a second call finds nothing.
    ///
    /// # Errors
    ///
    /// One of them is of no use to us.
    pub fn take() -> Result<Self, ActivationError> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let variable = |name| std::env::var(name).unwrap_or_default();
        // Variables that were meant for a parent are none of our business.
        if variable("LISTEN_PID") != std::process::id().to_string() || TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Self::default());
        }
        let count = variable("LISTEN_FDS");
        let count = match count.parse::<usize>() {
            Ok(number) if number <= SOCKETS_MAX => number,
            _ => return Err(ActivationError::Count(count)),
        };
        let names = variable("LISTEN_FDNAMES");
        let mut names = names.split(':');
        let mut inherited = Self::default();
        for descriptor in (FIRST_DESCRIPTOR..).take(count) {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown");
            let socket = claim(descriptor).map_err(|source| ActivationError::NoSocket {
                descriptor,
                name: name.to_owned(),
                source,
            })?;
            inherited.add(socket, descriptor, name)?;
        }
        Ok(inherited)
    }

    fn add(&mut self, socket: Socket, descriptor: RawFd, name: &str) -> Result<(), ActivationError> {
        let unreadable = |source| ActivationError::NoSocket { descriptor, name: name.to_owned(), source };
        let domain = socket.domain().map_err(unreadable)?;
        let kind = socket.r#type().map_err(unreadable)?;
        let listens = socket.is_listener().map_err(unreadable)?;
        let useless =
            |what| ActivationError::Kind { descriptor, name: name.escape_default().to_string(), what };
        let inet = domain == Domain::IPV4 || domain == Domain::IPV6;
        let list = match kind {
            _ if !inet && domain != Domain::UNIX => return Err(useless("neither an IP nor a Unix socket")),
            Type::DGRAM if inet => &mut self.udp,
            Type::DGRAM => &mut self.unixgram,
            Type::STREAM if !listens => return Err(useless("a connection, not a socket that listens")),
            Type::STREAM if name == WEB => {
                if !inet {
                    return Err(ActivationError::Web(descriptor));
                }
                &mut self.web
            }
            Type::STREAM if inet => &mut self.tcp,
            Type::STREAM => &mut self.unix,
            _ => return Err(useless("neither a datagram nor a stream socket")),
        };
        list.push(socket);
        Ok(())
    }
}

/// Takes possession of a descriptor, if it is open; no child of ours inherits it any more.
fn claim(descriptor: RawFd) -> io::Result<Socket> {
    // SAFETY: any number may be asked about; a number without a file only gives an error.
    #[expect(unsafe_code, reason = "a safe call would need the descriptor to be known as open")]
    let result = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, as the call above found. Nobody else owns it: the environment says that it
    // was passed to this very process, `take` runs once and before anything of ours opens files, and
    // each number is claimed once.
    #[expect(unsafe_code, reason = "the environment hands descriptors over as numbers")]
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(Socket::from(owned))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    #[track_caller]
    fn check_refused(inherited: &mut Inherited, socket: Socket, name: &str, words: &str) {
        let error = inherited.add(socket, 3, name).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn each_kind_has_its_place() {
        let mut inherited = Inherited::default();
        inherited.add(UdpSocket::bind("127.0.0.1:0").unwrap().into(), 3, "statsd.socket").unwrap();
        inherited.add(TcpListener::bind("127.0.0.1:0").unwrap().into(), 4, "statsd.socket").unwrap();
        inherited.add(TcpListener::bind("127.0.0.1:0").unwrap().into(), 5, "web").unwrap();
        inherited.add(UnixDatagram::unbound().unwrap().into(), 6, "web").unwrap();
        let counts = [inherited.udp.len(), inherited.tcp.len(), inherited.unixgram.len()];
        assert_eq!((counts, inherited.web.len()), ([1, 1, 1], 1));
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        let mut inherited = Inherited::default();
        let connection = UnixStream::pair().unwrap().0;
        check_refused(&mut inherited, connection.into(), "x", "(x) is a connection");
        let packets = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        check_refused(&mut inherited, packets, "x", "neither a datagram nor a stream");
        let netlink = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, None).unwrap();
        check_refused(&mut inherited, netlink, "x", "neither an IP nor a Unix");
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        check_refused(&mut inherited, file.into(), "x", "no socket that is open");
        let folder = tempfile::tempdir().unwrap();
        let unix = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
        check_refused(
            &mut inherited,
            OwnedFd::from(unix).into(),
            "web",
            "is called web and is a Unix socket",
        );
    }

    #[test]
    fn variables_for_another_process_are_left_alone() {
        // The test runner was not socket-activated.
        let inherited = Inherited::take().unwrap();
        assert!(inherited.udp.is_empty() && inherited.web.is_empty());
    }
}
