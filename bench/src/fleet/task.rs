//! A task's start, its run and its end -> what its process sends.

use std::time::Duration;

use super::{
    Executor, Fleet, Version,
    agenda::Event,
    burst::Burst,
    ids,
    lines::{Tag, Value},
    settings::Dialect,
    world::{Attempt, State},
};

/// All states that 2.x sets to zero at every start, in its order.
const FINISH_STATES: [&str; 14] = [
    "None",
    "removed",
    "scheduled",
    "queued",
    "running",
    "success",
    "restarting",
    "failed",
    "up_for_retry",
    "up_for_reschedule",
    "upstream_failed",
    "skipped",
    "deferred",
    "shutdown",
];
/// How often 2.x measures what a running task takes.
const USAGE_EVERY: Duration = Duration::from_secs(5);
const DEFERRED_SECONDS: f64 = 30.0;
const ATTEMPTS_MAX: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Failed,
    UpForRetry,
    Deferred,
    Skipped,
}

impl Outcome {
    const fn state(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::UpForRetry => "up_for_retry",
            Self::Deferred => "deferred",
            Self::Skipped => "skipped",
        }
    }
}

/// Names and tags of one attempt.
struct Names {
    dag: ids::Id,
    task: ids::Id,
}

impl Names {
    fn tags(&self) -> [Tag<'_>; 2] {
        [("dag_id", &self.dag.real), ("task_id", &self.task.real)]
    }

    /// `<dag>.<task>`, as it stands in names.
    fn path(&self) -> String {
        format!("{}.{}", self.dag.encoded, self.task.encoded)
    }
}

impl Fleet {
    /// The task's process starts: 26 to 33 datagrams in a row with 2.x, two with 3.x.
    pub(super) fn start(&mut self, at: Duration, number: usize) {
        let sender = self.world.task_sender();
        self.world.move_to(number, Some(State::Queued), Some(State::Running));
        let Some(attempt) = self.world.attempts.get_mut(number) else { return };
        (attempt.sender, attempt.running, attempt.started_at) = (sender, true, at);
        let attempt = attempt.clone();
        if let Some(run) = self.world.runs.get_mut(attempt.run) {
            run.first_started = true;
        }
        let names = self.names(&attempt);
        let version = self.world.settings.version;
        let kubernetes = self.world.settings.executor == Executor::Kubernetes;
        let waited = self.world.random.between(500.0, 8_000.0);
        let waited = self.world.lines.wait_time(waited);
        let created = self.world.random.between(20.0, 200.0);
        let created = self.world.lines.block_time(created);
        if kubernetes {
            let scheduler = self.world.scheduler_sender(0);
            let mut burst = Burst::new(&mut self.world, &mut self.outbox, scheduler, at);
            burst.line("kubernetes_executor.pod_creation", &[], created);
            burst.line("kubernetes_executor.pod_creation_status", &[("status", "success")], Value::Count(1));
        }
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
        let (path, tags) = (names.path(), names.tags());
        // 2.x keeps the tags beside the ids in the name; 3.x does not.
        let kept: &[_] = if version == Version::V2_11 { &tags } else { &[] };
        if version == Version::V2_11 {
            burst.line("job_start", &[], Value::Count(1));
            if attempt.number == 1 {
                let swapped = [tags[1], tags[0]];
                let name = format!("dag.{path}.queued_duration");
                burst.pair(&name, &[], "task.queued_duration", &swapped, waited);
            }
        }
        burst.pair(&format!("ti.start.{path}"), kept, "ti.start", &tags, Value::Count(1));
        if version == Version::V2_11 {
            for state in FINISH_STATES {
                let plain = [tags[0], tags[1], ("state", state)];
                burst.pair(&format!("ti.finish.{path}.{state}"), kept, "ti.finish", &plain, Value::Count(0));
            }
            self.agenda.add(at + Duration::from_millis(100), Event::Usage(number));
        }
        let seconds = self.world.random.exponential(self.world.settings.task_time.as_secs_f64());
        self.agenda.add(at + Duration::from_secs_f64(seconds.clamp(0.05, 86_400.0)), Event::End(number));
    }

    /// Processor and memory of one running task: 2.x only.
    pub(super) fn usage(&mut self, at: Duration, number: usize) {
        let Some(attempt) = self.world.attempts.get(number).filter(|attempt| attempt.running).cloned() else {
            return;
        };
        let path = self.names(&attempt).path();
        let idle = self.world.random.chance(0.3);
        let processor =
            if idle { 0.0 } else { (self.world.random.between(0.1, 100.0) * 10.0).round() / 10.0 };
        let memory = self.world.random.between(0.3, 4.0);
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, attempt.sender, at);
        burst.line(&format!("task.mem_usage.{path}"), &[], Value::Decimal(memory));
        burst.line(&format!("task.cpu_usage.{path}"), &[], Value::Decimal(processor));
        self.agenda.add(at + USAGE_EVERY, Event::Usage(number));
    }

    pub(super) fn end(&mut self, at: Duration, number: usize) {
        let Some(attempt) = self.world.attempts.get(number).cloned() else { return };
        let version = self.world.settings.version;
        let outcome = self.outcome(&attempt);
        let names = self.names(&attempt);
        let (path, tags) = (names.path(), names.tags());
        let operator = ids::operator(attempt.task);
        let lasted = at.saturating_sub(attempt.started_at).as_secs_f64() * 1e3;
        let lasted = self.world.lines.run_time(lasted);
        let job = self.world.job();
        let telemetry = version == Version::V2_11 || lasted_long(at, &attempt);
        let code = if matches!(outcome, Outcome::Failed | Outcome::UpForRetry) { "1" } else { "0" };
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, attempt.sender, at);
        let kept: &[_] = if version == Version::V2_11 { &tags } else { &[] };
        let finish = [tags[0], tags[1], ("state", outcome.state())];
        let finish_name = format!("ti.finish.{path}.{}", outcome.state());
        let operator_key = match (version, outcome) {
            (Version::V2_11, Outcome::Success) => "task_type",
            (Version::V2_11, _) => "operator",
            _ => "operator_name",
        };
        let by_operator = [tags[0], tags[1], (operator_key, operator)];
        let (with_operator, without) = match outcome {
            Outcome::Success => ("operator_successes", "ti_successes"),
            Outcome::Failed | Outcome::UpForRetry => ("operator_failures", "ti_failures"),
            Outcome::Deferred | Outcome::Skipped => ("", ""),
        };
        let one = Value::Count(1);
        if !with_operator.is_empty() {
            burst.pair(&format!("{with_operator}_{operator}"), &tags, with_operator, &by_operator, one);
            burst.line(without, &tags, one);
        }
        burst.pair(&finish_name, kept, "ti.finish", &finish, one);
        if outcome != Outcome::Deferred || version == Version::V2_11 {
            burst.pair_reversed(&format!("dag.{path}.duration"), &[], "task.duration", &tags, lasted);
        }
        if version == Version::V2_11 {
            burst.pair(
                &format!("local_task_job.task_exit.{job}.{path}.{code}"),
                &[],
                "local_task_job.task_exit",
                &[tags[0], tags[1], ("return_code", code)],
                one,
            );
            burst.line("job_end", &[], one);
        }
        if telemetry && self.world.settings.dialect == Dialect::Datadog {
            self.client_telemetry(at + Duration::from_millis(5), attempt.sender);
        }
        if self.world.settings.executor == Executor::Kubernetes {
            self.pod_deleted(at);
        }
        self.world.taken_slots = self.world.taken_slots.saturating_sub(1);
        self.settle(at, number, outcome);
    }

    /// What becomes of the task after this attempt.
    fn settle(&mut self, at: Duration, number: usize, outcome: Outcome) {
        if let Some(attempt) = self.world.attempts.get_mut(number) {
            attempt.running = false;
        }
        match outcome {
            Outcome::Success | Outcome::Skipped | Outcome::Failed => {
                self.world.move_to(number, Some(State::Running), None);
                self.world.finish(number, outcome == Outcome::Failed, at);
            }
            Outcome::UpForRetry | Outcome::Deferred => {
                let Some(old) = self.world.attempts.get(number).cloned() else { return };
                // Under a number of its own, so that what is still to come of the old attempt ends.
                self.world.move_to(number, Some(State::Running), None);
                self.world.attempts.remove(number);
                let again =
                    self.world.attempts.insert(Attempt { number: old.number + 1, scheduled_at: at, ..old });
                if outcome == Outcome::Deferred {
                    self.world.move_to(again, None, Some(State::Deferred));
                    let fires = self.world.random.exponential(DEFERRED_SECONDS).clamp(0.1, 3_600.0);
                    self.agenda.add(at + Duration::from_secs_f64(fires), Event::Fired(again));
                } else {
                    self.world.move_to(again, None, Some(State::Scheduled));
                    self.world.scheduled.push_back(again);
                }
            }
        }
    }

    /// A deferred task's trigger has fired: it waits for a slot again.
    pub(super) fn fired(&mut self, at: Duration, number: usize) {
        self.world.triggered += 1;
        self.world.move_to(number, Some(State::Deferred), Some(State::Scheduled));
        if let Some(attempt) = self.world.attempts.get_mut(number) {
            attempt.scheduled_at = at;
        }
        self.world.scheduled.push_back(number);
    }

    fn pod_deleted(&mut self, at: Duration) {
        let scheduler = self.world.scheduler_sender(0);
        let time = self.world.random.between(10.0, 100.0);
        let time = self.world.lines.block_time(time);
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, scheduler, at);
        burst.line("kubernetes_executor.pod_deletion", &[], time);
        burst.line("kubernetes_executor.pod_deletion_status", &[("status", "success")], Value::Count(1));
    }

    fn outcome(&mut self, attempt: &Attempt) -> Outcome {
        let place = self.world.random.unit();
        if place < 0.06 {
            return if attempt.number < ATTEMPTS_MAX { Outcome::UpForRetry } else { Outcome::Failed };
        }
        if place < 0.08 {
            return Outcome::Failed;
        }
        if place < 0.15 && attempt.number == 1 {
            return Outcome::Deferred;
        }
        if place > 0.98 { Outcome::Skipped } else { Outcome::Success }
    }

    fn names(&self, attempt: &Attempt) -> Names {
        Names {
            dag: self.world.ids.dags[attempt.dag].clone(),
            task: self.world.ids.tasks[attempt.task].clone(),
        }
    }
}

/// Whether the Datadog client of the task's process lived long enough to report on itself.
fn lasted_long(at: Duration, attempt: &Attempt) -> bool {
    at.saturating_sub(attempt.started_at) > super::world::TELEMETRY_EVERY
}
