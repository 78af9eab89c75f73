//! Two looks at the machine -> who else used it meanwhile.

use std::{fs, time::Instant};

use serde::Serialize;

/// Shares of all CPUs above which a figure may be somebody else's doing.
const OTHERS_MAX: f64 = 0.05;
const STEAL_MAX: f64 = 0.02;
/// `/proc/stat` counts in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the machine was like during a scenario.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Conditions {
    pub seconds: f64,
    /// Share of all CPUs that the hypervisor gave to somebody else.
    pub steal: f64,
    /// Share of all CPUs that processes took which are neither ours nor our children.
    pub others: f64,
}

impl Conditions {
    /// A sentence if the machine was not quiet.
    #[must_use]
    pub fn disturbance(&self) -> Option<String> {
        (self.others > OTHERS_MAX || self.steal > STEAL_MAX).then(|| {
            format!(
                "not quiet: others took {:.0} % of all CPUs, the hypervisor {:.0} %",
                self.others * 100.0,
                self.steal * 100.0
            )
        })
    }
}

/// The first of the two looks.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    before: Look,
}

/// Seconds of CPU since the machine started.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    busy: f64,
    idle: f64,
    steal: f64,
    ours: f64,
}

impl Watch {
    #[must_use]
    pub fn start() -> Self {
        Self { began: Instant::now(), before: Look::now() }
    }

    /// What has been since; all children should have ended, or their time is taken for others'.
    #[must_use]
    pub fn conditions(&self) -> Conditions {
        let (before, after) = (self.before, Look::now());
        let (busy, idle, steal) =
            (after.busy - before.busy, after.idle - before.idle, after.steal - before.steal);
        let all = (busy + idle + steal).max(0.01);
        Conditions {
            seconds: self.began.elapsed().as_secs_f64(),
            steal: steal / all,
            others: ((busy - (after.ours - before.ours)) / all).max(0.0),
        }
    }
}

impl Look {
    /// All zero where `/proc` does not tell.
    fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self { ours: cpu_of(libc::RUSAGE_SELF) + cpu_of(libc::RUSAGE_CHILDREN), ..Self::parse(&stat) }
    }

    /// `cpu  user nice system idle iowait irq softirq steal guest guest_nice`; guests are in user.
    fn parse(stat: &str) -> Self {
        let first = stat.lines().next().unwrap_or_default();
        let fields: Vec<f64> =
            first.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        let [user, nice, system, idle, waiting, irq, softirq, steal, ..] = fields[..] else {
            return Self::default();
        };
        Self {
            busy: (user + nice + system + irq + softirq) / TICKS_PER_SECOND,
            idle: (idle + waiting) / TICKS_PER_SECOND,
            steal: steal / TICKS_PER_SECOND,
            ours: 0.0,
        }
    }
}

/// User and system time, in seconds.
fn cpu_of(who: libc::c_int) -> f64 {
    // SAFETY: all zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is writable and outlives the call.
    unsafe { libc::getrusage(who, &raw mut usage) };
    #[expect(clippy::cast_precision_loss, reason = "seconds and microseconds of a process")]
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_idle_and_stolen_time_are_told_apart() {
        let look = Look::parse("cpu  100 200 300 400 50 1 49 7 30 0\ncpu0 1 2 3");
        assert_eq!((look.busy, look.idle, look.steal), (6.5, 4.5, 0.07));
        assert_eq!(Look::parse("").busy, 0.0);
    }

    #[test]
    fn our_own_work_is_not_taken_for_others() {
        let watch = Watch::start();
        let began = Instant::now();
        while began.elapsed().as_millis() < 200 {
            std::hint::spin_loop();
        }
        let after = watch.conditions();
        assert!(after.seconds >= 0.2);
        assert!((0.0..=1.0).contains(&after.others), "{after:?}");
        let disturbed = Conditions { others: 0.5, ..after };
        assert!(disturbed.disturbance().expect("a sentence").contains("50 %"));
    }
}
