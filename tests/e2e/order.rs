//! One sender that moves between CPUs -> its datagrams in the order in which it sent them.

use std::time::Duration;

use super::figures::Figures;
use super::traffic::{Cable, cpus, stay_on};
use super::world::{Family, World};
use crate::corpus::Recorded;

/// Gauges; each is set to zero on one CPU and moved on another, as Airflow's plain client does for a
/// negative value, in two datagrams.
const GAUGES: usize = 500;

fn check(flags: &[&str]) {
    let cpus = cpus();
    assert!(cpus.len() > 1, "a single CPU has a single ring; the test needs two");
    let world = World::new();
    let daemon = world.start(flags);
    let mut cable = Cable::new(&world, Family::V4);
    let mut send = |cpu: usize, gauge: usize, value: &str| {
        stay_on(cpu);
        let payload = format!("order.{gauge}:{value}|g").into_bytes();
        cable.send(&Recorded { at: Duration::ZERO, port: 0, payload });
    };
    // Something to be wrong about: a gauge that is moved before it is set would move from here.
    for gauge in 0..GAUGES {
        send(cpus[0], gauge, "100");
    }
    let mut sent = GAUGES as u64;
    daemon.wait_for_figures("all at 100", |figures| figures.accounted() >= sent);
    for gauge in 0..GAUGES {
        let (first, second) = if gauge % 2 == 0 { (cpus[0], cpus[1]) } else { (cpus[1], cpus[0]) };
        send(first, gauge, "0");
        send(second, gauge, "-8");
    }
    sent += 2 * GAUGES as u64;
    daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
    let text = daemon.scrape();
    assert_eq!(Figures::read(&text).ringed(), sent, "the rings are what this is about");
    let wrong: Vec<&str> =
        text.lines().filter(|line| line.starts_with("order_") && !line.ends_with(" -8")).collect();
    assert!(wrong.is_empty(), "{} of {GAUGES} gauges: {:?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    assert_eq!(text.lines().filter(|line| line.starts_with("order_")).count(), GAUGES);
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_gauge_set_on_one_cpu_and_moved_on_another_is_set_first() {
    for flags in [&["--ebpf=required", "--xdp.interface=veth-d"][..], &["--ebpf=required"]] {
        // A thread of its own, for it stays on the CPU that it was sent to last.
        std::thread::scope(|scope| scope.spawn(|| check(flags)).join().expect("the check panicked"));
    }
}
