//! Datagrams over loopback -> CPU time of the whole node for each, sender included: our two doors
//! there against a socket that only counts.

use std::{
    net::UdpSocket,
    os::fd::AsRawFd as _,
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
/// What is measured beside other servers.
const OWN_CASES: usize = 5;
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
        let node = Node { payloads: Workload::Hot.payloads(), softirqs: Softirqs::find()?, rounds };
        let void = Target::Udp((network::void()?, 9125).into());
        let mut found = vec![Vec::new(); OWN_CASES + lab.versus.len()];
        for _ in 0..lab.long_runs() {
            found[0].push(node.send_to(&void)?);
            found[1].push(node.dropping()?);
            found[2].push(node.server(lab, &ours, Doors::Loopback)?);
            found[3].push(node.server(lab, &ours, Doors::SocketFilter)?);
            found[4].push(node.counting()?);
            for (contestant, found) in lab.versus.iter().zip(&mut found[OWN_CASES..]) {
                found.push(node.server(lab, contestant, Doors::None)?);
            }
        }
        let mut names = vec![
            "sending alone, into a device that throws away".to_owned(),
            "to a socket with a filter that drops all".to_owned(),
            "hot, our loopback door".to_owned(),
            "hot, our socket filter".to_owned(),
            "a recvmmsg socket that only counts".to_owned(),
        ];
        names.extend(lab.versus.iter().map(|contestant| format!("hot, {}", contestant.name)));
        let mut findings = Findings::default();
        for (name, parts) in names.iter().zip(&found) {
            let of = |part: fn(&Parts) -> f64| -> Vec<f64> { parts.iter().map(part).collect() };
            let mut row = |what: &str, values: &[f64]| {
                findings.rows.push(Row::new(NAME, format!("{name}: {what}"), "ns/datagram", values));
            };
            row("whole node", &of(Parts::whole));
            row("of that the sender, user", &of(|parts| parts.sender_user));
            row("of that the sender, kernel", &of(|parts| parts.sender - parts.sender_user));
            row("of that the receiver, user and kernel", &of(|parts| parts.receiver));
        }
        let to_socket = |ours: &[Parts]| -> Vec<f64> {
            ours.iter().zip(&found[4]).map(|(ours, socket)| ours.whole() / socket.whole()).collect()
        };
        let row = |what: &str, ours: usize| Row::new(NAME, what, "times", &to_socket(&found[ours]));
        findings.rows.push(row("loopback door / counting socket", 2).at_most(0.5));
        findings.rows.push(row("socket filter / counting socket", 3));
        findings.notes.push(
            "the sender's kernel time holds the way through loopback up to the socket, doors included; user and \
             kernel are told apart by the kernel's ticks. The rest of the whole are the kernel's threads for softirqs"
                .to_owned(),
        );
        Ok(findings)
    })
}

/// CPU time of a datagram, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    sender: f64,
    sender_user: f64,
    receiver: f64,
    softirqs: f64,
}

impl Parts {
    fn whole(&self) -> f64 {
        self.sender + self.receiver + self.softirqs
    }
}

/// What sends, and the clocks of all that may work on it.
struct Node {
    payloads: Payloads,
    softirqs: Softirqs,
    rounds: u64,
}

impl Node {
    /// Sends all rounds to `target`; `receiver` is the clock of whoever receives, `done` waits until it has.
    fn rounds(
        &self,
        target: &Target,
        receiver: impl Fn() -> anyhow::Result<Duration>,
        mut done: impl FnMut(u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Parts, u64)> {
        let (mut sent, mut parts) = (0, [Duration::ZERO; 4]);
        for _ in 0..self.rounds {
            let look = || -> anyhow::Result<[Duration; 4]> {
                Ok([CpuClock::THREAD.read()?, user_time()?, receiver()?, self.softirqs.read()?])
            };
            let before = look()?;
            let limits = Limits::datagrams(ROUND);
            sent += load::send(target, &self.payloads, Pace::FlatOut, limits)?.datagrams;
            // Waiting takes CPU of this thread, which is not the sender's.
            let [sender, user, ..] = look()?;
            done(sent)?;
            let [_, _, receiver, softirqs] = look()?;
            for (part, (after, before)) in
                parts.iter_mut().zip([sender, user, receiver, softirqs].into_iter().zip(before))
            {
                *part += after.saturating_sub(before);
            }
        }
        let [sender, sender_user, receiver, softirqs] = parts.map(|time| each(time, sent));
        Ok((Parts { sender, sender_user, receiver, softirqs }, sent))
    }

    /// What sending takes if nobody receives.
    fn send_to(&self, target: &Target) -> anyhow::Result<Parts> {
        Ok(self.rounds(target, || Ok(Duration::ZERO), |_| Ok(()))?.0)
    }

    /// To a socket that a classic filter keeps empty: the least that any door behind loopback can cost.
    fn dropping(&self) -> anyhow::Result<Parts> {
        let socket = UdpSocket::bind("127.0.0.1:9125")?;
        drop_all(&socket)?;
        self.send_to(&Target::Udp(socket.local_addr()?))
    }

    fn server(&self, lab: &Lab, contestant: &Contestant, doors: Doors) -> anyhow::Result<Parts> {
        let setup = lab.setup(doors).read_buffer(u64::from(READ_BUFFER_BYTES));
        let server = Server::start(contestant, &setup)?;
        let target = Target::Udp("127.0.0.1:9125".parse()?);
        // Over more than an interval of promotion: then all names are hot.
        let mut warm = 0;
        for _ in 0..3 {
            let limits = Limits::datagrams(ROUND);
            warm += load::send(&target, &self.payloads, Pace::FlatOut, limits)?.datagrams;
            std::thread::sleep(Duration::from_millis(800));
        }
        server.wait_until_quiet()?;
        let (parts, sent) = self.rounds(&target, || server.cpu(), |_| server.wait_until_quiet())?;
        let sent = sent + warm;
        let mut totals = Totals::default();
        anyhow::ensure!(sent.is_multiple_of(self.payloads.len() as u64), "a round of another length");
        #[expect(clippy::cast_precision_loss, reason = "rounds of a table")]
        let times = (sent / self.payloads.len() as u64) as f64;
        for payload in self.payloads.iter() {
            totals.add(&Totals::of(payload.bytes, &contestant.judge), times);
        }
        std::thread::sleep(Duration::from_millis(300));
        totals.check(&server.figures()?)?;
        Ok(parts)
    }

    /// A socket with a reader that counts datagrams and does nothing else.
    fn counting(&self) -> anyhow::Result<Parts> {
        let options = UdpOptions { receive_buffer_bytes: Some(READ_BUFFER_BYTES), timestamps: false };
        let listener = Arc::new(udp::bind(&"127.0.0.1:9125".parse()?, options)?);
        let counted = Arc::new(Counting::default());
        network::unpin();
        let reader = listener.start(Arc::clone(&counted) as _)?;
        network::pin(GENERATOR_CPU)?;
        let target = Target::Udp("127.0.0.1:9125".parse()?);
        // Sender and reader are both threads of this process, which has no others at work.
        let of_reader = || Ok(CpuClock::SELF.read()?.saturating_sub(CpuClock::THREAD.read()?));
        let (parts, _) = self.rounds(&target, of_reader, |sent| {
            let began = Instant::now();
            while counted.0.load(Ordering::Relaxed) < sent {
                anyhow::ensure!(began.elapsed() < DRAINED_WITHIN, "the counting socket lost datagrams");
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        })?;
        reader.stop();
        Ok(parts)
    }
}

/// Attaches a classic filter that returns 0 for every datagram.
fn drop_all(socket: &UdpSocket) -> anyhow::Result<()> {
    const RETURN_CONSTANT: u16 = 0x06;
    let mut code = [libc::sock_filter { code: RETURN_CONSTANT, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: code.as_mut_ptr() };
    // SAFETY: the descriptor is an open socket, and `program` with the code that it points to outlives the
    // call; the size given is its own.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            libc::socklen_t::try_from(size_of::<libc::sock_fprog>())?,
        )
    };
    anyhow::ensure!(result == 0, "attaching a filter to a socket: {}", std::io::Error::last_os_error());
    Ok(())
}

/// What the calling thread spent outside the kernel.
fn user_time() -> anyhow::Result<Duration> {
    // SAFETY: a `rusage` is numbers only; all zero is one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is writable and outlives the call.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    anyhow::ensure!(result == 0, "reading a thread's usage: {}", std::io::Error::last_os_error());
    let seconds = Duration::from_secs(usage.ru_utime.tv_sec.unsigned_abs());
    Ok(seconds + Duration::from_micros(usage.ru_utime.tv_usec.unsigned_abs()))
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
