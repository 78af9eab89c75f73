//! The loaded object, one datagram -> what became of it, and all that it changed.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr};

use aya::programs::{TestRun as _, TestRunOptions};
use ingest_ebpf::layout::{ListenEntry, ListenKey, OPERATION_ADD, address_words};
use ingest_ebpf::verdict::{Door, Outcome, Verdict};
use rotameter::clock::Timestamp;
use rotameter::datagram::{Source, Transport};
use rotameter::kernel::identities::identity_of;
use rotameter::kernel::object::{Object, Shared, Sizes};
use rotameter::kernel::slots::SlotTable as _;
use rotameter_bench::scenario::kernel_cost::{self, LOOPBACK};

/// Slots of the tests' table; few, because each step reads them all.
pub(super) const SLOTS: u32 = 64;
/// Much smaller than a daemon's, so that tests can fill it.
pub(super) const RING_BYTES: u32 = 1 << 16;

/// The kernel object that `cargo xtask test` has built.
#[track_caller]
pub(super) fn object_file() -> Vec<u8> {
    let path = std::env::var_os("ROTAMETER_BPF_OBJECT")
        .expect("ROTAMETER_BPF_OBJECT names no kernel object; `cargo xtask test` builds it and sets this");
    fs::read(&path).unwrap_or_else(|error| {
        panic!("reading the kernel object {}: {error}; `cargo xtask test` builds it", path.display())
    })
}

/// A record that a door has put into a ring, but for its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) payload: Vec<u8>,
    pub(super) source: Source,
    pub(super) transport: Transport,
}

/// Everything that one step has changed; what it has not changed is not in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// How much each verdict counter rose.
    pub(super) verdicts: BTreeMap<(&'static str, &'static str), u64>,
    pub(super) empty_lines: u64,
    /// Slot -> growth of its lines and sum.
    pub(super) slots: BTreeMap<u32, (u64, u64)>,
    /// Slot -> digits and decimals of the newest value that it was given.
    pub(super) values: BTreeMap<u32, (u64, u32)>,
    pub(super) records: Vec<Record>,
}

impl Effect {
    /// One datagram with this verdict, and nothing else.
    pub(super) fn of(door: Door, verdict: Verdict) -> Self {
        Self { verdicts: [((door.name(), verdict.reason()), 1)].into(), ..Self::default() }
    }

    /// As [`Effect::of`], with the datagram in the ring.
    pub(super) fn ringed(door: Door, verdict: Verdict, payload: &[u8], source: SocketAddr) -> Self {
        let transport = match door {
            Door::Xdp => Transport::Xdp,
            Door::SocketFilter => Transport::SocketFilter,
            Door::Loopback => Transport::Loopback,
        };
        let record = Record { payload: payload.to_vec(), source: Source::Address(source), transport };
        Self { records: vec![record], ..Self::of(door, verdict) }
    }
}

/// An object of our own in the kernel, with what it had counted when we last looked.
pub(super) struct Loaded {
    pub(super) object: Object,
    counters: BTreeMap<(&'static str, &'static str), u64>,
    empty_lines: u64,
    slots: BTreeMap<u32, (u64, u64)>,
    /// When the newest value of each slot had been received.
    received_ns: BTreeMap<u32, u64>,
}

impl Loaded {
    /// Loads the object with the addresses of `rotameter_bench::frame`.
    #[track_caller]
    pub(super) fn new() -> Self {
        let sizes = Sizes { slots: SLOTS, buckets: 256, ring_bytes: RING_BYTES };
        let object = kernel_cost::load(&object_file(), sizes)
            .expect("the object loads; it takes CAP_BPF and CAP_NET_ADMIN");
        assert_eq!(object.xdp_refused, None);
        let mut loaded = Self {
            object,
            counters: BTreeMap::new(),
            empty_lines: 0,
            slots: BTreeMap::new(),
            received_ns: BTreeMap::new(),
        };
        loaded.effect();
        loaded
    }

    /// Promotes the identity of `line`.
    #[track_caller]
    pub(super) fn promote(&mut self, line: &[u8], slot: u32) {
        self.promote_as(line, slot, OPERATION_ADD);
    }

    #[track_caller]
    pub(super) fn promote_as(&mut self, line: &[u8], slot: u32, operation: u32) {
        let tables = &self.object.tables;
        let identity = identity_of(line, tables.seed).expect("the line has an identity");
        tables.identities.insert(&identity, slot, operation).expect("the table has room");
    }

    /// Makes door 1 look at frames to this address, beside those of `rotameter_bench::frame`.
    #[track_caller]
    pub(super) fn listen(&mut self, address: Ipv6Addr, vlan: u16, flags: u32) {
        let (key, entry) = (Shared(listen_key(address, vlan)), Shared(ListenEntry { flags }));
        self.object.listen.insert(key, entry, 0).expect("the map has room");
        self.object.listen_changed();
    }

    /// Undoes [`Loaded::listen`].
    #[track_caller]
    pub(super) fn forget(&mut self, address: Ipv6Addr, vlan: u16) {
        self.object.listen.remove(&Shared(listen_key(address, vlan))).expect("the key is there");
        self.object.listen_changed();
    }

    /// Runs door 1 on the frame. Whether the frame was consumed must be what its verdict says.
    #[track_caller]
    pub(super) fn run_xdp(&mut self, frame: &[u8]) -> Effect {
        const XDP_DROP: u32 = 1;
        const XDP_PASS: u32 = 2;
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let program = self.object.xdp().expect("the object has the program");
        let action = program.test_run(options).expect("the kernel runs the program").return_value;
        let effect = self.effect();
        let consumed = Verdict::ALL.into_iter().any(|verdict| {
            verdict.outcome() != Outcome::Passed
                && effect.verdicts.contains_key(&(Door::Xdp.name(), verdict.reason()))
        });
        assert_eq!(action, if consumed { XDP_DROP } else { XDP_PASS }, "{effect:?}");
        effect
    }

    /// What has changed since the last call; empties the rings.
    pub(super) fn effect(&mut self) -> Effect {
        let mut effect = Effect::default();
        let tables = &self.object.tables;
        for door in Door::ALL {
            for verdict in Verdict::ALL {
                let key = (door.name(), verdict.reason());
                let now = tables.counters.datagrams(door, verdict);
                let before = self.counters.insert(key, now).unwrap_or(0);
                if now != before {
                    effect.verdicts.insert(key, now - before);
                }
            }
        }
        let empty_lines = tables.counters.empty_lines();
        effect.empty_lines = empty_lines - std::mem::replace(&mut self.empty_lines, empty_lines);
        for slot in 0..SLOTS {
            let total = tables.slots.total(slot);
            let now = (total.lines, total.sum);
            let before = self.slots.insert(slot, now).unwrap_or_default();
            if now != before {
                effect.slots.insert(slot, (now.0 - before.0, now.1.wrapping_sub(before.1)));
            }
            let last = tables.slots.last(slot);
            if self.received_ns.insert(slot, last.received_ns) != Some(last.received_ns)
                && last.received_ns != 0
            {
                effect.values.insert(slot, last.unpack());
            }
        }
        for ring in &mut self.object.rings {
            ring.read(usize::MAX, ring.end(), Timestamp(u64::MAX), |datagram| {
                let payload = datagram.payload.to_vec();
                let (source, transport) = (datagram.source, datagram.transport);
                effect.records.push(Record { payload, source, transport });
            });
            assert_eq!(ring.malformed, 0, "a record without our layout");
        }
        effect
    }
}

/// Where the frames of `rotameter_bench::frame` go, but for address and VLAN.
fn listen_key(address: Ipv6Addr, vlan: u16) -> ListenKey {
    ListenKey {
        interface: LOOPBACK,
        port: 9125_u16.to_be(),
        mac: [2, 0, 0, 0, 0, 1],
        vlan: vlan.to_be(),
        padding: 0,
        address: address_words(address.octets()),
    }
}
