//! One CPU's ring -> [`Datagram`]s.
//!
//! The doors fill one segment of the ring after the other and move the producer's position behind each
//! record that is complete. We move the consumer's once per batch, because each time a cache line moves
//! away from the producing CPU.

#![expect(unsafe_code, reason = "borrows records in place from memory that the kernel has finished writing")]

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ingest_ebpf::{
    layout::{CONSUMER_WORD, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, RingPosition, RingPositions, Segment},
    verdict::Door,
};

use super::memory_map::MemoryMap;
use crate::{
    clock::Timestamp,
    datagram::{Datagram, Source, Transport},
};

/// The memory of all rings.
#[derive(Debug)]
pub struct RingMemory {
    /// `RINGS`, which the kernel writes.
    pub segments: MemoryMap,
    /// `RING_POSITIONS`.
    pub positions: MemoryMap,
    /// A power of two.
    pub segments_per_ring: u32,
}

/// One CPU's ring.
#[derive(Debug)]
pub struct Ring {
    memory: Arc<RingMemory>,
    cpu: usize,
    /// How often what lay in the ring was not a record of ours, and all of it was skipped. Always 0, or
    /// kernel and daemon disagree.
    pub malformed: u64,
}

impl Ring {
    /// The ring of this CPU.
    #[must_use]
    pub fn new(memory: Arc<RingMemory>, cpu: usize) -> Self {
        Self { memory, cpu, malformed: 0 }
    }

    /// Hands up to `records_max` records that lie before `end` and were not received after `until` to
    /// `take`, in order, then gives their space back. Returns how many; fewer than `records_max` means
    /// that there were no more.
    pub fn read(
        &mut self,
        records_max: usize,
        end: RingPosition,
        until: Timestamp,
        mut take: impl FnMut(&Datagram<'_>),
    ) -> usize {
        let begin = self.position();
        let (mut position, mut count, mut malformed) = (begin, 0, 0);
        while count < records_max && position != end {
            // By reference: a copy would wait for each byte of the address that was stored by itself.
            match &self.record(position, end) {
                Some((datagram, _)) if datagram.received > until => break,
                Some((datagram, behind)) => {
                    take(datagram);
                    position = *behind;
                }
                None => {
                    malformed += 1;
                    position = end;
                }
            }
            count += 1;
        }
        self.malformed += malformed;
        if let (Some(consumer), true) = (self.position_word(CONSUMER_WORD), position != begin) {
            // Release: our reads of the records come before the kernel's next writes.
            consumer.store(position.0, Ordering::Release);
        }
        count
    }

    /// When the next record before `end` was received; `None` if there is none. One that is not of our
    /// layout counts as old, so that it is got rid of.
    #[must_use]
    pub fn next_received(&self, end: RingPosition) -> Option<Timestamp> {
        let position = self.position();
        (position != end).then(|| {
            self.record(position, end).map_or(Timestamp::default(), |(datagram, _)| datagram.received)
        })
    }

    /// Behind the last complete record.
    #[must_use]
    pub fn end(&self) -> RingPosition {
        // Acquire: what the producer wrote before it moved its position is visible after this.
        RingPosition(self.position_word(0).map_or(0, |word| word.load(Ordering::Acquire)))
    }

    /// Behind the last record that was read.
    fn position(&self) -> RingPosition {
        RingPosition(self.position_word(CONSUMER_WORD).map_or(0, |word| word.load(Ordering::Relaxed)))
    }

    fn position_word(&self, word: usize) -> Option<&AtomicU64> {
        self.memory.positions.word(self.cpu * (size_of::<RingPositions>() / 8) + word)
    }

    /// The record at `at`, and the place behind it; `None` if it has not our layout, or does not end
    /// before `end`, up to which the ring is complete.
    #[inline]
    fn record(&self, at: RingPosition, end: RingPosition) -> Option<(Datagram<'_>, RingPosition)> {
        let segments = self.memory.segments_per_ring as usize;
        let segment = self.cpu * segments + (at.segment() as usize & (segments - 1));
        let until = if at.segment() == end.segment() { end.offset() } else { size_of::<Segment>() };
        let rest = until.checked_sub(at.offset())?;
        // SAFETY: up to `end`, which was loaded with acquire, the ring is complete, and the kernel does
        // not write to a segment again before the consumer's position has left it, which takes `&mut`.
        let bytes =
            unsafe { self.memory.segments.bytes(segment * size_of::<Segment>() + at.offset(), rest) }?;
        let datagram = parse_record(bytes)?;
        let behind = at.behind(datagram.payload.len());
        // Before, on a circle, for positions wrap.
        (behind.0.wrapping_sub(at.0) <= end.0.wrapping_sub(at.0)).then_some((datagram, behind))
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
    let transport = match Door::ALL.get(door as usize)? {
        Door::Xdp => Transport::Xdp,
        Door::SocketFilter => Transport::SocketFilter,
        Door::Loopback => Transport::Loopback,
    };
    let address = Ipv6Addr::from(address);
    let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    let source = Source::Address(SocketAddr::new(address, port));
    Some(Datagram { payload, received: Timestamp(received), source, transport })
}

#[cfg(test)]
pub(super) mod tests {
    use std::{io::Write as _, os::fd::AsFd as _};

    use ingest_ebpf::layout::{RECORD_BYTES_MAX, SEGMENT_BYTES};

    use super::*;

    /// Memory of rings of this many segments in a file, and what a door does to it.
    pub(in crate::kernel) struct Written {
        memory: Arc<RingMemory>,
        /// That of the segments, for the kernel's part.
        file: std::fs::File,
    }

    impl Written {
        pub(in crate::kernel) fn new(rings: usize, segments_per_ring: u32) -> Self {
            let (mut file, mut positions) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
            let segments_bytes = rings * segments_per_ring as usize * size_of::<Segment>();
            let positions_bytes = (rings * size_of::<RingPositions>()).next_multiple_of(4096);
            file.write_all(&vec![b'7'; segments_bytes]).unwrap();
            positions.write_all(&vec![0; positions_bytes]).unwrap();
            let memory = RingMemory {
                segments: MemoryMap::new(file.as_fd(), 0, segments_bytes, false).unwrap(),
                positions: MemoryMap::new(positions.as_fd(), 0, positions_bytes, true).unwrap(),
                segments_per_ring,
            };
            Self { memory: Arc::new(memory), file }
        }

        pub(in crate::kernel) fn ring(&self, cpu: usize) -> Ring {
            Ring::new(Arc::clone(&self.memory), cpu)
        }

        fn word(&self, cpu: usize, word: usize) -> &AtomicU64 {
            self.memory.positions.word(cpu * size_of::<RingPositions>() / 8 + word).unwrap()
        }

        /// Appends a record as a door does, or says that the ring is full.
        pub(in crate::kernel) fn append(&self, cpu: usize, received: u64, payload: &[u8]) -> bool {
            let producer = RingPosition(self.word(cpu, 0).load(Ordering::Relaxed));
            let consumer = RingPosition(self.word(cpu, CONSUMER_WORD).load(Ordering::Relaxed));
            let segments = self.memory.segments_per_ring;
            if producer.segment().wrapping_sub(consumer.segment()) >= segments {
                return false;
            }
            let segment = cpu * segments as usize + (producer.segment() & (segments - 1)) as usize;
            let at = (segment * size_of::<Segment>() + producer.offset()) as u64;
            std::os::unix::fs::FileExt::write_all_at(&self.file, &record(received, payload), at).unwrap();
            self.word(cpu, 0).store(producer.behind(payload.len()).0, Ordering::Release);
            true
        }
    }

    fn record(received: u64, payload: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        record.extend_from_slice(&received.to_ne_bytes());
        record
            .extend_from_slice(&"10.1.2.3".parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped().octets());
        record.extend_from_slice(&4711_u16.to_ne_bytes());
        record.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_ne_bytes());
        record.extend_from_slice(&(Door::SocketFilter as u32).to_ne_bytes());
        record.extend_from_slice(payload);
        record
    }

    fn read(ring: &mut Ring, records_max: usize) -> Vec<Vec<u8>> {
        let (end, mut taken) = (ring.end(), Vec::new());
        ring.read(records_max, end, Timestamp(u64::MAX), |datagram| taken.push(datagram.payload.to_vec()));
        taken
    }

    #[test]
    fn a_record_is_read_back_as_written() {
        let record = record(77, b"a:1|c");
        let datagram = parse_record(&record).unwrap();
        assert_eq!(datagram.payload, b"a:1|c");
        assert_eq!(datagram.received, Timestamp(77));
        assert_eq!(datagram.source, Source::Address("10.1.2.3:4711".parse().unwrap()));
        assert_eq!(datagram.transport, Transport::SocketFilter);
        for cut in 0..record.len() {
            assert!(parse_record(&record[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn records_of_all_lengths_come_out_whole_and_in_order_however_often_the_ring_goes_round() {
        let written = Written::new(2, 2);
        let mut ring = written.ring(1);
        // Both numbers of segments wrap on the way.
        for word in [0, CONSUMER_WORD] {
            written.word(1, word).store(0xffff_fffe_0000_0000, Ordering::Relaxed);
        }
        let payload = |n: usize| vec![u8::try_from(n % 251).unwrap(); 1 + n * 37 % PAYLOAD_BYTES_MAX];
        for round in 0..200 {
            let sent: Vec<_> = (round * 7..round * 7 + 1 + round % 7).map(payload).collect();
            for payload in &sent {
                assert!(written.append(1, 5, payload), "round {round}");
            }
            assert_eq!(read(&mut ring, usize::MAX), sent, "round {round}");
            assert_eq!(read(&mut ring, usize::MAX), Vec::<Vec<u8>>::new());
        }
        assert_eq!((ring.malformed, ring.position()), (0, ring.end()));
        assert!(ring.end().segment() < 0xffff_fffe, "it went round");
    }

    #[test]
    fn a_full_ring_takes_no_more_until_its_reader_has_left_a_segment() {
        let written = Written::new(1, 2);
        let mut ring = written.ring(0);
        let payload = [b'x'; PAYLOAD_BYTES_MAX];
        let appended = (0..100).take_while(|n| written.append(0, *n, &payload)).count();
        assert_eq!(appended, 2 * SEGMENT_BYTES.div_ceil(RECORD_BYTES_MAX));
        assert_eq!(read(&mut ring, appended / 2 - 1).len(), appended / 2 - 1);
        assert!(!written.append(0, 100, &payload), "the reader is still in the first segment");
        assert_eq!(read(&mut ring, 1).len(), 1);
        assert!(written.append(0, 100, &payload));
        assert_eq!(read(&mut ring, usize::MAX).len(), appended / 2 + 1);
    }

    #[test]
    fn what_is_not_a_record_is_skipped_and_counted_and_does_not_stop_the_ring() {
        // A payload longer than any, one that reaches behind what is complete, and a position off all
        // bounds.
        for (length, behind) in [(2000_u16, 2048), (1000, 64), (u16::MAX, u64::from(u32::MAX))] {
            let written = Written::new(1, 2);
            let mut ring = written.ring(0);
            let mut bytes = record(1, b"");
            bytes[26..28].copy_from_slice(&length.to_ne_bytes());
            std::os::unix::fs::FileExt::write_all_at(&written.file, &bytes, 0).unwrap();
            written.word(0, 0).store(behind, Ordering::Release);
            assert_eq!(ring.next_received(ring.end()), Some(Timestamp::default()));
            assert_eq!(read(&mut ring, usize::MAX), Vec::<Vec<u8>>::new());
            assert_eq!((ring.malformed, ring.next_received(ring.end())), (1, None));
        }
    }
}
