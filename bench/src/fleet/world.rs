//! Settings -> the fleet's DAG runs and task attempts, and who waits for what.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use super::{
    Sender,
    agenda::{Agenda, Event},
    ids::Ids,
    lines::Lines,
    random::Random,
    settings::{Dialect, Executor, Settings, Version},
};

pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
pub(super) const POOLS_EVERY: Duration = Duration::from_secs(5);
pub(super) const TELEMETRY_EVERY: Duration = Duration::from_secs(10);
/// Runs of one DAG at a time: Airflow's default.
const ACTIVE_RUNS_MAX: usize = 16;
/// Tasks of one run that have no reason to wait for one another.
const WIDTH: usize = 3;

/// A run of a DAG.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) dag: usize,
    /// The first task that was not scheduled yet.
    next_task: usize,
    /// Tasks scheduled, queued, running or deferred.
    under_way: usize,
    pub(super) began: Duration,
    pub(super) failed: bool,
    /// Whether a task has started of which the scheduler has not said so.
    pub(super) first_started: bool,
    pub(super) first_reported: bool,
}

impl Run {
    pub(super) fn finished(&self) -> bool {
        self.under_way == 0
    }
}

/// An attempt of a task.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) run: usize,
    pub(super) dag: usize,
    pub(super) task: usize,
    /// 1 or more; a deferred task goes on as the same attempt.
    pub(super) number: u32,
    pub(super) scheduled_at: Duration,
    pub(super) started_at: Duration,
    pub(super) sender: Sender,
    pub(super) running: bool,
}

/// The states of which Airflow reports how many tasks are in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Scheduled,
    Queued,
    Running,
    Deferred,
}

impl State {
    pub(super) const ALL: [Self; 4] = [Self::Scheduled, Self::Queued, Self::Running, Self::Deferred];

    pub(super) const fn family(self) -> &'static str {
        match self {
            Self::Scheduled => "ti.scheduled",
            Self::Queued => "ti.queued",
            Self::Running => "ti.running",
            Self::Deferred => "ti.deferred",
        }
    }
}

/// DAG and task.
pub(super) type Place = (usize, usize);

#[derive(Debug)]
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) ids: Ids,
    pub(super) lines: Lines,
    pub(super) random: Random,
    pub(super) runs: Numbered<Run>,
    pub(super) attempts: Numbered<Attempt>,
    /// DAGs whose run is due and not made yet.
    pub(super) due: VecDeque<usize>,
    /// Runs in the order in which schedulers look at them.
    pub(super) running_runs: VecDeque<usize>,
    /// Attempts that wait for a slot.
    pub(super) scheduled: VecDeque<usize>,
    /// Attempts that have a slot: queued or running.
    pub(super) taken_slots: usize,
    active: Vec<usize>,
    counts: [BTreeMap<Place, u64>; 4],
    /// What each scheduler reported last, to be set to zero when it is gone.
    pub(super) reported: Vec<[BTreeSet<Place>; 4]>,
    pub(super) triggered: u64,
    attempts_made: u64,
    pub(super) next_file: usize,
}

impl World {
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        Self {
            ids: Ids::new(&settings),
            lines: Lines::new(&settings),
            random: Random::new(seed),
            runs: Numbered::default(),
            attempts: Numbered::default(),
            due: VecDeque::new(),
            running_runs: VecDeque::new(),
            scheduled: VecDeque::new(),
            taken_slots: 0,
            active: vec![0; settings.dags],
            counts: std::array::from_fn(|_| BTreeMap::new()),
            reported: (0..settings.schedulers).map(|_| Default::default()).collect(),
            triggered: 0,
            attempts_made: 0,
            next_file: 0,
            settings,
        }
    }

    /// Makes the runs and the running tasks that a fleet of this size has at any time.
    pub(super) fn warm(&mut self, agenda: &mut Agenda) {
        let rate = self.settings.task_instances_per_day / 86_400.0;
        let task_seconds = self.settings.task_time.as_secs_f64();
        let wanted = rate * task_seconds;
        let mut given = 0;
        while given < self.settings.slots() && (given as f64) < wanted {
            let dag = self.random.below(self.settings.dags);
            let Some(run) = self.begin_run(dag, Duration::ZERO) else {
                // So many runs of one DAG: the fleet is as full as it gets.
                break;
            };
            let first = self.random.below(self.settings.tasks_per_dag);
            if let Some(run) = self.runs.get_mut(run) {
                run.next_task = first;
                run.first_reported = first > 0;
            }
            self.schedule_tasks(run, Duration::ZERO);
            while let Some(attempt) = self.scheduled.pop_front() {
                self.move_to(attempt, Some(State::Scheduled), Some(State::Running));
                self.taken_slots += 1;
                given += 1;
                let sender = self.task_sender();
                if let Some(attempt) = self.attempts.get_mut(attempt) {
                    (attempt.sender, attempt.running) = (sender, true);
                }
                let left = Duration::from_secs_f64(self.random.exponential(task_seconds));
                agenda.add(left, Event::End(attempt));
                if self.settings.version == Version::V2_11 {
                    agenda.add(Duration::from_secs_f64(self.random.between(0.0, 5.0)), Event::Usage(attempt));
                }
            }
        }
    }

    /// A new run, unless its DAG has as many as it may.
    pub(super) fn begin_run(&mut self, dag: usize, at: Duration) -> Option<usize> {
        let active = self.active.get_mut(dag)?;
        if *active >= ACTIVE_RUNS_MAX {
            return None;
        }
        *active += 1;
        let run = self.runs.insert(Run {
            dag,
            next_task: 0,
            under_way: 0,
            began: at,
            failed: false,
            first_started: false,
            first_reported: false,
        });
        self.running_runs.push_back(run);
        Some(run)
    }

    /// Schedules tasks of a run until as many are under way as may be.
    pub(super) fn schedule_tasks(&mut self, number: usize, at: Duration) {
        while let Some(run) = self.runs.get_mut(number) {
            if run.under_way >= WIDTH || run.next_task >= self.settings.tasks_per_dag {
                return;
            }
            let (dag, task) = (run.dag, run.next_task);
            run.next_task += 1;
            run.under_way += 1;
            let attempt = self.attempts.insert(Attempt {
                run: number,
                dag,
                task,
                number: 1,
                scheduled_at: at,
                started_at: at,
                sender: Sender::default(),
                running: false,
            });
            self.move_to(attempt, None, Some(State::Scheduled));
            self.scheduled.push_back(attempt);
        }
    }

    /// The attempt's task is over; its run goes on with the next.
    pub(super) fn finish(&mut self, attempt: usize, failed: bool, at: Duration) {
        let Some(attempt) = self.attempts.remove(attempt) else { return };
        if let Some(run) = self.runs.get_mut(attempt.run) {
            run.under_way -= 1;
            run.failed |= failed;
            if failed {
                // Nothing that depends on it runs.
                run.next_task = self.settings.tasks_per_dag;
            }
        }
        self.schedule_tasks(attempt.run, at);
    }

    pub(super) fn end_run(&mut self, number: usize) {
        if let Some(run) = self.runs.remove(number)
            && let Some(active) = self.active.get_mut(run.dag)
        {
            *active -= 1;
        }
    }

    /// Counts the attempt under another state.
    pub(super) fn move_to(&mut self, attempt: usize, from: Option<State>, to: Option<State>) {
        let Some(attempt) = self.attempts.get(attempt) else { return };
        let place = (attempt.dag, attempt.task);
        if let Some(from) = from
            && let Some(count) = self.counts[from as usize].get_mut(&place)
        {
            *count -= 1;
            if *count == 0 {
                self.counts[from as usize].remove(&place);
            }
        }
        if let Some(to) = to {
            *self.counts[to as usize].entry(place).or_default() += 1;
        }
    }

    /// How many tasks are in that state, by DAG and task, in the order of their numbers.
    pub(super) fn counts(&self, state: State) -> &BTreeMap<Place, u64> {
        &self.counts[state as usize]
    }

    pub(super) fn scheduler_sender(&self, scheduler: usize) -> Sender {
        host(1_000, scheduler, 40_000)
    }

    pub(super) fn triggerer_sender(&self, triggerer: usize) -> Sender {
        host(2_000, triggerer, 40_001)
    }

    /// With 2.x the scheduler's host also parses files.
    pub(super) fn processor_sender(&self) -> Sender {
        if self.settings.version == Version::V2_11 { host(1_000, 0, 40_002) } else { host(3_000, 0, 40_000) }
    }

    /// Who sends for a task that starts now. The plain client of 2.x shares its parent's socket.
    pub(super) fn task_sender(&mut self) -> Sender {
        self.attempts_made += 1;
        let number = usize::try_from(self.attempts_made).unwrap_or(0);
        let own_port = u16::try_from(32_768 + number % 28_000).unwrap_or(u16::MAX);
        let shares = self.settings.version == Version::V2_11 && self.settings.dialect != Dialect::Datadog;
        let (first, hosts) = match self.settings.executor {
            Executor::Local => (1_000, self.settings.schedulers),
            Executor::Celery => (10_000, self.settings.workers),
            // Never the same address twice within the last million.
            Executor::Kubernetes => return host(1_000_000, number % 1_000_000, own_port),
        };
        let place = self.random.below(hosts);
        host(first, place, if shares { 40_000 } else { own_port })
    }

    /// A number for each try: the job id of 2.x.
    pub(super) fn job(&self) -> u64 {
        self.attempts_made
    }
}

fn host(first: u32, number: usize, port: u16) -> Sender {
    Sender { host: first.saturating_add(u32::try_from(number).unwrap_or(u32::MAX)), port }
}

/// Entries under numbers that are never given again, so that an event of something that is over finds
/// nothing.
#[derive(Debug)]
pub(super) struct Numbered<T> {
    entries: HashMap<usize, T>,
    next: usize,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), next: 0 }
    }
}

impl<T> Numbered<T> {
    pub(super) fn insert(&mut self, entry: T) -> usize {
        self.next += 1;
        self.entries.insert(self.next, entry);
        self.next
    }

    pub(super) fn get(&self, number: usize) -> Option<&T> {
        self.entries.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.entries.get_mut(&number)
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<T> {
        self.entries.remove(&number)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
