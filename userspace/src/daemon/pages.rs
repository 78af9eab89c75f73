//! The daemon -> what its pages show.

use std::sync::{Arc, atomic::Ordering};

use hyper::body::Bytes;
use tokio::sync::mpsc::Receiver;

use super::running::Daemon;
use super::unix_seconds;
use crate::{
    exposition::{Format, Sink},
    kernel::doors::Doors,
    line::Dialects,
    live::{
        tail::{self, Tails},
        tap::Batch,
    },
    pipeline::Pipeline,
    reload::MappingFile,
    self_metrics,
    startup::{self, NO_INTERFACE_NAMED},
    tools, version,
    web::Pages,
};

/// Who follows lines, and where they come from.
pub(super) struct Follow {
    pub(super) tails: Arc<Tails>,
    pub(super) source: Arc<dyn tail::Source>,
}

pub(super) struct LineSource {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) dialects: Dialects,
}

impl tail::Source for LineSource {
    fn fetch(&self, batch: &mut Batch, open: bool) {
        self.pipeline.take_copies(batch, open);
    }

    fn kernel_lines(&self) -> u64 {
        self.pipeline.look(|core| core.ledger.slot_lines)
    }

    fn come_whole(&self, whole: bool) {
        self.pipeline.take_whole(whole);
    }

    fn series(&self, line: &[u8]) -> Vec<String> {
        let mapper = self.pipeline.look(|core| Arc::clone(&core.mapper));
        let outcome = tools::outcome::of_line_in(&mapper, self.dialects, line);
        let refused = outcome.refused.iter().map(|(reason, _)| format!("refused: {reason}"));
        outcome.series.into_iter().chain(refused).collect()
    }
}

impl Pages for Daemon {
    fn exposition(&self, format: Format, sink: &mut dyn Sink) {
        self.drain();
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        let own = self.own_families();
        self.pipeline.write_exposition(own, format, sink);
    }

    fn promoted_json(&self) -> String {
        let mut promoted = self.promoted(|promoted, line| (promoted.lines_per_second, promoted.slot, line));
        promoted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let rows = promoted.into_iter().map(|(rate, slot, line)| {
            serde_json::json!({ "identity": String::from_utf8_lossy(&line), "slot": slot, "rate": rate })
        });
        serde_json::Value::Array(rows.collect()).to_string()
    }

    fn cardinality_json(&self) -> String {
        self.pipeline.cardinality().to_json()
    }

    fn live_json(&self, history: bool) -> String {
        let mut report =
            self.live.report(&self.promoted(|promoted, line| (line, promoted.lines_per_second)), history);
        report.version = version::VERSION.to_owned();
        report.time = unix_seconds();
        report.uptime_seconds = report.time - self.start_time_seconds;
        report.ready = self.ready();
        report.startup = self.status();
        // It holds numbers and text, which all have a form in JSON.
        serde_json::to_string(&report).unwrap_or_default()
    }

    fn follow(&self, request: tail::Request) -> Result<Receiver<Bytes>, tail::Refused> {
        self.follow.tails.follow(&self.follow.source, request)
    }

    fn status(&self) -> Vec<startup::Row> {
        let row = |feature: &str, on: bool, why: String| {
            (feature.to_owned(), if on { "on" } else { "off" }.to_owned(), why)
        };
        let mut rows = self.sockets.rows();
        rows.push(row("http", true, self.web_addresses.clone()));
        if let Some(profile) = self.mapping.as_ref().and_then(MappingFile::profile_summary) {
            rows.push(row("profile", true, profile));
        }
        if let Some(relay) = &self.relay {
            let packets = match self.relay_packet_bytes_max {
                Some(bytes) => format!("packets of {bytes} bytes at most"),
                None => "each line alone".to_owned(),
            };
            for target in relay.targets() {
                rows.push(row("relay", true, format!("{}, {packets}", target.name)));
            }
            let why = "a relay needs every line whole, so the kernel counts none (--statsd.relay.address)";
            rows.push(row("promotion", false, why.to_owned()));
        }
        if let Some(sender) = &self.sender {
            rows.push(row("sender labels", true, format!("{}, from {}", sender.labels, sender.url)));
            let why = "a slot does not know who sent what it counts (--sender.labels)";
            rows.push(row("promotion", false, why.to_owned()));
        }
        let doors = self.doors.lock();
        let Some(doors) = doors.as_ref() else {
            rows.push(row("socket filter", false, self.shut_because.clone()));
            rows.push(row("xdp", false, self.shut_because.clone()));
            rows.push(row("loopback", false, self.shut_because.clone()));
            return rows;
        };
        let open = self.socket_filters_open.load(Ordering::Relaxed);
        let why = match (open, self.sockets.udp().count()) {
            (0, _) => "not attached; the log says why".to_owned(),
            (1, 1) => "on the UDP socket; needs CAP_BPF and CAP_PERFMON".to_owned(),
            (open, sockets) => format!("on {open} of {sockets} UDP sockets; needs CAP_BPF and CAP_PERFMON"),
        };
        rows.push(row("socket filter", open > 0, why));
        rows.extend(door_rows(doors).into_iter().map(|(feature, on, why)| row(feature, on, why)));
        rows
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        self_metrics::key_figures(&self.own_families())
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn reload(&self) {
        self.reload_mapping();
    }

    fn quit(&self) {
        self.quit.notify_one();
    }
}

/// What doors 1 and 3 are open on, and why not on what was meant.
fn door_rows(doors: &Doors) -> Vec<(&'static str, bool, String)> {
    let mut rows = Vec::new();
    let refused = |of_loopback: bool| {
        let refused = doors.refused().filter(move |refused| refused.loopback == of_loopback);
        refused.map(|refused| format!("{}: {}", refused.interface, refused.reason))
    };
    let attached: Vec<&str> = doors.attached().collect();
    if !attached.is_empty() {
        let why = format!("native mode on {}; needs CAP_NET_ADMIN as well", attached.join(", "));
        rows.push(("xdp", true, why));
    }
    rows.extend(refused(false).map(|why| ("xdp", false, why)));
    if rows.is_empty() {
        let why = match (doors.xdp_refused(), doors.names_interfaces()) {
            (_, false) => NO_INTERFACE_NAMED,
            (Some(refused), true) => refused,
            (None, true) => {
                "no interface of a name given by --xdp.interface is there; one that comes is taken"
            }
        };
        rows.push(("xdp", false, why.to_owned()));
    }
    let without_loopback = rows.len();
    if doors.loopback_open() {
        let why = "on what this machine sends to itself; needs CAP_NET_ADMIN as well".to_owned();
        rows.push(("loopback", true, why));
    }
    rows.extend(refused(true).map(|why| ("loopback", false, why)));
    if rows.len() == without_loopback {
        rows.push(("loopback", false, "not asked for (--ebpf.loopback)".to_owned()));
    }
    rows
}
