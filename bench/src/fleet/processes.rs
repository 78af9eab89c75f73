//! Triggerer, DAG processor and the processes' own chores -> what they send.

use std::time::Duration;

use super::{
    Fleet, Sender, Version,
    agenda::Event,
    burst::Burst,
    lines::Value,
    settings::Dialect,
    world::{HEARTBEAT, TELEMETRY_EVERY},
};

/// Files that the processor parses in a second, at most.
const PARSES_PER_SECOND: f64 = 4.0;
const PARSE_EVERY_SECONDS: f64 = 60.0;

impl Fleet {
    /// What processes send when they come up.
    pub(super) fn process_starts(&mut self) {
        let at = Duration::ZERO;
        for scheduler in 0..self.world.settings.schedulers {
            let sender = self.world.scheduler_sender(scheduler);
            let load = self.world.lines.block_time(8.3);
            let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
            burst.line("serde.load_serializers", &[], load);
            burst.line("job_start", &[], Value::Count(1));
            burst.line("scheduler.orphaned_tasks.cleared", &[], Value::Count(0));
            burst.line("scheduler.orphaned_tasks.adopted", &[], Value::Count(0));
        }
    }

    pub(super) fn orphans(&mut self, at: Duration) {
        let sender = self.world.scheduler_sender(0);
        let version = self.world.settings.version;
        let (orphaned, updates, runs) = if version == Version::V2_11 {
            ("dataset.orphaned", "dataset.updates", "dataset.triggered_dagruns")
        } else {
            ("asset.orphaned", "asset.updates", "asset.triggered_dagruns")
        };
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
        burst.line(orphaned, &[], Value::Gauge(0));
        burst.line(updates, &[], Value::Count(1));
        burst.line(runs, &[], Value::Count(1));
        burst.line("scheduler.tasks.killed_externally", &[], Value::Count(1));
        if version == Version::V2_11 {
            burst.line("zombies_killed", &[], Value::Count(1));
        }
        let sender = self.world.processor_sender();
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
        burst.line("dag.callback_exceptions", &[], Value::Count(1));
        burst.line("dag_processing.other_callback_count", &[], Value::Count(1));
        if version == Version::V2_11 {
            burst.line("dag_processing.sla_callback_count", &[], Value::Count(1));
        } else {
            burst.line("dag_processing.callback_only_count", &[], Value::Count(1));
        }
        self.agenda.add(at + Duration::from_secs(60), Event::Orphans);
    }

    pub(super) fn trigger_loop(&mut self, at: Duration, triggerer: usize) {
        let version = self.world.settings.version;
        let sender = self.world.triggerer_sender(triggerer);
        let host = self.world.ids.triggerers[triggerer].clone();
        let running = self.world.counts(super::world::State::Deferred).values().sum::<u64>();
        let succeeded = std::mem::take(&mut self.world.triggered);
        let beat = self.world.random.chance(if version == Version::V2_11 { 0.2 } else { 0.12 });
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
        let tags = [("hostname", host.real.as_str())];
        let mut gauge = |name: &str, value: u64| {
            burst.pair(&format!("{name}.{}", host.encoded), &[], name, &tags, Value::Gauge(value));
        };
        gauge("triggers.running", running);
        if version != Version::V2_11 {
            gauge("triggerer.capacity_left", 1_000_u64.saturating_sub(running));
        }
        for _ in 0..succeeded {
            burst.line("triggers.succeeded", &[], Value::Count(1));
        }
        if beat {
            burst.line("triggerer_heartbeat", &[], Value::Count(1));
        }
        let every = if version == Version::V2_11 { 1_070 } else { 610 };
        self.agenda.add(at + Duration::from_millis(every), Event::Trigger(triggerer));
    }

    pub(super) fn processor_heartbeat(&mut self, at: Duration) {
        if self.world.settings.version != Version::V2_11 {
            let sender = self.world.processor_sender();
            let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
            burst.line("dag_processor_heartbeat", &[], Value::Count(1));
        }
        self.agenda.add(at + HEARTBEAT, Event::ProcessorHeartbeat);
    }

    /// One pass of the manager that keeps the parsing processes.
    pub(super) fn manager_loop(&mut self, at: Duration) {
        let old = self.world.settings.version == Version::V2_11;
        let sender = self.world.processor_sender();
        let waiting = u64::try_from(self.world.random.below(self.world.ids.files.len() + 1)).unwrap_or(0);
        let size = u64::try_from(self.world.ids.dags.len()).unwrap_or(u64::MAX);
        let total = self.world.random.between(0.1, 0.3);
        let full_pass = old || self.world.random.chance(0.07);
        let twice = !old && self.world.random.chance(0.3);
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
        burst.line("dag_processing.file_path_queue_update_count", &[], Value::Count(1));
        for _ in 0..if old { 1 } else { 2 + u8::from(twice) } {
            burst.line("dag_processing.file_path_queue_size", &[], Value::Gauge(waiting));
        }
        if full_pass {
            burst.line("dag_processing.total_parse_time", &[], Value::Decimal(total));
            burst.line("dagbag_size", &[], Value::Gauge(size));
            burst.line("dag_processing.import_errors", &[], Value::Gauge(1));
        }
        self.agenda.add(at + Duration::from_millis(450), Event::ManagerLoop);
    }

    pub(super) fn parse_file(&mut self, at: Duration) {
        let version = self.world.settings.version;
        let sender = self.world.processor_sender();
        let files = self.world.ids.files.len();
        let place = self.world.next_file % files.max(1);
        self.world.next_file += 1;
        let stem = self.world.ids.files[place].clone();
        let took = self.world.random.between(100.0, 1_700.0);
        let took_value = self.world.lines.parse_time(took);
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
        let old = version == Version::V2_11;
        let path = if old { format!("/opt/airflow/dags/{stem}.py") } else { format!("{stem}.py") };
        let processes = "dag_processing.processes";
        burst.line(processes, &[("file_path", &path), ("action", "start")], Value::Count(1));
        burst.pause(took);
        match version {
            Version::V2_11 => {
                burst.line(processes, &[("file_path", &path), ("action", "finish")], Value::Count(-1));
                let name = format!("dag_processing.last_duration.{stem}");
                burst.pair(&name, &[], "dag_processing.last_duration", &[("file_name", &stem)], took_value);
            }
            Version::V3_1 => {}
            Version::V3_3 => {
                let name = format!("dag_processing.last_duration.dags-folder.{stem}");
                let tags = [("bundle_name", "dags-folder"), ("file_name", stem.as_str())];
                burst.pair(&name, &[], "dag_processing.last_duration", &tags, took_value);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a number of files")]
        let wanted = files as f64 / PARSE_EVERY_SECONDS;
        let next = Duration::from_secs_f64(1.0 / wanted.clamp(0.05, PARSES_PER_SECOND));
        self.agenda.add(at + next, Event::Parse);
    }

    pub(super) fn scheduler_telemetry(&mut self, at: Duration, scheduler: usize) {
        let sender = self.world.scheduler_sender(scheduler);
        self.client_telemetry(at, sender);
        self.agenda.add(at + TELEMETRY_EVERY, Event::SchedulerTelemetry(scheduler));
    }

    pub(super) fn processor_telemetry(&mut self, at: Duration) {
        let sender = self.world.processor_sender();
        self.client_telemetry(at, sender);
        for triggerer in 0..self.world.settings.triggerers {
            let sender = self.world.triggerer_sender(triggerer);
            self.client_telemetry(at, sender);
        }
        self.agenda.add(at + TELEMETRY_EVERY, Event::ProcessorTelemetry);
    }

    /// What the Datadog client says of itself: eleven lines in one datagram.
    pub(super) fn client_telemetry(&mut self, at: Duration, sender: Sender) {
        if self.world.settings.dialect != Dialect::Datadog {
            return;
        }
        let sent = i64::try_from(40 + self.world.random.below(1_500)).unwrap_or(40);
        let mut burst = Burst::new(&mut self.world, &mut self.outbox, sender, at);
        let none = Value::Count(0);
        burst.together(
            &[
                ("datadog.dogstatsd.client.metrics", Value::Count(sent)),
                ("datadog.dogstatsd.client.events", none),
                ("datadog.dogstatsd.client.service_checks", none),
                ("datadog.dogstatsd.client.bytes_sent", Value::Count(sent * 104)),
                ("datadog.dogstatsd.client.bytes_dropped", none),
                ("datadog.dogstatsd.client.bytes_dropped_queue", none),
                ("datadog.dogstatsd.client.bytes_dropped_writer", none),
                ("datadog.dogstatsd.client.packets_sent", Value::Count(sent)),
                ("datadog.dogstatsd.client.packets_dropped", none),
                ("datadog.dogstatsd.client.packets_dropped_queue", none),
                ("datadog.dogstatsd.client.packets_dropped_writer", none),
            ],
            &[("client", "py"), ("client_version", "0.56.0"), ("client_transport", "udp")],
        );
    }
}
