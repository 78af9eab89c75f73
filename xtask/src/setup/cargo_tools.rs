//! Names of cargo tools -> installed by `cargo install`.

use std::process::Command;

use anyhow::{Context, Result};

use super::Host;
use super::requirement::Status;
use crate::command::{self, cargo};
use crate::{host, paths};

/// Newer ones change what they check, and CI must not break on a day when nothing of ours changed.
const DENY_VERSION: &str = "0.20.2";
const FUZZ_VERSION: &str = "0.13.2";

pub(super) fn check_deny(_: &Host) -> Status {
    found("cargo-deny")
}

pub(super) fn install_deny(_: &Host) -> Result<()> {
    // A debug build checks our hundred crates as fast, and takes a third of the time to build.
    install(cargo().args(["install", "cargo-deny", "--version", DENY_VERSION, "--locked", "--debug"]))
}

pub(super) fn check_fuzz(_: &Host) -> Status {
    found("cargo-fuzz")
}

pub(super) fn install_fuzz(_: &Host) -> Result<()> {
    install(cargo().args(["install", "cargo-fuzz", "--version", FUZZ_VERSION, "--locked"]))
}

/// Any version that is there will do: the user's choice stands.
fn found(program: &str) -> Status {
    match host::find_program(program) {
        Some(path) => Status::Have(path.display().to_string()),
        None => Status::Missing,
    }
}

/// Runs a `cargo install`, into our own tools folder: what the user has stays as it is.
pub(super) fn install(install: &mut Command) -> Result<()> {
    // Flags meant for the workspace would be built into the tool.
    install.env_remove("RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
    install.arg("--force").arg("--root").arg(paths::tools());
    command::run(install).context("cargo install needs the network, to reach the crate registry")
}
