//! Lines -> a few of them, with what each stands for.
//!
//! Lies in the way of every line, so a line that is not taken costs a subtraction. How many are left
//! out between two follows the rate: about [`SAMPLES_MAX`] are taken in each window.

use std::net::IpAddr;

use crate::datagram::{Datagram, Source, Transport};

/// Lines that are kept of a window.
const SAMPLES_MAX: usize = 1024;
/// Once there is no more room, so many turns are let go by together.
const MISSED_AT_ONCE: u64 = 64;
/// Bytes of a line that are kept.
const LINE_BYTES_MAX: usize = 512;

/// Takes one line in so many.
#[derive(Debug)]
pub struct Sampler {
    /// Lines until the next one is taken.
    until: u64,
    /// Lines for each one that is taken, on average.
    interval: u64,
    random: u64,
    samples: Samples,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { until: 1, interval: 1, random: 0x9e37_79b9_7f4a_7c15, samples: Samples::default() }
    }
}

/// What was taken in a window.
#[derive(Debug, Default)]
pub struct Samples {
    bytes: Vec<u8>,
    taken: Vec<Taken>,
    /// Lines that were due when there was no more room.
    missed: u64,
    /// Lines that each of them stands for.
    interval: u64,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    end: usize,
    sender: Sender,
}

/// Who sent a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Address(IpAddr),
    /// The process at the other end of a Unix socket.
    Process(u32),
    /// Without an address; only the transport is known.
    Nameless(Transport),
}

impl Sender {
    #[must_use]
    pub fn of(datagram: &Datagram<'_>) -> Self {
        match datagram.source {
            Source::Process(number) => Self::Process(number),
            source => source.ip().map_or(Self::Nameless(datagram.transport), Self::Address),
        }
    }
}

impl Sampler {
    /// Sees one line, and keeps it if its turn has come.
    #[inline]
    pub fn see(&mut self, line: &[u8], datagram: &Datagram<'_>) {
        self.until -= 1;
        if self.until == 0 {
            self.take(line, datagram);
        }
    }

    #[cold]
    fn take(&mut self, line: &[u8], datagram: &Datagram<'_>) {
        if self.samples.taken.len() >= SAMPLES_MAX {
            self.samples.missed += MISSED_AT_ONCE;
            self.until = MISSED_AT_ONCE.saturating_mul(self.interval);
            return;
        }
        self.until = self.next_gap();
        self.samples.bytes.extend_from_slice(line.get(..LINE_BYTES_MAX).unwrap_or(line));
        self.samples.taken.push(Taken { end: self.samples.bytes.len(), sender: Sender::of(datagram) });
    }

    /// Not always the same, so that a client that sends its lines in turn does not hide some of them.
    fn next_gap(&mut self) -> u64 {
        if self.interval <= 1 {
            return 1;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        1 + self.random % (2 * self.interval - 1)
    }

    /// Ends the window: what was taken goes into `samples`, whose memory is used again.
    pub fn swap(&mut self, samples: &mut Samples) {
        samples.clear();
        std::mem::swap(&mut self.samples, samples);
        samples.interval = self.interval;
        if samples.missed > 0 {
            // Those that have not come are not missed.
            samples.missed = samples.missed.saturating_sub(self.until / self.interval);
        }
        let lines = (samples.taken.len() as u64 + samples.missed).saturating_mul(self.interval);
        self.interval = (lines / SAMPLES_MAX as u64).max(1);
        self.until = self.until.min(2 * self.interval);
    }
}

impl Samples {
    fn clear(&mut self) {
        self.bytes.clear();
        self.taken.clear();
        self.missed = 0;
    }

    /// Lines that each of the samples stands for.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a weight")]
    pub fn weight(&self) -> f64 {
        let taken = self.taken.len() as f64;
        self.interval as f64 * (taken + self.missed as f64) / taken.max(1.0)
    }

    /// The lines, each with its sender.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Sender)> {
        let mut begin = 0;
        self.taken.iter().map(move |taken| {
            let line = self.bytes.get(begin..taken.end).unwrap_or_default();
            begin = taken.end;
            (line, taken.sender)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::datagram::Source;

    fn see(sampler: &mut Sampler, lines: usize) {
        let datagram = Datagram {
            payload: b"",
            received: Timestamp(1),
            source: Source::Nameless,
            transport: Transport::Unix,
        };
        for n in 0..lines {
            sampler.see(if n % 2 == 0 { b"even:1|c" } else { b"odd:1|c" }, &datagram);
        }
    }

    #[test]
    fn few_lines_are_all_taken() {
        let (mut sampler, mut samples) = (Sampler::default(), Samples::default());
        for _ in 0..3 {
            see(&mut sampler, 100);
            sampler.swap(&mut samples);
            assert_eq!(samples.iter().count(), 100);
            assert!((samples.weight() - 1.0).abs() < 1e-9);
        }
        assert_eq!(samples.iter().next(), Some((&b"even:1|c"[..], Sender::Nameless(Transport::Unix))));
    }

    #[test]
    fn of_many_lines_about_as_many_are_taken_and_stand_for_all() {
        let (mut sampler, mut samples) = (Sampler::default(), Samples::default());
        for window in 0..5 {
            see(&mut sampler, 500_000);
            sampler.swap(&mut samples);
            #[expect(clippy::cast_precision_loss, reason = "a count")]
            let taken = samples.iter().count() as f64;
            assert!(taken <= 1024.0 && taken > 900.0, "window {window}: {taken}");
            let stands_for = taken * samples.weight();
            assert!((stands_for - 500_000.0).abs() < 50_000.0, "window {window}: {stands_for}");
        }
        let even = samples.iter().filter(|(line, _)| line.starts_with(b"even")).count();
        assert!((400..=624).contains(&even), "lines that alternate are both seen: {even}");
    }

    #[test]
    fn a_long_line_is_cut() {
        let (mut sampler, mut samples) = (Sampler::default(), Samples::default());
        let datagram = Datagram {
            payload: b"",
            received: Timestamp(1),
            source: Source::Nameless,
            transport: Transport::Udp,
        };
        sampler.see(&[b'x'; 60_000], &datagram);
        sampler.swap(&mut samples);
        assert_eq!(samples.iter().map(|(line, _)| line.len()).collect::<Vec<_>>(), [LINE_BYTES_MAX]);
    }
}
