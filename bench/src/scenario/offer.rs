//! Payloads -> frames on the wire, what their sending cost, what must come of them.

use std::{
    cell::RefCell,
    hint::spin_loop,
    time::{Duration, Instant},
};

use crate::{
    frame::frame,
    load::{self, Limits, LineType, Pace, Payloads},
    network::{Pair, Received, received},
    server::{CpuClock, Figures, Softirqs},
};

use super::{packet_socket::PacketSocket, trial::equal};

/// Up to here frames are sent one by one.
const PACKET_SOCKET_RATE_MAX: f64 = 100_000.0;
/// The least that is sent at once above that: the set-up of a test run is then small beside it.
const TEST_RUN_MIN: u64 = 64;

/// The sending end, ready for whoever sends next.
pub struct Wire {
    packets: PacketSocket,
    pair: Pair,
    softirqs: Softirqs,
    /// Table and program of the offer that sent last; the sending end takes one at a time.
    table: RefCell<Option<Table>>,
    offers: RefCell<usize>,
}

struct Table {
    offer: usize,
    wire: load::Wire,
}

/// Payloads that are sent in turn.
pub struct Offer<'a> {
    wire: &'a Wire,
    id: usize,
    payloads: Payloads,
    frames: Vec<Vec<u8>>,
    /// What the first n payloads add up to.
    sums: Vec<Totals>,
    /// Payloads sent one by one.
    next: u64,
}

/// What was sent in one go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    pub datagrams: u64,
    pub elapsed: Duration,
    /// CPU time inside the calls that sent, and of the kernel's own threads for softirqs meanwhile:
    /// making the frames, and all that the kernel did with them on this CPU until it handed them to
    /// a process or threw them away.
    pub kernel: Duration,
}

impl Sent {
    /// Datagrams per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        crate::generator::per_second(self.datagrams, self.elapsed)
    }

    /// The kernel's time for one datagram.
    #[must_use]
    pub fn kernel_ns(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of datagrams")]
        let datagrams = self.datagrams.max(1) as f64;
        self.kernel.as_secs_f64() * 1e9 / datagrams
    }
}

/// What lines add up to in an exposition, whatever a mapping file does to their names.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub counters: f64,
    pub observations: f64,
    pub lines: f64,
}

impl Totals {
    /// What a server shows, taken for what was sent.
    #[must_use]
    pub fn shown(figures: &Figures) -> Self {
        Self { counters: figures.counters, observations: figures.observations, lines: figures.lines() }
    }

    /// Checks that a server shows what was sent, not more and not less.
    ///
    /// # Errors
    ///
    /// It shows something else.
    pub fn check(&self, figures: &Figures) -> anyhow::Result<()> {
        let shown = Self::shown(figures);
        for (what, sent, shown) in [
            ("lines", self.lines, shown.lines),
            ("the sum of all counters", self.counters, shown.counters),
            ("observations", self.observations, shown.observations),
        ] {
            // Sums of whole numbers below 2^53 are exact.
            anyhow::ensure!(sent == shown, "{what}: {sent} sent, {shown} shown; the count is not exact");
        }
        Ok(())
    }

    /// What one datagram adds.
    pub(super) fn of(payload: &[u8]) -> Self {
        let mut read = load::Totals::default();
        read.add(payload);
        let mut totals = Self::default();
        for (identity, total) in read.iter() {
            match identity.line_type {
                LineType::Counter => totals.counters += total.sum,
                LineType::Observer => totals.observations += total.observations,
                LineType::Gauge => {}
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a few lines")]
        let lines = read.lines() as f64;
        Self { lines, ..totals }
    }

    /// Adds `times` what `other` is.
    pub(super) fn add(&mut self, other: Self, times: f64) {
        self.counters += other.counters * times;
        self.observations += other.observations * times;
        self.lines += other.lines * times;
    }
}

impl Wire {
    /// Makes the sending end ready.
    ///
    /// # Errors
    ///
    /// A right is missing.
    pub fn new(pair: Pair) -> anyhow::Result<Self> {
        Ok(Self {
            packets: PacketSocket::new(pair.sending)?,
            pair,
            softirqs: Softirqs::find()?,
            table: RefCell::new(None),
            offers: RefCell::new(0),
        })
    }
}

impl<'a> Offer<'a> {
    /// A generator of these payloads, in their order, again and again; it works on the calling
    /// thread's CPU, and so does the receiving end.
    ///
    /// # Errors
    ///
    /// There is no payload.
    pub fn new(wire: &'a Wire, payloads: Payloads) -> anyhow::Result<Self> {
        anyhow::ensure!(!payloads.is_empty(), "a generator without payloads");
        let mut sums = vec![Totals::default()];
        let mut sum = Totals::default();
        for payload in payloads.iter() {
            sum.add(Totals::of(payload.bytes), 1.0);
            sums.push(sum);
        }
        let mut offer = wire.offers.borrow_mut();
        *offer += 1;
        Ok(Self {
            wire,
            id: *offer,
            frames: payloads.iter().map(|payload| frame().payload(payload.bytes)).collect(),
            payloads,
            sums,
            next: 0,
        })
    }

    /// Sends for `duration`, `burst` datagrams at a time, at `rate` datagrams per second or as fast as
    /// it goes, and adds what they amount to to `totals`.
    ///
    /// # Errors
    ///
    /// What the kernel says; or frames got lost between the two ends.
    pub fn send(
        &mut self,
        rate: Option<f64>,
        burst: u32,
        duration: Duration,
        totals: &mut Totals,
    ) -> anyhow::Result<Sent> {
        let softirqs = self.wire.softirqs.read()?;
        let arrived = received()?;
        let mut sent = match rate {
            Some(rate) if rate <= PACKET_SOCKET_RATE_MAX => {
                self.send_singly(rate, burst, duration, totals)?
            }
            _ => self.send_table(rate, u64::from(burst), duration, totals)?,
        };
        check_cable(arrived, received()?, sent.datagrams)?;
        sent.kernel += self.wire.softirqs.read()?.saturating_sub(softirqs);
        Ok(sent)
    }

    /// Sends the next `count` payloads one by one, as fast as it goes.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn send_next(&mut self, count: u32, totals: &mut Totals) -> anyhow::Result<Sent> {
        let began = Instant::now();
        let before = CpuClock::THREAD.read()?;
        let first = self.next;
        for _ in 0..count {
            let place = self.place(self.next);
            self.wire.packets.send(&self.frames[place])?;
            self.next += 1;
        }
        self.count(first, self.next, totals);
        let kernel = CpuClock::THREAD.read()?.saturating_sub(before);
        Ok(Sent { datagrams: u64::from(count), elapsed: began.elapsed(), kernel })
    }

    fn send_singly(
        &mut self,
        rate: f64,
        burst: u32,
        duration: Duration,
        totals: &mut Totals,
    ) -> anyhow::Result<Sent> {
        let mut sent = Sent::default();
        let began = Instant::now();
        while wait(began, sent.datagrams, rate) < duration {
            sent.kernel += self.send_next(burst, totals)?.kernel;
            sent.datagrams += u64::from(burst);
        }
        sent.elapsed = began.elapsed();
        Ok(sent)
    }

    fn send_table(
        &mut self,
        rate: Option<f64>,
        burst: u64,
        duration: Duration,
        totals: &mut Totals,
    ) -> anyhow::Result<Sent> {
        let mut table = self.wire.table.borrow_mut();
        if table.as_ref().is_none_or(|table| table.offer != self.id) {
            // The one before must be gone before the next one comes.
            *table = None;
            *table = Some(Table { offer: self.id, wire: load::Wire::new(self.wire.pair, &self.payloads)? });
        }
        let Some(Table { wire, .. }) = table.as_mut() else { anyhow::bail!("no table") };
        let (first, burst) = (wire.frames(), burst.max(TEST_RUN_MIN));
        let mut sent = Sent::default();
        let began = Instant::now();
        loop {
            let elapsed = rate.map_or_else(|| began.elapsed(), |rate| wait(began, sent.datagrams, rate));
            if elapsed >= duration {
                break;
            }
            let before = CpuClock::THREAD.read()?;
            let done = wire.send(&self.payloads, Pace::FlatOut, Limits::datagrams(burst))?;
            sent.kernel += CpuClock::THREAD.read()?.saturating_sub(before);
            sent.datagrams += done.datagrams;
            anyhow::ensure!(!done.interrupted, "interrupted");
        }
        sent.elapsed = began.elapsed();
        let last = wire.frames();
        drop(table);
        self.count(first, last, totals);
        Ok(sent)
    }

    /// Holds an exposition against what was sent one by one, series by series.
    ///
    /// # Errors
    ///
    /// A series is not shown, or with another value.
    pub(super) fn check_series(&self, exposition: &str) -> anyhow::Result<()> {
        equal(&self.payloads.totals(self.next), exposition)
    }

    fn place(&self, sent: u64) -> usize {
        usize::try_from(sent % self.frames.len() as u64).unwrap_or(0)
    }

    /// Adds what the payloads from `first` to `last` amount to.
    fn count(&self, first: u64, last: u64, totals: &mut Totals) {
        let (rounds_before, rounds) = (first / self.frames.len() as u64, last / self.frames.len() as u64);
        #[expect(clippy::cast_precision_loss, reason = "rounds of a table: far below 2^53")]
        let rounds = (rounds - rounds_before) as f64;
        totals.add(self.sums[self.frames.len()], rounds);
        totals.add(self.sums[self.place(last)], 1.0);
        totals.add(self.sums[self.place(first)], -1.0);
    }
}

/// Waits until as many datagrams are due as were sent; returns the time since the beginning.
fn wait(began: Instant, sent: u64, rate: f64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "a count of datagrams")]
    let due = Duration::from_secs_f64(sent as f64 / rate);
    loop {
        let elapsed = began.elapsed();
        if elapsed >= due {
            return elapsed;
        }
        // Spinning, not sleeping: a timer comes 50 µs late, which is a burst of its own.
        spin_loop();
    }
}

/// What lies between generator and door must lose nothing, or the loss would be blamed on the door.
fn check_cable(before: Received, after: Received, sent: u64) -> anyhow::Result<()> {
    let dropped = after.dropped - before.dropped;
    anyhow::ensure!(dropped == 0, "the veth pair dropped {dropped} of {sent} frames; send smaller bursts");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_follow_the_types() {
        let mut totals = Totals::default();
        totals.add(Totals::of(b"a:3|c\nb:1.5|ms\nc:7|g\nd:-1|c"), 10.0);
        assert_eq!(totals, Totals { counters: 30.0, observations: 10.0, lines: 40.0 });
        let shown = Figures::read(
            "# TYPE a counter\na 30\n# TYPE b summary\nb_count 10\n# TYPE statsd_exporter_lines_total counter\n\
             statsd_exporter_lines_total 40\n",
        );
        totals.check(&shown).expect("equal");
        totals.counters += 1.0;
        let error = totals.check(&shown).expect_err("one is lacking").to_string();
        assert!(error.contains("31 sent, 30 shown"), "{error}");
    }
}
