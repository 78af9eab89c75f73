//! Sources -> the kernel object, then the daemon that carries it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{self, cargo};
use crate::paths;
use crate::setup::toolchain::{self, Toolchain};
use crate::setup::{self, Purpose};

/// Where the daemon's build script finds the kernel object to embed.
pub(crate) const OBJECT_VARIABLE: &str = "ROTAMETER_BPF_OBJECT";

pub(crate) const BPF_TARGET: &str = "bpfel-unknown-none";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build only the kernel object
    #[arg(long)]
    object_only: bool,
    /// Build the daemon without optimisation; the verifier wants the object optimised in any case
    #[arg(long)]
    debug: bool,
}

pub(crate) fn main(options: &Options) -> Result<()> {
    setup::ensure(&[Purpose::Build])?;
    let object = object()?;
    println!("kernel object: {}", object.display());
    if !options.object_only {
        println!("daemon: {}", daemon(!options.debug)?.display());
    }
    Ok(())
}

/// Builds the kernel object; returns its path.
pub(crate) fn object() -> Result<PathBuf> {
    let mut build = cargo_for_bpf("build")?;
    build.arg("--release");
    command::run(&mut build).context("building the kernel object")?;
    let object = paths::bpf_object();
    if !object.is_file() {
        bail!("cargo built no kernel object at {}", object.display());
    }
    Ok(object)
}

/// Builds the daemon with the kernel object inside; returns its path. The object must be built.
pub(crate) fn daemon(release: bool) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", "rotameter", "--bin", "rotameter", "--features", "kernel"]);
    if release {
        build.arg("--release");
    }
    build.env(OBJECT_VARIABLE, paths::bpf_object());
    command::run(&mut build).context("building the daemon")?;
    Ok(paths::daemon(release))
}

/// A cargo call for the kernel object: `build` or `clippy`, with every flag that makes it one.
pub(crate) fn cargo_for_bpf(subcommand: &str) -> Result<Command> {
    let toolchain = Toolchain::detect()?;
    let mut command = cargo();
    command.args([subcommand, "--package", "ingest-ebpf", "--bin", "rotameter-ebpf", "--features", "kernel"]);
    command.args(["--target", BPF_TARGET, "-Z", "build-std=core", "--target-dir"]);
    command.arg(paths::bpf_target());
    // `-Z build-std` is the one thing here that stable Rust does not offer.
    command.env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_ENCODED_RUSTFLAGS", rustflags()?).env_remove("RUSTFLAGS");
    if let Some(rustc) = toolchain.rustc {
        command.env("RUSTC", rustc);
    }
    Ok(command)
}

/// The flags in cargo's encoded form, since a path to the linker may hold spaces.
fn rustflags() -> Result<OsString> {
    let linker = toolchain::linker()
        .context("bpf-linker is not there or no longer starts; `cargo xtask setup` installs it")?;
    let mut linker_flag = OsString::from("-Clinker=");
    linker_flag.push(linker);
    let flags = [
        // BTF is made from debug info.
        OsString::from("-Cdebuginfo=2"),
        linker_flag,
        "-Clink-arg=--btf".into(),
        // 32-bit operations and all jumps. As a flag of rustc, because rustc hands it on to the
        // linker, which takes it only once. Kernels know it since 5.1.
        "-Ctarget-cpu=v3".into(),
        // Without this, reading 8 unaligned bytes becomes 8 loads. The verifier lets a privileged
        // program read so on the processors that we build for.
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".into(),
        format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH).into(),
    ];
    Ok(flags.join(&OsString::from("\u{1f}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_build_bootstraps_core_for_the_bpf_target() {
        // Machines without the linker build the host's crates only; there is nothing to check there.
        let Ok(build) = cargo_for_bpf("build") else { return };
        let line = command::shown(&build);
        assert!(line.contains("--target bpfel-unknown-none -Z build-std=core"), "{line}");
    }
}
