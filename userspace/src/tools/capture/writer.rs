//! Datagrams -> a capture, in one of three forms.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use etherparse::PacketBuilder;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::datagram::Source;
use crate::live::tail::Captured;

/// What is lost at most when the writer is ended by force.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Where a datagram is said to have gone if nobody knows.
const PORT_UNKNOWN: u16 = 9125;
const HOPS: u8 = 64;
/// Packets begin with the IP header: `LINKTYPE_RAW`.
const LINK_TYPE: u32 = 101;
/// What tcpdump writes as well; no IP packet is longer.
const PACKET_BYTES_MAX: u32 = 262_144;

/// Form of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Gzip around a line of JSON for each datagram.
    Json,
    /// For tcpdump, Wireshark and their like.
    Pcap,
    /// The same in its newer form.
    Pcapng,
}

impl Format {
    /// By how the file's name ends.
    pub(super) fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("pcap" | "cap") => Self::Pcap,
            Some("pcapng" | "ntar") => Self::Pcapng,
            _ => Self::Json,
        }
    }
}

/// A datagram, and when it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Since the capture began.
    pub(super) at: Duration,
    pub(super) source: Source,
    pub(super) destination: Option<SocketAddr>,
    pub(super) payload: &'a [u8],
    /// All of it as it came, from the IP header on.
    pub(super) packet: Option<&'a [u8]>,
}

/// A capture that is being written.
pub(super) struct Writer {
    output: Output,
    flushed: Instant,
    bytes_max: u64,
    began: Option<SystemTime>,
    pub(super) datagrams: u64,
    /// Datagrams of Unix sockets that are longer than UDP's can be.
    pub(super) too_long: u64,
    packet: Vec<u8>,
}

enum Output {
    Json(GzEncoder<Counting>),
    Pcap(BufWriter<Counting>),
    Pcapng(BufWriter<Counting>),
}

/// A file that knows how much went into it.
struct Counting {
    file: File,
    bytes: u64,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Writer {
    pub(super) fn new(file: File, format: Format, bytes_max: u64) -> io::Result<Self> {
        let counting = Counting { file, bytes: 0 };
        let mut output = match format {
            Format::Json => Output::Json(GzEncoder::new(counting, Compression::fast())),
            Format::Pcap => Output::Pcap(BufWriter::new(counting)),
            Format::Pcapng => Output::Pcapng(BufWriter::new(counting)),
        };
        match &mut output {
            Output::Json(_) => {}
            Output::Pcap(file) => {
                write_words(file, &[0xa1b2_3c4d, 2 | 4 << 16, 0, 0, PACKET_BYTES_MAX, LINK_TYPE])?
            }
            Output::Pcapng(file) => {
                // A section of unknown length, and an interface whose times count nanoseconds.
                write_words(file, &[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28])?;
                write_words(file, &[1, 32, LINK_TYPE, PACKET_BYTES_MAX, 9 | 1 << 16, 9, 0, 32])?;
            }
        }
        Ok(Self {
            output,
            flushed: Instant::now(),
            bytes_max,
            began: None,
            datagrams: 0,
            too_long: 0,
            packet: Vec::new(),
        })
    }

    /// Adds a datagram. False once the file has its size.
    pub(super) fn push(&mut self, record: &Record<'_>) -> io::Result<bool> {
        if let Output::Json(gzip) = &mut self.output {
            serde_json::to_writer(&mut *gzip, &Captured::new(record.payload, record.source, record.at))?;
            gzip.write_all(b"\n")?;
        } else if !self.push_packet(record)? {
            self.too_long += 1;
            return Ok(true);
        }
        self.datagrams += 1;
        self.tick()?;
        let bytes = match &self.output {
            Output::Json(gzip) => gzip.get_ref().bytes,
            Output::Pcap(file) | Output::Pcapng(file) => file.get_ref().bytes + file.buffer().len() as u64,
        };
        Ok(bytes < self.bytes_max)
    }

    /// False if there can be no such packet.
    fn push_packet(&mut self, record: &Record<'_>) -> io::Result<bool> {
        let packet = match record.packet {
            Some(packet) => packet,
            None if wrap(record, &mut self.packet) => &self.packet,
            None => return Ok(false),
        };
        let began =
            *self.began.get_or_insert_with(|| SystemTime::now().checked_sub(record.at).unwrap_or(UNIX_EPOCH));
        let time = began.duration_since(UNIX_EPOCH).unwrap_or_default() + record.at;
        let length = u32::try_from(packet.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        match &mut self.output {
            Output::Json(_) => {}
            Output::Pcap(file) => {
                let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
                write_words(file, &[seconds, time.subsec_nanos(), length, length])?;
                file.write_all(packet)?;
            }
            Output::Pcapng(file) => {
                let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                let [low, high] = [nanoseconds, nanoseconds >> 32].map(|half| half & u64::from(u32::MAX));
                let [low, high] = [low, high].map(|half| u32::try_from(half).unwrap_or_default());
                let padded = length.next_multiple_of(4);
                let block = padded + 32;
                write_words(file, &[6, block, 0, high, low, length, length])?;
                file.write_all(packet)?;
                file.write_all([0; 3].get(..(padded - length) as usize).unwrap_or_default())?;
                write_words(file, &[block])?;
            }
        }
        Ok(true)
    }

    /// Makes what there is safe, if it is time.
    pub(super) fn tick(&mut self) -> io::Result<()> {
        if self.flushed.elapsed() >= FLUSH_INTERVAL {
            self.flushed = Instant::now();
            match &mut self.output {
                Output::Json(gzip) => gzip.flush()?,
                Output::Pcap(file) | Output::Pcapng(file) => file.flush()?,
            }
        }
        Ok(())
    }

    /// Ends the file; its size.
    pub(super) fn finish(self) -> io::Result<u64> {
        let counting = match self.output {
            Output::Json(gzip) => gzip.finish()?,
            Output::Pcap(file) | Output::Pcapng(file) => {
                file.into_inner().map_err(io::IntoInnerError::into_error)?
            }
        };
        counting.file.sync_all()?;
        Ok(counting.bytes)
    }
}

fn write_words(file: &mut impl Write, words: &[u32]) -> io::Result<()> {
    words.iter().try_for_each(|word| file.write_all(&word.to_le_bytes()))
}

/// Headers that the datagram may have had; false if it is too long for them.
fn wrap(record: &Record<'_>, packet: &mut Vec<u8>) -> bool {
    packet.clear();
    let (source, port) = match record.source {
        Source::Address(address) => (Some(address.ip().to_canonical()), address.port()),
        _ => (None, 0),
    };
    let to = record.destination.map(|to| (to.ip().to_canonical(), to.port()));
    let to_port = to.map_or(PORT_UNKNOWN, |(_, port)| port);
    let builder = match (source, to.map(|(ip, _)| ip)) {
        (Some(IpAddr::V6(from)), to) => {
            let to = if let Some(IpAddr::V6(to)) = to { to } else { Ipv6Addr::LOCALHOST };
            PacketBuilder::ipv6(from.octets(), to.octets(), HOPS)
        }
        (from, to) => {
            let from = if let Some(IpAddr::V4(from)) = from { from } else { Ipv4Addr::UNSPECIFIED };
            let to = if let Some(IpAddr::V4(to)) = to { to } else { Ipv4Addr::LOCALHOST };
            PacketBuilder::ipv4(from.octets(), to.octets(), HOPS)
        }
    };
    builder.udp(port, to_port).write(packet, record.payload).is_ok()
}
