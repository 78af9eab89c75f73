//! A recording -> datagrams on the cable, in order, from one socket per recorded source port.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::daemon::Daemon;
use super::world::{Family, World};
use crate::corpus::Recorded;

/// Sockets that one replay opens; further source ports share them.
const SOCKETS_MAX: usize = 128;
/// Datagrams sent in one go. Far fewer than socket buffer and rings hold, so that a replay loses
/// nothing however late the daemon comes to read.
const BURST: usize = 8_192;
/// How often the daemon is scraped while a replay keeps time.
const SCRAPE_INTERVAL: Duration = Duration::from_millis(100);

/// How fast a recording is played.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As fast as the sender can.
    FlatOut,
    /// So many times faster than it was recorded.
    Times(u32),
}

/// Plays `datagrams`, and returns when all of them are accounted for; `sent_before` were already.
///
/// One thread sends, and stays on one CPU until all that it sent there has been drained: then order
/// on the way is order of sending, and what the exposition must show is exact. Flat out, it changes
/// CPUs after every burst, so each ring gets its share.
pub(super) fn play(
    world: &World,
    daemon: &Daemon,
    family: Family,
    datagrams: &[Recorded],
    pace: Pace,
    sent_before: u64,
) {
    let mut cable = Cable::new(world, family);
    let cpus = cpus();
    std::thread::scope(|scope| {
        scope
            .spawn(|| match pace {
                Pace::FlatOut => {
                    let mut sent = sent_before;
                    for (burst, cpu) in datagrams.chunks(BURST).zip(cpus.iter().cycle()) {
                        stay_on(*cpu);
                        burst.iter().for_each(|datagram| cable.send(datagram));
                        sent += burst.len() as u64;
                        daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
                    }
                }
                Pace::Times(times) => {
                    stay_on(cpus[0]);
                    keep_time(&mut cable, daemon, datagrams, times);
                    let sent = sent_before + datagrams.len() as u64;
                    daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
                }
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Sends each datagram at its time, while scrapes come by.
fn keep_time(cable: &mut Cable<'_>, daemon: &Daemon, datagrams: &[Recorded], times: u32) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                daemon.figures();
                std::thread::sleep(SCRAPE_INTERVAL);
            }
        });
        let (start, first) = (Instant::now(), datagrams.first().map_or(Duration::ZERO, |first| first.at));
        for datagram in datagrams {
            let due = (datagram.at - first) / times;
            if let Some(wait) =
                due.checked_sub(start.elapsed()).filter(|wait| *wait > Duration::from_micros(50))
            {
                std::thread::sleep(wait);
            }
            cable.send(datagram);
        }
        done.store(true, Ordering::Relaxed);
        scraper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// The senders' sockets.
pub(super) struct Cable<'a> {
    world: &'a World,
    family: Family,
    /// Source port of the recording -> socket.
    of_port: HashMap<u16, usize>,
    sockets: Vec<UdpSocket>,
}

impl<'a> Cable<'a> {
    pub(super) fn new(world: &'a World, family: Family) -> Self {
        Self { world, family, of_port: HashMap::new(), sockets: Vec::new() }
    }

    pub(super) fn send(&mut self, datagram: &Recorded) {
        let number = match self.of_port.get(&datagram.port) {
            Some(number) => *number,
            None => {
                let number = self.of_port.len() % SOCKETS_MAX;
                if number == self.sockets.len() {
                    self.sockets.push(self.socket(datagram.port));
                }
                self.of_port.insert(datagram.port, number);
                number
            }
        };
        let sent = self.sockets[number].send(&datagram.payload).expect("the daemon listens");
        assert_eq!(sent, datagram.payload.len());
    }

    fn socket(&self, port: u16) -> UdpSocket {
        self.world.theirs.inside(|| {
            let socket = UdpSocket::bind((self.family.theirs(), port)).expect("nobody else has the port");
            socket.connect(World::target(self.family)).expect("a route");
            socket
        })
    }
}

/// CPUs that this process may use, by number.
pub(super) fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).expect("a thread has an affinity");
    (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
}

/// Keeps the present thread on one CPU.
pub(super) fn stay_on(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).expect("the CPU is among the allowed ones");
}
