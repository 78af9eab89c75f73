//! What a generator did -> figures.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Serialize, Serializer};

use super::payloads::Payloads;

/// The account of one generator.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sent {
    pub datagrams: u64,
    pub lines: u64,
    /// Of payload.
    pub bytes: u64,
    #[serde(serialize_with = "seconds", rename = "seconds")]
    pub elapsed: Duration,
    /// What the generator itself took of a CPU.
    #[serde(serialize_with = "seconds", rename = "cpu_seconds")]
    pub cpu: Duration,
    /// How late it was at its worst, and at the end, against the wanted pace.
    #[serde(serialize_with = "seconds", rename = "behind_seconds_max")]
    pub behind_max: Duration,
    #[serde(serialize_with = "seconds", rename = "behind_seconds_end")]
    pub behind_end: Duration,
    /// Failed calls by errno; such datagrams were sent again.
    pub errors: BTreeMap<String, u64>,
    /// Whether a signal ended it early.
    pub interrupted: bool,
}

impl Sent {
    /// Datagrams per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        per_second(self.datagrams, self.elapsed)
    }

    pub(super) fn count(&mut self, payloads: &Payloads, datagrams: u64) {
        self.datagrams = datagrams;
        self.lines = payloads.lines(datagrams);
        self.bytes = payloads.bytes(datagrams);
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        writeln!(f, "datagrams   {}", self.datagrams)?;
        writeln!(f, "lines       {}", self.lines)?;
        writeln!(f, "bytes       {}", self.bytes)?;
        writeln!(f, "seconds     {seconds:.3}")?;
        writeln!(f, "rate        {:.0} datagrams/s", self.rate())?;
        let cpu = self.cpu.as_secs_f64();
        writeln!(f, "generator   {cpu:.3} s of CPU, {:.0} % of a core", 100.0 * cpu / seconds.max(1e-9))?;
        let [worst, end] = [self.behind_max, self.behind_end].map(|behind| behind.as_secs_f64() * 1e3);
        writeln!(f, "behind      {worst:.1} ms at worst, {end:.1} ms at the end")?;
        for (error, count) in &self.errors {
            writeln!(f, "error       {error}: {count} times")?;
        }
        if self.interrupted {
            writeln!(f, "ended by a signal")?;
        }
        Ok(())
    }
}

/// `count` in `elapsed`, per second.
#[must_use]
pub fn per_second(count: u64, elapsed: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let count = count as f64;
    count / elapsed.as_secs_f64().max(1e-9)
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
