//! Programs and images of the tests -> installed by apt, or unpacked under `target/`.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::requirement::Status;
use super::{Host, apt};
use crate::{host, paths};

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

pub(crate) fn qemu() -> Option<PathBuf> {
    host::find_program("qemu-system-x86_64")
}

pub(super) fn check_qemu(_: &Host) -> Status {
    on_x86_64(qemu)
}

pub(super) fn install_qemu(host: &Host) -> Result<()> {
    apt::install(host, &["qemu-system-x86"])
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
