//! Live frames over a veth pair -> how many a second each way carries.
//!
//! Generator and door share CPU 0, whoever takes from ring or socket has CPU 1; so rates compare
//! what a datagram costs, not how work spreads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aya::programs::XdpMode;
use ingest_ebpf::{
    layout::LISTEN_VIRTUAL,
    verdict::{Door, Outcome, Verdict},
};
use rotameter::{
    datagram::{Datagram, Transport},
    kernel::{
        drainer::Drainer,
        object::{Object, Sizes},
    },
    listener::{
        Intake,
        udp::{self, UdpOptions},
    },
    pipeline::Pipeline,
};

use super::{kernel_cost, userspace};
use crate::{
    load::{Limits, Pace, Payloads, Sent, Wire, per_second},
    network::{self, Pair},
    raw_program::{Action, RawProgram},
    report::Row,
};

const DOOR_CPU: usize = 0;
const READER_CPU: usize = 1;
/// The daemon's defaults.
pub(super) const SIZES: Sizes = Sizes { slots: 16_384, buckets: 16_384, ring_bytes: 1 << 20 };
/// Different lines that the generator sends in turn.
const TEMPLATES: usize = 64;
const BISECTIONS: usize = 6;
const MILLION: f64 = 1e6;

/// Measures all rates, each run for `duration`.
///
/// # Errors
///
/// A CPU, a right, or iproute2 is missing; or what the kernel says.
pub fn measure(object: &[u8], runs: usize, duration: Duration) -> anyhow::Result<Vec<Row>> {
    network::within(|pair| {
        network::pin(READER_CPU)?;
        network::pin(DOOR_CPU)?;
        let mut rows = hot(object, pair, runs, duration)?;
        rows.extend(whole(object, pair, runs, duration)?);
        Ok(rows)
    })
}

/// A table of payloads, and the wire that sends them.
struct Generator {
    payloads: Payloads,
    wire: Wire,
}

impl Generator {
    fn new(pair: Pair, payloads: Payloads) -> anyhow::Result<Self> {
        Ok(Self { wire: Wire::new(pair, &payloads)?, payloads })
    }

    /// Sends for `duration`, at `rate` frames per second or as fast as it goes.
    fn send(&mut self, rate: Option<f64>, duration: Duration) -> anyhow::Result<Sent> {
        let pace = rate.map_or(Pace::FlatOut, Pace::PerSecond);
        self.wire.send(&self.payloads, pace, Limits::duration(duration))
    }
}

/// Hot counters beside a program that only drops.
fn hot(object: &[u8], pair: Pair, runs: usize, duration: Duration) -> anyhow::Result<Vec<Row>> {
    let line = b"airflow.ti.start.dag_1.task_1234:1|c";
    let mut object = door(object, pair)?;
    kernel_cost::promote(&mut object, line, 0)?;
    let drop_all = RawProgram::load(Action::Drop)?;
    let mut generator = Generator::new(pair, Payloads::of([&line[..]]))?;
    let (mut dropped, mut counted, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let attached = drop_all.attach(pair.receiving)?;
        let before = network::received(network::RECEIVING)?;
        let sent = generator.send(None, duration)?;
        let frames = network::received(network::RECEIVING)?.frames - before.frames;
        drop(attached);
        let bare = per_second(frames, sent.elapsed);

        let attached = attach(&mut object, pair)?;
        let before = object.tables.counters.datagrams(Door::Xdp, Verdict::Counted);
        let sent = generator.send(None, duration)?;
        let datagrams = object.tables.counters.datagrams(Door::Xdp, Verdict::Counted) - before;
        drop(attached);
        let hot = per_second(datagrams, sent.elapsed);

        dropped.push(bare / MILLION);
        counted.push(hot / MILLION);
        ratios.push(hot / bare);
    }
    Ok(vec![
        Row::new("live", "bare XDP_DROP", "M/s", &dropped),
        Row::new("live", "hot counters into slots", "M/s", &counted),
        Row::new("live", "hot counters / bare XDP_DROP", "times", &ratios).at_least(0.5),
    ])
}

/// Whole datagrams by ring, and by socket with the doors shut.
fn whole(object: &[u8], pair: Pair, runs: usize, duration: Duration) -> anyhow::Result<Vec<Row>> {
    let mut payloads = userspace::cold_payloads()?;
    payloads.sort_unstable();
    payloads.dedup();
    let step = (payloads.len() / TEMPLATES).max(1);
    let templates = Payloads::of(payloads.iter().step_by(step).map(Vec::as_slice));
    let mut generator = Generator::new(pair, templates)?;
    let (mut by_ring, mut by_socket, mut into_registry, mut ratios) = (vec![], vec![], vec![], vec![]);
    for _ in 0..runs {
        let ring = ring(object, pair, &mut generator, duration)?;
        let socket = socket(Counting::default(), pair, &mut generator, duration)?;
        let pipeline = userspace::pipeline(&mut kernel_cost::load(object, SIZES)?);
        let registry = socket_into_registry(pipeline, pair, &mut generator, duration)?;
        by_ring.push(ring / MILLION);
        by_socket.push(socket / MILLION);
        into_registry.push(registry / MILLION);
        ratios.push(ring / socket);
    }
    Ok(vec![
        Row::new("live", "ring to registry, none lost", "M/s", &by_ring),
        Row::new("live", "recvmmsg socket alone, none lost", "M/s", &by_socket),
        Row::new("live", "recvmmsg socket to registry, none lost", "M/s", &into_registry),
        Row::new("live", "ring to registry / socket alone", "times", &ratios).at_least(3.0),
    ])
}

fn ring(object: &[u8], pair: Pair, generator: &mut Generator, duration: Duration) -> anyhow::Result<f64> {
    let mut object = door(object, pair)?;
    let tables = Arc::clone(&object.tables);
    let pipeline = Arc::new(userspace::pipeline(&mut object));
    let drainer = on_reader_cpu(|| Ok(Drainer::start(Arc::clone(&pipeline), Duration::from_secs(1))?))?;
    let attached = attach(&mut object, pair)?;
    let carried = || {
        pipeline.drain_rings();
        Ok(pipeline.look(|core| core.ledger.datagrams(Transport::Xdp)))
    };
    // Fills cache and registry.
    generator.send(Some(100_000.0), duration)?;
    let rate = lossless(generator, duration, carried)?;
    drop(attached);
    drainer.stop();
    let seen: u64 = Verdict::ALL
        .into_iter()
        .filter(|verdict| verdict.outcome() == Outcome::Ringed)
        .map(|verdict| tables.counters.datagrams(Door::Xdp, verdict))
        .sum();
    let recorded = pipeline.look(|core| core.ledger.datagrams(Transport::Xdp));
    anyhow::ensure!(seen == recorded, "{seen} datagrams went into the rings, {recorded} came out");
    Ok(rate)
}

fn socket_into_registry(
    pipeline: Pipeline,
    pair: Pair,
    generator: &mut Generator,
    duration: Duration,
) -> anyhow::Result<f64> {
    socket(Recording(pipeline), pair, generator, duration)
}

/// The rate that one socket with its reader thread carries into `intake`.
fn socket(
    intake: impl Intake,
    pair: Pair,
    generator: &mut Generator,
    duration: Duration,
) -> anyhow::Result<f64> {
    let listener = Arc::new(udp::bind(&"10.77.0.1:9125".parse()?, UdpOptions::default())?);
    let intake = Arc::new(intake);
    let reader = on_reader_cpu(|| Ok(listener.start(Arc::clone(&intake) as _)?))?;
    // The pair carries frames only to an end that has a program.
    let attached = RawProgram::load(Action::Pass)?.attach(pair.receiving)?;
    let carried = || {
        listener.drain(&*intake);
        Ok(listener.counters().datagrams.load(Ordering::Relaxed))
    };
    generator.send(Some(50_000.0), duration)?;
    let rate = lossless(generator, duration, carried)?;
    drop(attached);
    reader.stop();
    Ok(rate)
}

/// The highest rate found at which all that was sent was carried: the flood's, if it loses nothing,
/// otherwise by bisection below it. Each rate has two tries, for a neighbour may take the CPU away.
fn lossless(
    generator: &mut Generator,
    duration: Duration,
    mut carried: impl FnMut() -> anyhow::Result<u64>,
) -> anyhow::Result<f64> {
    let mut attempt = |rate: Option<f64>| -> anyhow::Result<(Sent, bool)> {
        let before = carried()?;
        let sent = generator.send(rate, duration)?;
        let complete = carried()? - before == sent.datagrams;
        Ok((sent, complete))
    };
    let mut twice = |rate: Option<f64>| -> anyhow::Result<(Sent, bool)> {
        let first = attempt(rate)?;
        if first.1 { Ok(first) } else { attempt(rate) }
    };
    let (flood, complete) = twice(None)?;
    if complete {
        return Ok(flood.rate());
    }
    let (mut good, mut bad) = (0.0, flood.rate());
    for _ in 0..BISECTIONS {
        let rate = f64::midpoint(good, bad);
        let (sent, complete) = twice(Some(rate))?;
        if complete {
            good = sent.rate();
        } else {
            bad = rate;
        }
    }
    Ok(good)
}

/// The object, with the receiving end in its listen set; not attached yet.
fn door(object: &[u8], pair: Pair) -> anyhow::Result<Object> {
    let mut object = kernel_cost::load(object, SIZES)?;
    kernel_cost::listen(&mut object, pair.receiving, LISTEN_VIRTUAL)?;
    Ok(object)
}

/// Opens door 1 at the receiving end until what comes back is dropped.
fn attach(object: &mut Object, pair: Pair) -> anyhow::Result<impl Drop + use<>> {
    let program = object.xdp()?;
    let link = program.attach_to_if_index(pair.receiving, XdpMode::Driver)?;
    Ok(Link(Some(program.take_link(link)?)))
}

/// aya's link does not say that dropping it detaches; this one does.
struct Link(Option<aya::programs::xdp::XdpLink>);

impl Drop for Link {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// Starts what `start` starts on the reader's CPU.
fn on_reader_cpu<T>(start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    network::pin(READER_CPU)?;
    let started = start();
    network::pin(DOOR_CPU)?;
    started
}

/// Reads, and does nothing with what it read.
#[derive(Default)]
struct Counting(AtomicU64);

impl Intake for Counting {
    fn ingest(&self, batch: &[Datagram<'_>]) {
        self.0.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}

/// Reads and records.
struct Recording(Pipeline);

impl Intake for Recording {
    fn ingest(&self, batch: &[Datagram<'_>]) {
        self.0.ingest(batch);
    }
}
