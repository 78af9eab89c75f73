//! Lines under rules on values and budgets -> what the exposition shows.

use super::*;
use crate::datagram::{Source, Transport};
use crate::kernel::promotion::Growth;
use crate::mapper::{LoadOptions, MetricType};
use crate::sender::{PodDirectory, SenderTable};

/// A pipeline under rules, with a clock of its own.
struct Scene {
    pipeline: Pipeline,
    now: Timestamp,
}

impl Scene {
    fn new(mappings: &str) -> Self {
        Self::bounded(mappings, RegistryConfig::default())
    }

    fn bounded(mappings: &str, registry: RegistryConfig) -> Self {
        let options = PipelineOptions { mapper: mapper(mappings), registry, ..PipelineOptions::default() };
        Self { pipeline: Pipeline::new(options, None), now: Timestamp::now() }
    }

    fn take(&self, line: &str, source: &str) {
        let source = match source {
            "" => Source::Nameless,
            address => Source::Address(address.parse().expect("an address")),
        };
        let (payload, received) = (line.as_bytes(), self.now);
        let datagram = Datagram { payload, received, source, transport: Transport::Udp };
        self.pipeline.core.lock().take(&datagram, self.now);
    }

    /// The exposition without its comments, and nothing is unaccounted for.
    fn shown(&self) -> String {
        self.pipeline.look(|core| core.ledger.check()).expect("the ledger closes");
        let mut cursor = Cursor::new(Vec::new(), Format::Text, self.pipeline.clock);
        let mut out = Vec::new();
        while cursor.write_slice(&mut self.pipeline.core.lock().registry, &mut out, 7, self.now)
            != Progress::Done
        {}
        let text = String::from_utf8(out).expect("an exposition is text");
        text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect()
    }
}

fn mapper(mappings: &str) -> Arc<Mapper> {
    let text = format!("mappings:\n{mappings}\n");
    let loaded = Mapper::from_text(text.as_bytes(), "m.yml", LoadOptions { strict: true });
    Arc::new(loaded.unwrap_or_else(|error| panic!("{error}")).mapper)
}

#[test]
fn a_timer_typed_ms_may_hold_seconds() {
    let scene = Scene::new(
        "- {match: t.*, name: \"$1\", timer_unit: seconds}\n- {match: u, name: u, timer_unit: microseconds}",
    );
    for _ in 0..2 {
        scene.take("t.a:2.5|ms\nt.b:2.5|h\nt.c:2.5|d\nt.d:2|c|@0.001\nu:5e6|ms|@0.5\nv:2500|ms", "");
    }
    let shown = scene.shown();
    for line in ["a_sum 5\n", "b_sum 5\n", "c_sum 5\n", "d 4000\n", "u_sum 20\nu_count 4\n", "v_sum 5\n"] {
        assert!(shown.contains(line), "{line}{shown}");
    }
}

const POOL: &str = "\
- {match: pool.*.*, match_metric_type: gauge, name: \"pool_${1}\", labels: {pool: $2}, gauge_combine: last, \
gauge_expiry: 1m}
- {match: running.*, match_metric_type: gauge, name: running, labels: {pool: $1}, gauge_combine: sum}
- {match: up, name: up, counter_type: up_down, gauge_combine: sum}";
const ONE: &str = "10.0.0.1:4000";
const TWO: &str = "[fd00::2]:4000";

impl Scene {
    fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.pipeline.core.lock().registry.expire(self.now);
    }

    fn reload(&self, mappings: &str) {
        self.pipeline.reload(mapper(mappings)).expect("there is no kernel to wait for");
    }
}

#[test]
fn gauges_of_several_senders_are_kept_apart() {
    let mut scene = Scene::new(POOL);
    for _ in 0..3 {
        scene.take("pool.open.a:5|g\nrunning.a:3|g\nup:2|c", ONE);
        scene.take("pool.open.a:4|g\nrunning.a:1|g\nup:-1|c", TWO);
        // The same sender by another socket.
        scene.take("running.a:+2|g", "10.0.0.1:5000");
        scene.take("running.a:7|g", "");
    }
    assert_eq!(scene.shown(), "pool_open{pool=\"a\"} 4\nrunning{pool=\"a\"} 13\nup 3\n");
    scene.wait(50);
    scene.take("running.a:2|g", ONE);
    scene.wait(30);
    assert_eq!(scene.shown(), "running{pool=\"a\"} 10\nup 3\n", "by default a sender has five minutes");
    scene.wait(221);
    assert_eq!(scene.shown(), "running{pool=\"a\"} 2\n");
    scene.wait(50);
    assert_eq!(scene.shown(), "");
    scene.take("running.a:8|g", TWO);
    assert_eq!(scene.shown(), "running{pool=\"a\"} 8\n");
}

#[test]
fn processes_on_unix_sockets_are_senders() {
    let scene = Scene::new(POOL);
    for source in [Source::Process(1), Source::Process(700), Source::Process(1), Source::Nameless] {
        let (payload, received) = (&b"running.a:3|g"[..], scene.now);
        let datagram = Datagram { payload, received, source, transport: Transport::Unix };
        scene.pipeline.core.lock().take(&datagram, scene.now);
    }
    assert_eq!(scene.shown(), "running{pool=\"a\"} 9\n");
}

#[test]
fn nothing_that_depends_on_the_sender_is_promoted() {
    let scene = Scene::new(POOL);
    for _ in 0..2 {
        scene.take("up:1|c", ONE);
        scene.take("running.a:1|g", ONE);
        scene.take("c:1|c", ONE);
    }
    let mut core = scene.pipeline.core.lock();
    core.promotion = Some(Promotion::new(
        8,
        PromotionOptions { promote_lines_per_second: 0.0, ..PromotionOptions::default() },
    ));
    let lines: Vec<Vec<u8>> = core
        .candidates(7, 1.0)
        .iter()
        .filter_map(|candidate| core.cache.entry(candidate.entry).map(|entry| entry.line("")))
        .collect();
    assert_eq!(lines, [b"c:|c".to_vec()]);
}

#[test]
fn a_reload_keeps_what_senders_said_as_far_as_the_rules_do() {
    let scene = Scene::new(POOL);
    scene.take("running.a:3|g\nup:2|c", ONE);
    scene.take("running.a:1|g\nup:2|c", TWO);
    scene.reload(POOL);
    scene.take("running.a:2|g", TWO);
    assert_eq!(scene.shown(), "running{pool=\"a\"} 5\nup 4\n");
    scene.reload(&POOL.replace(", gauge_combine: sum", ""));
    assert_eq!(scene.shown(), "running{pool=\"a\"} 5\nup 4\n");
    scene.take("running.a:+1|g\nup:1|c", TWO);
    assert_eq!(scene.shown(), "running{pool=\"a\"} 6\nup 5\n");
    scene.reload(POOL);
    scene.take("running.a:2|g", TWO);
    scene.take("running.a:9|g", ONE);
    assert_eq!(scene.shown(), "running{pool=\"a\"} 11\nup 5\n");
}

#[test]
fn senders_without_room_are_counted() {
    let registry = RegistryConfig { senders_per_gauge_max: 1, ..RegistryConfig::default() };
    let scene = Scene::bounded(POOL, registry);
    for _ in 0..3 {
        scene.take("running.a:3|g\nup:1|c", ONE);
        scene.take("running.a:1|g\nup:1|c", TWO);
    }
    assert_eq!(scene.shown(), "running{pool=\"a\"} 3\nup 3\n");
    scene.pipeline.look(|core| {
        assert_eq!(core.ledger.refused().collect::<Vec<_>>(), [("sender_limit", 6)]);
        assert_eq!(core.ledger.conflicts().count(), 0);
    });
}

#[test]
fn series_say_who_sent_them_even_when_the_address_changes_hands() {
    let directory = Arc::new(PodDirectory::default());
    let senders = SenderTable::new("pod".parse().expect("a label"), Arc::clone(&directory));
    let options = PipelineOptions { senders: Some(senders), ..PipelineOptions::default() };
    let scene = Scene { pipeline: Pipeline::new(options, None), now: Timestamp::now() };
    directory.learn("scheduler-0", "10.0.0.1");
    for _ in 0..3 {
        scene.take("runs:1|c", ONE);
        scene.take("runs:10|c|#pod:mine", ONE);
        scene.take("runs:1|c", TWO);
    }
    let shown = "runs 3\nruns{pod=\"scheduler-0\"} 33\n";
    assert_eq!(scene.shown(), shown);
    directory.learn("scheduler-1", "10.0.0.1");
    scene.take("runs:5|c", ONE);
    assert_eq!(scene.shown(), [shown, "runs{pod=\"scheduler-1\"} 5\n"].concat());
}

const FINISH: &str = "\
- {match: finish.*.*, name: finish, labels: {task: $1, state: $2}, ttl: 1m, \
zero_siblings: {label: state, values: [success, failed, skipped]}}
- {match: both.*.*, name: both, labels: {one: $1, two: $2}, \
zero_siblings: [{label: one, values: [a, b]}, {label: two, values: [c, d]}, {label: none, values: [e]}]}
- {match: took.*, match_metric_type: observer, name: took, labels: {state: $1}, observer_type: histogram, \
histogram_options: {buckets: [1]}, zero_siblings: {label: state, values: [success, failed]}}
- {match: size.*, name: size, labels: {state: $1}, zero_siblings: {label: state, values: [success, failed]}}";

#[test]
fn siblings_start_at_0() {
    let scene = Scene::new(FINISH);
    scene.take("finish.x.success:2|c", "");
    scene.take("finish.x.success:2|c\nfinish.x.failed:1|c", "");
    scene.take("finish.y.odd:1|c", "");
    let expected = "\
finish{state=\"failed\",task=\"x\"} 1
finish{state=\"failed\",task=\"y\"} 0
finish{state=\"odd\",task=\"y\"} 1
finish{state=\"skipped\",task=\"x\"} 0
finish{state=\"skipped\",task=\"y\"} 0
finish{state=\"success\",task=\"x\"} 4
finish{state=\"success\",task=\"y\"} 0
";
    assert_eq!(scene.shown(), expected);
}

#[test]
fn siblings_combine_their_labels_and_gauges_have_none() {
    let scene = Scene::new(FINISH);
    scene.take("both.a.x:1|c\nsize.success:4|g", "");
    let expected = "\
both{one=\"a\",two=\"c\"} 0
both{one=\"a\",two=\"d\"} 0
both{one=\"a\",two=\"x\"} 1
both{one=\"b\",two=\"c\"} 0
both{one=\"b\",two=\"d\"} 0
size{state=\"success\"} 4
";
    assert_eq!(scene.shown(), expected);
    let scene = Scene::new(FINISH);
    scene.take("took.failed:1500|ms", "");
    let shown = scene.shown();
    for line in ["took_count{state=\"success\"} 0", "took_count{state=\"failed\"} 1"] {
        assert!(shown.contains(line), "{shown}");
    }
}

#[test]
fn siblings_expire_together() {
    let mut scene = Scene::new(FINISH);
    scene.take("finish.x.success:1|c", "");
    for _ in 0..5 {
        scene.wait(40);
        scene.take("finish.x.success:1|c", "");
    }
    scene.take("finish.x.failed:1|c", "");
    assert!(scene.shown().starts_with("finish{state=\"failed\",task=\"x\"} 1\n"), "{}", scene.shown());
    scene.wait(40);
    scene.take("finish.x.failed:1|c", "");
    scene.wait(40);
    assert_eq!(scene.shown().lines().count(), 3, "one that counts keeps the others");
    scene.wait(61);
    assert_eq!(scene.shown(), "");
    scene.take("finish.x.failed:1|c", "");
    assert_eq!(scene.shown().lines().count(), 3);
}

#[test]
fn siblings_keep_to_the_budget_and_leave_no_overflow_series() {
    let scene = Scene::bounded(FINISH, RegistryConfig::new(2, 0));
    scene.take("finish.x.success:1|c", "");
    assert_eq!(
        scene.shown(),
        "finish{state=\"failed\",task=\"x\"} 0\nfinish{state=\"success\",task=\"x\"} 1\n"
    );
    assert_eq!(scene.pipeline.look(|core| core.ledger.refused_siblings), 1);
    scene.take("finish.x.skipped:1|c", "");
    assert!(scene.shown().contains("finish{state=\"__overflow__\",task=\"__overflow__\"} 1\n"));
    assert_eq!(scene.pipeline.look(|core| core.ledger.refused_siblings), 1);
}

const BUDGET: &str = "\
- {match: ti.*.*, name: ti, labels: {dag_id: $1, task_id: $2}, max_series_per_label: {label: dag_id, limit: 2}}";

#[test]
fn a_dag_that_explodes_keeps_its_sum_and_the_others_their_series() {
    let scene = Scene::new(BUDGET);
    for task in 0..100 {
        scene.take(&format!("ti.big.task{task}:2|c\nti.ok.task{}:1|c", task % 2), "");
    }
    let expected = "\
ti{dag_id=\"big\",task_id=\"__overflow__\"} 196
ti{dag_id=\"big\",task_id=\"task0\"} 2
ti{dag_id=\"big\",task_id=\"task1\"} 2
ti{dag_id=\"ok\",task_id=\"task0\"} 50
ti{dag_id=\"ok\",task_id=\"task1\"} 50
";
    assert_eq!(scene.shown(), expected);
    scene.pipeline.look(|core| {
        assert_eq!(core.ledger.overflow(MetricType::Counter), 98);
        let [offender] = core.registry.offenders(10)[..] else { panic!("one") };
        assert_eq!((offender.value, offender.events), ("big", 98));
        // An estimate, by hashes that differ from run to run.
        assert!((offender.refused_series - 98.0).abs() < 40.0, "{offender:?}");
    });
    scene.reload(&BUDGET.replace("limit: 2", "limit: 3"));
    scene.take("ti.big.task2:2|c\nti.big.task3:2|c", "");
    assert!(scene.shown().contains("ti{dag_id=\"big\",task_id=\"__overflow__\"} 198\n"), "{}", scene.shown());
    assert!(scene.shown().contains("ti{dag_id=\"big\",task_id=\"task2\"} 2\n"));
}

#[test]
fn the_page_on_cardinality_counts_families_label_values_and_offenders() {
    let scene = Scene::new(BUDGET);
    for task in 0..3000 {
        scene.take(&format!("ti.big{}.t{task}:1|c\nplain{}:1|g", task % 1500, task % 3), "");
    }
    scene.take("ti.big0.more:1|c", "");
    let page: serde_json::Value = serde_json::from_str(&scene.pipeline.cardinality().to_json()).unwrap();
    // Two tasks of each DAG, and one overflow series.
    assert_eq!(page["series"], 3004);
    assert_eq!(page["families"][0], serde_json::json!({"name": "ti", "type": "counter", "series": 3001}));
    let dags = &page["labels"]["dag_id"];
    assert_eq!((&dags["series"], &dags["distinct_values"]), (&3001.into(), &1500.0.into()));
    assert_eq!(dags["top"][0], serde_json::json!({"value": "big0", "series": 3}));
    assert_eq!(page["offenders"][0]["value"], "big0");
    assert_eq!(page["offenders"][0]["series"], 2);
}

#[test]
fn an_up_down_counter_goes_both_ways_by_every_way_and_begins_at_0_when_it_was_gone() {
    let mut scene = Scene::new("- {match: procs, name: procs, counter_type: up_down, scale: 2, ttl: 1m}");
    for line in ["procs:3|c", "procs:-5|c", "procs:1|c|@0.5"] {
        scene.take(line, "");
        scene.take(line, ONE);
    }
    assert_eq!(scene.shown(), "procs 0\n");
    scene.take("procs:-1|c", TWO);
    // What the kernel has counted of the first line.
    scene.pipeline.core.lock().grow(Growth { entry: 0, lines: 2, sum: 5, last: None }, scene.now);
    assert_eq!(scene.shown(), "procs 8\n");
    scene.wait(61);
    assert_eq!(scene.shown(), "");
    scene.pipeline.core.lock().grow(Growth { entry: 0, lines: 1, sum: 1, last: None }, scene.now);
    scene.take("procs:-2|c", ONE);
    assert_eq!(scene.shown(), "procs -2\n");
}
