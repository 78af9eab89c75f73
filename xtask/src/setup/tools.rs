//! Programs and images of the tests -> installed by apt, or unpacked under `target/`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::requirement::Status;
use super::{Host, apt};
use crate::{command, host, paths};

const NO_BROWSER: &str = "only Debian has a package of it that we can use; by hand it does elsewhere, too";
const NOT_ON_THIS_ARCHITECTURE: &str =
    "the virtual machine runs our own x86_64 binaries; this is another processor";

pub(super) fn check_ip(_: &Host) -> Status {
    found(host::find_program("ip"))
}

pub(super) fn install_ip(host: &Host) -> Result<()> {
    apt::install(host, &["iproute2"])
}

pub(super) fn check_prometheus(_: &Host) -> Status {
    match (host::find_program("prometheus"), host::find_program("promtool")) {
        (Some(prometheus), Some(_)) => found(Some(prometheus)),
        _ => Status::Missing,
    }
}

pub(super) fn install_prometheus(host: &Host) -> Result<()> {
    apt::unpack(host, "prometheus", &paths::tools().join("prometheus"), &["./usr/bin/*"])?;
    apt::link_into_bin("prometheus/usr/bin/prometheus")?;
    apt::link_into_bin("prometheus/usr/bin/promtool")
}

/// Any of the programs that draw a page without a screen.
pub(crate) fn browser() -> Option<PathBuf> {
    ["chromium-headless-shell", "chromium", "google-chrome"].into_iter().find_map(host::find_program)
}

pub(super) fn check_browser(host: &Host) -> Status {
    match browser() {
        None if !host.distribution.is_debian() => Status::NotHere(NO_BROWSER),
        browser => found(browser),
    }
}

/// From Debian's own lists: what Ubuntu calls chromium is a snap, which sees no folder of ours.
pub(super) fn install_browser(host: &Host) -> Result<()> {
    apt::install(host, &["chromium-headless-shell"])
}

/// Starts the unpacked qemu with the libraries and the firmware beside it.
const START_QEMU: &str = r#"#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/../qemu
export LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu"
share="$root/usr/share"
exec "$root/usr/bin/qemu-system-x86_64" -L "$share/qemu" -L "$share/seabios" "$@"
"#;

/// One that starts: the unpacked one leans on libraries of the system, which may go.
pub(crate) fn qemu() -> Option<PathBuf> {
    host::find_program("qemu-system-x86_64")
        .filter(|file| command::succeeds(Command::new(file).arg("--version")))
}

pub(super) fn check_qemu(_: &Host) -> Status {
    on_x86_64(qemu)
}

/// Debian 12's, unpacked: its package conflicts with newer parts of qemu from backports, and two
/// dozen libraries need not be installed for a test. Elsewhere the distribution's own.
pub(super) fn install_qemu(host: &Host) -> Result<()> {
    if !host.distribution.is_debian_12() {
        return apt::install(host, &["qemu-system-x86"]);
    }
    let folder = paths::tools().join("qemu");
    apt::unpack_with_dependencies(host, "qemu-system-x86", &folder)?;
    let bin = paths::tools().join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("creating {}", bin.display()))?;
    let start = bin.join("qemu-system-x86_64");
    fs::write(&start, START_QEMU).with_context(|| format!("writing {}", start.display()))?;
    fs::set_permissions(&start, Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", start.display()))
}

/// Only our own: one found in `PATH` may need shared libraries, which the machine does not have.
pub(crate) fn busybox() -> Option<PathBuf> {
    Some(paths::tools().join("bin/busybox")).filter(|file| file.is_file())
}

pub(super) fn check_busybox(_: &Host) -> Status {
    on_x86_64(busybox)
}

pub(super) fn install_busybox(host: &Host) -> Result<()> {
    apt::unpack(host, "busybox-static", &paths::tools().join("busybox"), &["./bin/busybox"])?;
    apt::link_into_bin("busybox/bin/busybox")
}

fn kernel_folder() -> PathBuf {
    paths::vm().join("linux-6.1")
}

/// The image; the modules that belong to it lie in `../lib/modules`.
pub(crate) fn kernel() -> Option<PathBuf> {
    let files = fs::read_dir(kernel_folder().join("boot")).ok()?;
    files
        .flatten()
        .find(|file| file.file_name().to_string_lossy().starts_with("vmlinuz-6.1"))
        .map(|file| file.path())
}

pub(super) fn check_kernel(_: &Host) -> Status {
    on_x86_64(kernel)
}

pub(super) fn install_kernel(host: &Host) -> Result<()> {
    let package = apt::newest(host, "linux-image-6.1.", "-cloud-amd64")?;
    // Of some hundred megabytes of modules only the network's can matter to us.
    let wanted = [
        "./boot/vmlinuz-*",
        "./boot/config-*",
        "./lib/modules/*/kernel/net/*",
        "./lib/modules/*/veth.ko",
        "./lib/modules/*/dummy.ko",
    ];
    apt::unpack(host, &package, &kernel_folder(), &wanted)
}

fn on_x86_64(find: fn() -> Option<PathBuf>) -> Status {
    if cfg!(target_arch = "x86_64") { found(find()) } else { Status::NotHere(NOT_ON_THIS_ARCHITECTURE) }
}

fn found(path: Option<PathBuf>) -> Status {
    path.map_or(Status::Missing, |path| Status::Have(path.display().to_string()))
}
