//! `cargo xtask <command>` -> the tools it needs, in the right order.
//!
//! One file per command. CI calls these commands and nothing else.

mod bench;
mod build;
mod demo;
mod fuzz;
mod image;
mod lint;
mod run;
mod setup;
mod test;

mod capture;
mod command;
mod host;
mod paths;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Builds, runs and tests Rotameter")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what building and testing need; with --check only says what is missing
    Setup(setup::Options),
    /// Builds the kernel object, and the daemon that carries it
    Build(build::Options),
    /// Builds and starts the daemon in the foreground; --demo shows it at work on recorded traffic
    Run(run::Options),
    /// Lints, builds and runs all tests; what CI calls
    Test(test::Options),
    /// Checks format, clippy for both targets, licences, and that each crate inherits the lints
    Lint,
    /// Fuzzes for a bounded time, starting from the recorded traffic
    Fuzz(fuzz::Options),
    /// Builds, then measures what is named: `list` shows the scenarios, `micro` runs stage by stage
    Bench(bench::Options),
    /// Builds the container image as a tar, with a static binary, without a registry
    Image(image::Options),
    /// Plays a capture to an address; the demo runs it inside its network namespace
    #[command(hide = true)]
    Play(demo::play::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Task::Setup(options) => setup::main(&options),
        Task::Build(options) => build::main(&options),
        Task::Run(options) => run::main(&options),
        Task::Test(options) => test::main(&options),
        Task::Lint => lint::main(),
        Task::Fuzz(options) => fuzz::main(&options),
        Task::Bench(options) => bench::main(&options),
        Task::Image(options) => image::main(&options),
        Task::Play(options) => demo::play::main(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
