//! Names of which each is new -> the CPU time that each costs a server.

use std::time::Duration;

use crate::{
    lab::Lab,
    network::{self, Pair},
    raw_program::{Action, RawProgram},
    report::{Findings, Row},
    server::{Contestant, Doors},
};

use super::{
    offer::{Offer, Wire},
    totals::Totals,
    trial::Trial,
    workload::new_names,
};

const NAME: &str = "cold";
const GENERATOR_CPU: usize = 0;
/// A rate that every program keeps up with.
const RATE: f64 = 20_000.0;
const BURST: u32 = 5;
const READ_BUFFER_BYTES: u64 = 64 << 20;

/// Sends counters with names never seen before, to each program in turn.
///
/// # Errors
///
/// A right is missing, a server does not start, or a count is not exact.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    let contestants: Vec<&Contestant> = std::iter::once(&ours).chain(&lab.versus).collect();
    let mut costs = vec![Vec::new(); contestants.len()];
    network::within(|pair| {
        network::pin(GENERATOR_CPU)?;
        for _ in 0..lab.runs {
            for (contestant, costs) in contestants.iter().zip(&mut costs) {
                costs.push(cost(lab, pair, contestant)?);
            }
        }
        Ok(())
    })?;
    let mut rows = Vec::new();
    for (place, contestant) in contestants.iter().enumerate() {
        let case = format!("{}: a new name at {RATE}/s", contestant.name);
        rows.push(Row::new(NAME, case, "ns/datagram", &costs[place]));
        if place > 0 {
            let ratios: Vec<f64> =
                costs[0].iter().zip(&costs[place]).map(|(ours, theirs)| ours / theirs).collect();
            let case = format!("{} / {}: a new name at {RATE}/s", ours.name, contestant.name);
            rows.push(Row::new(NAME, case, "times", &ratios).at_most(0.25));
        }
    }
    Ok(rows.into())
}

fn cost(lab: &Lab, pair: Pair, contestant: &Contestant) -> anyhow::Result<f64> {
    let names: u32 = lab.size(10_000, 60_000);
    // Never a second time round the table.
    let duration = Duration::from_secs_f64(f64::from(names - BURST) / RATE);
    let wire = Wire::new(pair)?;
    let mut offer = Offer::new(&wire, new_names(0..names), &contestant.judge)?;
    let bare = {
        let _drop = RawProgram::load(Action::Drop)?.attach(pair.receiving)?;
        offer.send(Some(RATE), BURST, duration, &mut Totals::default())?
    };
    let mut offer = Offer::new(&wire, new_names(0..names), &contestant.judge)?;
    let mut trial = Trial::start(pair, contestant, &lab.setup(Doors::Xdp).read_buffer(READ_BUFFER_BYTES))?;
    let probe = trial.lossless(&mut offer, RATE, BURST, duration)?;
    trial.check_series(&[offer])?;
    Ok(probe.server_ns() + probe.kernel_ns(&bare))
}
