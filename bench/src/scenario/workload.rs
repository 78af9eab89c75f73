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
                format!("airflow.ti.finish.hot_{dag}.task_{task}.success:{value}|c")
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

/// Types that series are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesType {
    Counter,
    Gauge,
    Timer,
}

impl SeriesType {
    pub const ALL: [Self; 3] = [Self::Counter, Self::Gauge, Self::Timer];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Timer => "timer",
        }
    }

    /// A line for each of so many series with five labels, scattered so that the order in which they
    /// are made is not that of the exposition.
    #[must_use]
    pub fn series(self, count: u32) -> Payloads {
        let code = match self {
            Self::Counter => "c",
            Self::Gauge => "g",
            Self::Timer => "ms",
        };
        lines((0..count).map(|n| {
            // A prime that divides no count in use, so every number comes up once.
            let n = u64::from(n) * 1_000_003 % u64::from(count.max(1));
            format!(
                "airflow.bench.{}:1|{code}|#dag_id:customer_{:04},task_id:transform_{:02},operator:PythonOperator,\
                 queue:default,state:success",
                self.name(),
                n / 100,
                n % 100
            )
        }))
    }
}

/// Counters of names never sent before, one for each number.
#[must_use]
pub fn new_names(numbers: std::ops::Range<u32>) -> Payloads {
    lines(
        numbers
            .map(|n| format!("airflow.local_task_job.task_exit.{n}.dag_{}.task_{}.0:1|c", n % 997, n % 89)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_series_comes_once() {
        for series_type in SeriesType::ALL {
            let payloads = series_type.series(10_000);
            let distinct: HashSet<&[u8]> = payloads.iter().map(|payload| payload.bytes).collect();
            assert_eq!(distinct.len(), 10_000);
        }
        let payloads = new_names(5..2_005);
        let distinct: HashSet<&[u8]> = payloads.iter().map(|payload| payload.bytes).collect();
        assert_eq!(distinct.len(), 2_000);
    }

    #[test]
    fn the_mixed_fleet_has_every_type() {
        let payloads = Workload::Mixed.payloads();
        for end in [&b"|c"[..], b"|g", b"|ms"] {
            assert!(payloads.iter().any(|payload| payload.bytes.ends_with(end)));
        }
        assert_eq!(payloads.len(), MIXED_DATAGRAMS);
    }
}
