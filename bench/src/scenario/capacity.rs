//! Rising load -> the highest rate at which nothing is lost.

use anyhow::Context as _;

use crate::{
    judge::Judge,
    lab::Lab,
    network::{self, Pair},
    raw_program::{Action, RawProgram},
    report::{Curve, Findings, Plot, Row, Scale},
    server::{Contestant, Doors, Setup},
};

use super::{
    offer::{Offer, Wire},
    totals::Totals,
    trial::{Probe, Trial},
    workload::Workload,
};

const NAME: &str = "capacity";
const GENERATOR_CPU: usize = 0;
const FLOOD_BURST: u32 = 2_048;
const MILLION: f64 = 1e6;
/// What operators give a server whose own buffer is the kernel's default.
const TUNED_BUFFER_BYTES: u64 = 4 << 20;

/// A server as it is set up, and what it is sent.
struct Case {
    contestant: Contestant,
    setup: Setup,
    how: &'static str,
    workload: Workload,
    rates: Vec<f64>,
    /// Of the last run, for the plot.
    probes: Vec<Probe>,
}

/// Measures every case in turn, again in each run.
///
/// # Errors
///
/// A right is missing, a server does not start, or a count is not exact.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let mut cases = cases(lab)?;
    network::within(|pair| {
        network::pin(GENERATOR_CPU)?;
        let mut alone = Vec::new();
        for _ in 0..lab.long_runs() {
            alone.push(generator_alone(lab, pair)?);
            for case in &mut cases {
                run(lab, pair, case).with_context(|| case.name())?;
            }
        }
        let mut findings = findings(&cases);
        findings
            .rows
            .insert(0, Row::new(NAME, "the generator alone, dropped where it arrives", "M/s", &alone));
        Ok(findings)
    })
}

/// What can be seen at most, in millions a second.
fn generator_alone(lab: &Lab, pair: Pair) -> anyhow::Result<f64> {
    let _drop = RawProgram::load(Action::Drop)?.attach(pair.receiving)?;
    let wire = Wire::new(pair)?;
    let mut offer = Offer::new(&wire, Workload::Mixed.payloads(), &Judge::default())?;
    Ok(offer.send(None, FLOOD_BURST, lab.duration, &mut Totals::default())?.rate() / MILLION)
}

fn cases(lab: &Lab) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut add = |contestant: &Contestant, setup: Setup, how, workload| {
        let contestant = contestant.clone();
        cases.push(Case { contestant, setup, how, workload, rates: Vec::new(), probes: Vec::new() });
    };
    let ours = lab.ours()?;
    for workload in Workload::ALL {
        add(&ours, lab.setup(Doors::Xdp), "XDP", workload);
        for theirs in &lab.versus {
            add(theirs, lab.setup(Doors::None), "own defaults", workload);
            add(
                theirs,
                lab.setup(Doors::None).read_buffer(TUNED_BUFFER_BYTES),
                "4 MiB receive buffer",
                workload,
            );
        }
        add(&ours, lab.setup(Doors::SocketFilter), "socket filter", workload);
        add(&ours, lab.setup(Doors::None), "no door", workload);
    }
    Ok(cases)
}

fn run(lab: &Lab, pair: Pair, case: &mut Case) -> anyhow::Result<()> {
    let wire = Wire::new(pair)?;
    let mut offer = Offer::new(&wire, case.workload.payloads(), &case.contestant.judge)?;
    let mut trial = Trial::start(pair, &case.contestant, &case.setup)?;
    // With a default buffer even this slow start may lose a few; they are not what is measured.
    trial.warm(std::slice::from_mut(&mut offer))?;
    let (rate, probes) = trial.highest(&mut offer, lab.duration, lab.size(5, 8))?;
    anyhow::ensure!(rate > 0.0, "no rate was found at which nothing is lost");
    case.rates.push(rate / MILLION);
    case.probes = probes;
    Ok(())
}

impl Case {
    fn name(&self) -> String {
        format!("{}: {}, {}", self.workload.name(), self.contestant.name, self.how)
    }
}

fn findings(cases: &[Case]) -> Findings {
    let mut findings = Findings::default();
    for case in cases {
        findings.rows.push(Row::new(NAME, case.name(), "M/s", &case.rates));
    }
    for workload in Workload::ALL {
        let of_workload = || cases.iter().filter(|case| case.workload == workload);
        let Some(ours) = of_workload().find(|case| case.contestant.ours && case.how == "XDP") else {
            continue;
        };
        for theirs in of_workload().filter(|case| !case.contestant.ours) {
            let ratios: Vec<f64> =
                ours.rates.iter().zip(&theirs.rates).map(|(ours, theirs)| ours / theirs).collect();
            let case = format!("{} / {}, {}", ours.name(), theirs.contestant.name, theirs.how);
            let row = Row::new(NAME, case, "times", &ratios);
            findings.rows.push(match (workload, theirs.how) {
                (Workload::Mixed, "own defaults") => row.at_least(40.0),
                (Workload::Mixed, _) => row.at_least(5.0),
                (Workload::Hot, _) => row,
            });
        }
    }
    let percent = |probe: &Probe| 100.0 * probe.lost / (probe.lost + probe.carried).max(1.0);
    let curves = cases.iter().map(|case| {
        let mut points: Vec<(f64, f64)> =
            case.probes.iter().map(|probe| (probe.sent.rate(), percent(probe))).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        Curve { name: case.name(), points }
    });
    findings.plots.push(Plot {
        file: "loss-by-rate".to_owned(),
        title: "Loss by rate".to_owned(),
        x: ("datagrams offered per second".to_owned(), Scale::Logarithmic),
        y: ("% lost".to_owned(), Scale::Linear),
        curves: curves.collect(),
    });
    findings.notes.push(
        "the sender has one core, so nothing above what it sends can be seen; receive buffers are each \
         program's own default but where one is named"
            .to_owned(),
    );
    findings
}
