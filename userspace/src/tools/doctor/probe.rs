//! A datagram to the daemon -> whether it came.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::super::client::Client;
use super::finding::{Finding, Severity};
use crate::live::Report;

/// An empty line: counted, and nothing else.
const PROBE: &[u8] = b"\n";
const TRIES: u32 = 3;
/// The daemon looks at its counters once a second.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// Whether lines come. Sends some only if none does.
pub(super) fn look(client: &Client, report: &Report, target: &str) -> Option<Finding> {
    if report.now.lines_per_second > 0.0 {
        return None;
    }
    let finding = |text: &str, evidence: String, way_out: &str| Finding {
        rule: "udp-blocked",
        severity: Severity::Error,
        text: text.to_owned(),
        evidence,
        way_out: way_out.to_owned(),
    };
    if let Err(error) = send(target) {
        let (text, way_out) = match error.kind() {
            io::ErrorKind::ConnectionRefused => (
                "nobody listens on the port that was probed",
                "name the right one by --statsd; Airflow's default is 8125, ours 9125",
            ),
            _ => ("a datagram could not be sent", "name a host and port that can be reached by --statsd"),
        };
        return Some(finding(text, format!("sending to {target}: {error}"), way_out));
    }
    let start = Instant::now();
    while start.elapsed() < WAIT_MAX {
        std::thread::sleep(Duration::from_millis(300));
        if client.report().is_ok_and(|now| now.totals.lines > report.totals.lines) {
            return None;
        }
    }
    Some(finding(
        "datagrams are sent and do not arrive",
        format!("{TRIES} to {target}, none counted in {WAIT_MAX:?}"),
        "look for a firewall, a NetworkPolicy that allows TCP only, a Service without the UDP port, or another \
         process on that port",
    ))
}

fn send(target: &str) -> io::Result<()> {
    let mut last = io::ErrorKind::NotFound.into();
    // A name may stand for an address of each kind, and the daemon for one of them.
    for address in std::net::ToSocketAddrs::to_socket_addrs(target)?.take(8) {
        match send_to(address) {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn send_to(to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(to)?;
    for _ in 0..TRIES {
        // A port that is shut answers, and the next call says so.
        socket.send(PROBE)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    socket.send(PROBE).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shut_port_is_noticed_and_an_open_one_gets_the_probe() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        send(&address).unwrap();
        let mut buffer = [0; 10];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 1);
        drop(socket);
        assert_eq!(send(&address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(send("127.0.0.1").is_err());
    }
}
