//! The start of a process -> the moment from which it takes datagrams.

use crate::{
    lab::Lab,
    network,
    report::{Findings, Row},
    server::{Doors, Server},
};

const NAME: &str = "startup";

/// Starts each program again and again, until its `/-/ready` answers 200.
///
/// # Errors
///
/// A right is missing, or a server does not start.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    let mut cases = vec![(&ours, Doors::Xdp, "XDP"), (&ours, Doors::None, "no door")];
    cases.extend(lab.versus.iter().map(|theirs| (theirs, Doors::None, "own defaults")));
    let mut milliseconds = vec![Vec::new(); cases.len()];
    network::within(|_| {
        for _ in 0..lab.runs {
            for ((contestant, doors, _), found) in cases.iter().zip(&mut milliseconds) {
                let server = Server::start(contestant, &lab.setup(*doors))?;
                found.push(server.ready_after.as_secs_f64() * 1e3);
            }
        }
        Ok(())
    })?;
    let rows = cases.iter().zip(&milliseconds).map(|((contestant, _, how), found)| {
        Row::new(NAME, format!("{}, {how}: process to ready", contestant.name), "ms", found)
    });
    Ok(rows.collect::<Vec<Row>>().into())
}
