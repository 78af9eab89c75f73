//! One generator, then two, each on its core -> how the rate grows over cores and rings.

use std::{net::Ipv4Addr, thread, time::Duration};

use crate::{
    frame::frame,
    lab::Lab,
    load::{self, Limits, Pace},
    network::{self, Pair, SECOND_ADDRESS, SECOND_RECEIVING},
    report::{Findings, Row},
    server::{Contestant, Doors, Server},
};

use super::{overload::accounted, workload::Workload};

const NAME: &str = "scaling";
const MILLION: f64 = 1e6;
const WARM_UP_FRAMES: u64 = 40_000;
/// A little more than an interval of promotion.
const INTERVAL: Duration = Duration::from_millis(1_200);

/// Sends flat out by one pair and by two at once.
///
/// # Errors
///
/// There is one CPU only, a right is missing, or a datagram ended nowhere.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    anyhow::ensure!(cpus > 1, "this machine has one CPU: nothing to scale over");
    network::within(|first| {
        let pairs = [first, network::second_pair()?];
        let mut findings = Findings::default();
        for workload in Workload::ALL {
            let (mut one, mut two, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..lab.long_runs() {
                let single = run(lab, &ours, &pairs[..1], workload)?;
                let double = run(lab, &ours, &pairs, workload)?;
                one.push(single / MILLION);
                two.push(double / MILLION);
                ratios.push(double / single);
            }
            let case = |what: &str| format!("{}: {what}", workload.name());
            findings.rows.push(Row::new(NAME, case("one core sends"), "M/s", &one));
            findings.rows.push(Row::new(NAME, case("two cores send"), "M/s", &two));
            findings.rows.push(Row::new(NAME, case("two cores / one"), "times", &ratios));
        }
        findings.notes.push(format!(
            "what was taken, losses left out but accounted for; two of this machine's {cpus} CPUs send, and the \
             daemon has what they leave: of more cores nothing is known here"
        ));
        Ok(findings)
    })
}

/// Datagrams per second that were taken, by a fresh daemon with a door on every pair.
fn run(lab: &Lab, ours: &Contestant, pairs: &[Pair], workload: Workload) -> anyhow::Result<f64> {
    let setup = lab.setup(Doors::Xdp).flag(format!("--xdp.interface={SECOND_RECEIVING}"));
    let server = Server::start(ours, &setup)?;
    for _ in 0..2 {
        send(pairs, workload, Limits::datagrams(WARM_UP_FRAMES))?;
        thread::sleep(INTERVAL);
    }
    server.wait_until_quiet()?;
    let before = server.figures()?;
    let (sent, rate) = send(pairs, workload, Limits::duration(lab.duration))?;
    server.wait_until_quiet()?;
    let after = server.figures()?;
    let found = accounted(&after) - accounted(&before);
    anyhow::ensure!(
        found == sent,
        "{sent} datagrams were sent, {found} are accounted for; the ledger is open"
    );
    let lost = after.lost() - before.lost();
    Ok(rate * (sent - lost) / sent)
}

/// Sends from one thread for each pair, on a CPU of its own; returns how many in all, and how many a
/// second.
fn send(pairs: &[Pair], workload: Workload, limits: Limits) -> anyhow::Result<(f64, f64)> {
    thread::scope(|scope| {
        let addresses = [Ipv4Addr::new(10, 77, 0, 1), SECOND_ADDRESS];
        let mut threads = Vec::new();
        for (cpu, (&pair, address)) in pairs.iter().zip(addresses).enumerate() {
            threads.push(scope.spawn(move || {
                network::pin(cpu)?;
                let payloads = workload.payloads();
                let base = frame().addresses(Ipv4Addr::new(10, 77, 0, 2).into(), address.into());
                load::Wire::to(pair, &payloads, &base)?.send(&payloads, Pace::FlatOut, limits)
            }));
        }
        let (mut all, mut rate) = (0.0, 0.0);
        for thread in threads {
            let sent = thread.join().unwrap_or_else(|_| anyhow::bail!("a generator panicked"))?;
            #[expect(clippy::cast_precision_loss, reason = "a count of datagrams")]
            let datagrams = sent.datagrams as f64;
            all += datagrams;
            rate += sent.rate();
        }
        Ok((all, rate))
    })
}
