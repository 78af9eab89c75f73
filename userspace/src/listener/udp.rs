//! UDP address -> bound socket.

use std::io;
use std::time::Duration;

use socket2::{Socket, Type};

use super::datagram_socket::DatagramSocket;
use super::{ListenError, LocalAddress, socket};
use crate::config::HostPort;
use crate::datagram::Transport;

/// What we ask for where nobody says otherwise: some 40,000 datagrams of Airflow's size.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;
/// Longest time for which datagrams gather in the socket before the reader takes them.
const GATHER_MAX: Duration = Duration::from_millis(5);
/// Below this, waiting costs more than it saves.
const GATHER_MIN: Duration = Duration::from_millis(1);

/// How the socket is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct UdpOptions {
    /// Size of the receive buffer as `--statsd.read-buffer` gives it; `None` asks for 16 MiB.
    pub receive_buffer_bytes: Option<u32>,
    /// Have the kernel stamp every datagram; otherwise a batch has the time at which it was read.
    pub timestamps: bool,
}

impl UdpOptions {
    /// Bytes of receive buffer that are asked for; the kernel counts twice as many.
    #[must_use]
    pub fn receive_buffer_asked_bytes(self) -> usize {
        self.receive_buffer_bytes.map_or(RECEIVE_BUFFER_BYTES, |bytes| bytes as usize)
    }
}

/// Binds a socket. Datagrams queue in it from now on; nobody reads them yet.
///
/// # Errors
///
/// The address cannot be had, or the socket lacks an option that every Linux has.
pub fn bind(address: &HostPort, options: UdpOptions) -> Result<DatagramSocket, ListenError> {
    let bound = socket::bind(address, Type::DGRAM).and_then(|socket| adopt(socket, options));
    bound.map_err(|error| ListenError {
        transport: "udp",
        flag: "statsd.listen-udp",
        address: address.to_string(),
        error,
    })
}

/// Makes a listener of a socket that is bound already.
///
/// # Errors
///
/// It is no UDP socket, or lacks an option that every Linux has.
pub fn adopt(socket: Socket, options: UdpOptions) -> io::Result<DatagramSocket> {
    let local_address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    socket.set_nonblocking(true)?;
    shed_filter(&socket)?;
    let receive_buffer_bytes = match options.receive_buffer_bytes {
        Some(bytes) => socket::set_receive_buffer(&socket, bytes as usize)?,
        None => socket::raise_receive_buffer(&socket, RECEIVE_BUFFER_BYTES)?,
    };
    socket::report_overflow(&socket)?;
    if options.timestamps {
        socket::report_timestamps(&socket)?;
    }
    let gather = gather_time(receive_buffer_bytes);
    DatagramSocket::new(socket, Transport::Udp, LocalAddress::Inet(local_address), gather)
}

/// Takes off the filter that a predecessor left on a socket of systemd's when it was killed: the
/// socket keeps it alive. Our own could not take its place either, for
/// the kernel counts both against `net.core.optmem_max` while it swaps them. One that is locked
/// (`PermissionDenied`) was put there on purpose and stays.
fn shed_filter(socket: &Socket) -> io::Result<()> {
    match socket.detach_filter().map_err(|error| (error.kind(), error)) {
        Ok(()) | Err((io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied, _)) => Ok(()),
        Err((_, error)) => Err(error),
    }
}

/// How long datagrams may gather so that even a million a second fill at most half of the buffer.
/// Zero where it is small.
fn gather_time(receive_buffer_bytes: usize) -> Duration {
    const SMALLEST_DATAGRAM_BYTES: usize = 768;
    let microseconds = receive_buffer_bytes / SMALLEST_DATAGRAM_BYTES / 2;
    let gather = Duration::from_micros(microseconds as u64).min(GATHER_MAX);
    if gather < GATHER_MIN { Duration::ZERO } else { gather }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::UdpSocket;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    use parking_lot::Mutex;
    use socket2::SockFilter;

    use super::*;
    use crate::clock::Timestamp;
    use crate::datagram::{Datagram, Source};
    use crate::listener::Intake;
    use crate::listener::datagram_socket::Drained;

    /// Keeps what it is given.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Copied>>);

    type Copied = (Vec<u8>, Source, Timestamp);

    impl Intake for Kept {
        fn ingest(&self, batch: &[Datagram<'_>]) {
            let copies = batch.iter().map(|d| (d.payload.to_vec(), d.source, d.received));
            self.0.lock().extend(copies);
        }
    }

    impl Kept {
        /// Waits until `count` datagrams have come, or fails after ten seconds.
        #[track_caller]
        fn wait_for(&self, count: usize) {
            let start = Instant::now();
            while self.0.lock().len() < count {
                assert!(start.elapsed() < Duration::from_secs(10), "{} of {count}", self.0.lock().len());
                std::thread::yield_now();
            }
        }
    }

    fn listen(address: &str, options: UdpOptions) -> Arc<DatagramSocket> {
        Arc::new(bind(&address.parse().unwrap(), options).unwrap())
    }

    fn port(listener: &DatagramSocket) -> u16 {
        listener.local_address().inet().unwrap().port()
    }

    fn sender(listener: &DatagramSocket) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port(listener))).unwrap();
        socket
    }

    #[test]
    fn a_filter_that_a_predecessor_left_on_a_socket_is_taken_off() {
        const TAKE_NOTHING: SockFilter = SockFilter::new(0x06, 0, 0, 0);
        let passed: Socket = UdpSocket::bind("127.0.0.1:0").unwrap().into();
        passed.attach_filter(&[TAKE_NOTHING]).unwrap();
        let to = passed.local_addr().unwrap().as_socket().unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"before:1|c", to).unwrap();
        assert_eq!(socket::drops(&passed).unwrap(), 1);
        let listener = Arc::new(adopt(passed, UdpOptions::default()).unwrap());
        sender(&listener).send(b"a:1|c").unwrap();
        let kept = Kept::default();
        listener.drain(&kept);
        assert_eq!(kept.0.lock().len(), 1);
        assert_eq!(listener.kernel_drops().unwrap(), 0, "what came before is no loss of ours");
    }

    #[test]
    fn a_burst_of_20000_arrives_complete() {
        let listener = listen("127.0.0.1:0", UdpOptions::default());
        // Without CAP_NET_ADMIN and with a small rmem_max the buffer cannot hold it.
        let enlarged = listener.receive_buffer_bytes() >= 2 * RECEIVE_BUFFER_BYTES;
        let kept = Arc::new(Kept::default());
        let socket = sender(&listener);
        let send = |from: u32, to: u32| {
            for n in from..to {
                socket.send(format!("airflow.ti_successes:{n}|c").as_bytes()).unwrap();
            }
        };
        // Half of it before anybody reads, the other half while the reader and a drain compete.
        send(0, 10_000);
        let reader = listener.start(Arc::clone(&kept) as Arc<dyn Intake>).unwrap();
        send(10_000, 15_000);
        listener.drain(&*kept);
        send(15_000, 20_000);
        if enlarged {
            kept.wait_for(20_000);
            assert_eq!(listener.kernel_drops().unwrap(), 0);
        }
        reader.stop();
        assert!(listener.drain(&*kept).empty);
        let kept = kept.0.lock();
        let numbers: Vec<u32> = kept
            .iter()
            .map(|(payload, ..)| {
                let text = std::str::from_utf8(payload).unwrap();
                text.split([':', '|']).nth(1).unwrap().parse().unwrap()
            })
            .collect();
        assert!(numbers.is_sorted(), "the order of one sender is kept");
        assert_eq!(listener.counters().datagrams.load(Ordering::Relaxed), numbers.len() as u64);
        let bytes: usize = kept.iter().map(|(payload, ..)| payload.len()).sum();
        assert_eq!(listener.counters().bytes.load(Ordering::Relaxed), bytes as u64);
    }

    #[test]
    fn the_largest_datagram_arrives_whole() {
        let listener = listen("127.0.0.1:0", UdpOptions::default());
        let socket = sender(&listener);
        let largest: Vec<u8> = (0..65_507_u32).map(|n| (n % 251) as u8).collect();
        socket.send(&largest).unwrap();
        socket.send(b"").unwrap();
        let kept = Kept::default();
        assert_eq!(listener.drain(&kept), Drained { datagrams: 2, empty: true });
        let kept = kept.0.lock();
        assert_eq!(kept[0].0, largest);
        assert_eq!(kept[0].1, Source::Address(socket.local_addr().unwrap()));
        assert_eq!(kept[1].0, b"");
    }

    #[test]
    fn a_wildcard_takes_both_families() {
        let listener = listen(":0", UdpOptions::default());
        let socket = sender(&listener);
        socket.send(b"four:1|c").unwrap();
        let mut wanted =
            HashMap::from([(b"four:1|c".to_vec(), Source::Address(socket.local_addr().unwrap()))]);
        if let Ok(socket) = UdpSocket::bind("[::1]:0") {
            assert!(listener.local_address().inet().unwrap().is_ipv6());
            socket.send_to(b"six:1|c", ("::1", port(&listener))).unwrap();
            wanted.insert(b"six:1|c".to_vec(), Source::Address(socket.local_addr().unwrap()));
        }
        let kept = Kept::default();
        listener.drain(&kept);
        let got = kept.0.lock().iter().map(|(payload, source, _)| (payload.clone(), *source)).collect();
        assert_eq!(wanted, got);
    }

    #[test]
    fn a_full_queue_is_reported() {
        let listener =
            listen("127.0.0.1:0", UdpOptions { receive_buffer_bytes: Some(4096), ..UdpOptions::default() });
        let socket = sender(&listener);
        for _ in 0..1000 {
            socket.send(b"a:1|c").unwrap();
        }
        let kept = Kept::default();
        let read = listener.drain(&kept).datagrams;
        assert_eq!(u64::from(listener.kernel_drops().unwrap()), 1000 - read);
        // The control message tells the count when the datagram was queued; one more brings the last.
        socket.send(b"a:1|c").unwrap();
        listener.drain(&kept);
        assert_eq!(listener.counters().queue_overflow.load(Ordering::Relaxed), 1000 - read);
    }

    #[test]
    fn a_stamped_datagram_has_its_time_of_arrival() {
        let listener = listen("127.0.0.1:0", UdpOptions { timestamps: true, ..UdpOptions::default() });
        let socket = sender(&listener);
        let stamped_on_arrival = || {
            let before = Timestamp::now();
            socket.send(b"a:1|c").unwrap();
            let after = Timestamp::now();
            let kept = Kept::default();
            // Loopback delivers within `send`; reading later must not move the stamp. The kernel's
            // realtime clock and ours are read some microseconds apart.
            while Timestamp::now() < after.after(Duration::from_millis(20)) {}
            listener.drain(&kept);
            let stamp = kept.0.lock()[0].2;
            let slack = Duration::from_millis(5);
            stamp.after(slack) >= before && stamp <= after.after(slack)
        };
        // The kernel switches its clock for this on a moment later, and until then stamps on reading.
        let start = Instant::now();
        while !stamped_on_arrival() {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
    }

    #[test]
    fn an_idle_reader_stops_at_once() {
        let listener = listen("127.0.0.1:0", UdpOptions::default());
        let reader = listener.start(Arc::new(Kept::default())).unwrap();
        let start = Instant::now();
        reader.stop();
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_taken_port_is_refused() {
        let first = listen("127.0.0.1:0", UdpOptions::default());
        let address = first.local_address().to_string().parse().unwrap();
        let error = bind(&address, UdpOptions::default()).unwrap_err();
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_small_buffer_leaves_no_time_to_gather() {
        assert_eq!(gather_time(212_992), Duration::ZERO);
        assert_eq!(gather_time(2 << 20), Duration::from_micros(1365));
        assert_eq!(gather_time(32 << 20), GATHER_MAX);
    }
}
