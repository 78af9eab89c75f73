//! Recorded Airflow traffic over the cable: the exposition must be the reference's, by every way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::daemon::Daemon;
use super::figures::{Figures, Open, SHUT};
use super::traffic::{Cable, Pace, cpus, play, stay_on};
use super::world::{Family, World};
use crate::corpus::{self, Recorded};
use crate::reference::{self, Expected};

const XDP: Open = Open { xdp: true, ..SHUT };
const SOCKET_FILTER: Open = Open { socket_filter: true, ..SHUT };
const BOTH: Open = Open { xdp: true, socket_filter: true, ..SHUT };

/// Promote what moves, and look often, so that identities come and go within a replay.
const BRISK: [&str; 2] = ["--promotion.interval=100ms", "--promotion.min-rate=5"];

/// A recording, and what playing it several times in a row must come to.
struct Case {
    datagrams: Vec<Recorded>,
    expected: Expected,
}

fn case(name: &str, rounds: usize) -> Arc<Case> {
    type Cases = HashMap<(String, usize), Arc<Case>>;
    static CASES: Mutex<Option<Cases>> = Mutex::new(None);
    let mut cases = CASES.lock().unwrap_or_else(PoisonError::into_inner);
    let case = cases.get_or_insert_default().entry((name.to_owned(), rounds)).or_insert_with(|| {
        let datagrams = corpus::load(name).expect("the recording loads");
        let all: Vec<&Recorded> = (0..rounds).flat_map(|_| &datagrams).collect();
        // Slots are drained in another order than rings.
        let expected = reference::expect(&all).order_free();
        Arc::new(Case { datagrams, expected })
    });
    Arc::clone(case)
}

fn start(world: &World, open: Open) -> Daemon {
    let mut flags = BRISK.to_vec();
    flags.extend(match open {
        SHUT => vec!["--ebpf=off"],
        SOCKET_FILTER => vec!["--ebpf=required"],
        XDP => vec!["--ebpf=required", "--ebpf.doors=xdp", "--xdp.interface=veth-d"],
        _ => vec!["--ebpf=required", "--xdp.interface=veth-d"],
    });
    // Room for a whole burst: what does not fit takes the socket, and overtakes what is in the ring.
    flags.push("--ebpf.ring-bytes=4Mi");
    let daemon = world.start(&flags);
    assert_eq!(daemon.figures().doors_open(), open);
    daemon
}

/// Whether the exposition is the reference's, and every sum of the ledger holds.
#[track_caller]
fn check(world: &World, daemon: &Daemon, expected: &Expected, what: &str) -> Figures {
    let text = daemon.scrape();
    let figures = Figures::read(&text);
    assert_eq!(world.cable_drops(), 0, "{what}: lost before any door");
    figures.check_datagrams(expected.datagrams);
    assert_eq!(figures.lost(), 0, "{what}");
    figures.check_lines(expected);
    if let Err(differences) = expected.compare(&text) {
        let shown = differences.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        panic!("{what}: {} differences\n{shown}\n{}", differences.len(), figures.ledger());
    }
    figures
}

/// Each recording twice, as fast as it goes, once over each family: the second time, its hot counters
/// are in slots, for what an identity is promoted by does not say which family it came by.
fn flat_out(open: Open) {
    for (at, name) in corpus::names().expect("the corpus is there").iter().enumerate() {
        let case = case(name, 2);
        let [first, second] = if at % 2 == 0 { Family::ALL } else { [Family::V6, Family::V4] };
        let what = format!("{name}, {open:?}, first over {first:?}");
        let world = World::new();
        let daemon = start(&world, open);
        let once = case.datagrams.len() as u64;
        play(&world, &daemon, first, &case.datagrams, Pace::FlatOut, 0);
        if open != SHUT {
            let promoted = |figures: &Figures| figures.sum("rotameter_promotions_total", &[]) > 0;
            daemon.wait_for_figures("a promotion", promoted);
        }
        play(&world, &daemon, second, &case.datagrams, Pace::FlatOut, once);
        let figures = check(&world, &daemon, &case.expected, &what);
        println!("{what}: {} of {} in slots", figures.counted(), 2 * once);
        if open != SHUT {
            assert!(figures.counted() * 10 > once, "{what}: only {} in slots", figures.counted());
        }
        if open.xdp {
            assert_eq!(figures.door("socket_filter", "counted"), 0, "{what}: XDP comes first");
        }
        daemon.stop();
    }
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn flat_out_by_xdp() {
    flat_out(XDP);
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn flat_out_by_socket_filter() {
    flat_out(SOCKET_FILTER);
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn flat_out_by_both_doors() {
    flat_out(BOTH);
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn flat_out_by_the_socket() {
    flat_out(SHUT);
}

/// Every recording a hundred times faster than it was, each by another way: bursts and pauses are
/// kept, so identities are promoted and demoted in the midst of their traffic.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_hundred_times_faster() {
    let ways = [BOTH, XDP, SOCKET_FILTER, SHUT];
    let mut demotions = 0;
    for (at, name) in corpus::names().expect("the corpus is there").iter().enumerate() {
        let (open, family) = (ways[at % ways.len()], Family::ALL[at / ways.len() % 2]);
        let case = case(name, 1);
        let world = World::new();
        let daemon = start(&world, open);
        play(&world, &daemon, family, &case.datagrams, Pace::Times(100), 0);
        let figures = check(&world, &daemon, &case.expected, &format!("{name}, {open:?}, {family:?}"));
        demotions += figures.sum("rotameter_demotions_total", &[]);
        println!("{name} {open:?}: {} in slots, {demotions} demotions", figures.counted());
        daemon.stop();
    }
    assert!(demotions > 0, "nothing was demoted");
}

/// The first twenty seconds of a recording, as they were.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn at_recorded_speed() {
    let mut datagrams = corpus::load("airflow-v3-celery-default").expect("the recording loads");
    let begin = datagrams[0].at;
    datagrams.retain(|datagram| datagram.at - begin < Duration::from_secs(20));
    let expected = reference::expect(&datagrams).order_free();
    let world = World::new();
    let daemon = start(&world, BOTH);
    play(&world, &daemon, Family::V4, &datagrams, Pace::Times(1), 0);
    check(&world, &daemon, &expected, "recorded speed");
    daemon.stop();
}

/// One sender on each CPU, each with half of the names: several rings at once, without an order
/// between them, and none is needed.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn senders_on_all_cpus() {
    let mut datagrams = corpus::load("airflow-v3-local-default").expect("the recording loads");
    datagrams.truncate(24_000);
    let expected = reference::expect(&datagrams).order_free();
    let cpus = cpus();
    let share = |datagram: &Recorded| {
        let name = datagram.payload.split(|byte| *byte == b':').next().unwrap_or_default();
        name.iter().map(|byte| usize::from(*byte)).sum::<usize>() % cpus.len()
    };
    for open in [XDP, SOCKET_FILTER, BOTH] {
        let world = World::new();
        let daemon = start(&world, open);
        std::thread::scope(|scope| {
            for (number, cpu) in cpus.iter().enumerate() {
                let (world, datagrams, share) = (&world, &datagrams, &share);
                scope.spawn(move || {
                    stay_on(*cpu);
                    let mut cable = Cable::new(world, Family::V4);
                    for datagram in datagrams.iter().filter(|datagram| share(datagram) == number) {
                        // The other one may have the same source port.
                        cable.send(&Recorded { port: 0, ..datagram.clone() });
                    }
                });
            }
        });
        let sent = datagrams.len() as u64;
        daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
        check(&world, &daemon, &expected, &format!("all CPUs, {open:?}"));
        daemon.stop();
    }
}
