//! Datagrams at given rates -> the CPU time that each costs a server, in its process and in the kernel.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    lab::Lab,
    network::{self, Pair},
    raw_program::{Action, RawProgram},
    report::{Curve, Findings, Plot, Row, Scale},
    server::{Contestant, Doors, Setup},
};

use super::{
    offer::{Offer, Sent, Wire, unspoilt},
    totals::Totals,
    trial::{Probe, Trial},
    workload::Workload,
};

const NAME: &str = "cpu";
/// Whoever sends is here; a server runs where it likes.
const GENERATOR_CPU: usize = 0;
/// The same for every program, large enough that no rate loses for want of it.
const READ_BUFFER_BYTES: u64 = 64 << 20;
/// The least at a given rate: whatever a server does once a second must fall into each run alike.
const PACED: Duration = Duration::from_secs(2);
const C_SERVER_NS: f64 = 700.0;
/// To find the highest rate without loss, and how much below what was carried the next one is.
const ATTEMPTS: usize = 12;
const BACK_OFF: f64 = 0.95;

/// A rate, and how many datagrams come at once.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// None: as fast as one core sends.
    rate: Option<f64>,
    burst: u32,
}

const PACES: [Pace; 3] = [
    // Bursts of a few, as a node sees them that many processes send to.
    Pace { rate: Some(10_000.0), burst: 1 },
    Pace { rate: Some(50_000.0), burst: 5 },
    Pace { rate: None, burst: 512 },
];

impl Pace {
    fn lasting(self, lab: &Lab) -> Duration {
        if self.rate.is_some() { lab.duration.max(PACED) } else { lab.duration }
    }
}

/// What one datagram costs, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Cost {
    server: f64,
    kernel: f64,
}

impl Cost {
    fn total(self) -> f64 {
        self.server + self.kernel
    }
}

/// Measures ours and every other program in turn, on the same input.
///
/// # Errors
///
/// A right is missing; a server does not start; or a count is not exact.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let contestants = lab.contestants()?;
    network::within(|pair| {
        network::pin(GENERATOR_CPU)?;
        let mut costs = vec![vec![Vec::new(); Workload::ALL.len() * PACES.len()]; contestants.len()];
        let mut achieved = vec![vec![0.0; Workload::ALL.len() * PACES.len()]; contestants.len()];
        for _ in 0..lab.runs {
            let bare = unspoilt(|| bare(lab, pair, &contestants[0]))?;
            // One after the other in each run, so that a noisy minute falls on all alike.
            for (place, contestant) in contestants.iter().enumerate() {
                let setup = lab.setup(Doors::Xdp).read_buffer(READ_BUFFER_BYTES);
                let found = unspoilt(|| run(lab, pair, contestant, &setup, &bare))?;
                for (column, (cost, rate)) in found.into_iter().enumerate() {
                    costs[place][column].push(cost);
                    achieved[place][column] = rate;
                }
            }
        }
        Ok(findings(&contestants, &costs, &achieved))
    })
}

/// What the sending alone costs: the same frames, dropped where a door would take them.
fn bare(lab: &Lab, pair: Pair, judged: &Contestant) -> anyhow::Result<Vec<Sent>> {
    let wire = Wire::new(pair)?;
    let _drop = RawProgram::load(Action::Drop)?.attach(pair.receiving)?;
    let mut bare = Vec::new();
    for workload in Workload::ALL {
        let mut offer = Offer::new(&wire, workload.payloads(), &judged.judge)?;
        for pace in PACES {
            bare.push(offer.send(pace.rate, pace.burst, pace.lasting(lab), &mut Totals::default())?);
        }
    }
    Ok(bare)
}

/// One server's life: warm, then every workload at every pace.
fn run(
    lab: &Lab,
    pair: Pair,
    contestant: &Contestant,
    setup: &Setup,
    bare: &[Sent],
) -> anyhow::Result<Vec<(Cost, f64)>> {
    let wire = Wire::new(pair)?;
    let mut offers = Vec::new();
    for workload in Workload::ALL {
        offers.push(Offer::new(&wire, workload.payloads(), &contestant.judge)?);
    }
    let mut trial = Trial::start(pair, contestant, setup)?;
    trial.warm(&mut offers)?;
    let mut bare = bare.iter();
    let mut found = Vec::new();
    for (place, workload) in Workload::ALL.into_iter().enumerate() {
        for pace in PACES {
            let what = || format!("{}, {} at {pace}", contestant.name, workload.name());
            let probe =
                exactly(&mut trial, &mut offers[place], pace, pace.lasting(lab)).with_context(what)?;
            trial.check_series(&offers).with_context(what)?;
            let kernel = probe.kernel_ns(bare.next().unwrap_or(&Sent::default()));
            found.push((Cost { server: probe.server_ns(), kernel }, probe.sent.rate()));
        }
    }
    Ok(found)
}

/// Sends at a pace, of which nothing may be lost; flat out means the highest rate that loses nothing.
fn exactly(
    trial: &mut Trial,
    offer: &mut Offer<'_>,
    pace: Pace,
    duration: Duration,
) -> anyhow::Result<Probe> {
    let mut rate = pace.rate;
    for _ in 0..ATTEMPTS {
        let probe = trial.probe(offer, rate, pace.burst, duration)?;
        if probe.lost == 0.0 {
            return Ok(probe);
        }
        anyhow::ensure!(pace.rate.is_none(), "{} of {} were lost", probe.lost, probe.sent.datagrams);
        rate = Some(BACK_OFF * probe.carried / probe.sent.elapsed.as_secs_f64());
    }
    anyhow::bail!("no rate was found in {ATTEMPTS} attempts at which nothing is lost")
}

fn findings(contestants: &[Contestant], costs: &[Vec<Vec<Cost>>], achieved: &[Vec<f64>]) -> Findings {
    let mut findings = Findings::default();
    let columns = Workload::ALL.into_iter().flat_map(|workload| PACES.map(|pace| (workload, pace)));
    for (column, (workload, pace)) in columns.enumerate() {
        let totals =
            |place: usize| -> Vec<f64> { costs[place][column].iter().map(|cost| cost.total()).collect() };
        let what = |name: &str| format!("{}, {pace}: {name}", workload.name());
        for (place, contestant) in contestants.iter().enumerate() {
            let row = Row::new(NAME, what(&contestant.name), "ns/datagram", &totals(place));
            let median = |of: fn(&Cost) -> f64| {
                let values: Vec<f64> = costs[place][column].iter().map(of).collect();
                Row::new("", "", "", &values).median
            };
            findings.notes.push(format!(
                "{}: {:.0} ns in the process, {:.0} ns in the kernel before it, at {:.0}/s",
                row.case,
                median(|cost| cost.server),
                median(|cost| cost.kernel),
                achieved[place][column],
            ));
            // What the fastest known servers in C take flat out, for counters only.
            let mark = contestant.ours && workload == Workload::Mixed && pace.rate.is_none();
            findings.rows.push(if mark { row.at_most(C_SERVER_NS) } else { row });
            if place > 0 {
                let ratios: Vec<f64> =
                    totals(0).iter().zip(totals(place)).map(|(ours, theirs)| ours / theirs).collect();
                let row = Row::new(
                    NAME,
                    what(&format!("{} / {}", contestants[0].name, contestant.name)),
                    "times",
                    &ratios,
                );
                findings.rows.push(match ratio_max(workload, pace) {
                    Some(limit) if !contestant.ours => row.at_most(limit),
                    _ => row,
                });
            }
        }
    }
    findings.plots.push(plot(contestants, &findings.rows, achieved));
    findings.notes.push(format!(
        "every program has a receive buffer of {} MiB, which is not the default of all; flat out is the \
         highest rate found that loses nothing, and differs between programs",
        READ_BUFFER_BYTES >> 20
    ));
    findings.notes.push(
        "kernel time is that of the sending calls and of ksoftirqd, less that of the same frames dropped \
         by a bare XDP program in front; interrupts that hit other processes are not in it"
            .to_owned(),
    );
    findings
}

/// What the share of a peer's cost is to be.
fn ratio_max(workload: Workload, pace: Pace) -> Option<f64> {
    match (workload, pace.rate) {
        (Workload::Hot, None) => Some(1.0 / 30.0),
        (Workload::Mixed, None) => Some(1.0 / 10.0),
        (Workload::Mixed, Some(rate)) if rate < 20_000.0 => Some(1.0 / 40.0),
        (Workload::Mixed, Some(_)) => Some(1.0 / 20.0),
        (Workload::Hot, Some(_)) => None,
    }
}

fn plot(contestants: &[Contestant], rows: &[Row], achieved: &[Vec<f64>]) -> Plot {
    let mut curves = Vec::new();
    for (place, contestant) in contestants.iter().enumerate() {
        for workload in Workload::ALL {
            let case = |pace: Pace| format!("{}, {pace}: {}", workload.name(), contestant.name);
            let first = workload as usize * PACES.len();
            let points = PACES.into_iter().enumerate().filter_map(|(column, pace)| {
                let row = rows.iter().find(|row| row.case == case(pace))?;
                Some((achieved[place][first + column], row.median))
            });
            curves.push(Curve {
                name: format!("{}, {}", contestant.name, workload.name()),
                points: points.collect(),
            });
        }
    }
    Plot {
        file: "cpu-by-rate".to_owned(),
        title: "CPU time per datagram, by rate".to_owned(),
        x: ("datagrams per second".to_owned(), Scale::Logarithmic),
        y: ("ns per datagram".to_owned(), Scale::Logarithmic),
        curves,
    }
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rate {
            Some(rate) => write!(f, "{rate:.0}/s"),
            None => write!(f, "flat out"),
        }
    }
}
