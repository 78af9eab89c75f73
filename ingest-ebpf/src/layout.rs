//! Sizes and layouts of everything that kernel and daemon share through maps.
//!
//! The object and the daemon are built apart, so each size is asserted at compile time, and the
//! settings' name changes with the layout: an object of another version has no such symbol, and
//! loading it fails.

/// Symbol of the [`Settings`] in the object. Its number is raised with every change of a layout in
/// this file or of the identities' hash, here and in the object's `maps.rs`.
pub const SETTINGS_SYMBOL: &str = "SETTINGS_3";

/// Longest payload that a door consumes: one Ethernet frame's worth over IPv4.
pub const PAYLOAD_BYTES_MAX: usize = 1472;
/// Offsets into a [`Payload`] are masked with this, so that the verifier sees their bound.
pub const PAYLOAD_MASK: usize = 2047;
/// Lines of one datagram that a door resolves; a datagram with more goes to the ring.
pub const LINES_MAX: usize = 32;
/// Longest identity in 8-byte words, head and tail each padded to pairs of them.
pub const IDENTITY_WORDS_MAX: usize = 32;
/// Longest head: a pair of words is left for the tail.
pub const HEAD_BYTES_MAX: usize = 8 * (IDENTITY_WORDS_MAX - 2);
/// Digits of a value that the splitter reads; 15 digits are exact in an `f64`.
pub const VALUE_DIGITS_MAX: usize = 15;
/// Largest value that a slot takes. A slot's sum is 64 bits wide: at 20 million datagrams/s of this
/// value it wraps after more than three minutes; by default it is read within sixteen seconds.
pub const SLOT_VALUE_MAX: u64 = u32::MAX as u64;
/// UDP ports that the doors may serve.
pub const LISTEN_PORTS_MAX: usize = 8;
/// Networks per address family in the allow-list of sources.
pub const ALLOWED_NETWORKS_MAX: usize = 16;
/// Rings at most, one per CPU; a CPU beyond that passes its cold datagrams.
pub const RINGS_MAX: usize = 1024;

/// A payload with room behind it, so that a line's longest head at any masked offset stays inside.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Payload {
    pub bytes: [u8; PAYLOAD_MASK + 1 + HEAD_BYTES_MAX],
}

const _: () = assert!(size_of::<Payload>() == 2048 + 240);
const _: () = assert!(PAYLOAD_BYTES_MAX + 32 <= PAYLOAD_MASK);

impl Payload {
    pub const EMPTY: Self = Self { bytes: [0; PAYLOAD_MASK + 1 + HEAD_BYTES_MAX] };

    /// The bytes from `offset & PAYLOAD_MASK`, as many as a head may have.
    #[inline(always)]
    #[must_use]
    pub fn line(&self, offset: usize) -> &Head {
        let at = offset & PAYLOAD_MASK;
        // SAFETY: `at <= PAYLOAD_MASK` and `bytes` is so much longer than that; a `Head` is bytes.
        unsafe { &*self.bytes.as_ptr().add(at).cast::<Head>() }
    }

    /// The eight bytes from `offset & PAYLOAD_MASK`, first byte lowest.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, offset: usize) -> u64 {
        let at = offset & PAYLOAD_MASK;
        // SAFETY: `at <= PAYLOAD_MASK` and `bytes` is 32 bytes longer than that, so `at..at + 8` is
        // inside; any bytes are a u64. A checked slice would leave a panic path in the kernel.
        u64::from_le(unsafe { self.bytes.as_ptr().add(at).cast::<u64>().read_unaligned() })
    }

    /// The sixteen bytes from `offset & PAYLOAD_MASK`, as two words.
    #[inline(always)]
    #[must_use]
    pub fn two_words(&self, offset: usize) -> (u64, u64) {
        let at = offset & PAYLOAD_MASK;
        // SAFETY: as in `word`; 16 bytes are inside, too.
        unsafe {
            let first = self.bytes.as_ptr().add(at).cast::<u64>();
            (u64::from_le(first.read_unaligned()), u64::from_le(first.add(1).read_unaligned()))
        }
    }

    /// The last eight bytes of a payload of so many; zeros before a shorter one.
    #[inline(always)]
    #[must_use]
    pub fn last_word(&self, payload_bytes: usize) -> u64 {
        if payload_bytes >= 8 {
            self.word(payload_bytes - 8)
        } else {
            (self.word(0) << 8) << (8 * (7 - payload_bytes))
        }
    }

    /// Hands the words of the first `payload_bytes` bytes, which are [terminated](Payload::terminate), to
    /// `take`, each with its index. Returns whether `|g` stands somewhere in them: every gauge has that,
    /// and little else.
    #[inline(always)]
    pub fn copy_words(&self, payload_bytes: usize, mut take: impl FnMut(usize, u64)) -> bool {
        let mut marks = 0;
        let mut at = 0;
        let mut word = self.word(0);
        while at < PAYLOAD_BYTES_MAX / 8 {
            if at * 8 >= payload_bytes {
                break;
            }
            take(at, word);
            let next = self.word(at * 8 + 8);
            // A byte of this is 0 where a bar stands and a `g` behind it. Only the lowest mark need
            // be right, for one is enough. The bytes behind are put together: what was stored as words is
            // not read fast at any other place.
            let differences = (word ^ BARS) | ((word >> 8 | next << 56) ^ GAUGES);
            marks |= differences.wrapping_sub(ONES) & !differences & (ONES << 7);
            word = next;
            at += 1;
        }
        marks != 0
    }

    /// Writes eight bytes at `offset & PAYLOAD_MASK`, first byte lowest.
    #[inline(always)]
    pub fn set_word(&mut self, offset: usize, word: u64) {
        let at = offset & PAYLOAD_MASK;
        // SAFETY: as in `word`.
        unsafe { self.bytes.as_mut_ptr().add(at).cast::<u64>().write_unaligned(word.to_le()) };
    }

    /// The same for sixteen bytes.
    #[inline(always)]
    pub fn set_two_words(&mut self, offset: usize, words: (u64, u64)) {
        let at = offset & PAYLOAD_MASK;
        // SAFETY: as in `two_words`.
        unsafe {
            let to = self.bytes.as_mut_ptr().add(at).cast::<u64>();
            to.write_unaligned(words.0.to_le());
            to.add(1).write_unaligned(words.1.to_le());
        }
    }

    /// Ends the payload, behind which an earlier datagram may have left its bytes: by a NUL, at which
    /// digits and tails end, and behind a word of them a `:`, at which heads do.
    #[inline(always)]
    pub fn terminate(&mut self, payload_bytes: usize) {
        self.set_word(payload_bytes, 0);
        self.set_word(payload_bytes + 8, COLONS);
    }

    /// The same for a payload whose last two words end in zeros, unless it fills them.
    #[inline(always)]
    pub fn terminate_padded(&mut self, payload_bytes: usize) {
        self.set_word((payload_bytes & !15) + 16, COLONS);
    }
}

/// The longest bytes that a head may have.
#[repr(transparent)]
pub struct Head([u8; HEAD_BYTES_MAX]);

impl Head {
    /// Two words from the index `at` on, which is below `HEAD_BYTES_MAX / 8 - 1`.
    #[inline(always)]
    #[must_use]
    pub const fn two_words(&self, at: usize) -> (u64, u64) {
        assert!(at < HEAD_BYTES_MAX / 8 - 1);
        // SAFETY: inside, as just said; any bytes are a u64.
        unsafe {
            let first = self.0.as_ptr().add(at * 8).cast::<u64>();
            (u64::from_le(first.read_unaligned()), u64::from_le(first.add(1).read_unaligned()))
        }
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const BARS: u64 = ONES * b'|' as u64;
const GAUGES: u64 = ONES * b'g' as u64;
const COLONS: u64 = ONES * b':' as u64;

/// Element of `BUCKETS`: four places, each empty (0) or a tag and a slot.
///
/// Buckets and identities make a hash table of our own instead of the kernel's: an array look-up is
/// inlined, a hash map's is a call that hashes the hash once more.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    pub places: [u64; BUCKET_PLACES as usize],
}

pub const BUCKET_PLACES: u32 = 4;
const _: () = assert!(size_of::<Bucket>() == 32);

/// What a bucket's place holds for an identity of this hash, counted in `slot`. Never 0.
#[inline(always)]
#[must_use]
pub const fn place(hash: u64, slot: u32) -> u64 {
    tag(hash) | slot as u64
}

/// The upper half of the hash, never 0: what a place is compared by, in the upper half.
#[inline(always)]
#[must_use]
pub const fn tag(hash: u64) -> u64 {
    (hash | 1 << 32) & TAG_MASK
}

/// The part of a place that holds the tag; the rest holds the slot.
pub const TAG_MASK: u64 = 0xffff_ffff_0000_0000;

/// Element of `IDENTITIES[slot]`: the bytes to compare after a tag matched.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityEntry {
    /// One of the `OPERATION_*` numbers; a number that the program does not know means "not hot".
    pub operation: u32,
    /// Bytes of head and tail, `head << 16 | tail`.
    pub shape: u32,
    /// Head, padded with zeros to pairs of words and with at least one, then tail, likewise; the rest are
    /// zero.
    pub words: [u64; IDENTITY_WORDS_MAX],
}

const _: () = assert!(size_of::<IdentityEntry>() == 8 + 8 * IDENTITY_WORDS_MAX);

/// Add the value to the slot's sum and one to its lines: counters.
pub const OPERATION_ADD: u32 = 1;

/// Keep the value and its time, and add one to the slot's lines: absolute gauges.
pub const OPERATION_LAST: u32 = 2;

/// One cell of `SLOTS[cpu][slot]`. It only grows; nobody resets it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Lines counted here. Told apart from the sum because `x:0|c` is an event, too.
    pub lines: u64,
    /// Sum of their values.
    pub sum: u64,
}

const _: () = assert!(size_of::<Slot>() == 16);

/// One cell of `LASTS[cpu][slot]`: the newest value of a gauge on this CPU.
///
/// There are two, so that one is always whole: with `n` lines in the slot it is that of index `n % 2`,
/// and the next line is written into the other one before `n` rises.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastCell {
    pub values: [LastValue; 2],
}

const _: () = assert!(size_of::<LastCell>() == 32);

/// A gauge's value and when it was received.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastValue {
    /// The digits as a number, and in the highest four bits how many stand behind the point.
    pub number: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds, and one more for each line of its datagram that stands before it.
    /// 0: there is no value yet.
    pub received_ns: u64,
}

impl LastValue {
    /// A value as the splitter reads it.
    #[inline(always)]
    #[must_use]
    pub const fn pack(digits: u64, decimals: u32) -> u64 {
        digits | (decimals as u64) << DECIMALS_SHIFT
    }

    /// Digits, and how many of them stand behind the point.
    #[must_use]
    pub const fn unpack(self) -> (u64, u32) {
        (self.number & ((1 << DECIMALS_SHIFT) - 1), (self.number >> DECIMALS_SHIFT) as u32)
    }
}

/// Fifteen digits fit below.
const DECIMALS_SHIFT: u32 = 60;
const _: () = assert!(VALUE_DIGITS_MAX == 15 && 10_u64.pow(15) < 1 << DECIMALS_SHIFT);

/// What stands in front of the payload in a ring record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// `CLOCK_MONOTONIC`, nanoseconds: exact if a line may be a gauge, otherwise up to one tick of the
    /// kernel's timer too early, and never too late.
    pub received_ns: u64,
    /// IPv6, or IPv4 mapped into it, as two words of the bytes in network order.
    pub source_address: [u64; 2],
    /// Host byte order.
    pub source_port: u16,
    pub payload_bytes: u16,
    /// [`crate::verdict::Door`] as a number.
    pub door: u32,
}

const _: () = assert!(size_of::<RecordHeader>() == RECORD_HEADER_BYTES);
pub const RECORD_HEADER_BYTES: usize = 32;
/// A record is its header and its payload, filled up to whole words.
pub const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + PAYLOAD_BYTES_MAX;
const _: () = assert!(RECORD_BYTES_MAX.is_multiple_of(8));

/// Element of `RINGS`: records, one behind the other, that begin in its first [`SEGMENT_BYTES`]. None is
/// split, so the last one may reach beyond.
#[repr(C, align(8))]
pub struct Segment {
    pub bytes: [u8; SEGMENT_BYTES + RECORD_BYTES_MAX],
}

/// A power of two, so that a mask is all that an offset needs: of a comparison older verifiers forget
/// the outcome.
pub const SEGMENT_BYTES: usize = 1 << 14;

/// A place in the endless sequence of a ring's records: number of the segment in the upper half, offset
/// in it in the lower one.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingPosition(pub u64);

impl RingPosition {
    /// Number of the segment since the ring was made. Wraps.
    #[inline(always)]
    #[must_use]
    pub const fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Offset in the segment, a multiple of 8; whatever the bits, any record from there on is inside.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the mask is small")]
    pub const fn offset(self) -> usize {
        self.0 as usize & (SEGMENT_BYTES - 8)
    }

    /// Behind a record that begins here and has a payload of this many bytes.
    #[inline(always)]
    #[must_use]
    pub const fn behind(self, payload_bytes: usize) -> Self {
        let offset = self.offset() + RECORD_HEADER_BYTES + ((payload_bytes + 7) & !7);
        let segment = self.0 & !0xffff_ffff;
        if offset < SEGMENT_BYTES {
            Self(segment | offset as u64)
        } else {
            Self(segment.wrapping_add(1 << 32))
        }
    }
}

/// Element of `RING_POSITIONS[cpu]`. Each side has cache lines of its own.
#[repr(C, align(256))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingPositions {
    /// Behind the last complete record. Written by the doors.
    pub producer: RingPosition,
    pub producer_padding: [u64; 15],
    /// Behind the last record that was read. Written by the daemon.
    pub consumer: RingPosition,
    pub consumer_padding: [u64; 15],
}

const _: () = assert!(size_of::<RingPositions>() == 256);
/// Words between the two positions.
pub const CONSUMER_WORD: usize = 16;
const _: () = assert!(core::mem::offset_of!(RingPositions, consumer) == 8 * CONSUMER_WORD);

/// Key of `LISTEN`: where a frame must be going for door 1 to look at its payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenKey {
    /// Index of the interface that the frame came in on.
    pub interface: u32,
    /// Destination port, network byte order.
    pub port: u16,
    /// Destination MAC: the interface's own.
    pub mac: [u8; 6],
    /// VLAN id, 0 without a tag: a tagged frame is ours only where that VLAN has an interface.
    pub vlan: u16,
    pub padding: u16,
    /// Destination address, as in [`RecordHeader::source_address`].
    pub address: [u64; 2],
}

const _: () = assert!(size_of::<ListenKey>() == 32);

impl ListenKey {
    /// Equality by four words, which compiles to less than the derived one.
    #[inline(always)]
    #[must_use]
    pub fn equals(&self, other: &Self) -> bool {
        let (a, b) = (self.words(), other.words());
        ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])) == 0
    }

    #[inline(always)]
    fn words(&self) -> [u64; 4] {
        // SAFETY: a `ListenKey` is 32 bytes of integers without padding (asserted above).
        unsafe { core::ptr::from_ref(self).cast::<[u64; 4]>().read_unaligned() }
    }
}

/// The 16 bytes of an address as the two words that the maps hold.
#[must_use]
pub fn address_words(octets: [u8; 16]) -> [u64; 2] {
    let mut words = [[0; 8]; 2];
    words[0].copy_from_slice(&octets[..8]);
    words[1].copy_from_slice(&octets[8..]);
    words.map(u64::from_ne_bytes)
}

/// Value of `LISTEN`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenEntry {
    /// `LISTEN_*` bits.
    pub flags: u32,
}

/// The interface is virtual: a UDP checksum may hold just the pseudo-header sum, because the frame
/// never crosses a wire (`CHECKSUM_PARTIAL`).
pub const LISTEN_VIRTUAL: u32 = 1;

/// The loopback device: a sender on this machine, which may send from the very address to which it sends.
pub const LISTEN_LOOPBACK: u32 = 2;

/// An IPv4 network of the allow-list, both in network byte order as loaded from the frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkV4 {
    pub address: u32,
    pub mask: u32,
}

/// An IPv6 network of the allow-list, as two words loaded from the frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkV6 {
    pub address: [u64; 2],
    pub mask: [u64; 2],
}

/// The program's settings, written into its read-only data before it is loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Columns of `SLOTS`, and elements of `IDENTITIES`.
    pub slots_per_cpu: u32,
    /// Number of buckets less one; their number is a power of two.
    pub bucket_mask: u32,
    /// Rows of `SLOTS` and `COUNTERS`; a CPU beyond passes everything.
    pub cpus: u32,
    /// Segments of a ring, a power of two.
    pub ring_segments: u32,
    /// A ring asks for its reader when this many segments wait in it.
    pub ring_wake_segments: u32,
    pub padding: u32,
    /// Seed of the identities' hash.
    pub seed: u64,
    /// Networks in use, of each family.
    pub allowed_v4_count: u32,
    pub allowed_v6_count: u32,
    /// Network byte order; unused ones are 0, which is no UDP port.
    pub ports: [u16; LISTEN_PORTS_MAX],
    pub allowed_v4: [NetworkV4; ALLOWED_NETWORKS_MAX],
    pub allowed_v6: [NetworkV6; ALLOWED_NETWORKS_MAX],
}

const _: () = assert!(size_of::<Settings>() == 40 + 16 + 8 * 16 + 32 * 16);

impl Settings {
    /// Settings under which no frame is ours.
    pub const NONE: Self = Self {
        slots_per_cpu: 0,
        bucket_mask: 0,
        cpus: 0,
        ring_segments: 0,
        ring_wake_segments: 0,
        padding: 0,
        seed: 0,
        allowed_v4_count: 0,
        allowed_v6_count: 0,
        ports: [0; LISTEN_PORTS_MAX],
        allowed_v4: [NetworkV4 { address: 0, mask: 0 }; ALLOWED_NETWORKS_MAX],
        allowed_v6: [NetworkV6 { address: [0; 2], mask: [0; 2] }; ALLOWED_NETWORKS_MAX],
    };
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    /// What a copy of `bytes` holds, whatever lies behind them, and whether there may be a gauge in it.
    fn copied(bytes: &[u8], filler: u8) -> (std::vec::Vec<u8>, bool) {
        let mut payload = Payload { bytes: [filler; size_of::<Payload>()] };
        payload.bytes[..bytes.len()].copy_from_slice(bytes);
        payload.terminate(bytes.len());
        let mut copy = std::vec::Vec::new();
        let may_hold_gauge = payload.copy_words(bytes.len(), |at, word| {
            assert_eq!(copy.len(), at * 8, "words come one after the other");
            copy.extend_from_slice(&word.to_le_bytes());
        });
        (copy, may_hold_gauge)
    }

    proptest! {
        #[test]
        fn a_payload_may_hold_a_gauge_where_a_bar_and_a_g_stand(bytes in "[|gc:1]{0,70}", filler in 0_u8..3) {
            let (_, may_hold_gauge) = copied(bytes.as_bytes(), b"|g\0"[usize::from(filler)]);
            prop_assert_eq!(may_hold_gauge, bytes.contains("|g"));
        }

        #[test]
        fn no_other_bytes_hide_a_gauge(mut bytes in proptest::collection::vec(any::<u8>(), 2..=PAYLOAD_BYTES_MAX), at in any::<prop::sample::Index>()) {
            let at = at.index(bytes.len() - 1);
            bytes[at..at + 2].copy_from_slice(b"|g");
            prop_assert!(copied(&bytes, 0).1);
        }

        #[test]
        fn all_bytes_are_copied_and_less_than_a_word_more(bytes in proptest::collection::vec(any::<u8>(), 0..=PAYLOAD_BYTES_MAX), filler in any::<u8>()) {
            let (copy, _) = copied(&bytes, filler);
            prop_assert_eq!(copy.len(), bytes.len().next_multiple_of(8));
            prop_assert!(copy.starts_with(&bytes));
        }

        #[test]
        fn every_record_lies_in_its_segment(lengths in proptest::collection::vec(1..=PAYLOAD_BYTES_MAX, 1..200), first in any::<u32>()) {
            let mut position = RingPosition(u64::from(first) << 32);
            for length in lengths {
                let record_bytes = RECORD_HEADER_BYTES + length.next_multiple_of(8);
                prop_assert!(position.offset() + record_bytes <= size_of::<Segment>());
                let behind = position.behind(length);
                if behind.segment() == position.segment() {
                    prop_assert_eq!(behind.offset(), position.offset() + record_bytes);
                } else {
                    prop_assert_eq!(behind.segment(), position.segment().wrapping_add(1));
                    prop_assert_eq!(behind.offset(), 0);
                    prop_assert!(position.offset() + record_bytes >= SEGMENT_BYTES);
                }
                position = behind;
            }
        }
    }
}
