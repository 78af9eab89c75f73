//! Lines under rules on values and budgets -> what the exposition shows.

use super::*;
use crate::datagram::Transport;
use crate::mapper::LoadOptions;

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
        let source = if source.is_empty() { None } else { Some(source.parse().expect("an address")) };
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
