//! `EPERM` of bpf(2) -> what stood in the way.

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What an operator can do about it, by what the kernel says of this process.
pub(super) fn way_out() -> &'static str {
    by_status(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// As [`way_out`], of the text of `/proc/self/status`.
fn by_status(status: &str) -> &'static str {
    let field = |name| status.lines().find_map(|line: &str| line.strip_prefix(name)).map_or("", str::trim);
    let effective = u64::from_str_radix(field("CapEff:"), 16).unwrap_or(0);
    let has = |capability: u32| effective >> capability & 1 == 1;
    if !(has(CAP_SYS_ADMIN) || has(CAP_BPF) && has(CAP_PERFMON)) {
        ": CAP_BPF and CAP_PERFMON are needed, and CAP_NET_ADMIN for XDP"
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
        let status =
            format!("Name:\trotameter\nCapEff:\t{effective}\nSeccomp:\t{seccomp}\nSeccomp_filters:\t1\n");
        let said = by_status(&status);
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn a_missing_capability_is_named_whatever_the_seccomp_profile() {
        check("0000000000000000", "2", "CAP_BPF and CAP_PERFMON are needed");
        check("0000008000001000", "0", "CAP_BPF and CAP_PERFMON are needed");
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
        assert!(by_status("").contains("CAP_BPF"));
    }
}
