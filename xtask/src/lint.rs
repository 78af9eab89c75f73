//! Sources -> what rustfmt, clippy, cargo-deny and our own rules say of them.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::command::{self, cargo};
use crate::setup::{self, Purpose};
use crate::{host, paths};

/// Where the network swallows packets, git would wait for minutes.
const ADVISORIES_TIMEOUT_SECONDS: &str = "90";

pub(crate) fn main() -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Lint])?;
    every_crate_inherits_the_lints()?;
    command::run(cargo().args(["fmt", "--all", "--check"])).context("`cargo fmt --all` puts this right")?;
    // Once per target: together, feature unification would pull `std` into the kernel's crate.
    command::run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    command::run(build::cargo_for_bpf("clippy")?.args(["--release", "--quiet", "--", "-D", "warnings"]))?;
    deny()
}

/// A crate without `[lints] workspace = true` escapes the whole lint table, and nobody notices.
fn every_crate_inherits_the_lints() -> Result<()> {
    let metadata = command::output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("reading cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    for package in packages {
        let manifest = package["manifest_path"].as_str().context("a package without a manifest")?;
        let text = fs::read_to_string(manifest).with_context(|| format!("reading {manifest}"))?;
        if !inherits_lints(&text) {
            bail!("{manifest} does not inherit the lints: add `[lints]` with `workspace = true`");
        }
    }
    Ok(())
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines
        .by_ref()
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.replace(' ', "") == "workspace=true")
}

fn deny() -> Result<()> {
    let deny = || -> Result<Command> {
        let program = host::find_program("cargo-deny")
            .context("cargo-deny is gone; `cargo xtask setup` installs it")?;
        let mut command = Command::new(program);
        command.args(["--all-features", "--workspace"]).current_dir(paths::root());
        Ok(command)
    };
    let quiet = ["check", "--hide-inclusion-graph"];
    command::run(deny()?.args(quiet).args(["licenses", "bans", "sources"]))?;

    let program = deny()?;
    let mut fetch = Command::new("timeout");
    fetch.arg(ADVISORIES_TIMEOUT_SECONDS).arg(program.get_program()).args(program.get_args());
    fetch.args(["fetch", "db"]).current_dir(paths::root());
    if !command::succeeds(&mut fetch) {
        eprintln!("lint: SKIPPED the advisories: their database cannot be reached from here");
        return Ok(());
    }
    command::run(deny()?.arg("--offline").args(quiet).arg("advisories"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(manifest: &str, expected: bool) {
        assert_eq!(inherits_lints(manifest), expected);
    }

    #[test]
    fn the_lints_table_must_say_workspace() {
        check("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n", true);
        check("[package]\nname = \"a\"\n\n[lints]\n", false);
    }

    #[test]
    fn workspace_in_another_table_does_not_count() {
        check("[lints]\n\n[dependencies.x]\nworkspace = true\n", false);
        check("[dependencies.x]\nworkspace = true\n", false);
    }
}
