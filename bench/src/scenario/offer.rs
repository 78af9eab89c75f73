//! Payloads -> frames on the wire, what their sending cost, what must come of them.

use std::{
    cell::RefCell,
    hint::spin_loop,
    time::{Duration, Instant},
};

use crate::{
    frame::frame,
    judge::Judge,
    load::{self, Limits, Pace, Payloads, per_second, wire::address},
    network::{Pair, RECEIVING, received},
    server::{CpuClock, Softirqs},
};

use super::{packet_socket::PacketSocket, totals::Totals};

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
    /// What each payload adds up to, and all of them.
    parts: Vec<Totals>,
    round: Totals,
    /// Payloads sent one by one.
    next: u64,
    /// What was sent, in order.
    sent: Vec<Stretch>,
}

/// Payloads that were sent one after the other.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first: u64,
    last: u64,
    /// From the table, so each sender from its address; otherwise all from one.
    by_table: bool,
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
        per_second(self.datagrams, self.elapsed)
    }

    /// The kernel's time for one datagram.
    #[must_use]
    pub fn kernel_ns(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of datagrams")]
        let datagrams = self.datagrams.max(1) as f64;
        self.kernel.as_secs_f64() * 1e9 / datagrams
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
    /// A generator of these payloads, in their order, again and again, to a server that does with them what
    /// the judge says; it works on the calling thread's CPU, and so does the receiving end.
    ///
    /// # Errors
    ///
    /// There is no payload.
    pub fn new(wire: &'a Wire, payloads: Payloads, judge: &Judge) -> anyhow::Result<Self> {
        anyhow::ensure!(!payloads.is_empty(), "a generator without payloads");
        let parts: Vec<Totals> = payloads.iter().map(|payload| Totals::of(payload.bytes, judge)).collect();
        let mut round = Totals::default();
        parts.iter().for_each(|part| round.add(part, 1.0));
        let mut offer = wire.offers.borrow_mut();
        *offer += 1;
        Ok(Self {
            wire,
            id: *offer,
            frames: payloads.iter().map(|payload| frame().payload(payload.bytes)).collect(),
            payloads,
            parts,
            round,
            next: 0,
            sent: Vec::new(),
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
        let dropped = received(RECEIVING)?.dropped;
        let mut sent = match rate {
            Some(rate) if rate <= PACKET_SOCKET_RATE_MAX => {
                self.send_singly(rate, burst, duration, totals)?
            }
            _ => self.send_table(rate, u64::from(burst), duration, totals)?,
        };
        check_cable(received(RECEIVING)?.dropped - dropped, sent.datagrams)?;
        sent.kernel += self.wire.softirqs.read()?.saturating_sub(softirqs);
        Ok(sent)
    }

    /// Sends the next `count` payloads one by one, as fast as it goes.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn send_next(&mut self, count: u32, totals: &mut Totals) -> anyhow::Result<Sent> {
        let first = self.next;
        let sent = self.send_burst(count)?;
        self.count(Stretch { first, last: self.next, by_table: false }, totals);
        Ok(sent)
    }

    /// Sends each payload once, one by one, at `rate`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn send_once(&mut self, rate: f64, totals: &mut Totals) -> anyhow::Result<()> {
        let (began, first) = (Instant::now(), self.next);
        for sent in 0..self.frames.len() as u64 {
            wait(began, sent, rate);
            self.send_burst(1)?;
        }
        self.count(Stretch { first, last: self.next, by_table: false }, totals);
        Ok(())
    }

    fn send_burst(&mut self, count: u32) -> anyhow::Result<Sent> {
        let began = Instant::now();
        let before = CpuClock::THREAD.read()?;
        for _ in 0..count {
            let place = self.place(self.next);
            self.wire.packets.send(&self.frames[place])?;
            self.next += 1;
        }
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
        let first = self.next;
        let began = Instant::now();
        while wait(began, sent.datagrams, rate) < duration {
            sent.kernel += self.send_burst(burst)?.kernel;
            sent.datagrams += u64::from(burst);
        }
        sent.elapsed = began.elapsed();
        self.count(Stretch { first, last: self.next, by_table: false }, totals);
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
        self.count(Stretch { first, last, by_table: true }, totals);
        Ok(sent)
    }

    /// All lines that were sent.
    #[must_use]
    pub fn lines(&self) -> load::Totals {
        let mut lines = load::Totals::default();
        for stretch in &self.sent {
            let of_table = |sender| address(sender).to_bits();
            let sender = |sender| if stretch.by_table { of_table(sender) } else { 0 };
            lines.append(&self.payloads.totals_between(stretch.first, stretch.last, sender));
        }
        lines
    }

    fn place(&self, sent: u64) -> usize {
        usize::try_from(sent % self.frames.len() as u64).unwrap_or(0)
    }

    /// Adds what the payloads of a stretch amount to.
    fn count(&mut self, stretch: Stretch, totals: &mut Totals) {
        let length = self.parts.len() as u64;
        let rounds = (stretch.last - stretch.first) / length;
        if rounds > 0 {
            #[expect(clippy::cast_precision_loss, reason = "rounds of a table: far below 2^53")]
            totals.add(&self.round, rounds as f64);
        }
        for sent in stretch.first + rounds * length..stretch.last {
            totals.add(&self.parts[self.place(sent)], 1.0);
        }
        match self.sent.last_mut() {
            Some(last) if last.by_table == stretch.by_table && last.last == stretch.first => {
                last.last = stretch.last;
            }
            _ => self.sent.push(stretch),
        }
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
///
/// # Errors
///
/// `dropped` of the frames were; [`unspoilt`] knows what to do.
pub fn check_cable(dropped: u64, sent: u64) -> anyhow::Result<()> {
    if dropped > 0 {
        return Err(CableDropped { dropped, sent }.into());
    }
    Ok(())
}

/// The queue of the pair is short, and its reader may come late where others want the CPU.
#[derive(Debug)]
struct CableDropped {
    dropped: u64,
    sent: u64,
}

impl std::fmt::Display for CableDropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dropped, sent } = self;
        write!(f, "the veth pair dropped {dropped} of {sent} frames; send smaller bursts")
    }
}

impl std::error::Error for CableDropped {}

/// How often a measurement is begun anew that the veth pair has spoilt.
const SPOILT_MAX: usize = 5;

/// Runs `measure`, and runs it anew if frames got lost on the way to the server: such a run says nothing
/// about the server. `measure` begins with a server of its own.
///
/// # Errors
///
/// Its own, or the last of several spoilt runs.
pub fn unspoilt<T>(mut measure: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut spoilt = 0;
    loop {
        match measure() {
            Err(error) if error.is::<CableDropped>() && spoilt < SPOILT_MAX => spoilt += 1,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn only_what_the_cable_spoilt_is_measured_anew() {
        let spoilt = || Err::<(), _>(CableDropped { dropped: 1, sent: 2 }).context("a case");
        let mut runs = 0;
        let found = unspoilt(|| {
            runs += 1;
            if runs < 3 { spoilt().map(|()| 0) } else { Ok(runs) }
        });
        assert_eq!(found.unwrap(), 3);
        runs = 0;
        assert!(
            unspoilt(|| {
                runs += 1;
                spoilt()
            })
            .is_err()
        );
        assert_eq!(runs, SPOILT_MAX + 1);
        runs = 0;
        let other = unspoilt(|| -> anyhow::Result<()> {
            runs += 1;
            anyhow::bail!("a lost datagram")
        });
        assert!(other.is_err());
        assert_eq!(runs, 1);
    }
}
