//! A hot set that moves on through very many identities -> what promotion costs, and that nothing is
//! lost or doubled by it.

use std::time::Duration;

use crate::{
    lab::Lab,
    network,
    report::{Findings, Row},
    server::Doors,
};

use super::{
    offer::{Offer, Wire},
    trial::Trial,
    workload::new_names,
};

const NAME: &str = "churn";
const GENERATOR_CPU: usize = 0;
const RATE: f64 = 90_000.0;
const BURST: u32 = 10;
/// How often each name of the hot set is sent before the set moves on by half.
const ROUNDS: u32 = 4;

/// Sends the same hot set again and again, then one that moves.
///
/// # Errors
///
/// A right is missing, or a count is not exact.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    let (identities, hot_set): (u32, u32) = lab.size((40_000, 5_000), (1_000_000, 50_000));
    let steps = 2 * identities / hot_set - 1;
    let duration = Duration::from_secs_f64(f64::from(ROUNDS * hot_set) / RATE);
    network::within(|pair| {
        network::pin(GENERATOR_CPU)?;
        let wire = Wire::new(pair)?;
        let setup = lab.setup(Doors::Xdp).flag("--promotion.interval=200ms").flag("--promotion.min-rate=10");
        let mut trial = Trial::start(pair, &ours, &setup)?;
        let (mut steady, mut moving) = (Vec::new(), Vec::new());
        let mut same = Offer::new(&wire, new_names(0..hot_set), &ours.judge)?;
        trial.warm(std::slice::from_mut(&mut same))?;
        for _ in 0..lab.size(3, 10) {
            steady.push(trial.lossless(&mut same, RATE, BURST, duration)?.server_ns());
        }
        let before = trial.check()?;
        let mut spent = Duration::ZERO;
        for step in 0..steps {
            let first = step * hot_set / 2;
            let mut offer = Offer::new(&wire, new_names(first..first + hot_set), &ours.judge)?;
            let probe = trial.lossless(&mut offer, RATE, BURST, duration)?;
            spent += probe.sent.elapsed;
            moving.push(probe.server_ns());
        }
        let after = trial.check()?;
        let changes = |family: &str| (after.own(family) - before.own(family)) / spent.as_secs_f64();
        let case = |what: &str| format!("{identities} identities, {hot_set} of them hot: {what}");
        let mut findings = Findings::from(vec![
            Row::new(NAME, case("the same ones all the time"), "ns/datagram", &steady),
            Row::new(NAME, case("others every second interval"), "ns/datagram", &moving),
            Row::new(NAME, case("promotions"), "1/s", &[changes("rotameter_promotions_total")]),
            Row::new(NAME, case("demotions"), "1/s", &[changes("rotameter_demotions_total")]),
        ]);
        findings.notes.push(
            "time in the process; the moving ones include names that are new. All sums were exact".to_owned(),
        );
        Ok(findings)
    })
}
