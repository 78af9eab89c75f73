//! Unix address -> bound datagram socket.
//!
//! Its queue is short (`net.unix.max_dgram_qlen`) and nothing is dropped: a sender waits while it is
//! full. So the reader takes what comes at once.

use std::io;
use std::time::Duration;

use socket2::{Socket, Type};

use super::datagram_socket::DatagramSocket;
use super::unix::{self, SocketFile};
use super::{ListenError, LocalAddress, socket};
use crate::config::UnixAddress;
use crate::datagram::Transport;

/// Binds a socket, with the file that stands for it unless its name is abstract. `mode` holds the
/// file's permission bits; `None` leaves what the umask gives.
///
/// # Errors
///
/// The path cannot be had: somebody listens there, or a file is in the way.
pub fn bind(
    address: &UnixAddress,
    mode: Option<u32>,
    receive_buffer_bytes: Option<u32>,
) -> Result<(DatagramSocket, Option<SocketFile>), ListenError> {
    let bound = unix::bind(address, Type::DGRAM, mode)
        .and_then(|(socket, file)| Ok((adopt(socket, receive_buffer_bytes)?, file)));
    bound.map_err(|error| ListenError {
        transport: "unixgram",
        flag: "statsd.listen-unixgram",
        address: address.to_string(),
        error,
    })
}

/// Makes a listener of a socket that is bound already.
///
/// # Errors
///
/// It is no Unix socket.
pub fn adopt(socket: Socket, receive_buffer_bytes: Option<u32>) -> io::Result<DatagramSocket> {
    let address = LocalAddress::of_unix(&socket.local_addr()?)?;
    socket.set_nonblocking(true)?;
    if let Some(bytes) = receive_buffer_bytes {
        socket::set_receive_buffer(&socket, bytes as usize)?;
    }
    DatagramSocket::new(socket, Transport::Unixgram, address, Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::UnixDatagram;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use parking_lot::Mutex;

    use super::*;
    use crate::datagram::{Datagram, Source};
    use crate::listener::Intake;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Vec<u8>>>);

    impl Intake for Kept {
        fn ingest(&self, batch: &[Datagram<'_>]) {
            assert!(batch.iter().all(|d| d.transport == Transport::Unixgram && d.source == Source::Nameless));
            self.0.lock().extend(batch.iter().map(|d| d.payload.to_vec()));
        }
    }

    #[test]
    fn a_slow_reader_holds_its_senders_up_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (socket, _file) = bind(&path.to_str().unwrap().parse().unwrap(), Some(0o700), None).unwrap();
        let (socket, kept) = (Arc::new(socket), Arc::new(Kept::default()));
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || {
                    let sender = UnixDatagram::unbound().unwrap();
                    for n in 0..1000 {
                        sender.send_to(format!("a:{n}|c").as_bytes(), &path).unwrap();
                    }
                })
            })
            .collect();
        let reader = socket.start(Arc::clone(&kept) as _).unwrap();
        for sender in senders {
            sender.join().unwrap();
        }
        reader.stop();
        assert!(socket.drain(&*kept).empty);
        assert_eq!(kept.0.lock().len(), 4000);
        assert_eq!(socket.counters().datagrams.load(Ordering::Relaxed), 4000);
    }

    #[test]
    fn of_a_datagram_that_is_longer_than_any_of_udp_the_whole_lines_count() {
        let name = format!("@rotameter-cut-{}", std::process::id());
        let (socket, _) = bind(&name.parse().unwrap(), None, None).unwrap();
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name[1..]);
        let sender = UnixDatagram::unbound().unwrap();
        let long = b"abc:1|c\nd:22|c\n".repeat(5000);
        sender.send_to_addr(&long, &address.unwrap()).unwrap();
        let kept = Kept::default();
        socket.drain(&kept);
        let kept = kept.0.lock();
        assert!(kept[0].len() > 65_000 && long.starts_with(&kept[0]));
        assert!(kept[0].ends_with(b"|c") && long[kept[0].len()] == b'\n');
        assert_eq!(socket.counters().cut.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_kernel_says_which_process_sent_it() {
        struct Processes(Mutex<Vec<Source>>);
        impl Intake for Processes {
            fn ingest(&self, batch: &[Datagram<'_>]) {
                self.0.lock().extend(batch.iter().map(|datagram| datagram.source));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (socket, _file) = bind(&path.to_str().unwrap().parse().unwrap(), Some(0o700), None).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"a:1|c", &path).unwrap();
        socket.report_processes().unwrap();
        sender.send_to(b"b:1|c", &path).unwrap();
        let seen = Processes(Mutex::default());
        socket.drain(&seen);
        assert_eq!(seen.0.lock().last(), Some(&Source::Process(std::process::id())));
    }
}
