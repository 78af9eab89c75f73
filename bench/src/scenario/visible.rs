//! One datagram -> the moment at which a scrape shows it.

use std::time::{Duration, Instant};

use crate::{
    lab::Lab,
    network,
    report::{Findings, Row},
    server::{Doors, Figures},
};

use super::{
    offer::{Offer, Wire},
    totals::Totals,
    trial::Trial,
    workload::lines,
};

const NAME: &str = "visible";
const GENERATOR_CPU: usize = 0;
/// Apart, so that none waits for what another has started.
const PAUSE: Duration = Duration::from_millis(37);
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// Sends single counters, hot and new ones, and scrapes without a pause until each is there.
///
/// # Errors
///
/// A right is missing, a server does not start, or a datagram is never shown.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    let mut cases = vec![(&ours, Doors::Xdp, "XDP"), (&ours, Doors::None, "no door")];
    cases.extend(lab.versus.iter().map(|theirs| (theirs, Doors::None, "own defaults")));
    network::within(|pair| {
        network::pin(GENERATOR_CPU)?;
        let wire = Wire::new(pair)?;
        let mut rows = Vec::new();
        for (contestant, doors, how) in cases {
            let mut trial = Trial::start(pair, contestant, &lab.setup(doors))?;
            let line = lines(std::iter::once("airflow.visible:1|c".to_owned()));
            let mut offer = Offer::new(&wire, line, &contestant.judge)?;
            trial.warm(std::slice::from_mut(&mut offer))?;
            let mut waits = Vec::new();
            for _ in 0..lab.size(20, 200) {
                std::thread::sleep(PAUSE);
                waits.push(wait(&trial, &mut offer)?.as_secs_f64() * 1e3);
            }
            rows.push(Row::new(
                NAME,
                format!("{}, {how}: datagram to answer", contestant.name),
                "ms",
                &waits,
            ));
        }
        Ok(rows.into())
    })
}

fn wait(trial: &Trial, offer: &mut Offer<'_>) -> anyhow::Result<Duration> {
    let before = shown(trial)?;
    let began = Instant::now();
    offer.send_next(1, &mut Totals::default())?;
    while began.elapsed() < SEEN_WITHIN {
        let now = shown(trial)?;
        let elapsed = began.elapsed();
        if now > before {
            anyhow::ensure!(now == before + 1.0, "one datagram was sent, {} are shown", now - before);
            return Ok(elapsed);
        }
    }
    anyhow::bail!("a datagram was not shown within {} s", SEEN_WITHIN.as_secs())
}

fn shown(trial: &Trial) -> anyhow::Result<f64> {
    Ok(Figures::read(&trial.server.scrape()?.text()).counters)
}
