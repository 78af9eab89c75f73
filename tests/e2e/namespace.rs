//! Nothing -> a network namespace of our own, taken away again on drop.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace with its loopback up.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    /// The name carries our process id, so that two runs do not meet, and leftovers show their origin.
    pub(super) fn new(role: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rotameter-e2e-{}-{number}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread inside. Sockets that it returns stay inside, whoever uses them.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name)).expect("the namespace is there");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a namespace");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// `ip` with `arguments`, separated by spaces; its output.
    #[track_caller]
    pub(super) fn ip(&self, arguments: &str) -> String {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split(' ')))
    }

    /// Like [`Namespace::ip`]; false if it fails.
    pub(super) fn try_ip(&self, arguments: &str) -> bool {
        let output = Command::new("ip").args(["-n", &self.name]).args(arguments.split(' ')).output();
        output.is_ok_and(|output| output.status.success())
    }

    /// `tc` with `arguments`, separated by spaces.
    #[track_caller]
    pub(super) fn tc(&self, arguments: &str) -> String {
        run(Command::new("tc").args(["-n", &self.name]).args(arguments.split(' ')))
    }

    /// A command that will run `program` inside; the process id is the program's own.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// A figure of `/proc/net/snmp`, for example `Udp: NoPorts`; both families together.
    pub(super) fn udp_no_ports(&self) -> u64 {
        let (snmp, snmp6) = self.inside(|| {
            let read = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
            (read("snmp").expect("proc is mounted"), read("snmp6").expect("IPv6 is on"))
        });
        let mut udp = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, values) = (udp.next().expect("names"), udp.next().expect("values"));
        let v4 = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "NoPorts");
        let v6 = snmp6.lines().find_map(|line| line.strip_prefix("Udp6NoPorts"));
        [v4.expect("NoPorts is there").1, v6.expect("Udp6NoPorts is there")]
            .map(|count| count.trim().parse::<u64>().expect("a count"))
            .iter()
            .sum()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Interfaces go with it. What is not there any more is as good as removed.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Runs `command` to its end; its output.
#[track_caller]
pub(super) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("starting {:?}: {error}; the package iproute2 holds ip and tc", command.get_program())
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}
