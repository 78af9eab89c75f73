//! The Rust toolchain in use -> one that can build the kernel object.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::requirement::Status;
use super::{Host, apt, cargo_tools};
use crate::command::{self, cargo};
use crate::{host, image, paths};

/// The linker and the version of LLVM that rustc 1.95 and 1.96 write; both move with the toolchain.
const LINKER_VERSION: &str = "0.13.0";
const LLVM_MAJOR: &str = "22";
const LLVM_PACKAGES: &[&str] = &["llvm-22-dev", "libpolly-22-dev", "libzstd-dev", "zlib1g-dev"];

/// Debian's own rustc, the way out where rustup cannot fetch components.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The compiler for the kernel object, with its folder.
pub(crate) struct Toolchain {
    /// Set for `RUSTC` where it is not the compiler that cargo takes by itself.
    pub(crate) rustc: Option<PathBuf>,
    pub(crate) sysroot: PathBuf,
}

impl Toolchain {
    /// Cargo's own compiler if it has the source of `core`, else Debian's if that has it.
    pub(crate) fn detect() -> Result<Self> {
        let own = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let own = Self { rustc: None, sysroot: sysroot(Path::new(&own))? };
        let debian = Path::new(DEBIAN_RUSTC);
        if own.has_source() || !debian.is_file() {
            return Ok(own);
        }
        let debian = Self { rustc: Some(debian.to_owned()), sysroot: sysroot(debian)? };
        Ok(if debian.has_source() { debian } else { own })
    }

    fn has_source(&self) -> bool {
        self.sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
    }

    /// The LLVM library that rustup ships beside rustc. Linking to it needs no package and no
    /// root, and its version is the right one by construction.
    fn own_llvm(&self) -> Option<PathBuf> {
        let prefix = format!("libLLVM.so.{LLVM_MAJOR}");
        let files = fs::read_dir(self.sysroot.join("lib")).ok()?;
        files
            .flatten()
            .find(|file| file.file_name().to_string_lossy().starts_with(&prefix))
            .map(|file| file.path())
    }
}

fn sysroot(rustc: &Path) -> Result<PathBuf> {
    command::output(Command::new(rustc).args(["--print", "sysroot"])).map(PathBuf::from)
}

/// The linker of the kernel object, of the one version that we know to work.
pub(crate) fn linker() -> Option<PathBuf> {
    let right = |file: &PathBuf| {
        // Starting it also shows that the LLVM it was linked to is still there: a rustup update
        // takes the old one away.
        command::output(Command::new(file).arg("--version"))
            .is_ok_and(|version| version.ends_with(LINKER_VERSION))
    };
    let own = Some(paths::tools().join("bin/bpf-linker")).filter(|file| file.is_file());
    own.into_iter().chain(host::find_in_path("bpf-linker")).find(right)
}

pub(super) fn check_source(host: &Host) -> Status {
    if host.toolchain.has_source() {
        Status::Have(host.toolchain.sysroot.display().to_string())
    } else {
        Status::Missing
    }
}

pub(super) fn install_source(host: &Host) -> Result<()> {
    let rustup = add_components(&["rust-src"]);
    let Err(error) = rustup else { return Ok(()) };
    if !host.distribution.has_apt() {
        return Err(error);
    }
    eprintln!("setup: rustup could not ({error:#}); taking Debian's compiler and source instead");
    apt::install(host, &["rustc-web", "rust-web-src"])
}

pub(super) fn check_lints(host: &Host) -> Status {
    let bin = host.toolchain.sysroot.join("bin");
    if bin.join("rustfmt").is_file() && bin.join("cargo-clippy").is_file() {
        return Status::Have(bin.display().to_string());
    }
    // Not for rustup's proxies, which stand in `PATH` whether or not the component is there.
    let elsewhere = |name| host::find_in_path(name).filter(|file| !file.is_symlink());
    match (elsewhere("rustfmt"), elsewhere("cargo-clippy")) {
        (Some(file), Some(_)) => Status::Have(file.display().to_string()),
        _ => Status::Missing,
    }
}

pub(super) fn install_lints(_: &Host) -> Result<()> {
    add_components(&["rustfmt", "clippy"])
}

pub(super) fn check_musl(host: &Host) -> Status {
    let library = host.toolchain.sysroot.join("lib/rustlib").join(image::target()).join("lib");
    match host::find_in_path("musl-gcc") {
        Some(_) if library.is_dir() => Status::Have(library.display().to_string()),
        _ => Status::Missing,
    }
}

pub(super) fn install_musl(host: &Host) -> Result<()> {
    command::run(Command::new("rustup").args(["target", "add", &image::target()]))?;
    if host::find_in_path("musl-gcc").is_some() { Ok(()) } else { apt::install(host, &["musl-tools"]) }
}

fn add_components(components: &[&str]) -> Result<()> {
    if host::find_in_path("rustup").is_none() {
        bail!("rustup is not in PATH; https://rustup.rs installs it");
    }
    command::run(Command::new("rustup").args(["component", "add"]).args(components))
}

pub(super) fn check_llvm(host: &Host) -> Status {
    if let Some(linker) = linker() {
        return Status::Have(format!("linked into {}", linker.display()));
    }
    if let Some(own) = host.toolchain.own_llvm() {
        return Status::Have(own.display().to_string());
    }
    let system = system_llvm();
    if system.join("lib/libLLVM.so").exists() {
        return Status::Have(system.display().to_string());
    }
    Status::Missing
}

pub(super) fn install_llvm(host: &Host) -> Result<()> {
    apt::install(host, LLVM_PACKAGES)
}

fn system_llvm() -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{LLVM_MAJOR}"))
}

pub(super) fn check_linker(_: &Host) -> Status {
    linker().map_or(Status::Missing, |file| Status::Have(file.display().to_string()))
}

pub(super) fn install_linker(host: &Host) -> Result<()> {
    let feature = format!("llvm-{LLVM_MAJOR}");
    let mut install = cargo();
    install.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"]);
    install.args(["--no-default-features", "--features", &feature]);
    match host.toolchain.own_llvm() {
        Some(library) => {
            let prefix = link_folder(&library)?;
            install.env("LLVM_PREFIX", &prefix);
            // The link folder serves the build only; at run time the library is found beside rustc.
            let folder = host.toolchain.sysroot.join("lib");
            install.env("CARGO_ENCODED_RUSTFLAGS", format!("-Clink-arg=-Wl,-rpath,{}", folder.display()));
        }
        None => {
            install.env("LLVM_PREFIX", system_llvm()).env_remove("CARGO_ENCODED_RUSTFLAGS");
        }
    }
    cargo_tools::install(&mut install)
}

/// A prefix whose `lib/libLLVM.so` is the library, under the name that the linker looks for.
fn link_folder(library: &Path) -> Result<PathBuf> {
    let prefix = paths::tools().join("llvm");
    let lib = prefix.join("lib");
    fs::create_dir_all(&lib).with_context(|| format!("creating {}", lib.display()))?;
    let link = lib.join("libLLVM.so");
    if link.is_symlink() {
        fs::remove_file(&link).with_context(|| format!("replacing {}", link.display()))?;
    }
    symlink(library, &link).with_context(|| format!("linking {}", link.display()))?;
    Ok(prefix)
}
