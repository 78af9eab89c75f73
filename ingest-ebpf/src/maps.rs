//! Every map: what it holds, who writes it, and what happens when it is full.
//!
//! Sizes given here are placeholders; the daemon sets the real ones before it loads the object.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{ArrayOfMaps, RingBuf},
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray, ProgramArray},
};
use ingest_ebpf::{
    identity::Identity,
    layout::{
        Bucket, IdentityEntry, LINES_MAX, LastCell, ListenEntry, ListenKey, Payload, RecordHeader,
        RingPositions, Segment, Settings, Slot,
    },
};

/// Settings, written into the read-only data before loading, under `layout::SETTINGS_SYMBOL`.
#[unsafe(export_name = "SETTINGS_3")]
pub static SETTINGS: Settings = Settings::NONE;

/// Reads one field of the settings; volatile, because the compiler believes it knows the value.
macro_rules! setting {
    ($($field:tt)+) => {
        // SAFETY: a field of a static that lives for ever and that nobody writes after loading.
        unsafe { core::ptr::addr_of!($crate::maps::SETTINGS.$($field)+).read_volatile() }
    };
}
pub(crate) use setting;

/// Hash of an identity -> places of candidates. Only the daemon writes, by memory map: an identity
/// first, then its place; for removal the place, then nothing until no program can hold it any more.
/// A bucket that is full keeps further identities of its hash cold.
#[map]
pub static BUCKETS: Array<Bucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// `[slot]` -> the identity that is counted there.
#[map]
pub static IDENTITIES: Array<IdentityEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// `[cpu][slot]`. Fixed size; each CPU writes its own row, the daemon reads all by memory map.
#[map]
pub static SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// `[cpu][slot]`: values of gauges, beside the lines in `SLOTS`. Written and read as that.
#[map]
pub static LASTS: Array<LastCell> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// `[cpu][column]`, columns as in `verdict.rs`. Fixed size, read by memory map.
#[map]
pub static COUNTERS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Destinations that door 1 looks at: interface, VLAN, MAC, address, port. Only the daemon inserts;
/// what does not fit is not consumed.
#[map]
pub static LISTEN: HashMap<ListenKey, ListenEntry> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// One number that the daemon raises whenever it has changed `LISTEN`; CPUs then forget what they
/// remembered of it.
#[map]
pub static LISTEN_GENERATION: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// `[cpu][segment]`: one ring per CPU, read by memory map up to the producer's position. A full ring
/// passes the datagram to the stack.
#[map]
pub static RINGS: Array<Segment> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// `[cpu]` -> how far its ring is written, and how far it is read.
#[map]
pub static RING_POSITIONS: Array<RingPositions> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Holds a ring buffer of the kernel's, by which a ring that fills up wakes its reader; the daemon puts
/// it in. When that is full, the reader has been woken already.
#[btf_map]
pub static DOORBELL: ArrayOfMaps<RingBuf<u8, 4096>, 1> = ArrayOfMaps::new();

/// Holds door 2's program for the entry that stands on the sockets. The kernel empties it when the last
/// descriptor of it is closed, as when the daemon is killed.
#[map]
pub static SOCKET_DOOR: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Working space of one CPU. Both doors run with bottom halves off, so they never share it.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[repr(C)]
pub struct Scratch {
    /// Header and payload of the ring record that this datagram may become.
    pub header: RecordHeader,
    pub payload: Payload,
    pub identity: Identity,
    pub resolved: [Resolved; LINES_MAX],
    /// Where the next line begins.
    pub next_line: u32,
    /// How many there are, and whether the last one ended with `\n`.
    pub lines: u32,
    pub newline: u32,
    pub payload_bytes: u32,
    /// Whether a line is a gauge's, which needs the time.
    pub gauges: u32,
    /// How far resolving came.
    pub status: u64,
    /// The last destination that was ours, so that a stream of frames looks it up once.
    pub listen_key: ListenKey,
    pub listen_flags: u64,
    /// Value of `LISTEN_GENERATION`, plus one, when that was looked up.
    pub listen_generation: u64,
    /// The last reading of the clock, and the timer's tick in which it was taken.
    pub clock_ns: u64,
    pub clock_tick: u64,
    /// Datagrams that found this CPU's ring full.
    pub ring_full: u64,
}

/// One resolved line, not yet counted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Resolved {
    pub slot: u32,
    /// One of the `OPERATION_*` numbers.
    pub operation: u32,
    /// What is added, or a [`LastValue`](ingest_ebpf::layout::LastValue)'s number.
    pub value: u64,
}
