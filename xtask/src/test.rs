//! The workspace -> linted, built, tested; the last line sums up all test results.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{self, cargo};
use crate::setup::{self, Purpose, deploy_tools, tools};
use crate::{build, host, lint, paths};

/// Name of the module that boots virtual machines: these tests need tools but no rights.
const VM_TESTS: &str = "vm::";

/// Tests that are ignored without us because they need the daemon's binary, but no rights either.
const DROP_IN_TESTS: &str = "dropin::doors_shut";

/// And these need what renders and validates the samples.
const DEPLOY_TESTS: &str = "deploy::";

/// Most reasons for ignored tests that we print; the count is complete in any case.
const IGNORED_LINES_MAX: usize = 40;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out the lints and the virtual machine
    #[arg(long)]
    fast: bool,
    /// Arguments for the test runner: a filter, --nocapture, ...
    #[arg(last = true)]
    args: Vec<OsString>,
}

pub(crate) fn main(options: &Options) -> Result<()> {
    setup::ensure(if options.fast { &[Purpose::Build, Purpose::Demo] } else { &[Purpose::Test] })?;
    if !options.fast {
        lint::main()?;
    }
    build::object()?;
    build::daemon(true)?;

    let rights = host::may_load_bpf();
    let mut total = Summary::default();
    let mut workspace = test_command(&["--workspace"], &options.args);
    if rights {
        workspace.arg("--include-ignored");
        if options.fast {
            workspace.args(["--skip", VM_TESTS, "--skip", DEPLOY_TESTS]);
        }
    }
    total.add(&run_tests(&mut workspace)?);
    if !rights {
        let mut unprivileged = test_command(&["--package", "rotameter-tests"], &options.args);
        unprivileged.args(["--ignored", DROP_IN_TESTS]);
        if !options.fast {
            unprivileged.arg(DEPLOY_TESTS);
        }
        if !options.fast {
            unprivileged.arg(VM_TESTS);
        }
        let unprivileged = run_tests(&mut unprivileged)?;
        // The first run had counted them as ignored.
        total.ignored = total.ignored.saturating_sub(unprivileged.passed + unprivileged.failed);
        total.add(&unprivileged);
    }
    say_what_was_left_out(&total, rights, options.fast);
    println!("{}", total.line());
    if !total.ok {
        bail!("tests failed; their output stands above");
    }
    Ok(())
}

/// The variables by which tests find what was built and installed for them.
pub(crate) fn environment(release: bool) -> Vec<(&'static str, PathBuf)> {
    let known = [
        ("ROTAMETER_BIN", Some(paths::daemon(release))),
        (build::OBJECT_VARIABLE, Some(paths::bpf_object())),
        ("ROTAMETER_VM_KERNEL", tools::kernel()),
        ("ROTAMETER_VM_BUSYBOX", tools::busybox()),
        ("ROTAMETER_QEMU", tools::qemu()),
        ("ROTAMETER_PROMTOOL", host::find_program("promtool")),
        ("ROTAMETER_BROWSER", tools::browser()),
        ("ROTAMETER_PROMETHEUS", host::find_program("prometheus")),
        ("ROTAMETER_HELM", deploy_tools::helm()),
        ("ROTAMETER_KUBECTL", deploy_tools::kubectl()),
        ("ROTAMETER_PYTHONPATH", deploy_tools::python_path()),
    ];
    known.into_iter().filter_map(|(name, path)| Some((name, path?))).collect()
}

fn test_command(selection: &[&str], args: &[OsString]) -> Command {
    let mut command = cargo();
    // One failing package must not hide the results of those after it.
    command.arg("test").args(selection).args(["--no-fail-fast", "--"]).args(args);
    command.envs(environment(true));
    command
}

/// Counts of libtest's "test result:" lines, added up.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    ok: bool,
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Ignored tests with their reasons, in libtest's words, bounded.
    reasons: Vec<String>,
}

impl Default for Summary {
    fn default() -> Self {
        Self { ok: true, passed: 0, failed: 0, ignored: 0, reasons: Vec::new() }
    }
}

impl Summary {
    /// Takes in one line of the runner's output; most lines say nothing to us.
    fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.ok &= counts.starts_with("ok.");
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
        } else if line.starts_with("test ")
            && line.contains(" ... ignored")
            && self.reasons.len() < IGNORED_LINES_MAX
        {
            self.reasons.push(line.to_owned());
        }
    }

    fn add(&mut self, run: &Self) {
        self.ok &= run.ok;
        self.passed += run.passed;
        self.failed += run.failed;
        self.ignored += run.ignored;
        self.reasons.extend(run.reasons.iter().cloned());
    }

    /// In the form of libtest's own line.
    fn line(&self) -> String {
        let (passed, failed, ignored) = (self.passed, self.failed, self.ignored);
        let verdict = if self.ok { "ok" } else { "FAILED" };
        format!("test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored")
    }
}

fn count(counts: &str, what: &str) -> u64 {
    let number = counts.split(['.', ';']).find_map(|part| part.trim().strip_suffix(what));
    number.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// Runs the tests, shows their output as it comes, and adds up the results.
fn run_tests(command: &mut Command) -> Result<Summary> {
    println!("$ {}", command::shown(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{}`", command::shown(command)))?;
    let mut summary = Summary::default();
    if let Some(output) = child.stdout.take() {
        // Split by bytes: a test may print what is not UTF-8.
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("reading the test runner's output")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            summary.read(&line);
        }
    }
    let status = child.wait().context("waiting for the test runner")?;
    // A test that does not compile, or a runner that crashed, prints no result line.
    summary.ok &= status.success();
    Ok(summary)
}

fn say_what_was_left_out(total: &Summary, rights: bool, fast: bool) {
    if fast {
        println!("left out by --fast: lints, and all tests that boot a virtual machine or render samples");
    }
    if rights || total.ignored == 0 {
        return;
    }
    println!("left out: {} tests that need CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN:", total.ignored);
    for line in &total.reasons {
        println!("  {}", line.trim_start_matches("test "));
    }
    let sudo = host::find_program("sudo").is_some() && !host::is_root();
    let command = shown_self(if sudo { "sudo -E env PATH=$PATH " } else { "" });
    println!("to run them too, as root with these capabilities: {command}");
}

fn shown_self(prefix: &str) -> String {
    let args = std::env::args_os().skip(1);
    let args = args.map(|arg| OsStr::to_string_lossy(&arg).into_owned()).collect::<Vec<_>>();
    format!("{prefix}cargo xtask {}", args.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: &str, expected: &str) {
        let mut summary = Summary::default();
        output.lines().for_each(|line| summary.read(line));
        assert_eq!(summary.line(), expected);
    }

    #[test]
    fn results_of_several_binaries_are_added_up() {
        check(
            "running 3 tests\n\
             test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: ok. 20 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 1.50s\n",
            "test result: ok. 23 passed; 0 failed; 1 ignored",
        );
    }

    #[test]
    fn one_failure_makes_the_whole_fail() {
        check(
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored",
        );
    }

    #[test]
    fn a_runner_that_prints_nothing_and_fails_is_a_failure() {
        let summary = run_tests(Command::new("sh").args(["-c", "exit 101"])).expect("sh starts");
        assert!(!summary.ok);
    }

    #[test]
    fn reasons_of_ignored_tests_are_kept() {
        let mut summary = Summary::default();
        summary.read("test kernel::loads ... ignored, needs CAP_BPF");
        assert_eq!(summary.reasons, ["test kernel::loads ... ignored, needs CAP_BPF"]);
    }
}
