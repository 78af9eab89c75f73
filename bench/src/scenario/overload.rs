//! More than a server can take -> what it took, and whether every datagram that it lost is counted.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    lab::Lab,
    network::{self, Pair},
    report::{Findings, Row},
    server::{Contestant, Doors, Figures, Throttle},
};

use super::{
    offer::{Offer, Wire},
    trial::{Meanwhile, Trial},
    workload::Workload,
};

const NAME: &str = "overload";
const GENERATOR_CPU: usize = 0;
/// A tenth of a core.
const THROTTLE: Throttle = Throttle { stopped: Duration::from_millis(45), running: Duration::from_millis(5) };
const MULTIPLES: [f64; 2] = [2.0, 10.0];
const MILLION: f64 = 1e6;
/// Small, so that there is something to overflow.
const RING_BYTES: u64 = 256 << 10;
const READ_BUFFER_BYTES: u64 = 1 << 20;

/// Finds the limit, then sends twice and ten times as much. The daemon runs for a tenth of the
/// time, as under a tight CPU limit, for otherwise it takes all that one core sends.
///
/// # Errors
///
/// A right is missing, or a datagram ended nowhere.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    network::within(|pair| {
        network::pin(GENERATOR_CPU)?;
        let mut findings = Findings::default();
        for (doors, how) in
            [(Doors::Xdp, "XDP"), (Doors::SocketFilter, "socket filter"), (Doors::None, "no door")]
        {
            let rows = run(lab, pair, &ours, doors, how).with_context(|| how.to_owned())?;
            findings.rows.extend(rows);
        }
        findings.notes.push(format!(
            "the daemon ran for 5 of every 50 ms; ring of {} KiB, receive buffer of {} KiB; every datagram sent was \
             found again as counted, received or lost",
            RING_BYTES >> 10,
            READ_BUFFER_BYTES >> 10
        ));
        Ok(findings)
    })
}

fn run(lab: &Lab, pair: Pair, ours: &Contestant, doors: Doors, how: &str) -> anyhow::Result<Vec<Row>> {
    let wire = Wire::new(pair)?;
    let (mut limits, mut shares) = (Vec::new(), vec![(Vec::new(), Vec::new()); MULTIPLES.len()]);
    for _ in 0..lab.long_runs() {
        let mut offer = Offer::new(&wire, Workload::Mixed.payloads(), &ours.judge)?;
        let setup =
            lab.setup(doors).read_buffer(READ_BUFFER_BYTES).flag(format!("--ebpf.ring-bytes={RING_BYTES}"));
        let mut trial = Trial::start(pair, ours, &setup)?;
        trial.warm(std::slice::from_mut(&mut offer))?;
        trial.meanwhile = Meanwhile::Throttled(THROTTLE);
        let (limit, _) = trial.highest(&mut offer, lab.duration, lab.size(5, 8))?;
        limits.push(limit / MILLION);
        for (multiple, (offered, carried)) in MULTIPLES.iter().zip(&mut shares) {
            // `probe` fails if what is missing is not what was counted as lost.
            let probe = trial.probe_exactly_accounted(&mut offer, limit * multiple, lab.duration)?;
            offered.push(probe.sent.rate() / limit);
            carried.push(100.0 * probe.carried / (probe.carried + probe.lost));
        }
    }
    let mut rows = vec![Row::new(NAME, format!("{how}: highest rate without loss"), "M/s", &limits)];
    for (multiple, (offered, carried)) in MULTIPLES.iter().zip(&shares) {
        rows.push(Row::new(
            NAME,
            format!("{how}: offered where {multiple} times that was meant"),
            "times",
            offered,
        ));
        rows.push(Row::new(NAME, format!("{how}: taken of {multiple} times that"), "%", carried));
    }
    Ok(rows)
}

/// Every datagram that our daemon has accounted for, wherever it ended.
pub(super) fn accounted(figures: &Figures) -> f64 {
    figures.own_sum("rotameter_datagrams_total", "verdict=\"counted\"")
        + figures.own_sum("rotameter_received_datagrams_total", "")
        + figures.lost()
}
