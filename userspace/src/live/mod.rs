//! Samples, own families, promoted identities -> what goes on now, for `/live` and `/status`.
//!
//! Once a second a thread looks; nothing here lies in the way of a line but [`Sampler::see`].

mod dag;
pub mod filter;
mod history;
mod observer;
pub mod report;
mod sampler;
pub mod tail;
pub mod tap;
mod weights;

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

pub use dag::dag_of;
pub use observer::Observer;
pub use report::{Loss, Report, Talker};
pub use sampler::{Sampler, Samples, Sender};

use crate::clock::Timestamp;
use crate::exposition::OwnFamily;
use crate::line::split_value;
use history::{History, rounded};
use report::{Now, Totals};
use weights::Weights;

/// Rows of each list in a report.
const ROWS_MAX: usize = 100;

/// Datagrams that nobody has any more.
const LOST: &str = "rotameter_lost_datagrams_total";
/// What refuses lines, samples or events.
const REFUSED: [&str; 4] = [
    "statsd_exporter_sample_errors_total",
    "statsd_exporter_events_error_total",
    "rotameter_events_refused_total",
    "statsd_exporter_tcp_too_long_lines_total",
];
/// What else somebody should know of.
const OTHER_LOSSES: [&str; 5] = [
    "rotameter_tcp_connections_refused_total",
    "rotameter_unixgram_datagrams_cut_total",
    "rotameter_unix_too_long_lines_total",
    "rotameter_relay_lines_dropped_total",
    "rotameter_listen_refused_total",
];

/// The present state, kept by whoever observes.
#[derive(Debug, Default)]
pub struct Live {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    history: History,
    identities: Weights,
    dags: Weights,
    senders: Weights,
    losses: Vec<Loss>,
    types: HashMap<String, (f64, f64)>,
    one_line_in: f64,
    observed: Option<Timestamp>,
    /// How many there were, and when that was seen to have grown, since 1970.
    lines: f64,
    last_line_seconds: f64,
}

/// Identities that the kernel counts: the line without its value, and its lines per second.
pub type PromotedRates = Vec<(Vec<u8>, f64)>;

impl Live {
    /// Takes in what came since the last time.
    pub fn observe(&self, samples: &Samples, families: &[OwnFamily], unix_seconds: f64, now: Timestamp) {
        let mut state = self.state.lock();
        let seconds = state.observed.replace(now).map_or(0.0, |before| now.since(before).as_secs_f64());
        state.weigh(samples, seconds);
        let totals = Totals {
            lines: sum(families, "statsd_exporter_lines_total"),
            kernel_lines: sum(families, "rotameter_slot_lines_total"),
            lost: sum(families, LOST),
            refused: REFUSED.iter().map(|name| sum(families, name)).sum(),
        };
        if totals.lines > state.lines {
            state.lines = totals.lines;
            state.last_line_seconds = unix_seconds;
        }
        let sizes = Now {
            series: sum(families, "rotameter_series"),
            series_max: sum(families, "rotameter_series_max"),
            promoted: sum(families, "rotameter_promoted_identities"),
            slots: sum(families, "rotameter_slots"),
            ..Now::default()
        };
        state.history.push(unix_seconds, totals, sizes);
        state.compare(families, seconds);
    }

    /// When lines came last, since 1970 and to the second; 0 if none has come.
    pub fn last_line_seconds(&self) -> f64 {
        self.state.lock().last_line_seconds
    }

    /// What is known now. What only the caller knows is left empty.
    #[must_use]
    pub fn report(&self, promoted: &PromotedRates, history: bool) -> Report {
        let state = self.state.lock();
        let in_kernel: HashSet<&[u8]> = promoted.iter().map(|(line, _)| line.as_slice()).collect();
        let mut identities: Vec<Talker> =
            promoted.iter().map(|(line, rate)| talker(line, *rate, true)).collect();
        let cold = state.identities.rates().filter(|(line, _)| !in_kernel.contains(line));
        identities.extend(cold.map(|(line, rate)| talker(line, rate, false)));
        let mut dags: HashMap<&[u8], (f64, bool)> =
            state.dags.rates().map(|(dag, rate)| (dag, (rate, false))).collect();
        // What was counted before its promotion is still remembered of those; the kernel's rate has it now.
        for (line, rate) in state.identities.rates().filter(|(line, _)| in_kernel.contains(line)) {
            if let Some(sum) = dag_of(line).and_then(|dag| dags.get_mut(dag)) {
                sum.0 = (sum.0 - rate).max(0.0);
            }
        }
        for (line, rate) in promoted {
            if let Some(dag) = dag_of(line) {
                let sum = dags.entry(dag).or_default();
                *sum = (sum.0 + rate, true);
            }
        }
        let dags = dags.into_iter().map(|(dag, (rate, hot))| talker(dag, rate, hot)).collect();
        let senders = state.senders.rates().map(|(sender, rate)| talker(sender, rate, false)).collect();
        let types = state.types.iter().map(|(name, (_, rate))| talker(name.as_bytes(), *rate, false));
        Report {
            now: state.history.now(),
            totals: state.history.totals(),
            losses: state.losses.clone(),
            identities: hottest(identities),
            dags: hottest(dags),
            senders: hottest(senders),
            types: hottest(types.filter(|talker| talker.per_second > 0.0).collect()),
            one_line_in: state.one_line_in,
            history: history.then(|| state.history.columns()),
            ..Report::default()
        }
    }
}

impl State {
    fn weigh(&mut self, samples: &Samples, seconds: f64) {
        let weight = samples.weight();
        self.one_line_in = weight.max(1.0);
        // What came before the first look came in a time that nobody knows.
        if seconds <= 0.0 {
            return;
        }
        let mut key = Vec::new();
        for (line, sender) in samples.iter().filter(|(line, _)| !line.is_empty()) {
            key.clear();
            write_identity(line, &mut key);
            self.identities.add(&key, weight);
            if let Some(dag) = dag_of(line) {
                self.dags.add(dag, weight);
            }
            match sender {
                Sender::Address(address) => self.senders.add(address.to_string().as_bytes(), weight),
                Sender::Process(number) => self.senders.add(format!("process {number}").as_bytes(), weight),
                Sender::Nameless(transport) => self.senders.add(transport.name().as_bytes(), weight),
            }
        }
        for weights in [&mut self.identities, &mut self.dags, &mut self.senders] {
            weights.end_window(seconds);
        }
    }

    fn compare(&mut self, families: &[OwnFamily], seconds: f64) {
        let rate =
            |total: f64, before: f64| if seconds > 0.0 { rounded((total - before) / seconds) } else { 0.0 };
        let named = std::iter::once(LOST).chain(REFUSED).chain(OTHER_LOSSES);
        let mut losses = Vec::new();
        for family in named.filter_map(|name| families.iter().find(|family| family.name == name)) {
            for (labels, total) in family.samples.iter().filter(|(_, total)| *total > 0.0) {
                let same = |loss: &&Loss| loss.metric == family.name && loss.reason == *labels;
                let before = self.losses.iter().find(same).map_or(0.0, |loss| loss.total);
                losses.push(Loss {
                    metric: family.name.clone(),
                    reason: labels.clone(),
                    total: *total,
                    per_second: rate(*total, before),
                });
            }
        }
        self.losses = losses;
        let events = families.iter().filter(|family| family.name == "statsd_exporter_events_total");
        for (labels, total) in events.flat_map(|family| &family.samples) {
            let name = labels.split('"').nth(1).unwrap_or(labels);
            let (before, _) = self.types.get(name).copied().unwrap_or_default();
            self.types.insert(name.to_owned(), (*total, rate(*total, before)));
        }
    }
}

/// The line without its value, as `/promoted` writes it; of one that has several, its name.
fn write_identity(line: &[u8], key: &mut Vec<u8>) {
    if let Some((head, _, tail)) = split_value(line) {
        [head, b":", tail].into_iter().for_each(|part| key.extend_from_slice(part));
    } else {
        let end = memchr::memchr(b':', line).map_or(line.len(), |colon| colon + 1);
        key.extend_from_slice(line.get(..end).unwrap_or(line));
    }
}

fn sum(families: &[OwnFamily], name: &str) -> f64 {
    let family = families.iter().find(|family| family.name == name);
    family.map_or(0.0, |family| family.samples.iter().map(|(_, value)| value).sum())
}

fn talker(name: &[u8], per_second: f64, in_kernel: bool) -> Talker {
    Talker { name: String::from_utf8_lossy(name).into_owned(), per_second: rounded(per_second), in_kernel }
}

fn hottest(mut talkers: Vec<Talker>) -> Vec<Talker> {
    talkers.sort_by(|a, b| b.per_second.total_cmp(&a.per_second).then_with(|| a.name.cmp(&b.name)));
    talkers.truncate(ROWS_MAX);
    talkers
}

#[cfg(test)]
mod tests;
