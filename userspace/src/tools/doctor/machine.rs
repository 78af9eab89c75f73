//! Files of /proc and /sys -> what this machine lacks.

use super::finding::{Finding, Severity};
use super::ports::read;

/// What the daemon asks for unless told otherwise.
const RECEIVE_BUFFER_BYTES: u64 = 16 << 20;
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What is looked at, as the files have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    release: String,
    real_time: bool,
    rmem_max: Option<u64>,
    /// Of the process that looks: a daemon started the same way has the same.
    capabilities: Option<u64>,
    user_namespace: bool,
}

impl Machine {
    pub(super) fn read() -> Self {
        let status = read("/proc/self/status");
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self {
            release: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            real_time: read("/sys/kernel/realtime").trim() == "1",
            rmem_max: read("/proc/sys/net/core/rmem_max").trim().parse().ok(),
            capabilities: capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()),
            // In the initial one, all ids stand for themselves.
            user_namespace: !read("/proc/self/uid_map").split_whitespace().eq(["0", "0", "4294967295"]),
        }
    }

    fn may(&self, capability: u32) -> bool {
        self.capabilities.is_some_and(|set| set >> capability & 1 == 1)
    }
}

/// What a kernel of this version gives, and whether somebody has tried.
fn matrix(release: &str) -> Option<(Severity, &'static str)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().ok());
    let version = (numbers.next()??, numbers.next()??);
    match version {
        (0..=4, _) | (5, 0..=7) => Some((
            Severity::Note,
            "before 5.8 there is no CAP_BPF, and the doors stay shut; sockets do the work",
        )),
        (5, _) | (6, 0) => Some((
            Severity::Note,
            "between 5.8 and 6.1 the doors may open, but nobody has tried; 6.1 and later are tested",
        )),
        _ => None,
    }
}

pub(super) fn look(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |rule, severity, text: &str, evidence: String, way_out: &str| {
        let (text, way_out) = (text.to_owned(), way_out.to_owned());
        findings.push(Finding { rule, severity, text, evidence, way_out });
    };
    if let Some((severity, text)) = matrix(&machine.release) {
        let evidence = format!("Linux {}", machine.release);
        find("kernel", severity, text, evidence, "docs/limits.md lists kernels; a newer one opens the doors");
    }
    if machine.real_time {
        find(
            "kernel",
            Severity::Note,
            "on a real-time kernel the doors stay shut",
            "/sys/kernel/realtime is 1".to_owned(),
            "nothing to do: sockets do the work; or take an ordinary kernel",
        );
    }
    let lacks: Vec<&str> =
        [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")]
            .into_iter()
            .filter(|(bit, _)| !machine.may(*bit) && (*bit == CAP_NET_ADMIN || !machine.may(CAP_SYS_ADMIN)))
            .map(|(_, name)| name)
            .collect();
    if !lacks.is_empty() {
        find(
            "capabilities",
            Severity::Note,
            "a daemon started as this process was lacks what the doors need",
            format!("no {} in CapEff of /proc/self/status", lacks.join(", ")),
            "give them to the unit or container; docs/privileges.md says what each is for",
        );
    } else if machine.user_namespace {
        find(
            "capabilities",
            Severity::Note,
            "capabilities of a user namespace do not open the doors",
            "/proc/self/uid_map does not map all ids".to_owned(),
            "run the daemon outside of rootless containers, or leave the work to sockets",
        );
    }
    if let Some(rmem_max) = machine.rmem_max.filter(|max| *max < RECEIVE_BUFFER_BYTES)
        && !machine.may(CAP_NET_ADMIN)
    {
        find(
            "rmem-max",
            Severity::Note,
            "the kernel grants less receive buffer than the daemon asks for",
            format!("net.core.rmem_max is {rmem_max}"),
            "sysctl -w net.core.rmem_max=16777216 on the host, or CAP_NET_ADMIN for the daemon",
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Machine), rules: &[&str]) {
        let mut machine = Machine {
            release: "6.12.3-amd64".to_owned(),
            rmem_max: Some(212_992),
            capabilities: Some(u64::MAX),
            ..Machine::default()
        };
        change(&mut machine);
        assert_eq!(look(&machine).iter().map(|finding| finding.rule).collect::<Vec<_>>(), rules);
    }

    #[test]
    fn what_is_missing_is_told() {
        check(|_| {}, &[]);
        check(|machine| machine.capabilities = Some(0), &["capabilities", "rmem-max"]);
        check(|machine| machine.capabilities = Some(1 << CAP_SYS_ADMIN | 1 << CAP_NET_ADMIN), &[]);
        check(|machine| machine.user_namespace = true, &["capabilities"]);
        check(|machine| machine.real_time = true, &["kernel"]);
        for release in ["4.19.0", "5.15.0-91-generic", "6.0.1"] {
            check(|machine| machine.release = release.to_owned(), &["kernel"]);
        }
        for release in ["6.1.0-18-amd64", "10.2", "", "odd"] {
            check(|machine| machine.release = release.to_owned(), &[]);
        }
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read();
        assert!(!machine.release.is_empty() && machine.capabilities.is_some());
    }
}
