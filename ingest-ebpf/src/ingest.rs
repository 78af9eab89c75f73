//! Payload -> slots or ring: the one body behind all doors.

use aya_ebpf::{EbpfContext, helpers::bpf_get_smp_processor_id};
use aya_log_ebpf::warn;
use ingest_ebpf::{
    identity::{NEWLINE, NoIdentity, ends_in_timer, load, split_line, store},
    layout::{
        BUCKET_PLACES, IdentityEntry, LINES_MAX, LastValue, OPERATION_ADD, OPERATION_LAST, SLOT_VALUE_MAX,
        tag,
    },
    plain::{self, PlainLine, plain_line},
    verdict::{COUNTERS_PER_CPU, Door, Verdict, empty_lines_column, verdict_column},
};

use crate::{
    maps::{BUCKETS, COUNTERS, IDENTITIES, LASTS, Resolved, SCRATCH, SLOTS, Scratch, setting},
    ring::{APPENDED, FULL, append, received_ns},
};

/// This CPU's working space; the map has exactly one entry, so the look-up cannot fail.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: an element of a per-CPU map lives as long as the program, and nothing else runs on
    // this CPU until we return: the doors run with bottom halves disabled.
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

/// Takes the payload that lies in the scratch space with its length; `last` are its last eight bytes. Of a socket's it
/// is terminated, of a frame's its last two words are padded with zeros.
///
/// Resolve, then commit: until every line is resolved nothing has a side effect, and after that
/// nothing can fail. So a datagram is consumed whole or not at all.
#[inline(always)]
pub fn ingest<C: EbpfContext>(ctx: &C, door: Door, scratch: &mut Scratch, last: u64) -> Verdict {
    let length = load(&scratch.payload_bytes) as usize;
    // Without its end of line. Through memory, or the compiler asks for it again wherever it matters.
    store(&mut scratch.newline, 0);
    let (mut line, mut line_bytes) = (last, length);
    if last >> 56 == NEWLINE {
        store(&mut scratch.newline, 1);
        (line, line_bytes) = (last << 8, length - 1);
    }
    let known = if length >= 8 && ends_in_timer(line) {
        // No timer is ever promoted, so where the last line is one, nothing has to be looked up.
        Some(STATUS_ODD)
    } else if let Some(line) = plain_line(line, line_bytes) {
        store(&mut scratch.identity.shape, line.shape);
        if line.is_long() && plain::has_early_colon(&scratch.payload) {
            None
        } else if count_plain_line(&line, scratch).is_some() {
            if load(&scratch.newline) != 0 {
                count(empty_lines_column(door), 1);
            }
            return Verdict::Counted;
        } else {
            plain::is_one_line(&scratch.payload, &scratch.identity.shape).then_some(STATUS_COLD)
        }
    } else {
        None
    };
    match known {
        Some(status) => store(&mut scratch.status, status),
        None => {
            if !matches!(door, Door::SocketFilter) {
                scratch.payload.terminate_padded(length);
            }
            resolve(scratch);
        }
    }
    if load(&scratch.status) != STATUS_HOT {
        return ring(ctx, door, scratch);
    }
    let lines = load(&scratch.lines);
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let row = cpu * setting!(slots_per_cpu);
    if load(&scratch.gauges) == 0 {
        commit::<false>(row, lines, scratch);
    } else {
        received_ns(scratch, true);
        commit::<true>(row, lines, scratch);
    }
    if load(&scratch.newline) != 0 {
        count(empty_lines_column(door), 1);
    }
    Verdict::Counted
}

/// Counts a line that is all of the payload, if it is promoted.
#[inline(always)]
fn count_plain_line(line: &PlainLine, scratch: &mut Scratch) -> Option<()> {
    let shape = &scratch.identity.shape;
    let (hash, end) = plain::hash(&scratch.payload, shape, line.tail, setting!(seed));
    let slot = find(hash)?;
    let entry = IDENTITIES.get(slot)?;
    let operation = known_operation(entry)?;
    if !plain::equals(&scratch.payload, shape, end, line.tail, entry) {
        return None;
    }
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let index = cpu * setting!(slots_per_cpu) + slot;
    let cell = SLOTS.get_ptr_mut(index)?;
    // SAFETY: as in `count`.
    let cell = unsafe { &mut *cell };
    let lines = cell.lines.wrapping_add(1);
    if operation == OPERATION_LAST {
        keep(index, lines, LastValue { number: line.value, received_ns: received_ns(scratch, true) });
    } else {
        cell.sum = cell.sum.wrapping_add(line.value);
    }
    // As in `commit`.
    // SAFETY: a valid, aligned word that only this CPU writes.
    unsafe { core::ptr::from_mut(&mut cell.lines).write_volatile(lines) };
    Some(())
}

/// Adds the resolved lines to this CPU's slots; without `GAUGES` none of them is one.
#[inline(always)]
fn commit<const GAUGES: bool>(row: u32, lines: u32, scratch: &Scratch) {
    for at in 0..LINES_MAX {
        if at as u32 >= lines {
            break;
        }
        let Resolved { slot, operation, value } = scratch.resolved[at];
        let Some(cell) = SLOTS.get_ptr_mut(row + slot) else { continue };
        // SAFETY: as in `count`.
        let cell = unsafe { &mut *cell };
        let lines = cell.lines.wrapping_add(1);
        if GAUGES && operation == OPERATION_LAST {
            keep(row + slot, lines, LastValue { number: value, received_ns: scratch.clock_ns + at as u64 });
        } else {
            cell.sum = cell.sum.wrapping_add(value);
        }
        // Last, and volatile as what is before it: who sees the line sees its value.
        // SAFETY: a valid, aligned word that only this CPU writes.
        unsafe { core::ptr::from_mut(&mut cell.lines).write_volatile(lines) };
    }
}

/// Keeps a gauge's value as that of its line number `lines`.
#[inline(always)]
fn keep(index: u32, lines: u64, value: LastValue) {
    let Some(cell) = LASTS.get_ptr_mut(index) else { return };
    // SAFETY: a valid, aligned element, of which only this CPU writes its row; the daemon reads the other
    // one of the two values until `lines` has risen. Volatile keeps the compiler from moving these
    // stores behind that, and x86 processors do not move stores.
    unsafe {
        let to = (&raw mut (*cell).values).cast::<LastValue>().add((lines & 1) as usize);
        (&raw mut (*to).number).write_volatile(value.number);
        (&raw mut (*to).received_ns).write_volatile(value.received_ns);
    }
}

/// Resolves every line, as far as they are hot.
#[inline(always)]
fn resolve(scratch: &mut Scratch) {
    store(&mut scratch.next_line, 0);
    store(&mut scratch.lines, 0);
    store(&mut scratch.gauges, 0);
    // Most datagrams have one line, and need no call.
    let mut status = resolve_line(scratch);
    for _ in 0..(LINES_MAX as u32).div_ceil(LINES_PER_CALL) {
        if status != STATUS_MORE {
            break;
        }
        status = resolve_lines();
    }
    store(&mut scratch.status, status);
}

/// Lines that one call resolves. A return from a call costs as much as a quarter of a line, where the
/// kernel guards returns against speculation.
const LINES_PER_CALL: u32 = 9;

// Words: a smaller number on the stack only covers half of what was there before, so the verifier would go on to
// tell apart states by what no program can read any more.
const STATUS_MORE: u64 = 0;
const STATUS_HOT: u64 = 1;
const STATUS_COLD: u64 = 2;
const STATUS_ODD: u64 = 3;
const STATUS_LONG: u64 = 4;
const STATUS_LARGE: u64 = 5;

/// Resolves the next lines, [`LINES_PER_CALL`] at most.
///
/// A global function: the verifier checks it once by itself, and not again for each of its calls.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn resolve_lines() -> u64 {
    let Some(scratch) = scratch() else { return STATUS_COLD };
    for _ in 0..LINES_PER_CALL {
        if load(&scratch.lines) >= LINES_MAX as u32 {
            break;
        }
        let status = resolve_line(scratch);
        if status != STATUS_MORE {
            return status;
        }
    }
    STATUS_MORE
}

/// Resolves the next line; [`STATUS_HOT`] if it is the last.
#[inline(always)]
fn resolve_line(scratch: &mut Scratch) -> u64 {
    let line = match split_line(
        &scratch.payload,
        load(&scratch.next_line) as usize,
        load(&scratch.payload_bytes) as usize,
        setting!(seed),
        &mut scratch.identity,
    ) {
        Ok(line) => line,
        Err(NoIdentity::Odd) => return STATUS_ODD,
        Err(NoIdentity::Long) => return STATUS_LONG,
    };
    let Some((slot, operation)) = resolve_identity(line.hash, scratch) else { return STATUS_COLD };
    let mut value = line.value;
    if operation == OPERATION_LAST {
        value = LastValue::pack(value, line.decimals);
        store(&mut scratch.gauges, 1);
    } else if line.decimals != 0 {
        return STATUS_ODD;
    } else if value > SLOT_VALUE_MAX {
        return STATUS_LARGE;
    }
    // Masked rather than compared: the verifier of Linux 6.1 forgets what a comparison says about the
    // copy of a number that lies on the stack.
    let index = load(&scratch.lines);
    scratch.resolved[(index & (LINES_MAX as u32 - 1)) as usize] = Resolved { slot, operation, value };
    store(&mut scratch.lines, index + 1);
    store(&mut scratch.next_line, line.next as u32);
    if load(&scratch.next_line) < load(&scratch.payload_bytes) {
        return STATUS_MORE;
    }
    store(&mut scratch.newline, u32::from(line.newline));
    STATUS_HOT
}

/// The slot whose tag is that of the hash.
#[inline(always)]
fn find(hash: u64) -> Option<u32> {
    let bucket = BUCKETS.get(hash as u32 & setting!(bucket_mask))?;
    for at in 0..BUCKET_PLACES as usize {
        // SAFETY: a valid, aligned word that the daemon may write at any time; hence volatile.
        let place = unsafe { core::ptr::from_ref(&bucket.places[at]).read_volatile() };
        // The upper halves: masks of 64 bits would be instructions of their own.
        if place >> 32 == tag(hash) >> 32 {
            return Some(place as u32);
        }
    }
    None
}

/// The slot of the identity in the scratch space and what is done there, if it is promoted.
#[inline(always)]
fn resolve_identity(hash: u64, scratch: &Scratch) -> Option<(u32, u32)> {
    let slot = find(hash)?;
    let entry = IDENTITIES.get(slot)?;
    let operation = known_operation(entry)?;
    scratch.identity.equals(entry).then_some((slot, operation))
}

/// What is done with the lines of an identity, if we know how.
#[inline(always)]
fn known_operation(entry: &IdentityEntry) -> Option<u32> {
    // The stores of a value and of its line must stay in order, as those of a ring's record.
    let ordered = cfg!(bpf_target_arch = "x86_64");
    let operation = entry.operation;
    let known = operation == OPERATION_ADD || (ordered && operation == OPERATION_LAST);
    known.then_some(operation)
}

/// How many passed datagrams of a full ring make one log line.
const RING_FULL_LOG_EVERY: u64 = 1 << 20;

/// Copies the whole datagram into this CPU's ring.
#[inline(always)]
fn ring<C: EbpfContext>(ctx: &C, door: Door, scratch: &mut Scratch) -> Verdict {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    scratch.header.door = door as u32;
    scratch.header.payload_bytes = load(&scratch.payload_bytes) as u16;
    match append(cpu, scratch) {
        APPENDED => match load(&scratch.status) {
            STATUS_MORE => Verdict::ManyLines,
            STATUS_ODD => Verdict::OddLine,
            STATUS_LONG => Verdict::LongLine,
            STATUS_LARGE => Verdict::LargeValue,
            _ => Verdict::NotHot,
        },
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
