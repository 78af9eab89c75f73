//! Payload in the scratch space -> record in this CPU's ring.
//!
//! The rings are plain memory that the daemon has mapped. Each CPU has its own, and of the programs that
//! write there one runs at a time, so a record is some stores and a position: no lock, no call. The
//! kernel's ring buffer takes a lock and two calls for each.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_ringbuf_output, generated::bpf_jiffies64};
use ingest_ebpf::{
    identity::load,
    layout::{PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, RingPosition, RingPositions, Segment},
};

use crate::maps::{DOORBELL, RING_POSITIONS, RINGS, Scratch, setting};

/// What became of a record.
pub const APPENDED: u64 = 0;
pub const FULL: u64 = 1;
/// This CPU has no ring.
pub const NO_RING: u64 = 2;

/// Appends the payload in the scratch space and its header, which lacks the time only, to the ring of
/// `cpu`: the CPU that we run on. One of the numbers above.
#[inline(always)]
pub fn append(cpu: u32, scratch: &mut Scratch) -> u64 {
    // Other processors need a barrier in `publish`, which stable Rust cannot express for bpf: a store with
    // release is known there since Linux 6.15 only. Until it can, all is passed to the socket.
    if cfg!(not(bpf_target_arch = "x86_64")) {
        return NO_RING;
    }
    let payload_bytes = load(&scratch.payload_bytes) as usize;
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return NO_RING;
    }
    let Some(positions) = RING_POSITIONS.get_ptr_mut(cpu) else { return NO_RING };
    // SAFETY: an element of an array lives as long as the program. Only this CPU writes to it, but for
    // the consumer's position, which only `waiting` reads.
    let positions = unsafe { &mut *positions };
    let segments = setting!(ring_segments);
    let producer = positions.producer;
    // The reader has left a segment before it is begun again; so there is room for all of it, and the
    // reader's cache line is not asked for again before the next one.
    if producer.offset() == 0 && waiting(positions) >= segments {
        return FULL;
    }
    let segment = cpu * segments + (producer.segment() & (segments - 1));
    let Some(segment): Option<*mut Segment> = RINGS.get_ptr_mut(segment) else { return NO_RING };
    // SAFETY: any record that begins at such an offset, a multiple of 8, is inside the segment and
    // aligned.
    let record = unsafe { segment.byte_add(producer.offset()).cast::<u64>() };
    let may_hold_gauge = scratch.payload.copy_words(payload_bytes, |at, word| {
        // SAFETY: `at` is below `PAYLOAD_BYTES_MAX / 8`. The daemon does not read behind the producer's
        // position. Volatile, as all stores to a record: the compiler then keeps them before that of
        // the position.
        unsafe { record.add(RECORD_HEADER_BYTES / 8 + at).write_volatile(word) };
    });
    scratch.header.received_ns = received_ns(scratch, may_hold_gauge);
    let header = core::ptr::from_ref(&scratch.header).cast::<u64>();
    for at in 0..RECORD_HEADER_BYTES / 8 {
        // SAFETY: a header is so many words and aligned as they are; the rest as above.
        unsafe { record.add(at).write_volatile(header.add(at).read()) };
    }
    // Read back: for the verifier each number of copied words would be a path of its own from here on.
    let behind = producer.behind(load(&scratch.payload_bytes) as usize);
    publish(&mut positions.producer, behind);
    if behind.offset() == 0 && waiting(positions) >= setting!(ring_wake_segments) {
        ring_bell();
    }
    APPENDED
}

/// Segments that the reader has not left, not counting the one that is being filled.
#[inline(always)]
fn waiting(positions: &RingPositions) -> u32 {
    // SAFETY: a valid, aligned word that the daemon may write at any time; hence volatile.
    let consumer = RingPosition(unsafe { core::ptr::from_ref(&positions.consumer.0).read_volatile() });
    positions.producer.segment().wrapping_sub(consumer.segment())
}

/// When the payload was received.
///
/// Reading the clock takes as long as all the checks of a frame's headers. So it is read for what may
/// be a gauge, whose order hangs on it, and otherwise once in each tick of the kernel's timer (1 to
/// 10 ms): what comes in between gets the time of the last reading, which no later one of this ring
/// undercuts.
#[inline(always)]
pub fn received_ns(scratch: &mut Scratch, exact: bool) -> u64 {
    // SAFETY: the helper has no preconditions.
    let tick = unsafe { bpf_jiffies64() };
    if exact || tick != scratch.clock_tick {
        scratch.clock_tick = tick;
        // SAFETY: the helper has no preconditions.
        scratch.clock_ns = unsafe { bpf_ktime_get_ns() };
    }
    scratch.clock_ns
}

/// Stores the position; who reads it sees the record before it as well.
///
/// An x86 processor keeps stores in order, so it is enough that the compiler does.
#[inline(always)]
fn publish(to: &mut RingPosition, position: RingPosition) {
    // SAFETY: a valid, aligned word that only we write.
    unsafe { core::ptr::from_mut(&mut to.0).write_volatile(position.0) };
}

/// Wakes the reader. Rare: when a segment is full and enough of them wait.
#[inline(always)]
fn ring_bell() {
    let Some(bell) = DOORBELL.get(0) else { return };
    let mut knock = 0_u64;
    let map = core::ptr::from_ref(bell).cast_mut().cast();
    // SAFETY: `map` is a ring buffer that the outer map holds, and the record is eight bytes long. If
    // there is no room for it, earlier ones have woken the reader.
    unsafe { bpf_ringbuf_output(map, (&raw mut knock).cast(), 8, BPF_RB_FORCE_WAKEUP) };
}

/// From `include/uapi/linux/bpf.h`.
const BPF_RB_FORCE_WAKEUP: u64 = 2;
