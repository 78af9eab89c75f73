//! A kind of traffic -> payloads.

use crate::corpus;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Counters that the kernel counts after a second.
    Hot,
    /// What Airflow sends: counters, timers and gauges in the shares of a recording.
    Mixed,
}

/// Names of hot counters: a small fleet's hundred busiest carry three quarters of its datagrams.
const HOT_NAMES: usize = 100;
const RECORDING: &str = "airflow-v3-celery-default";
/// Datagrams of the recording that are sent again and again.
const MIXED_DATAGRAMS: usize = 2_000;

impl Workload {
    pub const ALL: [Self; 2] = [Self::Hot, Self::Mixed];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot counters",
            Self::Mixed => "mixed fleet",
        }
    }

    /// The payloads, one line each.
    ///
    /// # Errors
    ///
    /// The recording is not where it should be.
    pub fn payloads(self) -> anyhow::Result<Vec<Vec<u8>>> {
        Ok(match self {
            Self::Hot => (0..HOT_NAMES)
                .map(|n| {
                    let (dag, task, value) = (n / 10, n % 10, n % 7 + 1);
                    format!("airflow.ti.finish.dag_{dag}.task_{task}.success:{value}|c").into_bytes()
                })
                .collect(),
            Self::Mixed => {
                let recorded = corpus::load(RECORDING)?.into_iter().map(|recorded| recorded.payload);
                recorded.filter(|payload| is_plain(payload)).take(MIXED_DATAGRAMS).collect()
            }
        })
    }
}

/// Whether a payload's total is the same however often and in whatever order it is sent: one line,
/// no negative number, no sample rate.
fn is_plain(payload: &[u8]) -> bool {
    !payload.contains(&b'\n') && !payload.contains(&b'@') && !payload.windows(2).any(|pair| pair == b":-")
}
