//! `EPERM` of bpf(2) -> what stood in the way.

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A map, or a program for sockets.
    Bpf,
    /// A program for interfaces.
    Network,
}

/// What an operator can do about it, by what the kernel says of this process.
pub(super) fn way_out(refused: Refused) -> &'static str {
    by_status(refused, &std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// As [`way_out`], of the text of `/proc/self/status`.
fn by_status(refused: Refused, status: &str) -> &'static str {
    let field = |name| status.lines().find_map(|line: &str| line.strip_prefix(name)).map_or("", str::trim);
    let effective = u64::from_str_radix(field("CapEff:"), 16).unwrap_or(0);
    let has = |capability: u32| effective >> capability & 1 == 1;
    if !(has(CAP_SYS_ADMIN) || has(CAP_BPF) && has(CAP_PERFMON)) {
        ": CAP_BPF and CAP_PERFMON are needed, and CAP_NET_ADMIN for XDP"
    } else if refused == Refused::Network && !(has(CAP_SYS_ADMIN) || has(CAP_NET_ADMIN)) {
        ": CAP_NET_ADMIN is needed for it"
    } else if field("Seccomp:") == "2" {
        // Profiles of podman, CRI-O and older Docker let only CAP_SYS_ADMIN through.
        ": the capabilities are there, but a seccomp profile refuses bpf(2), see docs/privileges.md"
    } else {
        ": the capabilities are there, but not those of the initial user namespace, or the kernel is locked down"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(effective: &str, seccomp: &str, expected: &str) {
        check_for(Refused::Bpf, effective, seccomp, expected);
    }

    #[track_caller]
    fn check_for(refused: Refused, effective: &str, seccomp: &str, expected: &str) {
        let status =
            format!("Name:\trotameter\nCapEff:\t{effective}\nSeccomp:\t{seccomp}\nSeccomp_filters:\t1\n");
        let said = by_status(refused, &status);
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn a_missing_capability_is_named_whatever_the_seccomp_profile() {
        check("0000000000000000", "2", "CAP_BPF and CAP_PERFMON are needed");
        check("0000008000001000", "0", "CAP_BPF and CAP_PERFMON are needed");
    }

    #[test]
    fn a_program_for_interfaces_needs_one_more() {
        check_for(Refused::Network, "000000c000000000", "0", "CAP_NET_ADMIN is needed");
        check_for(Refused::Network, "000000c000000000", "2", "CAP_NET_ADMIN is needed");
        check_for(Refused::Network, "0000000000001000", "0", "CAP_BPF and CAP_PERFMON are needed");
        check_for(Refused::Network, "000000c000001000", "0", "initial user namespace");
    }

    #[test]
    fn with_the_capabilities_it_is_the_seccomp_profile() {
        check("000000c000001000", "2", "a seccomp profile refuses bpf(2)");
    }

    #[test]
    fn with_the_capabilities_and_no_profile_it_is_the_namespace() {
        check("000001ffffffffff", "0", "initial user namespace");
    }

    #[test]
    fn without_proc_the_capabilities_are_named() {
        assert!(by_status(Refused::Bpf, "").contains("CAP_BPF"));
    }
}
