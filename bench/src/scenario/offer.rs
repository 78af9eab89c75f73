//! Payloads -> frames on the wire, what their sending cost, what must come of them.

use std::{
    hint::spin_loop,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    frame::frame,
    network::{Pair, Received, received},
    raw_program::{Action, Attached, RawProgram},
    server::{CpuClock, Figures, Softirqs},
};

use super::packet_socket::PacketSocket;

/// Up to here frames are sent one by one.
const PACKET_SOCKET_RATE_MAX: f64 = 100_000.0;
/// Frames that the kernel hands over at once; a veth end queues 256.
const BATCH: u32 = 64;

/// The sending end, ready for live frames.
#[derive(Debug)]
pub struct Wire {
    transmit: RawProgram,
    packets: PacketSocket,
    /// Gives the sending end receive queues, without which no frame goes out of it.
    _sending: Attached,
    pair: Pair,
    softirqs: Softirqs,
}

/// Payloads that are sent in turn.
#[derive(Debug)]
pub struct Offer<'a> {
    wire: &'a Wire,
    frames: Vec<Vec<u8>>,
    lines: Vec<Line>,
    next: usize,
}

/// What was sent in one go.
#[derive(Clone, Copy, Debug)]
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
}

/// What one payload adds to an exposition each time that it is sent.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    counter: f64,
    observations: f64,
    lines: f64,
}

/// What all payloads that were sent must add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub counters: f64,
    pub observations: f64,
    pub lines: f64,
}

impl Totals {
    /// Checks that a server shows what was sent, not more and not less.
    ///
    /// # Errors
    ///
    /// It shows something else.
    pub fn check(&self, figures: &Figures) -> anyhow::Result<()> {
        for (what, sent, shown) in [
            ("lines", self.lines, figures.lines()),
            ("the sum of all counters", self.counters, figures.counters),
            ("observations", self.observations, figures.observations),
        ] {
            // Sums of whole numbers below 2^53 are exact.
            anyhow::ensure!(sent == shown, "{what}: {sent} sent, {shown} shown; the count is not exact");
        }
        Ok(())
    }

    fn add(&mut self, line: Line, times: f64) {
        self.counters += line.counter * times;
        self.observations += line.observations * times;
        self.lines += line.lines * times;
    }
}

impl Wire {
    /// Makes the sending end ready.
    ///
    /// # Errors
    ///
    /// The kernel refuses the program.
    pub fn new(pair: Pair) -> anyhow::Result<Self> {
        let transmit = RawProgram::load(Action::Transmit)?;
        Ok(Self {
            _sending: transmit.attach(pair.sending)?,
            transmit,
            packets: PacketSocket::new(pair.sending)?,
            pair,
            softirqs: Softirqs::find()?,
        })
    }
}

impl<'a> Offer<'a> {
    /// A generator of these payloads, in their order, again and again; it works on the calling
    /// thread's CPU, and so does the receiving end.
    ///
    /// # Errors
    ///
    /// There is no payload, or one has values of which the total is not known.
    pub fn new(wire: &'a Wire, payloads: &[Vec<u8>]) -> anyhow::Result<Self> {
        anyhow::ensure!(!payloads.is_empty(), "a generator without payloads");
        Ok(Self {
            wire,
            frames: payloads.iter().map(|payload| frame().payload(payload)).collect(),
            lines: payloads.iter().map(|payload| line(payload)).collect::<anyhow::Result<_>>()?,
            next: 0,
        })
    }

    /// Sends bursts of `burst` frames for `duration`, at `rate` datagrams per second or as fast as it
    /// goes, and adds what they amount to to `totals`. At a rate each frame has another payload; flat
    /// out a burst has one.
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
        let (mut datagrams, mut kernel) = (0_u64, Duration::ZERO);
        let began = Instant::now();
        loop {
            if let Some(rate) = rate {
                // Spinning, not sleeping: a timer comes 50 µs late, which is a burst of its own.
                #[expect(clippy::cast_precision_loss, reason = "a rate")]
                let due = Duration::from_secs_f64(datagrams as f64 / rate);
                while began.elapsed() < due {
                    spin_loop();
                }
            }
            if began.elapsed() >= duration {
                break;
            }
            kernel += if rate.is_some_and(|rate| rate <= PACKET_SOCKET_RATE_MAX) {
                self.send_singly(burst, totals)?
            } else {
                self.send_together(burst, totals)?
            };
            datagrams += u64::from(burst);
        }
        let elapsed = began.elapsed();
        check_cable(arrived, received()?, datagrams)?;
        kernel += self.wire.softirqs.read()?.saturating_sub(softirqs);
        Ok(Sent { datagrams, elapsed, kernel })
    }

    /// One burst by the packet socket; returns the CPU time that it took.
    fn send_singly(&mut self, burst: u32, totals: &mut Totals) -> anyhow::Result<Duration> {
        let before = CpuClock::THREAD.read()?;
        for _ in 0..burst {
            let place = self.next % self.frames.len();
            self.next += 1;
            self.wire.packets.send(&self.frames[place])?;
            totals.add(self.lines[place], 1.0);
        }
        Ok(CpuClock::THREAD.read()?.saturating_sub(before))
    }

    /// One burst by a test run.
    fn send_together(&mut self, burst: u32, totals: &mut Totals) -> anyhow::Result<Duration> {
        let place = self.next % self.frames.len();
        self.next += 1;
        let before = CpuClock::THREAD.read()?;
        self.wire.transmit.run_live(&self.frames[place], self.wire.pair.sending, burst, BATCH)?;
        let spent = CpuClock::THREAD.read()?.saturating_sub(before);
        totals.add(self.lines[place], f64::from(burst));
        Ok(spent)
    }
}

/// What lies between generator and door must lose nothing, or the loss would be blamed on the door.
fn check_cable(before: Received, after: Received, sent: u64) -> anyhow::Result<()> {
    let dropped = after.dropped - before.dropped;
    anyhow::ensure!(dropped == 0, "the veth pair dropped {dropped} of {sent} frames; send smaller bursts");
    Ok(())
}

/// Reads a payload as far as totals need it: counters without sample rate, timers, absolute gauges.
fn line(payload: &[u8]) -> anyhow::Result<Line> {
    let mut sums = Line::default();
    let text = std::str::from_utf8(payload).context("a payload that is no UTF-8")?;
    for line in text.lines() {
        sums.lines += 1.0;
        let (_, sample) = line.rsplit_once(':').with_context(|| format!("{line}: no value"))?;
        let mut parts = sample.split('|');
        let value = parts.next().and_then(|value| value.parse::<f64>().ok());
        let value = value.with_context(|| format!("{line}: no number"))?;
        match parts.next() {
            Some("c") => sums.counter += value,
            Some("ms" | "h" | "d") => sums.observations += 1.0,
            Some("g") => {}
            _ => anyhow::bail!("{line}: a type that no total is known for"),
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_follow_the_types() {
        let mut totals = Totals::default();
        totals.add(line(b"a:3|c\nb:1.5|ms\nc:7|g").expect("plain lines"), 10.0);
        assert_eq!(totals, Totals { counters: 30.0, observations: 10.0, lines: 30.0 });
        assert!(line(b"a:3|s").is_err());
        let shown = Figures::read(
            "# TYPE a counter\na 30\n# TYPE b summary\nb_count 10\n# TYPE statsd_exporter_lines_total counter\n\
             statsd_exporter_lines_total 30\n",
        );
        totals.check(&shown).expect("equal");
        totals.counters += 1.0;
        let error = totals.check(&shown).expect_err("one is lacking").to_string();
        assert!(error.contains("31 sent, 30 shown"), "{error}");
    }
}
