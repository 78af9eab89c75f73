//! Frames -> what the kernel program costs, under `BPF_PROG_TEST_RUN`.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Context as _;
use aya::programs::{TestRun as _, TestRunOptions};
use ingest_ebpf::layout::{ListenEntry, ListenKey, NetworkV4, NetworkV6, OPERATION_ADD, address_words};
use rotameter::kernel::{
    identities::identity_of,
    object::{LoadOptions, Object, Shared, Sizes},
};

use crate::frame::frame;

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Cost {
    pub case: &'static str,
    /// Median over the runs.
    pub median: Duration,
    pub min: Duration,
    pub max: Duration,
    /// What DESIGN asks for, nanoseconds.
    pub limit_ns: Option<u64>,
}

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
    for address in ["::ffff:10.77.0.1", "fd77::1"] {
        let address: std::net::Ipv6Addr = address.parse()?;
        let key = ListenKey {
            interface: LOOPBACK,
            port: 9125_u16.to_be(),
            mac: [2, 0, 0, 0, 0, 1],
            vlan: 0,
            padding: 0,
            address: address_words(address.octets()),
        };
        object.listen.insert(Shared(key), Shared(ListenEntry { flags: 0 }), 0)?;
    }
    Ok(object)
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

/// Runs every case `runs` times with `repeat` frames each.
///
/// # Errors
///
/// What the kernel says.
pub fn measure(object: &[u8], runs: usize, repeat: u32) -> anyhow::Result<Vec<Cost>> {
    let sizes = Sizes { slots: 4096, buckets: 8192, ring_bytes: 1 << 24 };
    let mut object = load(object, sizes)?;
    let hot: Vec<String> = (0..10).map(|n| format!("airflow.ti.finish.dag_{n}.success:1|c")).collect();
    promote(&mut object, b"airflow.ti.start.dag_1.task_12345:1|c", 1)?;
    for (slot, line) in (2..).zip(&hot) {
        promote(&mut object, line.as_bytes(), slot)?;
    }
    let long = format!("airflow.{}:1|c", "n".repeat(220));
    promote(&mut object, long.as_bytes(), 99)?;
    let one = b"airflow.ti.start.dag_1.task_1234:1|c".as_slice();
    promote(&mut object, one, 100)?;
    let cases: Vec<(&'static str, Vec<u8>, Option<u64>)> = vec![
        ("one hot line, 36 bytes", frame().payload(one), Some(60)),
        ("one hot line, 232 bytes", frame().payload(long.as_bytes()), None),
        ("two hot lines", frame().payload(hot[..2].join("\n").as_bytes()), None),
        ("five hot lines", frame().payload(hot[..5].join("\n").as_bytes()), None),
        ("ten hot lines", frame().payload(hot.join("\n").as_bytes()), Some(300)),
        ("one cold line into the ring", frame().payload(b"airflow.dag.a.b.duration:12.345678|ms"), Some(80)),
        ("not ours: another port", frame().destination_port(53).payload(one), Some(15)),
        ("not ours: TCP", frame().protocol(6).payload(one), Some(15)),
        ("not ours: ARP", frame().ethertype(0x0806).payload(one), Some(15)),
    ];
    let mut costs = Vec::new();
    for (case, frame, limit_ns) in cases {
        let mut times = Vec::with_capacity(runs);
        // A ring that fills up would pass instead: few enough records for each run, then drain.
        let cold = case.contains("ring");
        let repeat = if cold { repeat.min(100_000) } else { repeat };
        for _ in 0..runs {
            let options = TestRunOptions { data_in: Some(&frame), repeat, ..TestRunOptions::default() };
            let result = object.xdp()?.test_run(options).with_context(|| format!("running {case}"))?;
            let expected = if case.starts_with("not ours") { 2 } else { 1 };
            anyhow::ensure!(result.return_value == expected, "{case}: verdict {}", result.return_value);
            times.push(result.duration);
            for ring in &mut object.rings {
                ring.read(usize::MAX, ring.end(), |_| {});
            }
        }
        times.sort();
        costs.push(Cost { case, median: times[runs / 2], min: times[0], max: times[runs - 1], limit_ns });
    }
    for verdict in ingest_ebpf::verdict::Verdict::ALL {
        let n = object.tables.counters.datagrams(ingest_ebpf::verdict::Door::Xdp, verdict);
        if n > 0 {
            eprintln!("{:?} {n}", verdict);
        }
    }
    Ok(costs)
}
