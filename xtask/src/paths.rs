//! The workspace's root -> where everything we build or download lies.

use std::path::{Path, PathBuf};

/// The workspace's root: where `Cargo.toml` with the members is.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in a folder of the workspace")
}

/// Where cargo puts what it builds; honours `CARGO_TARGET_DIR`.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Tools that we unpack or build for ourselves, so that nothing of the system changes.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// Kernel images for the virtual machines of the tests.
pub(crate) fn vm() -> PathBuf {
    target().join("vm")
}

/// Target folder of the kernel object. Its own, because other flags would rebuild everything else.
pub(crate) fn bpf_target() -> PathBuf {
    target().join("bpf")
}

/// The kernel object, once built.
pub(crate) fn bpf_object() -> PathBuf {
    bpf_target().join("bpfel-unknown-none/release/rotameter-ebpf")
}

/// The daemon, once built.
pub(crate) fn daemon(release: bool) -> PathBuf {
    target().join(if release { "release" } else { "debug" }).join("rotameter")
}

/// The container image, and what it is made of.
pub(crate) fn image() -> PathBuf {
    target().join("image")
}

/// Recorded Airflow traffic.
pub(crate) fn captures() -> PathBuf {
    root().join("tests/corpus")
}
