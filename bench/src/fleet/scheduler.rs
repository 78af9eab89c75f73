//! One loop of a scheduler -> its timers and gauges, DAG runs looked at, tasks queued.

use std::time::Duration;

use super::{
    Fleet, Version,
    agenda::Event,
    burst::Burst,
    ids,
    lines::Value,
    world::{HEARTBEAT, State},
};

/// Runs that a loop looks at: `max_dagruns_per_loop_to_schedule`.
const RUNS_PER_LOOP: usize = 20;

impl Fleet {
    pub(super) fn scheduler_loop(&mut self, at: Duration, scheduler: usize) {
        self.create_runs(at, scheduler);
        self.look_at_runs(at, scheduler);
        self.critical_section(at, scheduler);
        self.executor_gauges(at, scheduler);
        let next = self.world.settings.loop_time.mul_f64(self.world.random.between(0.6, 1.4));
        self.agenda.add(at + next, Event::Loop(scheduler));
    }

    pub(super) fn scheduler_heartbeat(&mut self, at: Duration, scheduler: usize) {
        let sender = self.world.scheduler_sender(scheduler);
        Burst::new(&mut self.world, &mut self.outbox, sender, at).line(
            "scheduler_heartbeat",
            &[],
            Value::Count(1),
        );
        self.agenda.add(at + HEARTBEAT, Event::SchedulerHeartbeat(scheduler));
    }

    /// A run of some DAG becomes due; few DAGs run every few minutes, most once a day.
    pub(super) fn run_due(&mut self, at: Duration) {
        let dags = self.world.settings.dags;
        let dag = self.world.random.below(dags).min(self.world.random.below(dags));
        if self.world.due.len() < dags {
            self.world.due.push_back(dag);
        }
        let tasks = self.world.settings.tasks_per_dag as f64;
        let mean = tasks / self.world.settings.task_rate(at).max(1e-6);
        let next = self.world.random.exponential(mean).clamp(1e-6, 86_400.0);
        self.agenda.add(at + Duration::from_secs_f64(next), Event::RunDue);
    }

    fn create_runs(&mut self, at: Duration, scheduler: usize) {
        let sender = self.world.scheduler_sender(scheduler);
        let version = self.world.settings.version;
        let tasks = self.world.settings.tasks_per_dag;
        for _ in 0..(self.world.settings.tasks_per_loop / 10).max(10) {
            let Some(dag) = self.world.due.pop_front() else { return };
            let Some(run) = self.world.begin_run(dag, at) else { continue };
            self.world.schedule_tasks(run, at);
            let delay = self.world.random.between(200.0, 20_000.0);
            let id = self.world.ids.dags[dag].clone();
            let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
            for operator in 0..ids::operators(tasks) {
                let operator = ids::operator(operator);
                let tags = [("dag_id", id.real.as_str()), ("run_type", "scheduled"), ("task_type", operator)];
                burst.pair(
                    &format!("task_instance_created_{operator}"),
                    &tags[..2],
                    "task_instance_created",
                    &tags,
                    Value::Count(i64::try_from(tasks.div_ceil(8)).unwrap_or(1)),
                );
            }
            if version == Version::V3_3 {
                burst.line("scheduler.dag_bag.cache_hit", &[], Value::Count(1));
            }
            let delay = self.world.lines.run_time(delay);
            let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
            burst.pause(1.0);
            burst.pair(
                &format!("dagrun.schedule_delay.{}", id.encoded),
                &[],
                "dagrun.schedule_delay",
                &[("dag_id", &id.real)],
                delay,
            );
        }
    }

    fn look_at_runs(&mut self, at: Duration, scheduler: usize) {
        let version = self.world.settings.version;
        let sender = self.world.scheduler_sender(scheduler);
        let count = self.world.running_runs.len().min(RUNS_PER_LOOP);
        let mut at = at + Duration::from_millis(2);
        for _ in 0..count {
            let Some(number) = self.world.running_runs.pop_front() else { break };
            let Some(run) = self.world.runs.get_mut(number) else { continue };
            let (dag, finished, failed) = (run.dag, run.finished(), run.failed);
            let lasted = at.saturating_sub(run.began).as_secs_f64() * 1e3;
            let report_first = run.first_started && !run.first_reported;
            run.first_reported |= report_first;
            let id = self.world.ids.dags[dag].clone();
            let check = self.world.random.between(1.2, 8.0);
            let misses = version == Version::V3_3 && self.world.random.chance(0.003);
            let check = self.world.lines.block_time(check);
            let (delay, lasted) =
                (self.world.lines.run_time(lasted.min(20_000.0)), self.world.lines.run_time(lasted));
            let size = u64::try_from(self.world.settings.dags.min(2_000)).unwrap_or(0);
            let sampled = misses && self.world.random.chance(0.1);
            let restored = self.world.random.chance(0.001);
            let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
            let tags = [("dag_id", id.real.as_str()), ("run_type", "scheduled")];
            let left: &[_] = match version {
                Version::V2_11 => &[],
                Version::V3_1 | Version::V3_3 => &tags[1..],
            };
            let full_or_left: &[_] = if version == Version::V3_3 { left } else { &tags };
            if version == Version::V3_3 {
                let kind =
                    if misses { "scheduler.dag_bag.cache_miss" } else { "scheduler.dag_bag.cache_hit" };
                burst.line(kind, &[], Value::Count(1));
                if sampled {
                    burst.line("scheduler.dag_bag.cache_size", &[], Value::Sampled(size));
                }
                burst.pause(2.0);
            }
            burst.pair_reversed(
                &format!("dagrun.dependency-check.{}", id.encoded),
                left,
                "dagrun.dependency-check",
                &tags,
                check,
            );
            if restored {
                burst.pair(
                    &format!("task_restored_to_dag.{}", id.encoded),
                    full_or_left,
                    "task_restored_to_dag",
                    &tags,
                    Value::Count(1),
                );
            }
            if report_first {
                let name = format!("dagrun.{}.first_task_scheduling_delay", id.encoded);
                burst.line(&name, &tags, delay);
                if version == Version::V3_3 {
                    burst.pair(&name, &tags, "dagrun.first_task_scheduling_delay", &tags, delay);
                    burst.line("dagrun.first_task_start_delay", &tags, delay);
                } else {
                    burst.line("dagrun.first_task_scheduling_delay", &tags, delay);
                }
            }
            if finished {
                let name = if failed { "dagrun.duration.failed" } else { "dagrun.duration.success" };
                burst.pair(&format!("{name}.{}", id.encoded), full_or_left, name, &tags, lasted);
                if failed && version == Version::V2_11 {
                    burst.line("sla_missed", &[("dag_id", &id.real)], Value::Count(1));
                }
            }
            at = burst.at() + Duration::from_millis(2);
            if finished {
                self.world.end_run(number);
            } else {
                self.world.running_runs.push_back(number);
            }
        }
        if version == Version::V3_3 {
            // Once more for each run, when its callbacks are looked for.
            let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
            for _ in 0..count {
                burst.line("scheduler.dag_bag.cache_hit", &[], Value::Count(1));
            }
        }
    }

    /// Gives free slots to tasks that wait.
    fn critical_section(&mut self, at: Duration, scheduler: usize) {
        let free = self.world.settings.slots().saturating_sub(self.world.taken_slots);
        if free == 0 {
            return;
        }
        let version = self.world.settings.version;
        let sender = self.world.scheduler_sender(scheduler);
        let at = at + Duration::from_millis(60);
        let batch = free.min(self.world.settings.tasks_per_loop).min(self.world.scheduled.len());
        let (query, section) = (self.world.random.between(2.0, 8.0), self.world.random.between(8.0, 20.0));
        let (query, section) = (self.world.lines.block_time(query), self.world.lines.block_time(section));
        let starving = self.world.scheduled.len() > batch;
        let pool = if self.world.random.chance(0.6) { self.world.ids.pools.first().cloned() } else { None };
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
        burst.line("scheduler.critical_section_query_duration", &[], query);
        if let Some(pool) = pool {
            let tasks = Value::Gauge(u64::from(starving));
            let tags = [("pool_name", pool.as_str())];
            burst.pair(&format!("pool.starving_tasks.{pool}"), &[], "pool.starving_tasks", &tags, tasks);
        }
        burst.line("scheduler.tasks.starving", &[], Value::Gauge(u64::from(starving)));
        burst.line("scheduler.tasks.executable", &[], Value::Gauge(u64::try_from(batch).unwrap_or(u64::MAX)));
        let mut now = burst.at();
        for _ in 0..batch {
            let Some(number) = self.world.scheduled.pop_front() else { break };
            self.world.move_to(number, Some(State::Scheduled), Some(State::Queued));
            self.world.taken_slots += 1;
            let latency = self.world.random.between(0.05, 1.0);
            self.agenda.add(at + Duration::from_secs_f64(latency), Event::Start(number));
            let Some(attempt) = self.world.attempts.get(number).cloned() else { continue };
            // 2.x takes this time only of tasks that were started before.
            if version == Version::V2_11 && attempt.number == 1 {
                continue;
            }
            let waited = at.saturating_sub(attempt.scheduled_at).as_secs_f64() * 1e3;
            let waited = self.world.lines.wait_time(waited);
            let (dag, task) =
                (self.world.ids.dags[attempt.dag].clone(), self.world.ids.tasks[attempt.task].clone());
            let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, now);
            let name = format!("dag.{}.{}.scheduled_duration", dag.encoded, task.encoded);
            let tags = [
                ("dag_id", dag.real.as_str()),
                ("task_id", task.real.as_str()),
                ("queue", ids::queue(attempt.dag)),
            ];
            if version == Version::V3_3 {
                burst.pair(&name, &tags[2..], "task.scheduled_duration", &tags, waited);
            } else {
                burst.pair(&name, &[], "task.scheduled_duration", &tags[..2], waited);
            }
            now = burst.at();
        }
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, now);
        burst.line("scheduler.critical_section_duration", &[], section);
    }

    fn executor_gauges(&mut self, at: Duration, scheduler: usize) {
        let version = self.world.settings.version;
        let class = self.world.settings.executor.class();
        let sender = self.world.scheduler_sender(scheduler);
        let at = at + Duration::from_millis(80);
        let taken = self.world.taken_slots;
        let queued = usize::try_from(self.world.counts(State::Queued).values().sum::<u64>()).unwrap_or(0);
        let [beat, looped] = [(15.0, 30.0), (200.0, 600.0)]
            .map(|(low, high)| self.world.random.between(low, high))
            .map(|milliseconds| self.world.lines.block_time(milliseconds));
        let gauges = [
            ("executor.open_slots", "open", self.world.settings.slots().saturating_sub(taken)),
            ("executor.queued_tasks", "queued", queued),
            ("executor.running_tasks", "running", taken.saturating_sub(queued)),
        ];
        let kubernetes = self.world.settings.executor == super::Executor::Kubernetes;
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
        for (name, status, value) in gauges {
            let value = Value::Gauge(u64::try_from(value).unwrap_or(u64::MAX));
            if version == Version::V3_3 {
                let tags = [("status", status), ("executor_class_name", class)];
                burst.pair(&format!("{name}.{class}"), &tags[..1], name, &tags, value);
            } else {
                burst.line(name, &[("status", status), ("name", class)], value);
            }
        }
        if kubernetes {
            burst.line("kubernetes_executor.adopt_task_instances.duration", &[], beat);
        }
        if version == Version::V3_3 {
            burst.pause(20.0);
            burst.line("scheduler.executor_heartbeat_duration", &[("executor", class)], beat);
            burst.line("connection_test.active", &[], Value::Gauge(0));
            burst.line("connection_test.pending", &[], Value::Gauge(0));
        }
        burst.line("scheduler.scheduler_loop_duration", &[], looped);
    }
}
