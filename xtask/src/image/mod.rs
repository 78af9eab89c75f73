//! Sources -> a static binary -> a root file system -> an image as a tar, without a registry.

mod layout;
mod trial;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{self, cargo};
use crate::setup::{self, Purpose};
use crate::{build, paths};

/// Who runs in the image unless told otherwise; the same number as in other images without a shell.
pub(crate) const USER: u32 = 65_532;

const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nrotameter:x:65532:65532:rotameter:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nrotameter:x:65532:\n";
/// Container runtimes put their own in its place; without one, `healthcheck` would ask a name server.
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only make the root file system, target/image/root
    #[arg(long)]
    root_only: bool,
    /// Run what was made: as the image's user, and, with rights, counting in the kernel; needs root
    #[arg(long)]
    check: bool,
    /// A static binary that has been built before, elsewhere for example
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Name and tag that the image has once it is loaded
    #[arg(long, value_name = "NAME:TAG", default_value = concat!("rotameter:", env!("CARGO_PKG_VERSION")))]
    name: String,
}

pub(crate) fn main(options: &Options) -> Result<()> {
    let daemon = match &options.binary {
        Some(binary) => binary.clone(),
        None => static_daemon()?,
    };
    let root = root(&daemon)?;
    println!("root file system: {}", root.display());
    if !options.root_only {
        let image = layout::write(&root, &paths::image(), &options.name)?;
        println!("image: {} ({})", image.display(), options.name);
        println!("  docker load < {0}; podman load < {0}", image.display());
    }
    if options.check { trial::run(&root) } else { Ok(()) }
}

/// The target that has everything inside, for this machine's processor.
pub(crate) fn target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Builds the daemon with the kernel object and without a shared library; returns its path.
fn static_daemon() -> Result<PathBuf> {
    setup::ensure(&[Purpose::Build, Purpose::Image])?;
    build::object()?;
    let target = target();
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--package",
        "rotameter",
        "--bin",
        "rotameter",
        "--features",
        "kernel",
    ]);
    build.args(["--target", &target]).env(build::OBJECT_VARIABLE, paths::bpf_object());
    build.env(format!("CC_{}", target.replace('-', "_")), "musl-gcc");
    command::run(&mut build).context("building the static daemon")?;
    Ok(paths::target().join(target).join("release/rotameter"))
}

/// Lays out the root file system anew.
fn root(daemon: &Path) -> Result<PathBuf> {
    let root = paths::image().join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
    }
    // The empty ones are where a container's own file systems go.
    for folder in ["usr/bin", "etc/rotameter", "tmp", "run", "proc", "sys", "dev"] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    set_mode(&root.join("tmp"), 0o1777)?;
    for (file, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/hosts", HOSTS)] {
        let file = root.join(file);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    let binary = root.join("usr/bin/rotameter");
    // What is left out is for debuggers only.
    command::run(Command::new("strip").arg("-o").arg(&binary).arg(daemon))?;
    set_mode(&binary, 0o755)?;
    Ok(root)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}
