//! More than a server can take -> what it took, and whether every datagram that it lost is counted.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;

use crate::{
    judge::Judge,
    lab::Lab,
    load::Payloads,
    network::{self, Pair},
    report::{Findings, Row},
    server::{Contestant, Doors, Figures, Throttle},
};

use super::{
    offer::{Offer, Wire},
    trial::{Meanwhile, Trial},
    workload::{self, Workload},
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
const DOORS: [(Doors, &str); 3] =
    [(Doors::Xdp, "XDP"), (Doors::SocketFilter, "socket filter"), (Doors::None, "no door")];
/// More names than the daemon remembers lines, so that each is parsed and mapped whenever it comes.
const COLD_NAMES: u32 = 400_000;
/// Expressions that a name is tried against before the last one takes it.
const EXPRESSIONS: usize = 20;

/// What is sent, and to what.
struct Case {
    doors: Doors,
    name: String,
    payloads: Payloads,
    ours: Contestant,
    throttled: bool,
}

/// Finds the limit, then sends twice and ten times as much. Names that no cache holds, under regular expressions,
/// are more than the daemon can take of what one core sends. The mixed fleet is not, so with that the daemon runs
/// for a tenth of the time, as under a tight CPU limit.
///
/// # Errors
///
/// A right is missing, or a datagram ended nowhere.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let file = std::env::temp_dir().join(format!("rotameter-bench-{}.yml", std::process::id()));
    let found = cases(lab, &file).and_then(|cases| {
        network::within(|pair| {
            network::pin(GENERATOR_CPU)?;
            let mut findings = Findings::default();
            for case in &cases {
                findings.rows.extend(run(lab, pair, case).with_context(|| case.name.clone())?);
            }
            Ok(findings)
        })
    });
    // Whatever came of it, the file was ours, and may not be there.
    let _ = std::fs::remove_file(&file);
    let mut findings = found?;
    findings.notes.push(format!(
        "every datagram sent was found again as counted, received or lost; ring of {} KiB, receive buffer of {} KiB",
        RING_BYTES >> 10,
        READ_BUFFER_BYTES >> 10
    ));
    findings.notes.push(format!(
        "cold names: {COLD_NAMES} of them, by {} regular expressions into one family; the daemon has all of its CPU, \
         and the rates are real",
        EXPRESSIONS + 1
    ));
    findings.notes.push("a tenth of the CPU: the daemon ran for 5 of every 50 ms".to_owned());
    Ok(findings)
}

fn cases(lab: &Lab, file: &Path) -> anyhow::Result<Vec<Case>> {
    let mut rules = String::from("defaults: {match_type: regex}\nmappings:\n");
    for number in 0..EXPRESSIONS {
        rules.push_str(&format!(
            "- {{match: '^cold\\.(\\w+)\\.other_{number}_(\\w+)$', name: cold_{number}}}\n"
        ));
    }
    rules.push_str("- {match: '^cold\\.(\\w+)\\.(\\w+)$', name: cold_total, labels: {kind: $2}}\n");
    std::fs::write(file, &rules).with_context(|| format!("writing {}", file.display()))?;
    let under_rules = lab
        .plain()?
        .judged(&Arc::new(Judge::read(&rules)?))
        .flags(&[format!("--statsd.mapping-config={}", file.display())]);
    let cold =
        workload::lines((0..COLD_NAMES).map(|n| format!("cold.dag_{n}_task_{}.kind_{}:1|c", n % 97, n % 5)));
    let mut cases = Vec::new();
    for (doors, how) in DOORS {
        cases.push(Case {
            doors,
            name: format!("cold names, {how}"),
            payloads: cold.clone(),
            ours: under_rules.clone(),
            throttled: false,
        });
        cases.push(Case {
            doors,
            name: format!("mixed fleet, a tenth of the CPU, {how}"),
            payloads: Workload::Mixed.payloads(),
            ours: lab.ours()?,
            throttled: true,
        });
    }
    Ok(cases)
}

fn run(lab: &Lab, pair: Pair, case: &Case) -> anyhow::Result<Vec<Row>> {
    let wire = Wire::new(pair)?;
    let (mut limits, mut shares) = (Vec::new(), vec![(Vec::new(), Vec::new()); MULTIPLES.len()]);
    for _ in 0..lab.long_runs() {
        let mut offer = Offer::new(&wire, case.payloads.clone(), &case.ours.judge)?;
        let mut setup = lab
            .setup(case.doors)
            .read_buffer(READ_BUFFER_BYTES)
            .flag(format!("--ebpf.ring-bytes={RING_BYTES}"));
        if !case.throttled {
            // Its own rules instead of a file for all.
            setup = setup.mapping(None);
        }
        let mut trial = Trial::start(pair, &case.ours, &setup)?;
        trial.warm(std::slice::from_mut(&mut offer))?;
        if case.throttled {
            trial.meanwhile = Meanwhile::Throttled(THROTTLE);
        }
        let (limit, _) = trial.highest(&mut offer, lab.duration, lab.size(5, 8))?;
        anyhow::ensure!(limit > 0.0, "no rate was found at which nothing is lost");
        limits.push(limit / MILLION);
        for (multiple, (offered, carried)) in MULTIPLES.iter().zip(&mut shares) {
            // It fails if what is missing is not what was counted as lost.
            let probe = trial.probe_exactly_accounted(&mut offer, limit * multiple, lab.duration)?;
            offered.push(probe.sent.rate() / limit);
            carried.push(probe.carried / probe.sent.elapsed.as_secs_f64() / limit);
        }
    }
    let name = |what: &str| format!("{}: {what}", case.name);
    let mut rows = vec![Row::new(NAME, name("highest rate without loss"), "M/s", &limits)];
    for (multiple, (offered, carried)) in MULTIPLES.iter().zip(&shares) {
        let case = name(&format!("{multiple} times that was meant, offered"));
        rows.push(Row::new(NAME, case, "times", offered));
        rows.push(Row::new(NAME, name(&format!("{multiple} times that: taken")), "times", carried));
    }
    Ok(rows)
}

/// Every datagram that our daemon has accounted for, wherever it ended.
pub(super) fn accounted(figures: &Figures) -> f64 {
    figures.own_sum("rotameter_datagrams_total", "verdict=\"counted\"")
        + figures.own_sum("rotameter_received_datagrams_total", "")
        + figures.lost()
}
