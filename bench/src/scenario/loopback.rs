//! Datagrams over loopback -> CPU time of the whole node for each, sender included: our two doors
//! there against a socket that only counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rotameter::{
    datagram::Datagram,
    listener::{
        Intake,
        udp::{self, UdpOptions},
    },
};

use crate::{
    lab::Lab,
    load::{self, Limits, Pace, Payloads, Target},
    network,
    report::{Findings, Row},
    server::{Contestant, CpuClock, Doors, Server, Softirqs},
};

use super::{totals::Totals, workload::Workload};

const NAME: &str = "loopback";
const GENERATOR_CPU: usize = 0;
/// Room for a whole round, so that nobody loses any, however late the reader wakes.
const ROUND: u64 = 20_000;
const READ_BUFFER_BYTES: u32 = 64 << 20;
const DRAINED_WITHIN: Duration = Duration::from_secs(10);

/// Sends rounds of hot counters, flat out, to each of them.
///
/// # Errors
///
/// A right is missing, or a datagram was lost.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    let rounds: u64 = lab.size(5, 25);
    network::within(|_| {
        network::pin(GENERATOR_CPU)?;
        let payloads = Workload::Hot.payloads();
        let softirqs = Softirqs::find()?;
        let (mut by_door, mut by_filter, mut by_socket) = (Vec::new(), Vec::new(), Vec::new());
        let mut theirs = vec![Vec::new(); lab.versus.len()];
        for _ in 0..lab.long_runs() {
            by_door.push(server(lab, &ours, Doors::Loopback, &payloads, &softirqs, rounds)?);
            by_filter.push(server(lab, &ours, Doors::SocketFilter, &payloads, &softirqs, rounds)?);
            by_socket.push(counting(&payloads, &softirqs, rounds)?);
            for (contestant, found) in lab.versus.iter().zip(&mut theirs) {
                found.push(server(lab, contestant, Doors::None, &payloads, &softirqs, rounds)?);
            }
        }
        let to_socket =
            |ours: &[f64]| -> Vec<f64> { ours.iter().zip(&by_socket).map(|(a, b)| a / b).collect() };
        let mut rows = vec![
            Row::new(NAME, "hot, our loopback door: whole node", "ns/datagram", &by_door),
            Row::new(NAME, "hot, our socket filter: whole node", "ns/datagram", &by_filter),
            Row::new(NAME, "a recvmmsg socket that only counts: whole node", "ns/datagram", &by_socket),
            Row::new(NAME, "loopback door / counting socket", "times", &to_socket(&by_door)).at_most(0.5),
            Row::new(NAME, "socket filter / counting socket", "times", &to_socket(&by_filter)),
        ];
        for (contestant, found) in lab.versus.iter().zip(&theirs) {
            rows.push(Row::new(NAME, format!("hot, {}: whole node", contestant.name), "ns/datagram", found));
        }
        Ok(rows.into())
    })
}

/// The whole node's time for a datagram to a server.
fn server(
    lab: &Lab,
    contestant: &Contestant,
    doors: Doors,
    payloads: &Payloads,
    softirqs: &Softirqs,
    rounds: u64,
) -> anyhow::Result<f64> {
    let setup = lab.setup(doors).read_buffer(u64::from(READ_BUFFER_BYTES));
    let server = Server::start(contestant, &setup)?;
    let target = Target::Udp("127.0.0.1:9125".parse()?);
    // Over more than an interval of promotion: then all names are hot.
    let mut sent = 0;
    for _ in 0..3 {
        sent += load::send(&target, payloads, Pace::FlatOut, Limits::datagrams(ROUND))?.datagrams;
        std::thread::sleep(Duration::from_millis(800));
    }
    server.wait_until_quiet()?;
    let (mut ns, mut measured) = (Duration::ZERO, 0);
    for _ in 0..rounds {
        let before = CpuClock::THREAD.read()? + softirqs.read()? + server.cpu()?;
        measured += load::send(&target, payloads, Pace::FlatOut, Limits::datagrams(ROUND))?.datagrams;
        server.wait_until_quiet()?;
        ns += (CpuClock::THREAD.read()? + softirqs.read()? + server.cpu()?).saturating_sub(before);
    }
    let mut totals = Totals::default();
    let rounds_sent = (sent + measured) / payloads.len() as u64;
    #[expect(clippy::cast_precision_loss, reason = "rounds of a table")]
    payloads
        .iter()
        .for_each(|payload| totals.add(&Totals::of(payload.bytes, &contestant.judge), rounds_sent as f64));
    anyhow::ensure!((sent + measured).is_multiple_of(payloads.len() as u64), "a round of another length");
    std::thread::sleep(Duration::from_millis(300));
    totals.check(&server.figures()?)?;
    Ok(each(ns, measured))
}

/// The same for a socket with a reader that counts datagrams and does nothing else.
fn counting(payloads: &Payloads, softirqs: &Softirqs, rounds: u64) -> anyhow::Result<f64> {
    let options = UdpOptions { receive_buffer_bytes: Some(READ_BUFFER_BYTES), timestamps: false };
    let listener = Arc::new(udp::bind(&"127.0.0.1:9125".parse()?, options)?);
    let counted = Arc::new(Counting::default());
    network::unpin();
    let reader = listener.start(Arc::clone(&counted) as _)?;
    network::pin(GENERATOR_CPU)?;
    let target = Target::Udp("127.0.0.1:9125".parse()?);
    let (mut ns, mut sent) = (Duration::ZERO, 0);
    for _ in 0..rounds {
        // Sender and reader are both threads of this process.
        let before = CpuClock::SELF.read()? + softirqs.read()?;
        sent += load::send(&target, payloads, Pace::FlatOut, Limits::datagrams(ROUND))?.datagrams;
        let began = Instant::now();
        while counted.0.load(Ordering::Relaxed) < sent {
            anyhow::ensure!(began.elapsed() < DRAINED_WITHIN, "the counting socket lost datagrams");
            std::thread::sleep(Duration::from_millis(5));
        }
        ns += (CpuClock::SELF.read()? + softirqs.read()?).saturating_sub(before);
    }
    reader.stop();
    Ok(each(ns, sent))
}

fn each(time: Duration, count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of datagrams")]
    let count = count.max(1) as f64;
    time.as_secs_f64() * 1e9 / count
}

#[derive(Default)]
struct Counting(AtomicU64);

impl Intake for Counting {
    fn ingest(&self, batch: &[Datagram<'_>]) {
        self.0.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}
