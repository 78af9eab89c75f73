//! Datagrams at given rates -> the CPU time that each costs a server, in its process and in the kernel.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    lab::Lab,
    network::{self, Pair},
    raw_program::{Action, RawProgram},
    report::{Curve, Findings, Plot, Row, Scale},
    server::{Contestant, Doors, Server, Setup},
};

use super::{
    offer::{Offer, Sent, Totals, Wire},
    workload::Workload,
};

const NAME: &str = "cpu";
/// Whoever sends is here; a server runs where it likes.
const GENERATOR_CPU: usize = 0;
/// The same for every program, large enough that no rate loses for want of it.
const READ_BUFFER_BYTES: u64 = 64 << 20;
/// Longer than an interval of promotion and the one before it.
const WARM_UP: Duration = Duration::from_millis(2_300);
const WARM_UP_RATE: f64 = 20_000.0;
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
    let mut contestants = vec![lab.ours()?];
    contestants.extend(lab.versus.iter().cloned());
    network::within(|pair| {
        network::pin(GENERATOR_CPU)?;
        let mut costs = vec![vec![Vec::new(); Workload::ALL.len() * PACES.len()]; contestants.len()];
        let mut achieved = vec![vec![0.0; Workload::ALL.len() * PACES.len()]; contestants.len()];
        for _ in 0..lab.runs {
            // One after the other in each run, so that a noisy minute falls on all alike.
            for (place, contestant) in contestants.iter().enumerate() {
                let setup = lab.setup(Doors::Xdp).read_buffer(READ_BUFFER_BYTES);
                for (column, (cost, rate)) in run(lab, pair, contestant, &setup)?.into_iter().enumerate() {
                    costs[place][column].push(cost);
                    achieved[place][column] = rate;
                }
            }
        }
        Ok(findings(&contestants, &costs, &achieved))
    })
}

/// One server's life: warm, then every workload at every pace.
fn run(lab: &Lab, pair: Pair, contestant: &Contestant, setup: &Setup) -> anyhow::Result<Vec<(Cost, f64)>> {
    let wire = Wire::new(pair)?;
    let mut offers = Vec::new();
    for workload in Workload::ALL {
        offers.push(Offer::new(&wire, &workload.payloads()?)?);
    }
    // First what the sending alone costs: the same frames, dropped where a door would take them.
    let mut bare = Vec::new();
    {
        let _drop = RawProgram::load(Action::Drop)?.attach(pair.receiving)?;
        for offer in &mut offers {
            for pace in PACES {
                bare.push(offer.send(pace.rate, pace.burst, lab.duration, &mut Totals::default())?);
            }
        }
    }
    let server = Server::start(contestant, setup)?;
    let _pass = pass_unless_door(contestant, setup.doors, pair)?;
    let mut totals = Totals::default();
    for offer in &mut offers {
        offer.send(Some(WARM_UP_RATE), 1, WARM_UP / 2, &mut totals)?;
    }
    server.lines_once_settled(totals.lines)?;
    let mut bare = bare.into_iter().map(|bare| each(bare.kernel, bare.datagrams));
    let mut found = Vec::new();
    for (offer, workload) in offers.iter_mut().zip(Workload::ALL) {
        for pace in PACES {
            let (sent, spent) = exactly(&server, offer, pace, lab.duration, &mut totals)
                .with_context(|| format!("{}, {} at {pace}", contestant.name, workload.name()))?;
            let kernel = each(sent.kernel, sent.datagrams) - bare.next().unwrap_or(0.0);
            let server = each(spent, sent.datagrams);
            found.push((Cost { server, kernel: kernel.max(0.0) }, sent.rate()));
        }
    }
    Ok(found)
}

/// Sends at a pace and checks the count; flat out means the highest rate that loses nothing. Returns
/// what was sent, and the CPU time that the server took for it.
fn exactly(
    server: &Server,
    offer: &mut Offer<'_>,
    pace: Pace,
    duration: Duration,
    totals: &mut Totals,
) -> anyhow::Result<(Sent, Duration)> {
    let mut rate = pace.rate;
    for _ in 0..ATTEMPTS {
        server.wait_until_quiet()?;
        let (lines, before) = (totals.lines, server.cpu()?);
        let sent = offer.send(rate, pace.burst, duration, totals)?;
        server.wait_until_quiet()?;
        let spent = server.cpu()?.saturating_sub(before);
        server.lines_once_settled(totals.lines)?;
        let figures = server.figures()?;
        match totals.check(&figures) {
            Ok(()) => return Ok((sent, spent)),
            Err(error) if pace.rate.is_some() => return Err(error),
            Err(_) => {}
        }
        anyhow::ensure!(figures.lines() <= totals.lines, "more lines are shown than were sent");
        let carried = figures.lines() - lines;
        rate = Some(BACK_OFF * carried / sent.elapsed.as_secs_f64());
        *totals =
            Totals { lines: figures.lines(), counters: figures.counters, observations: figures.observations };
    }
    anyhow::bail!("no rate was found in {ATTEMPTS} attempts at which the count is exact")
}

/// A program on the receiving end, which the pair needs to carry frames; a door of ours is one.
fn pass_unless_door(
    contestant: &Contestant,
    doors: Doors,
    pair: Pair,
) -> anyhow::Result<Option<crate::raw_program::Attached>> {
    if contestant.ours && doors == Doors::Xdp {
        return Ok(None);
    }
    Ok(Some(RawProgram::load(Action::Pass)?.attach(pair.receiving)?))
}

fn each(time: Duration, count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of datagrams")]
    let count = count.max(1) as f64;
    time.as_secs_f64() * 1e9 / count
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
            findings.rows.push(row);
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
                    Some(limit) => row.at_most(limit),
                    None => row,
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
