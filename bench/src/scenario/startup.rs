//! The start of a process -> the moment from which it takes datagrams, and what takes so long.

use std::time::{Duration, Instant};

use crate::{
    lab::Lab,
    network,
    report::{Findings, Row},
    server::{Doors, Server, Setup},
};

use super::{kernel_cost, live::SIZES};

const NAME: &str = "startup";
/// Of a sidecar without any rights.
const UNPRIVILEGED_MS: f64 = 100.0;

/// Starts each program again and again, until its `/-/ready` answers 200.
///
/// # Errors
///
/// A right is missing, or a server does not start.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    let unprivileged = lab.setup(Doors::Auto).unprivileged();
    let mut cases: Vec<(_, Setup, &str)> = vec![
        (&ours, lab.setup(Doors::Xdp), "XDP and socket filter"),
        (&ours, lab.setup(Doors::SocketFilter), "socket filter"),
        (&ours, lab.setup(Doors::None), "no door"),
        (&ours, unprivileged, "without any rights"),
    ];
    cases.extend(lab.versus.iter().map(|theirs| (theirs, lab.setup(Doors::None), "own defaults")));
    let mut milliseconds = vec![Vec::new(); cases.len()];
    let mut object = Vec::new();
    network::within(|_| {
        for _ in 0..lab.runs {
            for ((contestant, setup, _), found) in cases.iter().zip(&mut milliseconds) {
                let server = Server::start(contestant, setup)?;
                found.push(in_milliseconds(server.ready_after));
            }
            let bytes = lab.object()?;
            let began = Instant::now();
            kernel_cost::load(&bytes, SIZES)?;
            object.push(in_milliseconds(began.elapsed()));
        }
        Ok(())
    })?;
    let mut rows: Vec<Row> = Vec::new();
    for ((contestant, setup, how), found) in cases.iter().zip(&milliseconds) {
        let row = Row::new(NAME, format!("{}, {how}: process to ready", contestant.name), "ms", found);
        rows.push(if setup.unprivileged { row.at_most(UNPRIVILEGED_MS) } else { row });
    }
    let case = "of that, with a door: the kernel reads and checks the object";
    rows.push(Row::new(NAME, case, "ms", &object));
    let mut findings = Findings::from(rows);
    findings.notes.push(
        "the kernel's verifier walks through both programs, one on each CPU; nothing else in a start comes near it"
            .to_owned(),
    );
    Ok(findings)
}

fn in_milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
