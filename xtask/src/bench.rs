//! Arguments -> the load generator, against a fresh build.

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

pub(crate) fn main(options: &Options) -> Result<()> {
    // The generators measure no build of ours, and run where nothing but Rust is.
    if options.args.first().is_none_or(|first| first != "load") {
        setup::ensure(&[Purpose::Build, Purpose::Demo])?;
        build::object()?;
        build::daemon(true)?;
    }
    let mut bench = cargo();
    bench.args(["run", "--release", "--package", "rotameter-bench", "--"]).args(&options.args);
    command::run(bench.envs(test::environment(true)))
}
