//! A wanted pace -> when each datagram is due, and the loop that keeps to it.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use super::{payloads::Payloads, sent::Sent, stop};
use crate::machine::thread_cpu_time;

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    FlatOut,
    /// Datagrams per second, evenly.
    PerSecond(f64),
    /// As the payloads' times say, this many times faster.
    Recorded(f64),
}

/// When to end; the first that is reached counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub datagrams: Option<u64>,
    pub duration: Option<Duration>,
}

impl Limits {
    #[must_use]
    pub const fn datagrams(count: u64) -> Self {
        Self { datagrams: Some(count), duration: None }
    }

    #[must_use]
    pub const fn duration(duration: Duration) -> Self {
        Self { datagrams: None, duration: Some(duration) }
    }
}

/// Where datagrams leave.
pub(super) trait Outlet {
    /// Datagrams that it takes at once.
    const BATCH: usize;

    /// Calls are at least so far apart, unless a batch is full.
    const TICK: Duration;

    /// Sends `count` payloads from that which follows `first` others; says how many have left. Fewer
    /// than `count` and no error means: try again.
    fn send(&mut self, payloads: &Payloads, first: u64, count: usize) -> io::Result<usize>;
}

/// A sleep ends about this much late, even with the finest timer slack.
const SLEEP_MIN: Duration = Duration::from_micros(5);
/// So that a signal is seen soon.
const SLEEP_MAX: Duration = Duration::from_millis(50);
const WATCH_EVERY: Duration = Duration::from_millis(100);
/// Calls in a row that may fail: nobody is there, or nothing goes any more.
const FAILURES_MAX: u32 = 100_000;

/// Sends until a limit is reached, a signal comes, or `watch`, which sees the datagrams sent several
/// times a second, says `false`.
pub(super) fn drive<O: Outlet>(
    outlet: &mut O,
    payloads: &Payloads,
    pace: Pace,
    limits: Limits,
    watch: &mut dyn FnMut(u64) -> bool,
) -> anyhow::Result<Sent> {
    anyhow::ensure!(!payloads.is_empty(), "nothing to send: the table of payloads is empty");
    if let Pace::PerSecond(number) | Pace::Recorded(number) = pace {
        anyhow::ensure!(number.is_finite() && number > 0.0, "a pace of {number}: it has to be above 0");
    }
    let _fine = FineSleep::begin();
    let mut account = Sent::default();
    let (mut sent, mut failures) = (0_u64, 0_u32);
    let (started, cpu) = (Instant::now(), thread_cpu_time());
    let (mut last_call, mut watched) = (None::<Duration>, Duration::ZERO);
    let batch = O::BATCH as u64;
    loop {
        let now = started.elapsed();
        if now >= watched + WATCH_EVERY {
            watched = now;
            if stop::requested() || !watch(sent) {
                account.interrupted = true;
                break;
            }
        }
        let left = limits.datagrams.map_or(u64::MAX, |limit| limit.saturating_sub(sent));
        if left == 0 || limits.duration.is_some_and(|limit| now >= limit) {
            break;
        }
        let due = due_by(payloads, pace, now, sent, batch).min(left);
        let next = if due == 0 {
            Some(due_at(payloads, pace, sent))
        } else if due < batch.min(left) {
            last_call.map(|last| last + O::TICK).filter(|tick| *tick > now)
        } else {
            None
        };
        if let Some(next) = next {
            let end = limits.duration.unwrap_or(Duration::MAX);
            let wait = next.min(end).saturating_sub(now);
            if wait > SLEEP_MIN {
                thread::sleep((wait - SLEEP_MIN).min(SLEEP_MAX));
            } else {
                std::hint::spin_loop();
            }
            continue;
        }
        if pace != Pace::FlatOut {
            account.behind_end = now.saturating_sub(due_at(payloads, pace, sent));
            account.behind_max = account.behind_max.max(account.behind_end);
        }
        last_call = Some(now);
        match outlet.send(payloads, sent, usize::try_from(due).unwrap_or(O::BATCH)) {
            Ok(count) => {
                sent += count as u64;
                failures = 0;
            }
            Err(error) => {
                failures += 1;
                *account.errors.entry(name(&error)).or_default() += 1;
                anyhow::ensure!(
                    failures < FAILURES_MAX,
                    "{failures} calls in a row failed after {sent} datagrams: {error}"
                );
                // What is full has a moment to empty.
                thread::sleep(Duration::from_micros(20));
            }
        }
    }
    account.elapsed = started.elapsed();
    account.cpu = thread_cpu_time().saturating_sub(cpu);
    account.count(payloads, sent);
    watch(sent);
    Ok(account)
}

/// Datagrams due by `now` beyond the `sent` ones, up to `most`.
fn due_by(payloads: &Payloads, pace: Pace, now: Duration, sent: u64, most: u64) -> u64 {
    match pace {
        Pace::FlatOut => most,
        Pace::PerSecond(rate) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "both factors are positive, and a cast of a float saturates"
            )]
            let due = (now.as_secs_f64() * rate) as u64;
            due.saturating_add(1).saturating_sub(sent).min(most)
        }
        Pace::Recorded(_) => {
            (0..most).take_while(|ahead| due_at(payloads, pace, sent + ahead) <= now).count() as u64
        }
    }
}

/// When the datagram that follows `sent` others is due, since the beginning.
fn due_at(payloads: &Payloads, pace: Pace, sent: u64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "a time")]
    let seconds = match pace {
        Pace::FlatOut => 0.0,
        Pace::PerSecond(rate) => sent as f64 / rate,
        Pace::Recorded(speed) => {
            let round = sent / (payloads.len() as u64).max(1);
            let span = payloads.span().as_secs_f64();
            (round as f64 * span + payloads.after(sent).at.as_secs_f64()) / speed
        }
    };
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn name(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(libc::ENOBUFS) => "ENOBUFS",
        Some(libc::EAGAIN) => "EAGAIN",
        Some(libc::ECONNREFUSED) => "ECONNREFUSED",
        Some(libc::EMSGSIZE) => "EMSGSIZE",
        Some(libc::ENOENT) => "ENOENT",
        Some(libc::EPIPE) => "EPIPE",
        Some(libc::ECONNRESET) => "ECONNRESET",
        Some(libc::ENETUNREACH) => "ENETUNREACH",
        Some(libc::EHOSTUNREACH) => "EHOSTUNREACH",
        Some(libc::EPERM) => "EPERM",
        Some(libc::EINVAL) => "EINVAL",
        _ => return error.to_string(),
    };
    name.to_owned()
}

/// While it lives, sleeps of this thread end within microseconds instead of 50.
struct FineSleep;

impl FineSleep {
    fn begin() -> Self {
        set_timer_slack(1);
        Self
    }
}

impl Drop for FineSleep {
    fn drop(&mut self) {
        // 0 means: the default again.
        set_timer_slack(0);
    }
}

fn set_timer_slack(nanoseconds: libc::c_ulong) {
    // SAFETY: this option takes a number and touches no memory; it cannot fail in a way that matters.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what it is given, a little at a time, and fails now and then.
    struct Memory(Vec<Vec<u8>>, u32);

    impl Outlet for Memory {
        const BATCH: usize = 8;
        const TICK: Duration = Duration::ZERO;

        fn send(&mut self, payloads: &Payloads, first: u64, count: usize) -> io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(3) {
                return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
            }
            let count = count.min(3);
            self.0.extend((first..first + count as u64).map(|sent| payloads.after(sent).bytes.to_vec()));
            Ok(count)
        }
    }

    fn table() -> Payloads {
        Payloads::of([b"a:1|c".as_slice(), b"b:1|c", b"c:1|c", b"d:1|c"])
    }

    #[test]
    fn a_count_is_met_exactly_in_the_order_of_the_table() {
        let mut memory = Memory(Vec::new(), 0);
        let sent = drive(&mut memory, &table(), Pace::FlatOut, Limits::datagrams(10), &mut |_| true)
            .expect("memory takes all");
        let names: String = memory.0.iter().map(|payload| char::from(payload[0])).collect();
        assert_eq!(names, "abcdabcdab");
        assert_eq!((sent.datagrams, sent.lines, sent.bytes), (10, 10, 50));
        assert!(sent.errors["ENOBUFS"] > 0);
    }

    #[test]
    fn a_rate_is_kept() {
        let limits = Limits::duration(Duration::from_millis(200));
        let mut memory = Memory(Vec::new(), 0);
        let sent = drive(&mut memory, &table(), Pace::PerSecond(5_000.0), limits, &mut |_| true)
            .expect("memory takes all");
        assert!((900..=1_001).contains(&sent.datagrams), "{sent}");
    }

    #[test]
    fn whoever_watches_can_end_it() {
        let mut memory = Memory(Vec::new(), 0);
        let sent = drive(&mut memory, &table(), Pace::PerSecond(100.0), Limits::default(), &mut |_| false)
            .expect("memory takes all");
        assert!(sent.interrupted && sent.elapsed < Duration::from_secs(2));
    }
}
