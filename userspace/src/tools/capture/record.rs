//! A daemon, a network interface, or a port of our own -> a capture.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::interface::Interface;
use super::packet::{PortFlags, Tally, Udp};
use super::writer::{Format, Record, Writer};
use crate::config::{HostPort, units};
use crate::datagram::Source;
use crate::line::lines;
use crate::live::filter::Filter;
use crate::live::tail::{Captured, Status};
use crate::tools::client::Client;
use crate::tools::follow::{Event, FollowFlags, follow, unseen};
use crate::tools::{asked_to_end, print};

/// How often a silent port is left to look at the clock.
const LOOK: Duration = Duration::from_millis(200);
/// A year is as good as for ever, and can be added to a time.
const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Less would end it before the first datagram.
const BYTES_LEAST: u64 = 4096;

/// Records datagrams into a file, for `rotameter replay` and `rotameter diff`, or for Wireshark.
///
/// They come from a running daemon; with --interface from a network interface, without a daemon and
/// beside whoever receives them; with --listen from a port of our own. Ctrl-C ends it in order.
#[derive(Debug, clap::Parser)]
#[command(name = "rotameter capture", bin_name = "rotameter capture")]
pub struct CaptureFlags {
    #[command(flatten)]
    follow: FollowFlags,
    /// File to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Form of the file: json, which is our own, pcap or pcapng. [default: by its name, .pcap or .pcapng;
    /// otherwise json]
    #[arg(long, value_name = "FORM", value_enum)]
    format: Option<Format>,
    /// Receive on this UDP address instead of asking a daemon.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<HostPort>,
    /// See what crosses this network interface instead, in either direction. Needs CAP_NET_RAW. What an
    /// XDP program takes from the interface is not seen.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["listen", "whole"])]
    interface: Option<String>,
    #[command(flatten)]
    ports: PortFlags,
    /// End after this time.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = units::parse_duration)]
    duration: Duration,
    /// End when the file has this size.
    #[arg(long, value_name = "BYTES", default_value = "256Mi", value_parser = units::parse_size)]
    max_bytes: u64,
}

/// Writes the file.
///
/// # Errors
///
/// The file is there already or cannot be written; the daemon does not answer; the address cannot be
/// had.
pub fn capture(flags: &CaptureFlags) -> anyhow::Result<()> {
    // Everything that can fail, before the file is there.
    let filter = flags.follow.own()?;
    let max_bytes = flags.max_bytes;
    anyhow::ensure!(max_bytes >= BYTES_LEAST, "--max-bytes={max_bytes}: no datagram fits; 4Ki at least");
    let origin = match (&flags.listen, &flags.interface) {
        (Some(address), _) => Origin::Port(bind(address)?),
        (_, Some(name)) => Origin::Interface(Box::new(Interface::open(name, &flags.ports.ports())?)),
        _ => Origin::Daemon(Box::new(Client::new(&flags.follow.connect)?)),
    };
    let format = flags.format.unwrap_or_else(|| Format::of(&flags.out));
    let mut file = Writing {
        writer: Writer::new(create(&flags.out)?, format, flags.max_bytes)
            .with_context(|| writing(&flags.out))?,
        path: &flags.out,
        filter,
        until: Instant::now() + flags.duration.min(DURATION_MAX),
    };
    let recorded = match origin {
        Origin::Port(socket) => listen(&socket, &mut file),
        Origin::Interface(interface) => watch(*interface, &mut file),
        Origin::Daemon(client) => ask(&client, flags, &mut file),
    };
    let (datagrams, too_long) = (file.writer.datagrams, file.writer.too_long);
    let bytes = file.writer.finish().with_context(|| writing(&flags.out))?;
    let missing = match recorded {
        // Nothing was begun, so nothing stays behind.
        Err(error) if datagrams == 0 => {
            let _ = std::fs::remove_file(&flags.out);
            return Err(error);
        }
        recorded => recorded?,
    };
    print(&format!("{}: {datagrams} datagrams, {bytes} bytes", flags.out.display()));
    missing.iter().for_each(|missing| eprintln!("# not in there: {missing}"));
    if let Some(name) = flags.interface.as_ref().filter(|_| datagrams == 0) {
        let ports: Vec<String> = flags.ports.ports().iter().map(u16::to_string).collect();
        eprintln!(
            "# none that is wanted crossed {name} to UDP port {}; --port names others, and what an XDP program \
             takes from it is not seen",
            ports.join(" or ")
        );
    }
    if too_long > 0 {
        eprintln!("# not in there: {too_long} longer than a UDP datagram can be; --format=json takes them");
    }
    Ok(())
}

enum Origin {
    Port(UdpSocket),
    Interface(Box<Interface>),
    Daemon(Box<Client>),
}

/// A file, and when it is done.
struct Writing<'a> {
    writer: Writer,
    path: &'a Path,
    filter: Filter,
    until: Instant,
}

impl Writing<'_> {
    /// Whether there is more to be written. Makes what there is safe, if it is time.
    fn goes_on(&mut self) -> anyhow::Result<bool> {
        self.writer.tick().with_context(|| writing(self.path))?;
        Ok(Instant::now() < self.until)
    }

    fn wants(&self, payload: &[u8]) -> bool {
        lines(payload).any(|line| self.filter.wants(line))
    }

    /// False once the file has its size.
    fn push(&mut self, record: &Record<'_>) -> anyhow::Result<bool> {
        self.writer.push(record).with_context(|| writing(self.path))
    }
}

fn writing(path: &Path) -> String {
    format!("writing capture {}", path.display())
}

fn create(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path).with_context(|| match path.exists() {
        true => format!("{} is there already; choose another name, or remove it", path.display()),
        false => writing(path),
    })
}

/// What these three return is what is missing in the file, a phrase each.
fn ask(client: &Client, flags: &CaptureFlags, file: &mut Writing<'_>) -> anyhow::Result<Vec<String>> {
    let path = flags.follow.path(&["datagrams"])?;
    let mut last = Status::default();
    follow(client, &path, |event| {
        let goes_on = match event {
            Event::Line(line) => {
                let strange = || format!("{}: a line of the answer holds no datagram", client.url());
                let captured: Captured = serde_json::from_slice(line).with_context(strange)?;
                let payload = BASE64_STANDARD.decode(&captured.b).with_context(strange)?;
                let source = captured.s.map(|address| SocketAddr::new(address, captured.p)).into();
                let at = Duration::try_from_secs_f64(captured.t).with_context(strange)?;
                file.push(&Record { at, source, destination: None, payload: &payload, packet: None })?
            }
            // At least one a second, so that the clock is looked at.
            Event::Status(status) => {
                last = status;
                true
            }
        };
        Ok(if file.goes_on()? && goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(unseen(&last).into_iter().collect())
}

fn bind(address: &HostPort) -> anyhow::Result<UdpSocket> {
    let socket = crate::listener::bind(address, socket2::Type::DGRAM).with_context(|| {
        format!("listening on {address}; does the daemon have the port? without --listen it is asked")
    })?;
    // A large one, as far as it is granted.
    let _ = socket.set_recv_buffer_size(4 << 20);
    let socket = UdpSocket::from(socket);
    socket
        .set_nonblocking(false)
        .and_then(|()| socket.set_read_timeout(Some(LOOK)))
        .context("setting a timeout")?;
    Ok(socket)
}

fn listen(socket: &UdpSocket, file: &mut Writing<'_>) -> anyhow::Result<Vec<String>> {
    let ended = asked_to_end()?;
    let destination = socket.local_addr().ok();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut began = None;
    while file.goes_on()? && !ended() {
        let (bytes, source) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(error) => bail!(anyhow::Error::from(error).context("receiving")),
        };
        let payload = buffer.get(..bytes).unwrap_or_default();
        if !file.wants(payload) {
            continue;
        }
        let at = began.get_or_insert_with(Instant::now).elapsed();
        let source = Source::Address(source);
        if !file.push(&Record { at, source, destination, payload, packet: None })? {
            break;
        }
    }
    Ok(Vec::new())
}

fn watch(mut interface: Interface, file: &mut Writing<'_>) -> anyhow::Result<Vec<String>> {
    let ended = asked_to_end()?;
    let mut tally = Tally::default();
    let mut began = None;
    let mut full = false;
    while !full && file.goes_on()? && !ended() {
        interface.receive(LOOK, &mut tally, |arrived, udp, packet| {
            let Udp { source, destination, payload } = udp;
            if full || !file.wants(payload) {
                return Ok(());
            }
            let at = arrived.saturating_sub(*began.get_or_insert(arrived));
            let (source, destination) = (Source::Address(source), Some(destination));
            full = !file.push(&Record { at, source, destination, payload, packet: Some(packet) })?;
            Ok(())
        })?;
    }
    let mut missing = tally.missing();
    if interface.lost() > 0 {
        missing.push(format!("{} packets that came faster than they were written", interface.lost()));
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::super::reader::Reader;
    use super::*;

    #[test]
    fn a_port_of_our_own_is_recorded_until_the_file_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("capture.gz");
        let socket = bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in 0..20 {
            sender.send_to(format!("a{}:{n}|c", n % 2).as_bytes(), socket.local_addr().unwrap()).unwrap();
        }
        let mut file = Writing {
            writer: Writer::new(create(&out).unwrap(), Format::Json, u64::MAX).unwrap(),
            path: &out,
            filter: Filter::glob("a1").unwrap(),
            until: Instant::now() + Duration::from_millis(500),
        };
        listen(&socket, &mut file).unwrap();
        let writer = file.writer;
        assert_eq!(writer.datagrams, 10);
        writer.finish().unwrap();
        let mut reader = Reader::open(&out, &PortFlags::default()).unwrap();
        let first = reader.next().unwrap().unwrap();
        assert_eq!(
            (first.payload.as_slice(), first.sender.1),
            (&b"a1:1|c"[..], sender.local_addr().unwrap().port())
        );
        while reader.next().unwrap().is_some() {}
        reader.end("read").unwrap();
        let error = format!("{:#}", create(&out).unwrap_err());
        assert!(error.contains("is there already"), "{error}");
    }
}
