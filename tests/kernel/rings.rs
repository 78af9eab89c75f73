//! Cold datagrams -> records that come out whole, and a reader that is woken in time.

use aya::programs::{TestRun as _, TestRunOptions};
use ingest_ebpf::layout::{PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, SEGMENT_BYTES};
use rotameter_bench::frame::frame;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::loaded::{Loaded, RING_BYTES};

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn records_of_all_lengths_come_out_whole_however_often_the_ring_goes_round() {
    let kernel = &mut Loaded::new();
    // Longest and shortest in turn, so that records end everywhere in a segment.
    for length in (1..=PAYLOAD_BYTES_MAX).flat_map(|length| [length, PAYLOAD_BYTES_MAX + 1 - length]) {
        let payload: Vec<u8> = (0..length).map(|at| b"0123456789abcdef|g:"[(at + length) % 19]).collect();
        let effect = kernel.run_xdp(&frame().payload(&payload));
        let payloads: Vec<_> = effect.records.into_iter().map(|record| record.payload).collect();
        assert_eq!(payloads, [payload], "{length} bytes");
    }
}

/// Whether the bell can be heard within a moment; it is rung from an interrupt of its own.
fn rings(kernel: &Loaded, seconds: i64) -> bool {
    let mut bell = [PollFd::new(&kernel.object.tables.doorbell, PollFlags::IN)];
    let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
    poll(&mut bell, Some(&timeout)).expect("a descriptor that is open") > 0
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_ring_wakes_its_reader_with_each_segment_that_is_full_until_it_is_full_itself() {
    const PAYLOAD: &[u8] = b"airflow.cold:1|c";
    const RECORD_BYTES: usize = RECORD_HEADER_BYTES + PAYLOAD.len();
    let kernel = &mut Loaded::new();
    let frame = frame().payload(PAYLOAD);
    let run = |kernel: &mut Loaded, count: usize| {
        // One test run, so that all of it happens on one CPU.
        let repeat = u32::try_from(count).expect("few");
        let options = TestRunOptions { data_in: Some(&frame), repeat, ..TestRunOptions::new() };
        kernel.object.xdp().expect("it is there").test_run(options).expect("the kernel runs it").return_value
    };
    let in_a_segment = SEGMENT_BYTES.div_ceil(RECORD_BYTES);
    assert_eq!(run(kernel, in_a_segment - 1), 1);
    assert!(!rings(kernel, 0), "an eighth of this ring is less than a segment, but none is full");
    // Rings are filled by the CPU that we happen to run on, so what it was is not asked again.
    kernel.effect();
    assert_eq!(run(kernel, 2 * in_a_segment), 1);
    assert!(rings(kernel, 10), "nobody was woken");
    kernel.object.tables.doorbell.hush();
    assert!(!rings(kernel, 0), "what has been heard is over");
    assert_eq!(run(kernel, 2 * RING_BYTES as usize / RECORD_BYTES), 2, "it is full");
    assert!(rings(kernel, 10));
    assert!(kernel.effect().records.len() <= 2 * in_a_segment * RING_BYTES as usize / SEGMENT_BYTES);
}
