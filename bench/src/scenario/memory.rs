//! Series by type -> resident memory of the whole server for each.

use anyhow::Context as _;

use crate::{
    lab::Lab,
    network::{self, Pair},
    report::{Findings, Row},
    server::{Contestant, Doors},
};

use super::{trial::Trial, workload::SeriesType};

const NAME: &str = "memory";
const GENERATOR_CPU: usize = 0;

/// Fills a fresh server with series of one type, and looks how much it has grown; each type, each
/// program, each run.
///
/// # Errors
///
/// A right is missing, a server does not start, or a series is not shown.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    let contestants: Vec<&Contestant> = std::iter::once(&ours).chain(&lab.versus).collect();
    let mut findings = Findings::default();
    network::within(|pair| {
        network::pin(GENERATOR_CPU)?;
        for series_type in SeriesType::ALL {
            let count = match series_type {
                SeriesType::Counter | SeriesType::Gauge => lab.size(50_000, 500_000),
                SeriesType::Timer => lab.size(10_000, 50_000),
            };
            let mut bytes = vec![Vec::new(); contestants.len()];
            for _ in 0..lab.long_runs() {
                for (contestant, bytes) in contestants.iter().zip(&mut bytes) {
                    bytes.push(grown(lab, pair, contestant, series_type, count)?);
                }
            }
            for (place, contestant) in contestants.iter().enumerate() {
                let of = format!("{} of 5 labels: {}", series_type.name(), contestant.name);
                findings.rows.push(Row::new(NAME, of, "B/series", &bytes[place]));
                if place > 0 {
                    let ratios: Vec<f64> =
                        bytes[0].iter().zip(&bytes[place]).map(|(ours, theirs)| ours / theirs).collect();
                    let of =
                        format!("{} of 5 labels: {} / {}", series_type.name(), ours.name, contestant.name);
                    findings.rows.push(Row::new(NAME, of, "times", &ratios).at_most(0.1));
                }
            }
        }
        Ok(())
    })?;
    findings.notes.push(
        "growth of resident memory before the first scrape, all caches included; timers have one value each"
            .to_owned(),
    );
    Ok(findings)
}

fn grown(
    lab: &Lab,
    pair: Pair,
    contestant: &Contestant,
    series_type: SeriesType,
    count: u32,
) -> anyhow::Result<f64> {
    let what = || format!("{}, {count} series of type {}", contestant.name, series_type.name());
    let mut trial = Trial::start(pair, contestant, &lab.setup(Doors::Xdp).tcp()).with_context(what)?;
    let before = trial.server.resident_bytes()?;
    trial.fill(series_type.series(count)).with_context(what)?;
    let grown = trial.server.resident_bytes()? - before;
    let figures = trial.check()?;
    anyhow::ensure!(figures.series == u64::from(count), "{}: {} are shown", what(), figures.series);
    trial.check_series(&[])?;
    Ok(grown / f64::from(count))
}
