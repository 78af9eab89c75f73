//! Frames -> what the kernel program costs, under `BPF_PROG_TEST_RUN`.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use aya::programs::{TestRun as _, TestRunOptions};
use ingest_ebpf::layout::{ListenEntry, ListenKey, NetworkV4, NetworkV6, OPERATION_ADD, address_words};
use rotameter::clock::Timestamp;
use rotameter::kernel::{
    identities::identity_of,
    object::{LoadOptions, Object, Shared, Sizes},
};

use crate::{
    frame::frame,
    raw_program::{Action, RawProgram},
    report::Row,
};

/// Loads the object with the listen set of [`frame`], on the interface that test runs come from.
///
/// # Errors
///
/// What loading says.
pub fn load(object: &[u8], sizes: Sizes) -> anyhow::Result<Object> {
    let options = LoadOptions {
        sizes,
        seed: 0x5eed,
        ports: vec![9125],
        allowed_v4: [("10.0.0.0", 8), ("172.16.0.0", 12), ("192.168.0.0", 16), ("169.254.0.0", 16)]
            .map(|(address, bits): (&str, u32)| network_v4(address, bits))
            .to_vec(),
        allowed_v6: vec![NetworkV6 {
            address: [u64::from_ne_bytes([0xfc, 0, 0, 0, 0, 0, 0, 0]), 0],
            mask: [u64::from_ne_bytes([0xfe, 0, 0, 0, 0, 0, 0, 0]), 0],
        }],
    };
    let mut object = Object::load(object, &options)?;
    if let Some(reason) = &object.xdp_refused {
        anyhow::bail!("door 1 stays shut: {reason}");
    }
    listen(&mut object, LOOPBACK, 0)?;
    Ok(object)
}

/// Adds the destinations of [`frame`] on `interface` to the listen set.
///
/// # Errors
///
/// What the kernel says.
pub fn listen(object: &mut Object, interface: u32, flags: u32) -> anyhow::Result<()> {
    for address in ["::ffff:10.77.0.1", "fd77::1"] {
        let address: std::net::Ipv6Addr = address.parse()?;
        let key = ListenKey {
            interface,
            port: 9125_u16.to_be(),
            mac: [2, 0, 0, 0, 0, 1],
            vlan: 0,
            padding: 0,
            address: address_words(address.octets()),
        };
        object.listen.insert(Shared(key), Shared(ListenEntry { flags }), 0)?;
    }
    object.listen_changed();
    Ok(())
}

/// The interface that a test run without a context comes from.
pub const LOOPBACK: u32 = 1;

fn network_v4(address: &str, bits: u32) -> NetworkV4 {
    let address: Ipv4Addr = address.parse().unwrap_or(Ipv4Addr::UNSPECIFIED);
    let mask = u32::MAX << (32 - bits);
    NetworkV4 { address: u32::from_ne_bytes(address.octets()), mask: mask.to_be() }
}

/// Promotes the identity of `line` to `slot`.
///
/// # Errors
///
/// If the line has no identity or the table is full.
pub fn promote(object: &mut Object, line: &[u8], slot: u32) -> anyhow::Result<()> {
    let identity = identity_of(line, object.tables.seed)
        .with_context(|| format!("{}: no identity", line.escape_ascii()))?;
    object
        .tables
        .identities
        .insert(&identity, slot, OPERATION_ADD)
        .map_err(|refused| anyhow::anyhow!("{refused:?}"))
}

/// One frame and what it is to cost.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    /// `enum xdp_action`.
    verdict: u32,
    repeat: u32,
    limit_ns: Option<f64>,
}

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
/// Frames of one run.
const REPEAT: u32 = 1_000_000;
/// So few that the ring has room for them all; a full one would pass instead.
const REPEAT_RINGED: u32 = 10_000;

/// Runs every case `runs` times. Beside what was measured stands what is left of it when the cost of
/// an empty program, measured in the same round, is taken off.
///
/// # Errors
///
/// What the kernel says; or a frame meets another end than it should.
pub fn measure(object: &[u8], runs: usize) -> anyhow::Result<Vec<Row>> {
    // The daemon's defaults: a larger ring would not stay in the cache.
    let sizes = Sizes { slots: 8192, buckets: 8192, ring_bytes: 1 << 20 };
    let mut object = load(object, sizes)?;
    let cases = cases(&mut object)?;
    let empty = RawProgram::load(Action::Pass)?;
    let empty_frame = frame().payload(b"a:1|c");
    let mut empty_ns = Vec::with_capacity(runs);
    let mut costs_ns = vec![Vec::with_capacity(runs); cases.len()];
    // Round by round, so that a noisy minute falls on all cases alike.
    for _ in 0..runs {
        empty_ns.push(f64::from(empty.test_run(&empty_frame, REPEAT)?));
        for (case, costs) in cases.iter().zip(&mut costs_ns) {
            let options = TestRunOptions {
                data_in: Some(&case.frame),
                repeat: case.repeat,
                ..TestRunOptions::default()
            };
            let result =
                object.xdp()?.test_run(options).with_context(|| format!("running \"{}\"", case.name))?;
            costs.push(result.duration.as_secs_f64() * 1e9);
            let verdict = result.return_value;
            anyhow::ensure!(verdict == case.verdict, "{}: the program returned {verdict}", case.name);
            for ring in &mut object.rings {
                ring.read(usize::MAX, ring.end(), Timestamp(u64::MAX), |_| {});
            }
        }
    }
    let empty = Row::new("kernel-cost", "empty program, same harness", "ns", &empty_ns);
    let harness_ns = empty.median;
    let mut rows = vec![empty];
    for (case, costs) in cases.iter().zip(&costs_ns) {
        let row = Row::new("kernel-cost", case.name, "ns", costs).net_of(harness_ns);
        rows.push(match case.limit_ns {
            Some(limit) => row.at_most(limit),
            None => row,
        });
    }
    Ok(rows)
}

/// The cases; what is hot in them is promoted.
fn cases(object: &mut Object) -> anyhow::Result<Vec<Case>> {
    let one = b"airflow.ti.start.dag_1.task_1234:1|c".as_slice();
    let long = format!("airflow.{}:1|c", "n".repeat(220));
    let many: Vec<String> = (0..10).map(|n| format!("airflow.ti.finish.dag_{n}.success:1|c")).collect();
    promote(object, one, 0)?;
    promote(object, long.as_bytes(), 1)?;
    for (slot, line) in (2..).zip(&many) {
        promote(object, line.as_bytes(), slot)?;
    }
    let hot = |name, payload: &[u8], limit_ns| Case {
        name,
        frame: frame().payload(payload),
        verdict: XDP_DROP,
        repeat: REPEAT,
        limit_ns,
    };
    let other = |name, frame| Case { name, frame, verdict: XDP_PASS, repeat: REPEAT, limit_ns: Some(15.0) };
    let cold = b"airflow.dag.a.b.duration:12.345678|ms";
    Ok(vec![
        hot("one hot line, 36 bytes", one, Some(60.0)),
        hot("one hot line, 232 bytes", long.as_bytes(), None),
        hot("two hot lines", many[..2].join("\n").as_bytes(), None),
        hot("five hot lines", many[..5].join("\n").as_bytes(), None),
        hot("ten hot lines", many.join("\n").as_bytes(), Some(300.0)),
        Case { repeat: REPEAT_RINGED, ..hot("one cold line into the ring", cold, Some(80.0)) },
        other("not ours: another port", frame().destination_port(53).payload(one)),
        other("not ours: TCP", frame().protocol(6).payload(one)),
        other("not ours: ARP", frame().ethertype(0x0806).payload(one)),
    ])
}
