//! What stands in the daemon's way -> an error that names it and the way out, or a start that says so.

use super::daemon::{Daemon, binary};
use super::world::{OUR_END, World};

/// Starts a daemon that cannot start; exit code and what it wrote.
#[track_caller]
fn end(world: &World, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = world.ours.command(binary());
    command.args(flags);
    let mut daemon = Daemon::spawn(&world.ours, command, flags);
    let status = daemon.ended();
    (status.code(), daemon.log())
}

/// The start fails with exit code 1, and the error says all of `words`.
#[track_caller]
fn check_refused(world: &World, flags: &[&str], words: &[&str]) {
    let (code, log) = end(world, flags);
    assert_eq!(code, Some(1), "{flags:?}\n{log}");
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one error, printed once\n{log}");
    for word in words {
        assert!(errors[0].contains(word), "{flags:?} does not say `{word}`\n{log}");
    }
    assert!(errors[0].len() < 1000, "an error is to be read: {} bytes", errors[0].len());
}

/// The daemon's start-up table and log say all of `words`.
#[track_caller]
fn check_says(daemon: &Daemon, words: &[&str]) {
    let log = daemon.log();
    for word in words {
        assert!(log.contains(word), "the log does not say `{word}`");
    }
    assert!(log.lines().all(|line| line.len() < 1000), "a line of the log is to be read");
}

/// Flags of a second daemon beside one with the default ports.
const OTHER_PORTS: [&str; 3] =
    ["--statsd.listen-udp=:9225", "--statsd.listen-tcp=:9225", "--web.listen-address=:9202"];

fn with_other_ports<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    OTHER_PORTS.iter().chain(flags).copied().collect()
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn an_address_in_use_is_named_with_its_flag() {
    let world = World::new();
    let first = world.start(&["--ebpf=off"]);
    for (flag, address) in
        [("statsd.listen-udp", ":9125"), ("statsd.listen-tcp", ":9125"), ("web.listen-address", ":9102")]
    {
        let mut flags = OTHER_PORTS.to_vec();
        let taken = format!("--{flag}={address}");
        flags.retain(|other| !other.starts_with(&format!("--{flag}=")));
        flags.push(&taken);
        check_refused(&world, &flags, &[address, flag]);
    }
    first.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn an_interface_that_does_not_exist_is_an_error_or_waited_for() {
    let world = World::without_cable();
    let missing = "--xdp.interface=veth-d";
    check_refused(&world, &["--ebpf=required", missing], &[missing, "no such interface", "ip link"]);
    let daemon = world.start(&["--ebpf=auto", missing]);
    check_says(&daemon, &["no such interface", missing, "it is taken when it comes"]);
    world.lay_cable("veth-d", "veth-s");
    daemon.wait_for_figures("taken", |figures| figures.doors_open().xdp);
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn another_xdp_program_is_named_with_the_way_out() {
    let world = World::new();
    let named = format!("--xdp.interface={OUR_END}");
    let first = world.start(&["--ebpf=required", &named]);
    let words = [OUR_END, "another XDP program is there", "xdp off", "socket filter"];
    check_refused(&world, &with_other_ports(&["--ebpf=required", &named]), &words);
    let second = world.start(&with_other_ports(&["--ebpf=auto", &named]));
    check_says(&second, &words);
    let doors = second.figures().doors_open();
    assert!(doors.socket_filter && !doors.xdp, "the other door opens all the same");
    assert!(first.figures().doors_open().xdp, "the first one keeps its door");
    second.stop();
    assert!(world.ours.ip(&format!("-d link show dev {OUR_END}")).contains("xdp"));
    first.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn loopback_has_no_native_xdp() {
    let world = World::new();
    check_refused(&world, &["--ebpf=required", "--xdp.interface=lo"], &["lo", "native XDP", "socket filter"]);
    let daemon = world.start(&["--xdp.interface=lo"]);
    check_says(&daemon, &["lo: the loopback device has no native XDP"]);
    daemon.stop();
}

/// A row for each CPU that there may be: with fewer, what comes on the others would be nobody's.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn where_the_cpus_cannot_be_counted_the_doors_stay_shut() {
    let world = World::new();
    let mut command = world.ours.command("unshare");
    let hide = "mount --make-rprivate / && mount -t tmpfs none /sys && exec \"$0\"";
    command.args(["--mount", "sh", "-c", hide]).arg(binary());
    let mut daemon = Daemon::spawn(&world.ours, command, &[]);
    assert!(daemon.wait_for(|daemon| matches!(daemon.get("/-/ready"), Ok((200, _)))));
    check_says(&daemon, &["socket filter  off", "/sys/devices/system/cpu/possible", "mount /sys"]);
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn without_capabilities_the_doors_stay_shut_and_the_table_says_why() {
    let world = World::new();
    let command = |flags: &[&str]| {
        // Root's user id without a single right: whoever may read the binary, may start it.
        let mut command = world.ours.command("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(binary()).args(flags);
        command
    };
    let flags = ["--xdp.interface=veth-d"];
    let mut daemon = Daemon::spawn(&world.ours, command(&flags), &flags);
    assert!(daemon.wait_for(|daemon| matches!(daemon.get("/-/ready"), Ok((200, _)))));
    check_says(&daemon, &["CAP_BPF", "socket filter  off", "xdp            off"]);
    let (_, page) = daemon.get("/").expect("the landing page");
    assert!(String::from_utf8_lossy(&page).contains("CAP_BPF"));
    // And the main job is done.
    let socket = world.socket(super::world::Family::V6);
    for _ in 0..100 {
        socket.send(b"unprivileged:1|c").expect("the daemon listens");
    }
    daemon.wait_for_figures("all sent", |figures| figures.received("udp") == 100).check_datagrams(100);
    assert!(daemon.scrape().contains("\nunprivileged 100\n"));
    daemon.stop();

    let flags = ["--ebpf=required"];
    let mut daemon = Daemon::spawn(&world.ours, command(&flags), &flags);
    assert_eq!(daemon.ended().code(), Some(1));
    check_says(&daemon, &["error: --ebpf=required: ", "CAP_BPF"]);
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn usage_errors_end_with_1_and_help_with_0() {
    let world = World::without_cable();
    for flag in ["--help", "--version"] {
        let (code, log) = end(&world, &[flag]);
        assert_eq!((code, log.as_str()), (Some(0), ""), "{flag} writes to standard output");
    }
    for (flag, words) in [
        ("--ebpf.ring-bytes=3Mi", &["--ebpf.ring-bytes", "2097152 or 4194304"][..]),
        ("--ebpf=on", &["--ebpf=", "auto, required or off"]),
        ("--xdp.allow-source=10.0.0.1/8", &["--xdp.allow-source", "did you mean 10.0.0.0/8?"]),
        ("--statsd.listen-udp=9125", &["--statsd.listen-udp", "write host:port"]),
        ("--xdp.interface=a/b", &["--xdp.interface", "no / and no space"]),
    ] {
        check_refused(&world, &[flag], words);
    }
    // The command line parser words these itself, over several lines.
    for (flag, words) in [
        ("--ebpf.ring-byte=1Mi", &["--ebpf.ring-byte", "--ebpf.ring-bytes"][..]),
        ("--xdp", &["--xdp"]),
        ("positional", &["positional", "--help"]),
    ] {
        let (code, log) = end(&world, &[flag]);
        assert_eq!(code, Some(1), "{flag}\n{log}");
        for word in words {
            assert!(log.contains(word), "{flag} does not say `{word}`\n{log}");
        }
    }
}
