//! Frames -> the wire, millions a second, from one core.

use std::time::{Duration, Instant};

use crate::{
    network::Pair,
    raw_program::{Action, Attached, RawProgram},
};

/// Frames that the kernel hands over at once: at most 256, which is what a veth end queues.
const BATCH: u32 = 64;

/// Sends frames out of the pair's sending end.
#[derive(Debug)]
pub struct Generator {
    transmit: RawProgram,
    pair: Pair,
    /// The sending end needs receive queues set up, which an XDP program of its own brings. It is the
    /// generator's: a program that is attached is known to the kernel's XDP dispatcher already, while
    /// another would be entered at the begin of every test run and taken out at its end, which takes
    /// a grace period, some ten milliseconds, each time.
    _sending: Attached,
    frames: Vec<Vec<u8>>,
    next: usize,
}

/// What was sent in which time.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub frames: u64,
    pub elapsed: Duration,
}

impl Sent {
    /// Frames per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        per_second(self.frames, self.elapsed)
    }
}

/// `count` in `elapsed`, per second.
#[must_use]
pub fn per_second(count: u64, elapsed: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let count = count as f64;
    count / elapsed.as_secs_f64().max(1e-9)
}

impl Generator {
    /// A generator that sends `frames` in turn. It works on the calling thread's CPU, and so does the
    /// receiving end.
    ///
    /// # Errors
    ///
    /// The kernel refuses the programs.
    pub fn new(pair: Pair, frames: Vec<Vec<u8>>) -> anyhow::Result<Self> {
        anyhow::ensure!(!frames.is_empty(), "a generator without frames");
        let transmit = RawProgram::load(Action::Transmit)?;
        let sending = transmit.attach(pair.sending)?;
        Ok(Self { transmit, pair, _sending: sending, frames, next: 0 })
    }

    /// Sends bursts of `burst` frames, each of one of the frames in turn, for `duration`: at `rate`
    /// frames per second, or as fast as it goes.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn send(&mut self, rate: Option<f64>, burst: u32, duration: Duration) -> anyhow::Result<Sent> {
        let started = Instant::now();
        let mut frames = 0;
        loop {
            if let Some(rate) = rate {
                // Spinning, not sleeping: a timer comes 50 µs late, which is a burst of its own.
                #[expect(clippy::cast_precision_loss, reason = "a rate")]
                let due = Duration::from_secs_f64(frames as f64 / rate);
                while started.elapsed() < due {
                    std::hint::spin_loop();
                }
            }
            if started.elapsed() >= duration {
                return Ok(Sent { frames, elapsed: started.elapsed() });
            }
            let frame = &self.frames[self.next % self.frames.len()];
            self.next += 1;
            self.transmit.run_live(frame, self.pair.sending, burst, BATCH)?;
            frames += u64::from(burst);
        }
    }
}
