//! Frames -> what the kernel program costs, under `BPF_PROG_TEST_RUN`.

use std::{collections::HashSet, net::Ipv4Addr};

use anyhow::Context as _;
use aya::programs::{TestRun as _, TestRunOptions};
use ingest_ebpf::layout::{
    ListenEntry, ListenKey, NetworkV4, NetworkV6, OPERATION_ADD, OPERATION_LAST, address_words,
};
use rotameter::clock::Timestamp;
use rotameter::kernel::{
    identities::identity_of,
    object::{LoadOptions, Object, Shared, Sizes},
};

use crate::{
    frame::frame,
    raw_program::{Action, RawProgram},
    report::{Curve, Findings, Plot, Row, Scale},
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

/// Promotes the identity of `line` to `slot`, where the kernel adds.
///
/// # Errors
///
/// If the line has no identity or the table is full.
pub fn promote(object: &mut Object, line: &[u8], slot: u32) -> anyhow::Result<()> {
    promote_as(object, line, slot, OPERATION_ADD)
}

fn promote_as(object: &mut Object, line: &[u8], slot: u32, operation: u32) -> anyhow::Result<()> {
    let identity = identity_of(line, object.tables.seed)
        .with_context(|| format!("{}: no identity", line.escape_ascii()))?;
    object
        .tables
        .identities
        .insert(&identity, slot, operation)
        .map_err(|refused| anyhow::anyhow!("{refused:?}"))
}

/// One frame and what it is to cost.
struct Case {
    name: String,
    /// Hot lines and the bytes of each, where the curve over them is drawn.
    shape: Option<(u8, u16)>,
    frame: Vec<u8>,
    /// `enum xdp_action`.
    verdict: u32,
    repeat: u32,
    limit_ns: Option<f64>,
}

/// The usual length of Airflow's lines without tags.
const LINE_BYTES: u16 = 36;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
/// What a frame that is not ours may cost.
const FOREIGN_NS_MAX: f64 = 15.0;
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
pub fn measure(object: &[u8], runs: usize) -> anyhow::Result<Findings> {
    // The daemon's defaults: a larger ring would not stay in the cache.
    let sizes = Sizes { slots: 16_384, buckets: 16_384, ring_bytes: 1 << 20 };
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
        let row = Row::new("kernel-cost", &case.name, "ns", costs).net_of(harness_ns);
        rows.push(match case.limit_ns {
            Some(limit) => row.at_most(limit),
            None => row,
        });
    }
    let foreign = cases.iter().zip(&costs_ns).filter(|(case, _)| case.verdict == XDP_PASS);
    let net_rows: Vec<Row> = foreign
        .map(|(case, costs)| {
            let net: Vec<f64> = costs.iter().zip(&empty_ns).map(|(cost, empty)| cost - empty).collect();
            let name = format!("{}, less the empty program", case.name);
            Row::new("kernel-cost", &name, "ns", &net).at_most(FOREIGN_NS_MAX)
        })
        .collect();
    let plots = vec![
        plot(&cases, &rows, "lines", |(lines, bytes)| (bytes == LINE_BYTES).then_some(f64::from(lines))),
        plot(&cases, &rows, "bytes of one line", |(lines, bytes)| (lines == 1).then_some(f64::from(bytes))),
    ];
    rows.extend(net_rows);
    Ok(Findings { rows, plots, notes: Vec::new() })
}

/// Net cost over lines or length; the first row is the empty program's.
fn plot(cases: &[Case], rows: &[Row], over: &str, at: impl Fn((u8, u16)) -> Option<f64>) -> Plot {
    let points = cases.iter().zip(&rows[1..]).filter_map(|(case, row)| Some((at(case.shape?)?, row.net?)));
    let mut points: Vec<(f64, f64)> = points.collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    Plot {
        file: format!("cost-by-{}", over.split(' ').next().unwrap_or(over)),
        title: format!("Cost of a hot datagram, by {over}"),
        x: (over.to_owned(), Scale::Linear),
        y: ("ns, net".to_owned(), Scale::Linear),
        curves: vec![Curve { name: "kernel program".to_owned(), points }],
    }
}

/// Behind all slots of counters.
const FIRST_GAUGE_SLOT: u32 = 1000;

/// The cases; what is hot in them is promoted.
fn cases(object: &mut Object) -> anyhow::Result<Vec<Case>> {
    let one = b"airflow.ti.start.dag_1.task_1234:1|c".as_slice();
    promote(object, one, 0)?;
    let (mut slot, mut promoted) = (1, HashSet::new());
    let mut hot = |lines: u8, bytes: u16, limit_ns| -> anyhow::Result<Case> {
        let lines_of = (0..lines).map(|n| line(usize::from(bytes), n)).collect::<Vec<String>>();
        for line in &lines_of {
            // Cases of one length share their first lines.
            if promoted.insert(line.clone()) {
                promote(object, line.as_bytes(), slot)?;
                slot += 1;
            }
        }
        Ok(Case {
            name: format!("hot: lines {lines}, bytes of each {bytes}"),
            shape: Some((lines, bytes)),
            frame: frame().payload(lines_of.join("\n").as_bytes()),
            verdict: XDP_DROP,
            repeat: REPEAT,
            limit_ns,
        })
    };
    let mut cases = vec![
        hot(1, LINE_BYTES, Some(60.0))?,
        hot(2, LINE_BYTES, None)?,
        hot(5, LINE_BYTES, None)?,
        hot(10, LINE_BYTES, Some(300.0))?,
        hot(20, LINE_BYTES, None)?,
        hot(32, LINE_BYTES, None)?,
        hot(1, 20, None)?,
        hot(1, 64, None)?,
        hot(1, 128, None)?,
        hot(1, 232, None)?,
    ];
    cases.push(Case {
        name: "one cold line into the ring".to_owned(),
        shape: None,
        frame: frame().payload(b"airflow.dag.a.b.duration:12.345678|ms"),
        verdict: XDP_DROP,
        repeat: REPEAT_RINGED,
        limit_ns: Some(80.0),
    });
    let gauges: Vec<String> = (0..10).map(|n| format!("airflow.pool.open_slots.pool_{n:02}:128|g")).collect();
    for (slot, line) in (FIRST_GAUGE_SLOT..).zip(&gauges) {
        promote_as(object, line.as_bytes(), slot, OPERATION_LAST)?;
    }
    for (name, payload, repeat) in [
        ("hot gauge", gauges[0].clone(), REPEAT),
        ("hot gauge with decimals", gauges[0].replace("128", "12.5"), REPEAT),
        ("hot gauges: lines 10", gauges.join("\n"), REPEAT),
        ("one cold gauge into the ring", gauges[0].replace("pool_00", "pool_xx"), REPEAT_RINGED),
    ] {
        let (name, shape) = (name.to_owned(), None);
        let frame = frame().payload(payload.as_bytes());
        cases.push(Case { name, shape, frame, verdict: XDP_DROP, repeat, limit_ns: None });
    }
    for (name, frame) in [
        ("not ours: another port", frame().destination_port(53).payload(one)),
        ("not ours: TCP", frame().protocol(6).payload(one)),
        ("not ours: ARP", frame().ethertype(0x0806).payload(one)),
    ] {
        let (name, shape) = (name.to_owned(), None);
        cases.push(Case {
            name,
            shape,
            frame,
            verdict: XDP_PASS,
            repeat: REPEAT,
            limit_ns: Some(FOREIGN_NS_MAX),
        });
    }
    Ok(cases)
}

/// A counter's line of so many bytes, another one for each number.
fn line(bytes: usize, number: u8) -> String {
    let (begin, end) = (format!("airflow.{number:02}."), ":1|c");
    format!("{begin}{}{end}", "n".repeat(bytes.saturating_sub(begin.len() + end.len())))
}
