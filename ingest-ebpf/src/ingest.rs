//! Payload -> slots or ring: the one body behind both doors.

use aya_ebpf::{EbpfContext, helpers::bpf_get_smp_processor_id};
use aya_log_ebpf::warn;
use ingest_ebpf::{
    identity::{NoIdentity, split_line},
    layout::{BUCKET_PLACES, LINES_MAX, OPERATION_ADD, SLOT_VALUE_MAX, TAG_MASK, tag},
    verdict::{COUNTERS_PER_CPU, Door, Verdict, empty_lines_column, verdict_column},
};

use crate::{
    maps::{BUCKETS, COUNTERS, IDENTITIES, Resolved, SCRATCH, SLOTS, Scratch, setting},
    ring::{APPENDED, FULL, append},
};

/// This CPU's working space; the map has exactly one entry, so the look-up cannot fail.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: an element of a per-CPU map lives as long as the program, and nothing else runs on
    // this CPU until we return: both doors run with bottom halves disabled.
    Some(unsafe { &mut *scratch })
}

/// Adds `amount` to one of this CPU's counters.
#[inline(always)]
fn count(column: u32, amount: u64) {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    if let Some(counter) = COUNTERS.get_ptr_mut(cpu * COUNTERS_PER_CPU + column) {
        // SAFETY: a valid, aligned element; only this CPU writes its row, and readers read it as one
        // aligned word.
        unsafe { *counter = (*counter).wrapping_add(amount) };
    }
}

/// Counts what became of a datagram, and hands it on.
#[inline(always)]
pub fn counted(door: Door, verdict: Verdict) -> Verdict {
    count(verdict_column(door, verdict), 1);
    verdict
}

/// Takes a payload of `length` bytes that lies terminated in the scratch space.
///
/// Resolve, then commit: until every line is resolved nothing has a side effect, and after that
/// nothing can fail. So a datagram is consumed whole or not at all.
#[inline(always)]
pub fn ingest<C: EbpfContext>(ctx: &C, door: Door, scratch: &mut Scratch, length: usize) -> Verdict {
    let (lines, newline) = match resolve(length as u32) {
        Ok(resolved) => resolved,
        Err(reason) => return ring(ctx, door, scratch, length, reason),
    };
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let row = cpu * setting!(slots_per_cpu);
    for at in 0..LINES_MAX {
        if at as u32 >= lines {
            break;
        }
        let Resolved { slot, value } = scratch.resolved[at];
        if let Some(cell) = SLOTS.get_ptr_mut(row + slot as u32) {
            // SAFETY: as in `count`.
            unsafe {
                (*cell).lines = (*cell).lines.wrapping_add(1);
                (*cell).sum = (*cell).sum.wrapping_add(value);
            }
        }
    }
    if newline {
        count(empty_lines_column(door), 1);
    }
    Verdict::Counted
}

/// Resolves every line: how many there are, and whether the last one ended with `\n`.
#[inline(always)]
fn resolve(length: u32) -> Result<(u32, bool), Verdict> {
    let mut at = 0;
    for index in 0..LINES_MAX as u32 {
        let resolved = resolve_line(at, length, index);
        match resolved >> STATUS_SHIFT {
            STATUS_HOT => {}
            STATUS_ODD => return Err(Verdict::OddLine),
            STATUS_LONG => return Err(Verdict::LongLine),
            STATUS_LARGE => return Err(Verdict::LargeValue),
            _ => return Err(Verdict::NotHot),
        }
        at = (resolved & NEXT_MASK) as u32;
        if at >= length {
            return Ok((index + 1, resolved & NEWLINE != 0));
        }
    }
    Err(Verdict::ManyLines)
}

const STATUS_SHIFT: u64 = 32;
const STATUS_HOT: u64 = 1;
const STATUS_COLD: u64 = 2;
const STATUS_ODD: u64 = 3;
const STATUS_LONG: u64 = 4;
const STATUS_LARGE: u64 = 5;
const NEWLINE: u64 = 1 << 16;
const NEXT_MASK: u64 = 0xffff;

/// Resolves the line that begins at `start`, into `resolved[index]` of the scratch space.
///
/// A global function: the verifier checks it once by itself, with any arguments, and not again for
/// each of the lines. Its result is packed, because such a function returns one number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn resolve_line(start: u32, length: u32, index: u32) -> u64 {
    let Some(scratch) = scratch() else { return STATUS_COLD << STATUS_SHIFT };
    let line = match split_line(
        &scratch.payload,
        start as usize,
        length as usize,
        setting!(seed),
        &mut scratch.identity,
    ) {
        Ok(line) => line,
        Err(NoIdentity::Odd) => return STATUS_ODD << STATUS_SHIFT,
        Err(NoIdentity::Long) => return STATUS_LONG << STATUS_SHIFT,
    };
    let Some(slot) = find(line.hash, scratch) else { return STATUS_COLD << STATUS_SHIFT };
    if line.value > SLOT_VALUE_MAX {
        return STATUS_LARGE << STATUS_SHIFT;
    }
    scratch.resolved[(index & (LINES_MAX as u32 - 1)) as usize] =
        Resolved { slot: u64::from(slot), value: line.value };
    let newline = if line.newline { NEWLINE } else { 0 };
    (STATUS_HOT << STATUS_SHIFT) | newline | (line.next as u64 & NEXT_MASK)
}

/// The slot of the identity in the scratch space, if it is promoted.
#[inline(always)]
fn find(hash: u64, scratch: &Scratch) -> Option<u32> {
    let bucket = BUCKETS.get(hash as u32 & setting!(bucket_mask))?;
    for at in 0..BUCKET_PLACES as usize {
        // SAFETY: a valid, aligned word that the daemon may write at any time; hence volatile.
        let place = unsafe { core::ptr::from_ref(&bucket.places[at]).read_volatile() };
        if place & TAG_MASK != tag(hash) {
            continue;
        }
        let slot = place as u32;
        if slot >= setting!(slots_per_cpu) {
            return None;
        }
        let entry = IDENTITIES.get(slot)?;
        return (entry.operation == OPERATION_ADD && scratch.identity.equals(entry)).then_some(slot);
    }
    None
}

/// How many passed datagrams of a full ring make one log line.
const RING_FULL_LOG_EVERY: u64 = 1 << 20;

/// Copies the whole datagram into this CPU's ring.
#[inline(always)]
fn ring<C: EbpfContext>(
    ctx: &C,
    door: Door,
    scratch: &mut Scratch,
    length: usize,
    reason: Verdict,
) -> Verdict {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    scratch.header.door = door as u32;
    scratch.header.payload_bytes = length as u16;
    match append(cpu, length as u32) {
        APPENDED => reason,
        FULL => {
            scratch.ring_full = scratch.ring_full.wrapping_add(1);
            if scratch.ring_full.is_multiple_of(RING_FULL_LOG_EVERY) {
                warn!(ctx, "ring of cpu {} is full: passing datagrams to the socket", cpu);
            }
            Verdict::RingFull
        }
        _ => Verdict::NoRing,
    }
}
