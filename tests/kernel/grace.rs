//! A grace period -> nothing else has changed.

use std::time::Instant;

use rotameter_bench::frame::frame;

use super::loaded::Loaded;

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_grace_period_can_be_had_without_membarrier_and_leaves_the_rings_where_they_are() {
    let mut kernel = Loaded::new();
    let frame = frame().payload(b"cold.timer:1.5|ms");
    let before = kernel.run_xdp(&frame);
    assert_eq!(before.records.len(), 1, "{before:?}");
    for _ in 0..3 {
        let start = Instant::now();
        kernel.object.tables.grace.wait_by_map().expect("an update of a map of maps");
        println!("grace period by map: {:?}", start.elapsed());
        assert_eq!(kernel.run_xdp(&frame), before);
    }
    kernel.object.tables.grace.wait().expect("one of the two ways");
    assert_eq!(kernel.run_xdp(&frame), before);
}
