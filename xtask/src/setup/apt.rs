//! Names of Debian packages -> installed, or only unpacked where installing would start something.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use anyhow::{Context, Result, bail};

use super::Host;
use crate::command;
use crate::host::Privilege;
use crate::paths;

const NEEDS_NETWORK: &str = "apt must reach a mirror: is there a network?";
/// Names a Debian mirror, for a system whose own lists do not have what we need: Ubuntu has no 6.1
/// kernel.
const MIRROR_VARIABLE: &str = "ROTAMETER_DEBIAN_MIRROR";
const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs the packages on the system, as root or through sudo.
pub(super) fn install(host: &Host, packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !host.distribution.has_apt() {
        bail!("{} has no apt: install by hand what Debian calls {list}", host.distribution.name());
    }
    if host.privilege == Privilege::None {
        bail!("needs root and sudo does not work here: a human must run `sudo apt-get install {list}`");
    }
    update_once(host);
    let mut install = as_root(host);
    // Never at the price of what is there: with `--yes` alone, apt answers a conflict by removing
    // the other package.
    install.args(["apt-get", "install", "--yes", "--no-install-recommends", "--no-remove"]);
    // Another apt may be at work, as on a machine that has just booted.
    install.args(["-o", "DPkg::Lock::Timeout=600"]).args(packages);
    command::run(&mut install).with_context(|| format!("what apt says stands above; {NEEDS_NETWORK}"))
}

/// Unpacks the files of a package that match the patterns into the folder, as a whole or not at
/// all. Nothing is configured, so no service starts, nothing conflicts, and root is not needed.
pub(super) fn unpack(host: &Host, package: &str, into: &Path, patterns: &[&str]) -> Result<()> {
    unpack_all(host, &[package.to_owned()], into, patterns)
}

/// As [`unpack`], all files, with every package it depends on that the machine does not have.
pub(super) fn unpack_with_dependencies(host: &Host, package: &str, into: &Path) -> Result<()> {
    let lists = Lists::new(host)?;
    let mut simulate = lists.command("apt-get");
    simulate.args(["--simulate", "install", "--no-install-recommends", package]);
    let plan = command::output(&mut simulate)?;
    let mut packages: Vec<_> = plan.lines().filter_map(installed_by).map(str::to_owned).collect();
    if packages.is_empty() {
        packages.push(package.to_owned());
    }
    unpack_all(host, &packages, into, &["./*"])
}

/// The package in one line of apt's plan, as in `Inst libfdt1 (1.6.1-4 Debian:12 [amd64])`.
fn installed_by(line: &str) -> Option<&str> {
    line.strip_prefix("Inst ")?.split(' ').next()
}

fn unpack_all(host: &Host, packages: &[String], into: &Path, patterns: &[&str]) -> Result<()> {
    let partial = into.with_extension("partial");
    remove(&partial)?;
    fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
    for archive in download(host, packages, &partial)? {
        extract(&archive, &partial, patterns)?;
        fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))?;
    }
    remove(into)?;
    fs::rename(&partial, into).with_context(|| format!("renaming {} into place", partial.display()))
}

/// The newest of the packages whose name is prefix, version, suffix.
pub(super) fn newest(host: &Host, prefix: &str, suffix: &str) -> Result<String> {
    let lists = Lists::new(host)?;
    let names = command::output(lists.command("apt-cache").args(["pkgnames", prefix]))?;
    let names = names.lines().filter(|name| name.ends_with(suffix));
    let newest = names.max_by_key(|name| numbers(name)).map(str::to_owned);
    newest.with_context(|| {
        format!(
            "apt knows no package {prefix}*{suffix}; where this is not Debian 12, name a Debian mirror in \
             {MIRROR_VARIABLE}; else, {NEEDS_NETWORK}"
        )
    })
}

/// Makes a file below the tools folder known as `bin/<its name>`.
pub(super) fn link_into_bin(file: &str) -> Result<()> {
    let bin = paths::tools().join("bin");
    let name = Path::new(file).file_name().context("a tool needs a file name")?;
    fs::create_dir_all(&bin).with_context(|| format!("creating {}", bin.display()))?;
    let link = bin.join(name);
    if link.is_symlink() {
        fs::remove_file(&link).with_context(|| format!("replacing {}", link.display()))?;
    }
    symlink(Path::new("..").join(file), &link).with_context(|| format!("linking {}", link.display()))
}

/// All numbers of a name in order: what makes `-48-` older than `-56-` and `-9-` older than both.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}

/// Archives of the packages, in the folder.
fn download(host: &Host, packages: &[String], into: &Path) -> Result<Vec<PathBuf>> {
    let lists = Lists::new(host)?;
    // apt's own unprivileged user cannot write here, and says so on each download.
    let mut download = lists.command("apt-get");
    download.args(["-o", "APT::Sandbox::User=root", "download"]).args(packages).current_dir(into);
    command::run(&mut download).context(NEEDS_NETWORK)?;
    let files = fs::read_dir(into).with_context(|| format!("reading {}", into.display()))?;
    let files = files.flatten().map(|file| file.path());
    Ok(files.filter(|file| file.extension().is_some_and(|end| end == "deb")).collect())
}

fn extract(archive: &Path, into: &Path, patterns: &[&str]) -> Result<()> {
    let mut unpack = Command::new("dpkg-deb");
    let mut unpack = unpack
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.arg("-x").arg("-C").arg(into).args(["--no-same-owner", "--wildcards"]).args(patterns);
    if let Some(files) = unpack.stdout.take() {
        tar.stdin(files);
    }
    let extracted = command::run_silently(&mut tar);
    let status = unpack.wait().context("waiting for dpkg-deb")?;
    extracted?;
    if !status.success() {
        bail!("unpacking {} failed ({status})", archive.display());
    }
    Ok(())
}

fn as_root(host: &Host) -> Command {
    let mut command = Command::new(if host.privilege == Privilege::Sudo { "sudo" } else { "env" });
    if host.privilege == Privilege::Sudo {
        command.arg("env");
    }
    command.arg("DEBIAN_FRONTEND=noninteractive");
    command
}

/// Brings the system's lists up to date, once per run.
fn update_once(host: &Host) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut update = as_root(host);
        update.args(["apt-get", "update", "--quiet", "-o", "DPkg::Lock::Timeout=600"]);
        if let Err(error) = command::run(&mut update) {
            // Old lists may still do. If not, the installation says so.
            eprintln!("setup: {error:#}; going on with the lists that are there");
        }
    });
}

/// Which package lists apt reads.
struct Lists(Vec<OsString>);

impl Lists {
    /// The system's; a refreshed set of our own under `target/` where we may not refresh those, or
    /// where a Debian mirror is named.
    fn new(host: &Host) -> Result<Self> {
        if !host.distribution.has_apt() {
            bail!("{} has no apt to fetch Debian packages with", host.distribution.name());
        }
        let mirror = env::var(MIRROR_VARIABLE).ok();
        if mirror.is_none() && host.privilege != Privilege::None {
            update_once(host);
            return Ok(Self(Vec::new()));
        }
        Self::own(host, mirror.as_deref())
    }

    fn own(host: &Host, mirror: Option<&str>) -> Result<Self> {
        let folder = paths::tools().join("apt");
        let (lists, cache) = (folder.join("lists"), folder.join("cache"));
        for folder in [lists.join("partial"), cache.join("archives/partial")] {
            fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let setting = |name: &str, path: &Path| {
            let mut value = OsString::from(format!("{name}="));
            value.push(path);
            ["-o".into(), value]
        };
        let mut settings = vec![
            setting("Dir::State::Lists", &lists),
            setting("Dir::Cache", &cache),
            setting("APT::Sandbox::User", Path::new("root")),
        ];
        if let Some(mirror) = mirror {
            if !Path::new(DEBIAN_KEYS).is_file() {
                eprintln!("setup: debian-archive-keyring is needed to check Debian's signatures");
                install(host, &["debian-archive-keyring"])?;
            }
            let sources = folder.join("sources.list");
            let text =
                format!("deb [arch={} signed-by={DEBIAN_KEYS}] {mirror} bookworm main\n", architecture());
            fs::write(&sources, text).with_context(|| format!("writing {}", sources.display()))?;
            settings.push(setting("Dir::Etc::SourceList", &sources));
            settings.push(setting("Dir::Etc::SourceParts", Path::new("/dev/null")));
        }
        let own = Self(settings.into_iter().flatten().collect());
        static ONCE: Once = Once::new();
        let mut updated = Ok(());
        ONCE.call_once(|| {
            updated = command::run_silently(own.command("apt-get").args(["update", "--quiet"]));
        });
        updated.context(NEEDS_NETWORK)?;
        Ok(own)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.0);
        command
    }
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_what_would_be_installed_and_nothing_else() {
        assert_eq!(installed_by("Inst libfdt1 (1.6.1-4+b1 Debian:12.15/oldstable [amd64])"), Some("libfdt1"));
        assert_eq!(installed_by("Remv qemu-utils [1:10.0.2]"), None);
        assert_eq!(installed_by("Conf libfdt1 (1.6.1-4+b1)"), None);
    }

    #[test]
    fn a_later_build_of_a_kernel_is_newer() {
        let newest = ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"]
            .into_iter()
            .max_by_key(|name| numbers(name));
        assert_eq!(newest, Some("linux-image-6.1.0-56-cloud-amd64"));
    }
}
