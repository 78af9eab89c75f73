//! What happens next -> the events in order of time.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// Something that a process does at a time; the number says which process, or which attempt of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Loop(usize),
    SchedulerHeartbeat(usize),
    Pools(usize),
    States(usize),
    SchedulerTelemetry(usize),
    Trigger(usize),
    ProcessorHeartbeat,
    ManagerLoop,
    Parse,
    Files,
    ProcessorTelemetry,
    Orphans,
    RunDue,
    Start(usize),
    Usage(usize),
    End(usize),
    Fired(usize),
}

/// Events to come. As many as there are processes and attempts under way.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    added: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Duration, event: Event) {
        self.added += 1;
        self.events.push(Reverse((at, self.added, event)));
    }

    pub(super) fn next_at(&self) -> Option<Duration> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn take(&mut self) -> Option<(Duration, Event)> {
        self.events.pop().map(|Reverse((at, _, event))| (at, event))
    }
}
