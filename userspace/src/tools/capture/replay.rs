//! Capture -> datagrams to an address, in their time.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::{PortFlags, Reader};
use crate::tools::{counted, print};

/// Sockets to send from, so that senders stay apart as far as that goes.
const SOCKETS_MAX: usize = 64;
/// Waits that are shorter are not waited for: the system's clock does not tick that fine.
const WAIT_MIN: Duration = Duration::from_micros(200);

/// Sends what a file holds to a StatsD server, by UDP.
///
/// The file is a capture of `rotameter capture`, a pcap or pcapng, a recording (JSON lines), or plain
/// StatsD lines; gzip is unpacked. One that was cut off is sent up to the cut, and ends with an error.
#[derive(Debug, clap::Parser)]
#[command(name = "rotameter replay", bin_name = "rotameter replay")]
pub struct ReplayFlags {
    /// File to send.
    file: PathBuf,
    /// Where to.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// So many times as fast as it was recorded; 0 as fast as it goes.
    #[arg(long, value_name = "TIMES", default_value = "1", value_parser = speed)]
    speed: f64,
    /// Send it so many times.
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    r#loop: u64,
    #[command(flatten)]
    ports: PortFlags,
}

fn speed(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|speed: &f64| (0.0..=1e6).contains(speed)).ok_or("from 0 to 1000000")
}

/// Sends all of it.
///
/// # Errors
///
/// The file cannot be read, was cut off, or holds no datagram; the address cannot be reached.
pub fn replay(flags: &ReplayFlags) -> anyhow::Result<()> {
    let to = std::net::ToSocketAddrs::to_socket_addrs(&flags.to)
        .with_context(|| match flags.to.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => format!("--to: looking up {host:?}"),
            _ => format!("--to={:?}: write host:port", flags.to),
        })?
        .next()
        .with_context(|| format!("--to={:?}: the name has no address", flags.to))?;
    let mut sockets = Sockets::new(to);
    let start = Instant::now();
    let mut sent = Sent::default();
    let mut end = Ok(());
    for round in 0..flags.r#loop {
        let mut reader = Reader::open(&flags.file, &flags.ports)?;
        let began = Instant::now();
        let mut first = None;
        while let Some(entry) = reader.next()? {
            if flags.speed > 0.0 {
                let since = entry.at.saturating_sub(*first.get_or_insert(entry.at));
                let due = began + since.div_f64(flags.speed);
                let wait = due.saturating_duration_since(Instant::now());
                if wait >= WAIT_MIN {
                    thread::sleep(wait);
                }
            }
            sockets.send(&entry.sender, &entry.payload, &mut sent)?;
        }
        if round == 0 {
            reader.missing().iter().for_each(|missing| eprintln!("# left out: {missing}"));
        }
        end = reader.end("sent");
        if sent.datagrams + sent.refused == 0 {
            end?;
            bail!("{}: there is no datagram in it", flags.file.display());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let datagrams = usize::try_from(sent.datagrams).unwrap_or(usize::MAX);
    print(&format!("{} to {to} in {seconds:.1} s", counted(datagrams, "datagram")));
    if sent.refused > 0 {
        bail!("{} were refused: nobody listens on {to}", sent.refused);
    }
    end
}

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    datagrams: u64,
    /// The other side answered that nobody listens.
    refused: u64,
}

struct Sockets {
    to: SocketAddr,
    sockets: Vec<Option<UdpSocket>>,
}

impl Sockets {
    fn new(to: SocketAddr) -> Self {
        Self { to, sockets: (0..SOCKETS_MAX).map(|_| None).collect() }
    }

    /// From the socket that stands for this sender.
    fn send(
        &mut self,
        sender: &(Option<std::net::IpAddr>, u16),
        payload: &[u8],
        sent: &mut Sent,
    ) -> anyhow::Result<()> {
        let port = usize::from(sender.1);
        let host = sender.0.map_or(0, |address| match address {
            std::net::IpAddr::V4(address) => usize::from(address.octets()[3]),
            std::net::IpAddr::V6(address) => usize::from(address.octets()[15]),
        });
        let socket = &mut self.sockets[(port ^ host << 3) % SOCKETS_MAX];
        let sending = || format!("sending to {}", self.to);
        let socket = match socket {
            Some(socket) => socket,
            None => {
                let ours = if self.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let bound = UdpSocket::bind(ours).with_context(sending)?;
                bound.connect(self.to).with_context(sending)?;
                socket.insert(bound)
            }
        };
        match socket.send(payload) {
            Ok(_) => sent.datagrams += 1,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => sent.refused += 1,
            Err(error) => return Err(error).with_context(sending),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::Parser as _;

    use super::*;

    #[test]
    fn datagrams_arrive_as_they_were() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        // "a:1|c\nb:2|c", then a plain line; half a second apart, at a hundred times the speed.
        write!(
            file,
            "{{\"t\":5,\"p\":1,\"b\":\"YToxfGMKYjoyfGM=\"}}\n{{\"t\":5.5,\"p\":2,\"b\":\"YzozfGM=\"}}\n"
        )
        .unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let to = format!("--to={}", server.local_addr().unwrap());
        let path = file.path().display().to_string();
        replay(&ReplayFlags::parse_from(["replay", &path, &to, "--speed=100", "--loop=2"])).unwrap();
        let mut buffer = [0; 100];
        let mut senders = Vec::new();
        for expected in ["a:1|c\nb:2|c", "c:3|c", "a:1|c\nb:2|c", "c:3|c"] {
            let (bytes, sender) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..bytes], expected.as_bytes());
            senders.push(sender);
        }
        assert!(senders[0] != senders[1] && senders[0] == senders[2], "senders stay apart");
    }

    #[test]
    fn an_empty_file_and_a_shut_port_are_said() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let shut = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let to = format!("--to={shut}");
        let run =
            |path: &str| replay(&ReplayFlags::parse_from(["replay", path, &to])).unwrap_err().to_string();
        assert!(run(&path).contains("no datagram"));
        file.write_all(&b"a:1|c\n".repeat(100)).unwrap();
        assert!(run(&path).contains("nobody listens"));
        assert!(ReplayFlags::try_parse_from(["replay", "x", &to, "--speed=-1"]).is_err());
    }
}
