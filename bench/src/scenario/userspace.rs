//! Ring records -> what userspace pays for each: on a warm cache, and for names never seen.

use std::{hint::black_box, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use aya::programs::{TestRun as _, TestRunOptions};
use rotameter::{
    clock::Timestamp,
    datagram::Datagram,
    kernel::object::{Object, Sizes},
    mapper::Mapper,
    pipeline::{Pipeline, PipelineOptions},
};

use super::{kernel_cost, mapping};
use crate::{corpus, frame::frame, machine::thread_cpu_time, network, report::Row};

const RECORDING: &str = "airflow-v3-celery-default";
/// Timers and gauges of the recording, this many times over, lie in the ring for one run.
const ROUNDS: usize = 4;
const SIZES: Sizes = Sizes { slots: 4096, buckets: 8192, ring_bytes: 1 << 24 };

/// A pipeline as the daemon builds it, with the rings of `object`.
pub fn pipeline(object: &mut Object) -> Pipeline {
    pipeline_under(Mapper::default(), object)
}

fn pipeline_under(mapper: Mapper, object: &mut Object) -> Pipeline {
    let mapper = Arc::new(mapper);
    let options = PipelineOptions { cached_lines_max: 131_072, mapper, ..PipelineOptions::default() };
    let rings = std::mem::take(&mut object.rings);
    Pipeline::new(options, Some((Arc::clone(&object.tables), rings)))
}

/// Recorded payloads that no slot can take: timers and gauges.
///
/// # Errors
///
/// The recording is not where it should be.
pub fn cold_payloads() -> anyhow::Result<Vec<Vec<u8>>> {
    let payloads = corpus::load(RECORDING)?.into_iter().map(|recorded| recorded.payload);
    Ok(payloads.filter(|payload| payload.ends_with(b"|ms") || payload.ends_with(b"|g")).collect())
}

/// Fills a ring by the kernel program, then takes it with nothing done to the records, and with all
/// of them recorded; `runs` times each.
///
/// # Errors
///
/// What the kernel says; or records went astray.
pub fn measure(object: &[u8], runs: usize) -> anyhow::Result<Vec<Row>> {
    // A thread of its own, because it stays on one CPU: each has a ring, and all records are to lie
    // in one.
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            network::pin(0)?;
            let mut rows = measure_here(object, runs)?;
            rows.extend(new_names(object, runs)?);
            Ok(rows)
        });
        thread.join().unwrap_or_else(|_| anyhow::bail!("the scenario panicked"))
    })
}

fn measure_here(object: &[u8], runs: usize) -> anyhow::Result<Vec<Row>> {
    let frames: Vec<Vec<u8>> = cold_payloads()?.iter().map(|payload| frame().payload(payload)).collect();
    let mut walked = kernel_cost::load(object, SIZES)?;
    let mut recorded = kernel_cost::load(object, SIZES)?;
    let pipeline = pipeline(&mut recorded);
    fill(&mut recorded, &frames, ROUNDS)?;
    pipeline.drain_rings();

    let expected = frames.len() * ROUNDS;
    let (mut walks, mut records, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        fill(&mut walked, &frames, ROUNDS)?;
        let ring = walked.rings.first_mut().context("an object without rings")?;
        let end = ring.end();
        let started = thread_cpu_time();
        let walk = ring.read(usize::MAX, end, Timestamp(u64::MAX), |datagram| {
            black_box(consume(datagram));
        });
        let walk_ns = nanoseconds_each(started, walk);
        fill(&mut recorded, &frames, ROUNDS)?;
        let started = thread_cpu_time();
        let drained = pipeline.drain_rings();
        let record_ns = nanoseconds_each(started, drained);
        anyhow::ensure!(
            walk == expected && drained == expected,
            "of {expected} records {walk} were walked and {drained} were recorded"
        );
        walks.push(walk_ns);
        records.push(record_ns);
        ratios.push(record_ns / walk_ns);
    }
    let warm = pipeline.look(|core| core.cache.len());
    Ok(vec![
        Row::new("userspace", "walking the ring", "ns/record", &walks),
        Row::new("userspace", format!("ring to registry, {warm} lines known"), "ns/record", &records),
        Row::new("userspace", "ring to registry / walking", "times", &ratios).at_most(4.0),
    ])
}

/// Recorded lines under a mapping file, known by then; and names of which each is new, taken by one of its
/// globs. Both from ring bytes to the registry; the new ones also to their place in the exposition.
fn new_names(object: &[u8], runs: usize) -> anyhow::Result<Vec<Row>> {
    let recorded: Vec<Vec<u8>> = cold_payloads()?.iter().map(|payload| frame().payload(payload)).collect();
    let (mut known, mut new, mut orders, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        let mut object = kernel_cost::load(object, SIZES)?;
        // A pipeline for each run, or the registry would grow from run to run.
        let pipeline = pipeline_under(mapping::mapper(&mapping::usual_file())?, &mut object);
        fill(&mut object, &recorded, ROUNDS)?;
        pipeline.drain_rings();
        fill(&mut object, &recorded, ROUNDS)?;
        let known_ns = drain(&pipeline, recorded.len() * ROUNDS)?;
        let names: Vec<Vec<u8>> =
            mapping::new_names(run).iter().map(|payload| frame().payload(payload)).collect();
        fill(&mut object, &names, 1)?;
        let new_ns = drain(&pipeline, names.len())?;
        let started = thread_cpu_time();
        pipeline.settle_order(1);
        let order_ns = nanoseconds_each(started, names.len());
        known.push(known_ns);
        new.push(new_ns);
        orders.push(order_ns);
        ratios.push((new_ns + order_ns) / known_ns);
    }
    let file = format!("{} globs and {} regexes", mapping::GLOBS, mapping::REGEXES);
    Ok(vec![
        Row::new("userspace", format!("ring to registry, {file}: known line"), "ns/record", &known),
        Row::new("userspace", format!("ring to registry, {file}: new name, by glob"), "ns/record", &new),
        Row::new("userspace", "putting a new series in its place in the exposition", "ns/series", &orders),
        Row::new("userspace", "new name and its place / known line", "times", &ratios).at_most(12.0),
    ])
}

/// Takes what is in the rings; returns the nanoseconds that each record cost.
fn drain(pipeline: &Pipeline, expected: usize) -> anyhow::Result<f64> {
    let started = thread_cpu_time();
    let drained = pipeline.drain_rings();
    let each = nanoseconds_each(started, drained);
    anyhow::ensure!(drained == expected, "of {expected} records {drained} were recorded");
    Ok(each)
}

/// Reads a record as whoever does something with it must: its header, and every byte once.
fn consume(datagram: &Datagram<'_>) -> u64 {
    let header = datagram.received.0 ^ datagram.transport as u64;
    let (words, rest) = datagram.payload.as_chunks::<8>();
    let words = words.iter().fold(header, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

fn fill(object: &mut Object, frames: &[Vec<u8>], rounds: usize) -> anyhow::Result<()> {
    let program = object.xdp()?;
    for frame in (0..rounds).flat_map(|_| frames) {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        program.test_run(options).context("filling a ring")?;
    }
    Ok(())
}

fn nanoseconds_each(started: Duration, count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred thousand")]
    let count = count as f64;
    (thread_cpu_time() - started).as_secs_f64() * 1e9 / count
}
