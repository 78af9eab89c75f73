//! An Airflow fleet -> the datagrams it sends, with sender and time.
//!
//! A small simulation: DAG runs become due, schedulers look at them and queue their tasks, tasks
//! start and end, and every process sends what Airflow sends at that moment. The same settings and
//! seed give the same datagrams. What each step sends was taken from recordings of Airflow 2.11, 3.1
//! and 3.3; a test holds the model against them.

mod agenda;
mod burst;
pub mod family;
mod ids;
mod lines;
mod processes;
mod random;
#[cfg(test)]
mod recorded;
mod reports;
mod scheduler;
mod settings;
mod task;
mod world;

use std::time::Duration;

pub use settings::{Dialect, Executor, Peak, Preset, Settings, Version};

use agenda::{Agenda, Event};
use burst::Outbox;
use world::World;

/// One process that sends: a host and a source port on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    pub host: u32,
    pub port: u16,
}

/// What one process sent at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub sender: Sender,
    /// Since the beginning of the model.
    pub at: Duration,
    pub bytes: Vec<u8>,
}

/// A fleet at work. It never ends: take as many datagrams as you need.
#[derive(Debug)]
pub struct Fleet {
    world: World,
    agenda: Agenda,
    outbox: Outbox,
}

impl Fleet {
    /// A ready-made fleet.
    #[must_use]
    pub fn preset(preset: Preset, seed: u64) -> Self {
        Self::new(Settings::preset(preset), seed)
    }

    /// The fleet of these settings; sizes that are too large for a machine are cut.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        let mut fleet = Self {
            world: World::new(settings.bounded(), seed),
            agenda: Agenda::default(),
            outbox: Outbox::default(),
        };
        fleet.begin();
        fleet
    }

    /// Puts the first of every recurring event into the agenda, and fills the fleet with the tasks
    /// that run on the mean.
    fn begin(&mut self) {
        let settings = self.world.settings.clone();
        let first = |world: &mut World, every: Duration| {
            if settings.aligned { Duration::ZERO } else { every.mul_f64(world.random.unit()) }
        };
        for scheduler in 0..settings.schedulers {
            for (event, every) in [
                (Event::Loop(scheduler), settings.loop_time),
                (Event::SchedulerHeartbeat(scheduler), world::HEARTBEAT),
                (Event::Pools(scheduler), world::POOLS_EVERY),
                (Event::States(scheduler), settings.report_every),
                (Event::SchedulerTelemetry(scheduler), world::TELEMETRY_EVERY),
            ] {
                let at = first(&mut self.world, every);
                self.agenda.add(at, event);
            }
        }
        for triggerer in 0..settings.triggerers {
            let at = first(&mut self.world, Duration::from_secs(1));
            self.agenda.add(at, Event::Trigger(triggerer));
        }
        for (event, every) in [
            (Event::ProcessorHeartbeat, world::HEARTBEAT),
            (Event::ManagerLoop, Duration::from_secs(1)),
            (Event::Parse, Duration::from_secs(1)),
            (Event::Files, settings.report_every),
            (Event::RunDue, Duration::from_secs(1)),
            (Event::ProcessorTelemetry, world::TELEMETRY_EVERY),
            (Event::Orphans, Duration::from_secs(60)),
        ] {
            let at = first(&mut self.world, every);
            self.agenda.add(at, event);
        }
        self.world.warm(&mut self.agenda);
        self.process_starts();
    }

    fn handle(&mut self, at: Duration, event: Event) {
        match event {
            Event::Loop(scheduler) => self.scheduler_loop(at, scheduler),
            Event::SchedulerHeartbeat(scheduler) => self.scheduler_heartbeat(at, scheduler),
            Event::Pools(scheduler) => self.pools(at, scheduler),
            Event::States(scheduler) => self.states(at, scheduler),
            Event::SchedulerTelemetry(scheduler) => self.scheduler_telemetry(at, scheduler),
            Event::Trigger(triggerer) => self.trigger_loop(at, triggerer),
            Event::ProcessorHeartbeat => self.processor_heartbeat(at),
            Event::ManagerLoop => self.manager_loop(at),
            Event::Parse => self.parse_file(at),
            Event::Files => self.files(at),
            Event::ProcessorTelemetry => self.processor_telemetry(at),
            Event::Orphans => self.orphans(at),
            Event::RunDue => self.run_due(at),
            Event::Start(attempt) => self.start(at, attempt),
            Event::Usage(attempt) => self.usage(at, attempt),
            Event::End(attempt) => self.end(at, attempt),
            Event::Fired(attempt) => self.fired(at, attempt),
        }
    }
}

impl Iterator for Fleet {
    type Item = Datagram;

    fn next(&mut self) -> Option<Datagram> {
        loop {
            let next_event = self.agenda.next_at()?;
            if self.outbox.next_at().is_some_and(|at| at <= next_event) {
                return self.outbox.take();
            }
            let (at, event) = self.agenda.take()?;
            self.handle(at, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_datagrams_in_order_of_time() {
        for preset in [Preset::Small, Preset::Large, Preset::Huge, Preset::Burst] {
            let one: Vec<Datagram> = Fleet::preset(preset, 7).take(5_000).collect();
            assert!(one.is_sorted_by_key(|datagram| datagram.at), "{preset:?}");
            assert!(one.iter().eq(Fleet::preset(preset, 7).take(5_000).collect::<Vec<_>>().iter()));
            assert_ne!(one, Fleet::preset(preset, 8).take(5_000).collect::<Vec<_>>());
            let senders: std::collections::BTreeSet<Sender> =
                one.iter().map(|datagram| datagram.sender).collect();
            assert!(senders.len() > 3, "{preset:?}");
        }
    }
}
