//! Datagrams over loopback -> door 2's verdict, for a test run cannot show it a UDP header.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use ingest_ebpf::layout::PAYLOAD_BYTES_MAX;
use ingest_ebpf::verdict::{Door, Outcome, Verdict};
use proptest::test_runner::TestRunner;

use super::differential::{expected, promote};
use super::generate::{self, POOL};
use super::loaded::{Effect, Loaded};
use super::model::Hot;

/// A socket with door 2 open, and one that sends to it.
struct Pair {
    receiver: UdpSocket,
    sender: UdpSocket,
    to: SocketAddr,
    from: SocketAddr,
}

impl Pair {
    #[track_caller]
    fn new(kernel: &mut Loaded, address: SocketAddr) -> Self {
        let socket = || UdpSocket::bind(address).expect("loopback has a free port");
        let (receiver, sender) = (socket(), socket());
        receiver.set_nonblocking(true).expect("a socket can be made non-blocking");
        let program = kernel.object.socket_entry().expect("the object has the program");
        program.attach(receiver.as_fd()).expect("the kernel attaches the filter");
        let local = |socket: &UdpSocket| socket.local_addr().expect("a bound socket has an address");
        let (to, from) = (local(&receiver), local(&sender));
        Self { receiver, sender, to, from }
    }

    /// Sends one datagram; what the door did with it, and what the socket received.
    #[track_caller]
    fn send(&self, kernel: &mut Loaded, payload: &[u8]) -> (Effect, Option<Vec<u8>>) {
        self.sender.send_to(payload, self.to).expect("loopback takes the datagram");
        // Loopback delivers before `send_to` returns, unless the machine is so busy that the kernel
        // leaves it to a thread.
        let deadline = Instant::now() + Duration::from_secs(20);
        let effect = loop {
            let effect = kernel.effect();
            if effect != Effect::default() {
                break effect;
            }
            assert!(Instant::now() < deadline, "the datagram did not arrive: {}", payload.escape_ascii());
            std::thread::yield_now();
        };
        let mut buffer = vec![0; 1 << 16];
        let passed = effect.verdicts.keys().any(|(_, reason)| {
            Verdict::ALL.iter().any(|v| v.reason() == *reason && v.outcome() == Outcome::Passed)
        });
        let received = loop {
            match self.receiver.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    assert_eq!(from, self.from);
                    break Some(buffer[..length].to_vec());
                }
                // The verdict is counted a moment before the socket has the datagram.
                Err(_) if passed && Instant::now() < deadline => std::thread::yield_now(),
                Err(_) => break None,
            }
        };
        (effect, received)
    }

    #[track_caller]
    fn check(&self, kernel: &mut Loaded, hot: &Hot, payload: &[u8]) {
        let expected = expected(hot, Door::SocketFilter, payload, self.from);
        let passed = matches!(hot.by_splitter(payload).verdict.outcome(), Outcome::Passed);
        let (effect, received) = self.send(kernel, payload);
        assert_eq!(effect, expected, "{}", payload.escape_ascii());
        assert_eq!(received, passed.then(|| payload.to_vec()), "{}", payload.escape_ascii());
    }
}

fn addresses() -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()]
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn generated_payloads_have_the_same_end_behind_a_socket_as_in_userspace() {
    let mut runner = TestRunner::new(generate::config(40));
    let table = (generate::promoted(), proptest::collection::vec(generate::payload(), 100));
    let tested = runner.run(&table, |(promoted, payloads)| {
        let mut kernel = Loaded::new();
        let lines: Vec<&[u8]> = promoted.iter().map(|index| POOL[*index].as_bytes()).collect();
        let hot = promote(&mut kernel, &lines);
        for address in addresses() {
            let pair = Pair::new(&mut kernel, address);
            for payload in &payloads {
                pair.check(&mut kernel, &hot, payload);
            }
        }
        Ok(())
    });
    tested.expect("object and userspace agree");
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_socket_that_outlives_its_daemon_keeps_its_datagrams() {
    let mut kernel = Loaded::new();
    let pair = Pair::new(&mut kernel, (Ipv4Addr::LOCALHOST, 0).into());
    let (effect, received) = pair.send(&mut kernel, b"airflow.before:1|c");
    assert_eq!((effect.records.len(), received), (1, None), "with a daemon the ring has it");
    // All of its descriptors are closed, as at the end of a process; the filter stays on the socket.
    drop(kernel);
    let mut buffer = [0; 64];
    let deadline = Instant::now() + Duration::from_secs(20);
    // The kernel leaves the emptying of the map to a thread.
    let received = loop {
        pair.sender.send_to(b"airflow.after:1|c", pair.to).expect("loopback takes the datagram");
        match pair.receiver.recv(&mut buffer) {
            Ok(length) => break &buffer[..length],
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(Instant::now() < deadline, "a program without a daemon still consumes");
        std::thread::yield_now();
    };
    assert_eq!(received, b"airflow.after:1|c");
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn long_datagrams_come_through_a_socket_whole() {
    let mut kernel = Loaded::new();
    let hot = promote(&mut kernel, &[POOL[0].as_bytes()]);
    for address in addresses() {
        let pair = Pair::new(&mut kernel, address);
        // One frame's worth, a byte more, what the object's mask would take for 1, and the most
        // that UDP carries, which loopback hands on in one piece or in fragments put together.
        for length in [PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX + 1, 2049, 9000, 65_507] {
            let payload: Vec<u8> = POOL[0].bytes().chain([b'\n']).cycle().take(length).collect();
            pair.check(&mut kernel, &hot, &payload);
        }
        pair.check(&mut kernel, &hot, b"");
    }
}
