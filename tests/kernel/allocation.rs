//! Known lines -> the registry, without an allocation for each.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rotameter::clock::Timestamp;
use rotameter::datagram::{Datagram, Source, Transport};
use rotameter::line;
use rotameter::pipeline::{Pipeline, PipelineOptions};

use crate::corpus;

/// The system's allocator, with a count for each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that ends may free and allocate after its locals are gone.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes on to the system's allocator as it came; counting touches a thread-local
// cell that neither allocates (it is const) nor has a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` by one of the other calls, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as in `dealloc`; the caller's promise about `new_size` is the same as ours.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// Allocations of this thread while `run` runs.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

fn pipeline() -> Pipeline {
    let options = PipelineOptions { cached_lines_max: 1 << 16, ..PipelineOptions::default() };
    Pipeline::new(options, None)
}

fn ingest(pipeline: &Pipeline, payloads: &[Vec<u8>]) {
    for payload in payloads {
        let datagram = Datagram {
            payload,
            received: Timestamp::now(),
            source: Source::Nameless,
            transport: Transport::Udp,
        };
        pipeline.ingest(&[datagram]);
    }
}

/// Recorded datagrams whose lines all are of one of `types`, or of another one if `others`.
fn recorded(types: &[&[u8]], others: bool) -> Vec<Vec<u8>> {
    let is_wanted = |line: &[u8]| {
        line.is_empty()
            || line::split_value(line).is_some_and(|(_, _, tail)| {
                let kind = tail[1..].split(|byte| *byte == b'|').next();
                types.iter().any(|wanted| kind == Some(wanted)) != others
            })
    };
    let datagrams = corpus::load("airflow-v2-local-influx").expect("the recording loads").into_iter();
    let wanted = datagrams.filter(|datagram| line::lines(&datagram.payload).all(is_wanted));
    let payloads: Vec<_> = wanted.take(5_000).map(|datagram| datagram.payload).collect();
    assert!(payloads.len() > 3_000);
    payloads
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7_u64)))), 1);
    assert_eq!(allocations(|| {}), 0);
}

#[test]
fn known_counters_and_gauges_allocate_nothing() {
    let (pipeline, payloads) = (pipeline(), recorded(&[b"c", b"g"], false));
    let cold = allocations(|| ingest(&pipeline, &payloads));
    assert!(cold > 0, "the first time, every series is made");
    // Lines that came once are found for the first time now, which the cache makes a note of.
    ingest(&pipeline, &payloads);
    assert_eq!(allocations(|| ingest(&pipeline, &payloads)), 0, "{} datagrams", payloads.len());
}

/// A summary keeps samples in buffers that grow, and now and then merges them: amortised, less than
/// this many allocations for each observation.
const ALLOCATIONS_PER_OBSERVATION: f64 = 0.01;

#[test]
fn known_timers_allocate_less_than_once_in_a_hundred() {
    let (pipeline, payloads) = (pipeline(), recorded(&[b"c", b"g"], true));
    let rounds = 20;
    let ingest_rounds = || (0..rounds).for_each(|_| ingest(&pipeline, &payloads));
    ingest_rounds();
    let warm = allocations(ingest_rounds);
    let observations = rounds * payloads.len();
    println!("{warm} allocations for {observations} observations");
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let each = warm as f64 / observations as f64;
    assert!(each < ALLOCATIONS_PER_OBSERVATION, "{warm} allocations for {observations} observations");
}
