//! A kind of traffic -> payloads.

use crate::{
    fleet::{Fleet, Preset},
    load::Payloads,
};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Counters that the kernel counts after a second.
    Hot,
    /// What a large Airflow fleet sends: counters, timers and gauges.
    Mixed,
}

/// Names of hot counters: a small fleet's hundred busiest carry three quarters of its datagrams.
const HOT_NAMES: usize = 100;
/// Datagrams of the fleet that are sent again and again.
const MIXED_DATAGRAMS: usize = 20_000;
const SEED: u64 = 1;

impl Workload {
    pub const ALL: [Self; 2] = [Self::Hot, Self::Mixed];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot counters",
            Self::Mixed => "mixed fleet",
        }
    }

    #[must_use]
    pub fn payloads(self) -> Payloads {
        match self {
            Self::Hot => lines((0..HOT_NAMES).map(|n| {
                let (dag, task, value) = (n / 10, n % 10, n % 7 + 1);
                format!("airflow.ti.finish.dag_{dag}.task_{task}.success:{value}|c")
            })),
            Self::Mixed => Payloads::collect(Fleet::preset(Preset::Large, SEED), MIXED_DATAGRAMS),
        }
    }
}

/// A table of these lines, one in each datagram.
#[must_use]
pub fn lines(lines: impl Iterator<Item = String>) -> Payloads {
    let lines: Vec<String> = lines.collect();
    Payloads::of(lines.iter().map(String::as_bytes))
}
