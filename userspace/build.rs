//! Puts the kernel object where `kernel/object.rs` includes it.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=ROTAMETER_BPF_OBJECT");
    if env::var_os("CARGO_FEATURE_KERNEL").is_none() {
        return;
    }
    let object = env::var_os("ROTAMETER_BPF_OBJECT").map(PathBuf::from).unwrap_or_else(|| {
        panic!(
            "the feature `kernel` needs the kernel object: run `cargo xtask build`, or name the object \
             in ROTAMETER_BPF_OBJECT"
        )
    });
    println!("cargo::rerun-if-changed={}", object.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("rotameter-ebpf");
    if let Err(error) = fs::copy(&object, &out) {
        panic!("copying the kernel object {}: {error}; run `cargo xtask build`", object.display());
    }
}
