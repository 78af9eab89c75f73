//! The answer of `/live`: what the daemon writes and what `rotameter top` and `doctor` read.
//!
//! The fields are documented in `docs/live.md`. New ones may come; a reader leaves alone what it does not
//! know.

use serde::{Deserialize, Serialize};

/// What goes on now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Of the daemon.
    pub version: String,
    /// Seconds since 1970, by the daemon's clock.
    pub time: f64,
    pub uptime_seconds: f64,
    pub ready: bool,
    pub now: Now,
    /// Sums since the start.
    pub totals: Totals,
    /// What was lost or refused, each with its reason, those without any left out.
    pub losses: Vec<Loss>,
    /// Hottest first, as the next three.
    pub identities: Vec<Talker>,
    pub dags: Vec<Talker>,
    /// Of what came whole: a datagram that the kernel counted leaves no sender behind.
    pub senders: Vec<Talker>,
    /// Events by type.
    pub types: Vec<Talker>,
    /// The rates of what came whole are of one line in so many.
    pub one_line_in: f64,
    /// Oldest first; only if asked for (`/live?history`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Columns>,
    pub startup: Vec<crate::startup::Row>,
}

/// Rates over the last second or so, and present sizes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Now {
    pub lines_per_second: f64,
    /// Datagrams that nobody has any more.
    pub lost_per_second: f64,
    /// Lines, samples and events that were refused.
    pub refused_per_second: f64,
    /// Of the lines, how many were counted in the kernel: 0 to 1. `None` while nothing comes.
    pub kernel_share: Option<f64>,
    pub series: f64,
    pub series_max: f64,
    pub promoted: f64,
    pub slots: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    pub lines: f64,
    pub kernel_lines: f64,
    pub lost: f64,
    pub refused: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Loss {
    /// The metric that counts it.
    pub metric: String,
    /// Its labels, as `/metrics` writes them; empty where it has none.
    pub reason: String,
    pub total: f64,
    pub per_second: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Talker {
    pub name: String,
    /// Lines; of types, events.
    pub per_second: f64,
    /// The kernel counts it.
    pub in_kernel: bool,
}

/// A column for each figure; all of one length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Columns {
    pub time: Vec<f64>,
    pub lines_per_second: Vec<f64>,
    pub lost_per_second: Vec<f64>,
    pub refused_per_second: Vec<f64>,
    pub kernel_share: Vec<Option<f64>>,
    pub series: Vec<f64>,
}
