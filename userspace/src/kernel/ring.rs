//! BPF ring buffer -> [`Datagram`]s.
//!
//! A reader of our own: it gives space back once per batch instead of once per record, because each
//! hand-back moves a cache line away from the producing CPU. Layout and protocol are those of
//! `kernel/bpf/ringbuf.c`: one page with the consumer's position, one with the producer's, then the
//! data, mapped twice in a row so that no record is ever split.

#![expect(unsafe_code, reason = "borrows records in place from memory that the kernel has finished writing")]

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::atomic::Ordering,
};

use ingest_ebpf::{
    layout::{PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES},
    verdict::Door,
};

use super::memory_map::{MemoryMap, page_bytes};
use crate::{
    clock::Timestamp,
    datagram::{Datagram, Transport},
};

/// One CPU's ring.
#[derive(Debug)]
pub struct Ring {
    fd: OwnedFd,
    consumer: MemoryMap,
    producer: MemoryMap,
    data_offset: usize,
    mask: u64,
    /// Records that did not have the layout of ours. Always 0, or kernel and daemon disagree.
    pub malformed: u64,
}

/// A place in the endless sequence of a ring's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(u64);

/// The record is not complete yet: its writer still copies.
const BUSY: u32 = 1 << 31;
/// The record was given up by its writer.
const DISCARD: u32 = 1 << 30;
/// The kernel's own header in front of each record.
const KERNEL_HEADER_BYTES: u64 = 8;

impl Ring {
    /// Maps a ring of `bytes` of data, a power of two.
    ///
    /// # Errors
    ///
    /// What mmap(2) says.
    pub fn new(fd: OwnedFd, bytes: usize) -> io::Result<Self> {
        let page = page_bytes();
        let consumer = MemoryMap::new(fd.as_fd(), 0, page, true)?;
        let producer = MemoryMap::new(fd.as_fd(), page, page + 2 * bytes, false)?;
        Ok(Self { fd, consumer, producer, data_offset: page, mask: bytes as u64 - 1, malformed: 0 })
    }

    /// Hands up to `records_max` records that lie before `end` and were not received after `until` to
    /// `take`, in order, then gives their space back. Returns how many; fewer than `records_max` means
    /// that there were no more, or that a writer is still copying the next one.
    pub fn read(
        &mut self,
        records_max: usize,
        end: Position,
        until: Timestamp,
        mut take: impl FnMut(Datagram<'_>),
    ) -> usize {
        let begin = Position(self.consumer.load(0));
        let (mut position, mut count, mut malformed) = (begin, 0, 0);
        while count < records_max
            && let Some((record, next)) = self.record(position, end)
        {
            match parse_record(record) {
                Some(datagram) if datagram.received > until => break,
                Some(datagram) => take(datagram),
                None => malformed += 1,
            }
            position = next;
            count += 1;
        }
        self.malformed += malformed;
        if let (Some(consumer), true) = (self.consumer.word(0), position != begin) {
            // Release: our reads of the records come before the kernel's next writes.
            consumer.store(position.0, Ordering::Release);
        }
        count
    }

    /// When the next record before `end` was received; `None` if there is none, or it is not
    /// complete. One that is not of our layout counts as old, so that it is got rid of.
    #[must_use]
    pub fn next_received(&self, end: Position) -> Option<Timestamp> {
        let (record, _) = self.record(Position(self.consumer.load(0)), end)?;
        Some(parse_record(record).map_or(Timestamp::default(), |datagram| datagram.received))
    }

    /// The record at `at`, which lies before `end`, and the place behind it; `None` at the end, or if
    /// its writer still copies. A record that its writer gave up is empty.
    #[inline]
    fn record(&self, at: Position, end: Position) -> Option<(&[u8], Position)> {
        if at == end {
            return None;
        }
        let offset = self.data_offset + usize::try_from(at.0 & self.mask).ok()?;
        let header = self.producer.word(offset / 8)?.load(Ordering::Acquire);
        #[expect(clippy::cast_possible_truncation, reason = "the low half of the header is the length")]
        let length = header as u32;
        if length & BUSY != 0 {
            return None;
        }
        let bytes = length & !DISCARD;
        let shown = if length & DISCARD == 0 { bytes as usize } else { 0 };
        // SAFETY: the record is complete (its busy bit is clear, loaded with acquire), and the kernel
        // does not write there again before the consumer's position has moved, which takes `&mut`.
        let record = unsafe { self.producer.bytes(offset + 8, shown) }?;
        let behind = at.0.wrapping_add((u64::from(bytes) + KERNEL_HEADER_BYTES).next_multiple_of(8));
        Some((record, Position(behind)))
    }

    /// Behind the last record that has begun to be written.
    #[must_use]
    pub fn end(&self) -> Position {
        // Acquire: what the producer wrote before it moved its position is visible after this.
        Position(self.producer.word(0).map_or(0, |word| word.load(Ordering::Acquire)))
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A ring record as [`ingest_ebpf::layout::RecordHeader`] describes it.
fn parse_record(record: &[u8]) -> Option<Datagram<'_>> {
    let (header, payload) = record.split_at_checked(RECORD_HEADER_BYTES)?;
    let received = u64::from_ne_bytes(header[0..8].try_into().ok()?);
    let address: [u8; 16] = header[8..24].try_into().ok()?;
    let port = u16::from_ne_bytes(header[24..26].try_into().ok()?);
    let length = u16::from_ne_bytes(header[26..28].try_into().ok()?);
    let door = u32::from_ne_bytes(header[28..32].try_into().ok()?);
    let payload = payload.get(..usize::from(length))?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return None;
    }
    let transport = if door == Door::Xdp as u32 { Transport::Xdp } else { Transport::SocketFilter };
    let address = Ipv6Addr::from(address);
    let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    let source = Some(SocketAddr::new(address, port));
    Some(Datagram { payload, received: Timestamp(received), source, transport })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_as_written() {
        let mut record = Vec::new();
        record.extend_from_slice(&77_u64.to_ne_bytes());
        record
            .extend_from_slice(&"10.1.2.3".parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped().octets());
        record.extend_from_slice(&4711_u16.to_ne_bytes());
        record.extend_from_slice(&5_u16.to_ne_bytes());
        record.extend_from_slice(&(Door::SocketFilter as u32).to_ne_bytes());
        record.extend_from_slice(b"a:1|c");
        let datagram = parse_record(&record).unwrap();
        assert_eq!(datagram.payload, b"a:1|c");
        assert_eq!(datagram.received, Timestamp(77));
        assert_eq!(datagram.source, Some("10.1.2.3:4711".parse().unwrap()));
        assert_eq!(datagram.transport, Transport::SocketFilter);
        for cut in 0..record.len() {
            assert!(parse_record(&record[..cut]).is_none(), "{cut}");
        }
    }
}
