//! `/proc` and `/etc` -> what this machine is, and what we may do on it.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{IsTerminal, stdin};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;

/// `CAP_NET_ADMIN`, `CAP_SYS_ADMIN` and `CAP_BPF`: what the tests that load programs need.
///
/// Source: linux `include/uapi/linux/capability.h`.
const CAPABILITIES_FOR_BPF: u64 = 1 << 12 | 1 << 21 | 1 << 39;

/// Whether we are root, which package managers ask for.
pub(crate) fn is_root() -> bool {
    // The owner of our own entry is our effective user; this needs no call to libc.
    user_and_group().is_some_and(|(user, _)| user == 0)
}

/// Our effective user and group.
pub(crate) fn user_and_group() -> Option<(u32, u32)> {
    fs::metadata("/proc/self").ok().map(|own| (own.uid(), own.gid()))
}

/// Whether we may load eBPF programs and make network namespaces. Root in a container often may not.
pub(crate) fn may_load_bpf() -> bool {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| effective_capabilities(&status))
        .is_some_and(|have| have & CAPABILITIES_FOR_BPF == CAPABILITIES_FOR_BPF)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// How a command becomes root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    Root,
    /// `sudo` works: without a password, or a human sits at the terminal to type it.
    Sudo,
    None,
}

/// How we can run a command as root here.
pub(crate) fn privilege() -> Privilege {
    if is_root() {
        return Privilege::Root;
    }
    let sudo = find_in_path("sudo").is_some();
    if sudo && (stdin().is_terminal() || command::succeeds(Command::new("sudo").args(["-n", "true"]))) {
        return Privilege::Sudo;
    }
    Privilege::None
}

/// The program's path, looked up in our own tools first, then in `PATH` and where only root looks.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let own = crate::paths::tools().join("bin").join(name);
    if is_executable(&own) { Some(own) } else { find_in_path(name) }
}

/// The program's path in `PATH`, or in the `sbin` folders, which a user's `PATH` often lacks.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// `ID`, `VERSION_ID` and so on of `/etc/os-release`.
pub(crate) struct Distribution(HashMap<String, String>);

impl Distribution {
    /// Reads `/etc/os-release`; without it, a distribution that we know nothing about.
    pub(crate) fn detect() -> Self {
        Self::parse(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            Some((key.to_owned(), value.trim_matches('"').to_owned()))
        });
        Self(fields.collect())
    }

    fn field(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// For a human, as in "Debian GNU/Linux 12 (bookworm)".
    pub(crate) fn name(&self) -> &str {
        match self.field("PRETTY_NAME") {
            "" => "this distribution",
            name => name,
        }
    }

    /// Whether it installs by apt: Debian, Ubuntu and what derives from them.
    pub(crate) fn has_apt(&self) -> bool {
        let like = self.field("ID_LIKE").split(' ');
        let debian = like.chain([self.field("ID")]).any(|id| id == "debian" || id == "ubuntu");
        debian && find_in_path("apt-get").is_some() && find_in_path("dpkg-deb").is_some()
    }

    pub(crate) fn is_debian(&self) -> bool {
        self.field("ID") == "debian"
    }

    /// Whether its own package lists hold Debian 12's packages, its 6.1 kernel among them.
    pub(crate) fn is_debian_12(&self) -> bool {
        self.field("ID") == "debian" && self.field("VERSION_ID") == "12"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_file() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
    }

    #[test]
    fn a_status_file_without_capabilities_gives_none() {
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }

    #[test]
    fn debian_12_is_recognised_by_id_and_version() {
        assert!(Distribution::parse("ID=debian\nVERSION_ID=\"12\"\n").is_debian_12());
        assert!(!Distribution::parse("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n").is_debian_12());
    }

    #[test]
    fn an_unknown_distribution_still_has_a_name() {
        assert_eq!(Distribution::parse("").name(), "this distribution");
    }
}
