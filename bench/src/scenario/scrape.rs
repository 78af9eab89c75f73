//! Many series -> what a scrape costs, and what it does to ingestion.

use anyhow::Context as _;

use crate::{
    lab::Lab,
    network::{self, Pair},
    report::{Curve, Findings, Plot, Row, Scale},
    server::{Contestant, Doors},
};

use super::{
    offer::{Offer, Wire},
    trial::{Meanwhile, Trial},
    workload::{SeriesType, Workload},
};

const NAME: &str = "scrape";
const GENERATOR_CPU: usize = 0;
const MEBIBYTE: f64 = 1024.0 * 1024.0;
const MILLION: f64 = 1e6;

/// Scrapes each program with more and more series; then measures ours under load with and without
/// scrapes at the same time.
///
/// # Errors
///
/// A right is missing, a server does not start, or a series is not shown.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    let sizes: &[u32] = lab.size(&[10_000, 100_000], &[10_000, 100_000, 500_000]);
    network::within(|pair| {
        network::pin(GENERATOR_CPU)?;
        let mut findings = Findings::default();
        let mut curves = Vec::new();
        for contestant in std::iter::once(&ours).chain(&lab.versus) {
            let mut points = Vec::new();
            for &series in sizes {
                let rows = scrapes(lab, pair, contestant, series).with_context(|| contestant.name.clone())?;
                points.push((f64::from(series), rows[0].median));
                findings.rows.extend(rows);
            }
            curves.push(Curve { name: contestant.name.clone(), points });
        }
        let largest = sizes.last().copied().unwrap_or_default();
        for theirs in &lab.versus {
            findings.rows.extend(ratio(&findings.rows, &ours, theirs, largest));
        }
        findings.rows.extend(under_load(lab, pair, &ours, largest)?);
        findings.notes.push(
            "the sender has one of the CPUs; where there are two, ingestion, scrape and scraper share the other"
                .to_owned(),
        );
        findings.plots.push(Plot {
            file: "scrape-by-series".to_owned(),
            title: "CPU time of a scrape, by series".to_owned(),
            x: ("series".to_owned(), Scale::Logarithmic),
            y: ("ms".to_owned(), Scale::Logarithmic),
            curves,
        });
        Ok(findings)
    })
}

/// CPU, time, size, and memory that a scrape takes beside what was there before.
fn scrapes(lab: &Lab, pair: Pair, contestant: &Contestant, series: u32) -> anyhow::Result<Vec<Row>> {
    let mut trial = Trial::start(pair, contestant, &lab.setup(Doors::Xdp).tcp())?;
    trial.fill(SeriesType::Counter.series(series))?;
    let resident = trial.server.resident_bytes()?;
    trial.server.forget_resident_max()?;
    let (mut cpu, mut elapsed, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..lab.runs {
        let before = trial.server.cpu()?;
        let scrape = trial.server.scrape()?;
        trial.server.wait_until_quiet()?;
        cpu.push(trial.server.cpu()?.saturating_sub(before).as_secs_f64() * 1e3);
        elapsed.push(scrape.elapsed.as_secs_f64() * 1e3);
        bytes = scrape.body.len();
    }
    let growth = (trial.server.resident_bytes_max()? - resident) / MEBIBYTE;
    trial.check()?;
    trial.check_series(&[])?;
    let case = |what: &str| format!("{}, {series} series: {what}", contestant.name);
    #[expect(clippy::cast_precision_loss, reason = "a size")]
    let size = bytes as f64 / MEBIBYTE;
    Ok(vec![
        Row::new(NAME, case("CPU of a scrape"), "ms", &cpu),
        Row::new(NAME, case("time of a scrape"), "ms", &elapsed),
        Row::new(NAME, case("size"), "MiB", &[size]),
        Row::new(NAME, case("memory that scrapes added"), "MiB", &[growth]),
    ])
}

fn ratio(rows: &[Row], ours: &Contestant, theirs: &Contestant, series: u32) -> Option<Row> {
    let find = |name: &str| {
        let case = format!("{name}, {series} series: CPU of a scrape");
        rows.iter().find(|row| row.case == case)
    };
    let ratios: Vec<f64> = find(&ours.name)?
        .runs
        .iter()
        .zip(&find(&theirs.name)?.runs)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    let case = format!("{series} series: CPU of a scrape, {} / {}", ours.name, theirs.name);
    Some(Row::new(NAME, case, "times", &ratios).at_most(0.1))
}

/// The highest rate without loss, with and without a scrape that begins together with
/// the load, and again each second.
fn under_load(lab: &Lab, pair: Pair, ours: &Contestant, series: u32) -> anyhow::Result<Vec<Row>> {
    let wire = Wire::new(pair)?;
    let mut offer = Offer::new(&wire, Workload::Mixed.payloads(), &ours.judge)?;
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut trial = Trial::start(pair, ours, &lab.setup(Doors::Xdp).tcp())?;
    trial.fill(SeriesType::Counter.series(series))?;
    trial.warm(std::slice::from_mut(&mut offer))?;
    for _ in 0..lab.long_runs() {
        trial.meanwhile = Meanwhile::Nothing;
        let (alone, _) = trial.highest(&mut offer, lab.duration, lab.size(5, 8))?;
        trial.meanwhile = Meanwhile::Scraped;
        let (scraped, _) = trial.highest(&mut offer, lab.duration, lab.size(5, 8))?;
        without.push(alone / MILLION);
        with.push(scraped / MILLION);
        ratios.push(scraped / alone);
    }
    let case = |what: &str| format!("mixed fleet beside {series} series: {what}");
    Ok(vec![
        Row::new(NAME, case("without loss, no scrape"), "M/s", &without),
        Row::new(NAME, case("without loss, scraped each second"), "M/s", &with),
        Row::new(NAME, case("scraped / not"), "times", &ratios).at_least(0.9),
    ])
}
