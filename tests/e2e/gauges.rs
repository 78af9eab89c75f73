//! Gauges that the kernel keeps, changed on two CPUs and by every way in -> always what was sent last.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::daemon::Daemon;
use super::traffic::{Cable, cpus, stay_on};
use super::world::{Family, World};
use crate::corpus::Recorded;

const GAUGES: usize = 20;
const ROUNDS: usize = 120;

/// Sends and remembers what each gauge must be.
struct Sender<'a> {
    cable: Cable<'a>,
    cpus: Vec<usize>,
    sent: usize,
    expected: Vec<String>,
}

impl Sender<'_> {
    /// Each datagram leaves from another CPU than the one before it.
    fn send(&mut self, payload: &str) {
        stay_on(self.cpus[self.sent % 2]);
        self.sent += 1;
        self.cable.send(&Recorded { at: Duration::ZERO, port: 0, payload: payload.as_bytes().to_vec() });
    }

    fn set(&mut self, gauge: usize, value: &str) {
        self.send(&format!("kept.{gauge}:{value}|g"));
        value.clone_into(&mut self.expected[gauge]);
    }

    /// One scrape after the last datagram shows them all.
    #[track_caller]
    fn check(&self, daemon: &Daemon) {
        let text = daemon.scrape();
        let number = |text: &str| text.parse::<f64>().expect("a number");
        for (gauge, value) in self.expected.iter().enumerate() {
            let name = format!("kept_{gauge} ");
            let shown = text.lines().find_map(|line| line.strip_prefix(&name)).map(number);
            assert_eq!(shown, Some(number(value)), "kept.{gauge} after {} datagrams", self.sent);
        }
    }
}

/// Values for a slot, and now and then one that must take the way through the ring.
fn value(gauge: usize, round: usize) -> String {
    match (gauge + round) % 9 {
        0 => format!("{round}.5"),
        1 => format!("{round}.51325380354401"),
        2 => format!("{round}.5132538035440165"),
        _ => format!("{}", gauge * 1000 + round),
    }
}

fn check(flags: &[&str]) {
    let cpus = cpus();
    assert!(cpus.len() > 1, "a single CPU has a single row of slots; the test needs two");
    let world = World::new();
    let mut all = vec!["--promotion.interval=100ms", "--promotion.min-rate=1"];
    all.extend(flags);
    let daemon = world.start(&all);
    let cable = Cable::new(&world, Family::V4);
    let mut sender = Sender { cable, cpus, sent: 0, expected: vec![String::new(); GAUGES] };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Drains at any moment must make no difference.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                daemon.scrape();
            }
        });
        for relative in [false, true] {
            let counted = daemon.figures().counted();
            daemon.wait_for_figures("the kernel keeps gauges", |figures| {
                (0..GAUGES).for_each(|gauge| sender.set(gauge, "7"));
                figures.counted() > counted
            });
            for round in 0..ROUNDS {
                for gauge in 0..GAUGES {
                    sender.set(gauge, &value(gauge, round));
                }
                if round % 10 == 0 {
                    sender.check(&daemon);
                }
            }
            sender.check(&daemon);
            if relative {
                // Relative values while the kernel has the gauges: the set before each must not be lost,
                // and none may come after it.
                for gauge in 0..GAUGES {
                    sender.set(gauge, "0");
                    sender.send(&format!("kept.{gauge}:-8|g"));
                    sender.send(&format!("kept.{gauge}:+{gauge}|g"));
                    sender.expected[gauge] = format!("{}", i32::try_from(gauge).expect("few") - 8);
                }
                sender.check(&daemon);
                // From now on these are no longer the kernel's.
                daemon.wait_for_exposition("nothing is promoted", |text| {
                    text.lines().any(|line| line == "rotameter_promoted_identities 0")
                });
            }
        }
        for round in 0..20 {
            for gauge in 0..GAUGES {
                sender.set(gauge, &value(gauge, round));
            }
        }
        sender.check(&daemon);
        stop.store(true, Ordering::Relaxed);
    });
    let figures = daemon.figures();
    assert_eq!(figures.accounted(), sender.sent as u64);
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_gauge_in_the_kernel_is_what_was_sent_last_on_any_cpu() {
    for flags in [&["--ebpf=required", "--xdp.interface=veth-d"][..], &["--ebpf=required"]] {
        // A thread of its own, for it stays on the CPU that it was sent to last.
        std::thread::scope(|scope| scope.spawn(|| check(flags)).join().expect("the check panicked"));
    }
}

/// Three daemons, one after the other: the first is killed, the second stopped.
fn check_restarts() {
    let cpus = cpus();
    let world = World::new();
    for round in 0..3 {
        let flags = ["--ebpf=required", "--promotion.interval=100ms", "--promotion.min-rate=1"];
        let mut daemon = world.start(&flags);
        assert!(!daemon.scrape().contains("\nkept_"), "nothing is left of the one before");
        let (cable, expected) = (Cable::new(&world, Family::V4), vec![String::new(); GAUGES]);
        let mut sender = Sender { cable, cpus: cpus.clone(), sent: 0, expected };
        daemon.wait_for_figures("the kernel keeps gauges", |figures| {
            (0..GAUGES).for_each(|gauge| sender.set(gauge, "7"));
            figures.counted() > 0
        });
        (0..GAUGES).for_each(|gauge| sender.set(gauge, &value(gauge, round)));
        sender.check(&daemon);
        if round == 0 {
            daemon.signal(Signal::KILL);
            daemon.ended();
        } else {
            daemon.stop();
        }
    }
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn gauges_in_the_kernel_begin_anew_with_each_daemon() {
    std::thread::scope(|scope| scope.spawn(check_restarts).join().expect("the check panicked"));
}

/// Two lines of one gauge, which is gone two seconds after its last value.
const SHORT_LIVED: &str = "
defaults: {ttl: 2s}
mappings:
- {match: short.lived.*, name: short_lived}
";

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_gauge_that_expires_leaves_the_kernel() {
    let world = World::new();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), SHORT_LIVED).expect("it can be written");
    let mapping = format!("--statsd.mapping-config={}", file.path().display());
    // It would be demoted for want of lines after ten seconds only.
    let flags = ["--ebpf=required", "--promotion.interval=1s", "--promotion.min-rate=1", &mapping];
    let daemon = world.start(&flags);
    let socket = world.socket(Family::V4);
    let send = |line: &str| socket.send(line.as_bytes()).expect("it can be sent");
    for round in 1..=3 {
        let counted = daemon.figures().counted();
        daemon.wait_for_figures("the kernel keeps the gauge", |figures| {
            send("short.lived.one:5|g");
            figures.counted() > counted
        });
        daemon.wait_for_exposition("it expires", |text| !text.contains("\nshort_lived "));
        // A value of the line that the kernel had, then a relative one of a line that nobody knows yet.
        send("short.lived.one:7|g");
        send(&format!("short.lived.other{round}:+{round}|g"));
        let text = daemon.scrape();
        assert!(text.contains(&format!("\nshort_lived {}\n", 7 + round)), "round {round}: {text}");
        daemon.wait_for_exposition("it expires once more", |text| !text.contains("\nshort_lived "));
    }
    daemon.stop();
}
