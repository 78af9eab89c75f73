//! The fleet's state at one moment -> gauges of pools, task states and files, all in one burst.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Fleet, Version,
    agenda::Event,
    burst::Burst,
    ids,
    lines::Value,
    world::{POOLS_EVERY, Place, State},
};

impl Fleet {
    /// Five gauges of each pool, of every scheduler alike.
    pub(super) fn pools(&mut self, at: Duration, scheduler: usize) {
        let sender = self.world.scheduler_sender(scheduler);
        let pools = self.world.ids.pools.clone();
        let share = self.world.taken_slots / pools.len().max(1);
        let uses: Vec<u64> = pools
            .iter()
            .map(|_| u64::try_from(self.world.random.below(2 * share + 2)).unwrap_or(0))
            .collect();
        let size = u64::try_from(4 * share + 8).unwrap_or(u64::MAX);
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
        for (place, (pool, running)) in pools.iter().zip(uses).enumerate() {
            let tags = [("pool_name", pool.as_str())];
            let open = if place == 1 { Value::Infinite } else { Value::Gauge(size.saturating_sub(running)) };
            for (name, value) in [
                ("pool.open_slots", open),
                ("pool.queued_slots", Value::Gauge(running / 8)),
                ("pool.running_slots", Value::Gauge(running)),
                ("pool.deferred_slots", Value::Gauge(running / 16)),
                ("pool.scheduled_slots", Value::Gauge(running / 4)),
            ] {
                burst.pair(&format!("{name}.{pool}"), &[], name, &tags, value);
            }
        }
        self.agenda.add(at + POOLS_EVERY, Event::Pools(scheduler));
    }

    /// How many tasks are in which state, for each task with any; and zero, once, where there are none
    /// left.
    pub(super) fn states(&mut self, at: Duration, scheduler: usize) {
        let version = self.world.settings.version;
        let report_every = self.world.settings.report_every;
        self.agenda.add(at + report_every, Event::States(scheduler));
        if version == Version::V2_11 {
            return;
        }
        let sender = self.world.scheduler_sender(scheduler);
        let mut at = at;
        for state in State::ALL {
            if version == Version::V3_1 && state != State::Running {
                continue;
            }
            let now: Vec<(Place, u64)> =
                self.world.counts(state).iter().map(|(place, count)| (*place, *count)).collect();
            let places: BTreeSet<Place> = now.iter().map(|(place, _)| *place).collect();
            let before = std::mem::replace(&mut self.world.reported[scheduler][state as usize], places);
            let gone = before.difference(&self.world.reported[scheduler][state as usize]);
            let gone: Vec<(Place, u64)> = gone.map(|place| (*place, 0)).collect();
            for (place, count) in now.into_iter().chain(gone) {
                at = self.state_gauge(at, sender, state, place, count);
            }
        }
        if version == Version::V3_3 {
            let runs = self.world.runs.len() as f64;
            Burst::new(&mut self.world, &mut self.outbox, sender, at).line(
                "scheduler.dagruns.running",
                &[],
                Value::Decimal(runs),
            );
        }
    }

    fn state_gauge(
        &mut self,
        at: Duration,
        sender: super::Sender,
        state: State,
        (dag, task): Place,
        count: u64,
    ) -> Duration {
        let (queue, family) = (ids::queue(dag), state.family());
        // 3.3 sends what the database's sum gave, a decimal; its zeros, and 3.1, do not.
        #[expect(clippy::cast_precision_loss, reason = "a number of tasks")]
        let value = match self.world.settings.version {
            Version::V3_3 if count > 0 => Value::Decimal(count as f64),
            _ => Value::Gauge(count),
        };
        let (dag, task) = (self.world.ids.dags[dag].clone(), self.world.ids.tasks[task].clone());
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
        burst.pair(
            &format!("{family}.{queue}.{}.{}", dag.encoded, task.encoded),
            &[],
            family,
            &[("queue", queue), ("dag_id", &dag.real), ("task_id", &task.real)],
            value,
        );
        burst.at()
    }

    /// When each file was parsed last, of all files in a row.
    pub(super) fn files(&mut self, at: Duration) {
        let version = self.world.settings.version;
        let sender = self.world.processor_sender();
        let mut at_now = at;
        for place in 0..self.world.ids.files.len() {
            let stem = self.world.ids.files[place].clone();
            let ago = Value::Timer(self.world.random.between(0.5, 60.0));
            let Value::Timer(ago) = ago else { continue };
            let ago = Value::Decimal((ago * 1e6).round() / 1e6);
            let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at_now);
            let name = format!("dag_processing.last_run.seconds_ago.{stem}");
            if version == Version::V3_3 {
                let path = format!("{stem}.py");
                let tags = [
                    ("file_path", path.as_str()),
                    ("bundle_name", "dags-folder"),
                    ("file_name", stem.as_str()),
                ];
                burst.pair(&name, &tags[..2], "dag_processing.last_run.seconds_ago", &tags, ago);
            } else {
                burst.line(&name, &[], ago);
            }
            if version == Version::V2_11 {
                burst.line(&format!("dag_processing.last_num_of_db_queries.{stem}"), &[], Value::Gauge(0));
            }
            at_now = burst.at();
        }
        let next = at + self.world.settings.report_every;
        self.agenda.add(next.max(at_now), Event::Files);
    }
}
