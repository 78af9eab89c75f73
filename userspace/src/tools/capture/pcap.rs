//! A pcap or pcapng file -> datagrams to the StatsD ports.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};

use super::packet::{Link, Tally};
use super::reader::{End, Entry};
use crate::tools::counted;

/// Memory to begin with; a packet has 256 KiB at most.
const BUFFER_BYTES: usize = 320 << 10;
/// Largest block that is read: names and secrets of a pcapng may be long.
const BLOCK_BYTES_MAX: usize = 16 << 20;
/// Interfaces of one section of a pcapng file.
const INTERFACES_MAX: usize = 65_536;
/// What such a file begins with: pcap in microseconds and nanoseconds, in either byte order; pcapng.
const MAGICS: [[u8; 4]; 5] = [
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x0a, 0x0d, 0x0d, 0x0a],
];

pub(super) fn is_one(begins: &[u8]) -> bool {
    MAGICS.iter().any(|magic| begins.starts_with(magic))
}

/// A file that is being read.
pub(super) struct Packets {
    blocks: Box<dyn PcapReaderIterator + Send>,
    buffer_bytes: usize,
    cut: Arc<AtomicBool>,
    ports: Vec<u16>,
    interfaces: Vec<Interface>,
    /// Of the first packet; the times of all count from there.
    began: Option<Duration>,
    number: u64,
    pub(super) tally: Tally,
}

/// What packets of one interface begin with, and what their times count.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: i32,
    units: Units,
    offset: i64,
}

/// Of a time, in a second.
#[derive(Clone, Copy, Debug)]
enum Units {
    Decimal(u8),
    Binary(u8),
}

impl Units {
    fn of(byte: u8) -> Self {
        if byte & 0x80 == 0 { Self::Decimal(byte) } else { Self::Binary(byte & 0x7f) }
    }

    /// `None` for a time that is none.
    fn duration(self, time: u64) -> Option<Duration> {
        let per_second = match self {
            Self::Decimal(power) => 10_u64.checked_pow(power.into())?,
            Self::Binary(power) => 1_u64.checked_shl(power.into())?,
        };
        let rest = u128::from(time % per_second) * 1_000_000_000 / u128::from(per_second);
        Some(Duration::new(time / per_second, u32::try_from(rest).ok()?))
    }
}

impl Packets {
    /// Begins to read; takes what goes to one of `ports`.
    ///
    /// # Errors
    ///
    /// There is not even a header.
    pub(super) fn new(reader: impl Read + Send + 'static, ports: Vec<u16>) -> anyhow::Result<Self> {
        let cut = Arc::new(AtomicBool::new(false));
        let whole = WholeReads { reader, cut: Arc::clone(&cut) };
        let blocks = create_reader(BUFFER_BYTES, whole)
            .map_err(|error| anyhow::anyhow!("{}", said(&error)))
            .context("its header is no pcap's nor pcapng's")?;
        Ok(Self {
            blocks,
            buffer_bytes: BUFFER_BYTES,
            cut,
            ports,
            interfaces: Vec::new(),
            began: None,
            number: 0,
            tally: Tally::default(),
        })
    }

    /// The next datagram, or how the file ends.
    ///
    /// # Errors
    ///
    /// A block is none; packets begin with something that we do not know.
    pub(super) fn next(&mut self) -> anyhow::Result<Result<Entry, End>> {
        loop {
            let (bytes, entry) = match self.blocks.next() {
                Ok((bytes, block)) => {
                    let state = State {
                        ports: &self.ports,
                        interfaces: &mut self.interfaces,
                        began: &mut self.began,
                        number: &mut self.number,
                        tally: &mut self.tally,
                    };
                    (bytes, state.take(block)?)
                }
                Err(PcapError::Eof) => {
                    let cut = self.cut.load(Ordering::Relaxed);
                    return Ok(Err(if cut { End::Cut } else { End::Whole }));
                }
                Err(PcapError::UnexpectedEof) => return Ok(Err(End::Cut)),
                Err(PcapError::Incomplete(_)) => {
                    if let Err(error) = self.blocks.refill() {
                        bail!("behind packet {}: {}", self.number, said(&error));
                    }
                    continue;
                }
                Err(PcapError::BufferTooSmall) if self.buffer_bytes < BLOCK_BYTES_MAX => {
                    self.buffer_bytes = BLOCK_BYTES_MAX;
                    self.blocks.grow(BLOCK_BYTES_MAX);
                    continue;
                }
                Err(error) => bail!("behind packet {}: {}", self.number, said(&error)),
            };
            self.blocks.consume(bytes);
            if let Some(entry) = entry {
                return Ok(Ok(entry));
            }
        }
    }

    /// How many there were so far, in words.
    pub(super) fn number_shown(&self) -> String {
        counted(usize::try_from(self.number).unwrap_or(usize::MAX), "packet")
    }

    pub(super) fn ports(&self) -> &[u16] {
        &self.ports
    }
}

/// All but the reader, which lends the block out.
struct State<'a> {
    ports: &'a [u16],
    interfaces: &'a mut Vec<Interface>,
    began: &'a mut Option<Duration>,
    number: &'a mut u64,
    tally: &'a mut Tally,
}

impl State<'_> {
    fn take(self, block: PcapBlockOwned<'_>) -> anyhow::Result<Option<Entry>> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let units = Units::Decimal(if header.is_nanosecond_precision() { 9 } else { 6 });
                // Above are flags on the frame's check sequence.
                self.interfaces.push(Interface { link: header.network.0 & 0x0fff_ffff, units, offset: 0 });
                Ok(None)
            }
            PcapBlockOwned::Legacy(packet) => {
                let first = self.interfaces.first().copied();
                let parts = first.and_then(|interface| interface.units.duration(packet.ts_usec.into()));
                let time = parts.map(|parts| Duration::from_secs(packet.ts_sec.into()) + parts);
                self.packet(first, time, packet.data)
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                self.interfaces.clear();
                Ok(None)
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                if self.interfaces.len() >= INTERFACES_MAX {
                    bail!("more than {INTERFACES_MAX} interfaces are in it");
                }
                let units = Units::of(interface.if_tsresol);
                let offset = interface.if_tsoffset;
                self.interfaces.push(Interface { link: interface.linktype.0, units, offset });
                Ok(None)
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let number = usize::try_from(packet.if_id).unwrap_or(usize::MAX);
                let interface = self.interfaces.get(number).copied();
                let time = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let time = interface.and_then(|interface| {
                    let time = interface.units.duration(time)?;
                    let offset = Duration::from_secs(interface.offset.unsigned_abs());
                    if interface.offset < 0 { time.checked_sub(offset) } else { time.checked_add(offset) }
                });
                let length = usize::try_from(packet.caplen).unwrap_or(usize::MAX);
                self.packet(interface, time, packet.data.get(..length).unwrap_or(packet.data))
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let first = self.interfaces.first().copied();
                let length = usize::try_from(packet.origlen).unwrap_or(usize::MAX);
                self.packet(first, None, packet.data.get(..length).unwrap_or(packet.data))
            }
            PcapBlockOwned::NG(_) => Ok(None),
        }
    }

    fn packet(
        self,
        interface: Option<Interface>,
        time: Option<Duration>,
        bytes: &[u8],
    ) -> anyhow::Result<Option<Entry>> {
        *self.number += 1;
        let interface = interface
            .with_context(|| format!("packet {} is of an interface that is not in it", self.number))?;
        let link = Link::of(interface.link).with_context(|| {
            format!(
                "packets of link type {} are not read; Ethernet, IP and Linux cooked ones are: record with \
                 `tcpdump -i INTERFACE`",
                interface.link
            )
        })?;
        let time = time.unwrap_or_default();
        let began = *self.began.get_or_insert(time);
        let Some(udp) = self.tally.look(link, bytes, self.ports) else { return Ok(None) };
        let sender = (Some(udp.source.ip()).filter(|ip| !ip.is_unspecified()), udp.source.port());
        Ok(Some(Entry { at: time.saturating_sub(began), sender, payload: udp.payload.to_vec() }))
    }
}

/// What the reader says, without the bytes that it lends.
fn said(error: &PcapError<&[u8]>) -> &'static str {
    match error {
        PcapError::BufferTooSmall => "a block is longer than 16 MiB, so it is damaged",
        PcapError::ReadError => "it cannot be read",
        PcapError::Eof | PcapError::UnexpectedEof | PcapError::Incomplete(_) => "it is cut off",
        _ => "a block is damaged",
    }
}

/// Fills what it is given as far as there is something; an unpacker gives less at a time.
struct WholeReads<R> {
    reader: R,
    /// Of gzip the end was missing.
    cut: Arc<AtomicBool>,
}

impl<R: Read> Read for WholeReads<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.cut.store(true, Ordering::Relaxed);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
