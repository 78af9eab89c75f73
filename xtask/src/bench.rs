//! Arguments -> the load laboratory, against a fresh build.

use std::ffi::OsString;

use anyhow::Result;

use crate::command::{self, cargo};
use crate::setup::{self, Purpose};
use crate::{build, test};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Arguments for rotameter-bench; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// What needs neither kernel object nor daemon.
const ALONE: [&str; 5] = ["list", "load", "help", "--help", "-h"];

pub(crate) fn main(options: &Options) -> Result<()> {
    let first = options.args.first().and_then(|first| first.to_str()).unwrap_or_default();
    if first == "micro" {
        setup::ensure(&[Purpose::Build])?;
        let mut micro = cargo();
        micro.args(["bench", "--package", "rotameter-bench", "--bench", "micro", "--"]);
        return command::run(micro.args(&options.args[1..]));
    }
    // The generators measure no build of ours, and run where nothing but Rust is.
    if !ALONE.contains(&first) {
        setup::ensure(&[Purpose::Build, Purpose::Demo])?;
        build::object()?;
        build::daemon(true)?;
    }
    let mut bench = cargo();
    bench.args(["run", "--release", "--package", "rotameter-bench", "--"]).args(&options.args);
    command::run(bench.envs(test::environment(true)))
}
