//! The object and the daemon on Linux 6.1 -> the same as on a newer kernel.
//!
//! Older verifiers refuse what newer ones accept, so the oldest kernel that the doors promise to
//! serve runs them here, in a virtual machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::vm::{VmOutput, run_in_vm};

/// Everything is emulated: a program that the verifier checks in a tenth of a second takes seconds.
const TIMEOUT: Duration = Duration::from_secs(900);

/// A path that `cargo xtask test` hands in.
#[track_caller]
fn built(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("{variable} is not set; `cargo xtask test` builds that file and sets this"))
}

/// A copy without debug information, which would not fit into the machine's memory twice.
fn stripped(program: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join(program.file_name().expect("a program has a name"));
    let status = Command::new("strip").arg("-o").arg(&copy).arg(program).status();
    assert!(status.expect("strip comes with the linker that Rust needs").success());
    copy
}

#[track_caller]
fn run(files: &[(PathBuf, &str)], command: &str) -> VmOutput {
    let output = run_in_vm(files, command, TIMEOUT).expect("the machine runs the command");
    println!("{}", output.log);
    assert!(output.log.contains("on Linux 6.1."), "not the kernel that was meant");
    assert_eq!(output.exit, 0, "{}", output.log);
    output
}

#[test]
#[ignore = "needs qemu and a 6.1 kernel image"]
fn every_verdict_is_the_same_on_linux_6_1() {
    let folder = tempfile::tempdir().expect("a folder for the copy");
    let tests = stripped(&std::env::current_exe().expect("this program has a path"), folder.path());
    run(
        &[(tests, "/tests"), (built("ROTAMETER_BPF_OBJECT"), "/object")],
        "echo on Linux $(uname -r)
         export ROTAMETER_BPF_OBJECT=/object PROPTEST_CASES=1
         exec /tests --include-ignored --nocapture --test-threads=1 \
             kernel::frames kernel::payloads kernel::plain::several kernel::differential::generated kernel::sockets kernel::rings kernel::grace kernel::verifier",
    );
}

/// A sender behind a veth pair in a namespace of its own, the daemon on this side. Frames and
/// loopback datagrams first make their identity hot; then come the ones that must be counted. The
/// kernel names the peer `veth0`, for busybox cannot.
const DAEMON: &str = "
echo on Linux $(uname -r)
set -e
ip link add wire0 type veth
ip addr add 10.77.0.1/24 dev wire0
ip link set wire0 up
unshare -n sleep 1000 &
there=$!
sleep 1
ip link set veth0 netns $there
nsenter -t $there -n ip addr add 10.77.0.2/24 dev veth0
nsenter -t $there -n ip link set veth0 up
/rotameter --ebpf.loopback --xdp.interface=wire0 --promotion.interval=300ms --promotion.min-rate=1 &
daemon=$!
until wget -qO /dev/null http://127.0.0.1:9102/-/ready; do sleep 1; done
send='for n in {1..10}; do echo -n \"$0\" > /dev/udp/$1/9125; done'
for round in 1 2 3 4 5 6 7 8 9 10 11 12; do
    /bin/bash -c \"$send\" 'airflow.local:2|c' 127.0.0.1
    nsenter -t $there -n /bin/bash -c \"$send\" 'airflow.wire:3|c' 10.77.0.1
    sleep 1
done
wget -qO /tmp/metrics http://127.0.0.1:9102/metrics
kill -TERM $daemon
wait $daemon
grep -v '^#' /tmp/metrics | grep -v ' 0$'
";

#[test]
#[ignore = "needs qemu and a 6.1 kernel image"]
fn the_daemon_counts_behind_two_doors_on_linux_6_1() {
    let folder = tempfile::tempdir().expect("a folder for the copy");
    let daemon = stripped(&built("ROTAMETER_BIN"), folder.path());
    // The one shell that sends datagrams; busybox' tools do not.
    let bash = (PathBuf::from("/bin/bash"), "/bin/bash");
    let output = run(&[(daemon, "/rotameter"), bash], DAEMON);
    let value = |series: &str| -> f64 {
        let line = output.log.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in:\n{}", output.log)).parse().expect("a number")
    };
    assert_eq!((value("airflow_local"), value("airflow_wire")), (240.0, 360.0));
    for door in ["xdp", "socket_filter"] {
        let counted = value(&format!(
            "rotameter_datagrams_total{{door=\"{door}\",reason=\"hot\",verdict=\"counted\"}}"
        ));
        assert!(counted > 0.0, "{door} has counted nothing");
    }
    // The third one needs a newer kernel, and says so.
    let refused = "lo: this kernel has no BPF links for TC (Linux 6.6 and later have)";
    assert!(output.log.lines().any(|line| line.starts_with("loopback ") && line.contains(refused)));
}
