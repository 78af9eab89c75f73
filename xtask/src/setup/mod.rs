//! What is missing on this machine -> installed, once, after saying what and why.

mod apt;
mod cargo_tools;
pub(crate) mod deploy_tools;
mod requirement;
pub(crate) mod toolchain;
pub(crate) mod tools;

use std::fs::{self, File};

use anyhow::{Context, Result, bail};

use crate::host::{self, Distribution, Privilege};
use crate::paths;
use requirement::{REQUIREMENTS, Requirement, Status};

/// What the caller is about to do; each requirement lists the purposes it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Build,
    Demo,
    Test,
    Lint,
    Fuzz,
    Image,
}

const EVERY_PURPOSE: &[Purpose] =
    &[Purpose::Build, Purpose::Demo, Purpose::Test, Purpose::Lint, Purpose::Fuzz, Purpose::Image];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only say what is there and what is missing; exit code 1 if something is missing
    #[arg(long)]
    check: bool,
}

/// Facts about the machine that checks and installers share.
struct Host {
    distribution: Distribution,
    privilege: Privilege,
    toolchain: toolchain::Toolchain,
}

impl Host {
    fn detect() -> Result<Self> {
        Ok(Self {
            distribution: Distribution::detect(),
            privilege: host::privilege(),
            toolchain: toolchain::Toolchain::detect()?,
        })
    }
}

pub(crate) fn main(options: &Options) -> Result<()> {
    if options.check { check() } else { ensure(EVERY_PURPOSE).map(|()| eprintln!("setup: complete")) }
}

/// Installs what is missing for the purposes. With nothing missing it says nothing.
pub(crate) fn ensure(purposes: &[Purpose]) -> Result<()> {
    if missing(&Host::detect()?, purposes).is_empty() {
        return Ok(());
    }
    fs::create_dir_all(paths::tools()).context("creating the tools folder under target/")?;
    let lock = File::create(paths::tools().join(".lock")).context("creating the lock of the tools folder")?;
    lock.lock().context("waiting for another setup to finish")?;

    // Looking again: another setup may have installed everything while we waited for it.
    let host = Host::detect()?;
    let missing = missing(&host, purposes);
    announce(&missing, &host);
    let count = missing.len();
    for (index, requirement) in missing.into_iter().enumerate() {
        eprintln!("setup [{}/{count}]: {} ...", index + 1, requirement.name);
        (requirement.install)(&host)
            .with_context(|| format!("installing {}; way out: {}", requirement.name, requirement.by_hand))?;
        if matches!((requirement.check)(&Host::detect()?), Status::Missing) {
            bail!(
                "installing {} ended well but it is still not found; way out: {}",
                requirement.name,
                requirement.by_hand
            );
        }
    }
    Ok(())
}

fn missing(host: &Host, purposes: &[Purpose]) -> Vec<&'static Requirement> {
    REQUIREMENTS
        .iter()
        .filter(|requirement| requirement.purposes.iter().any(|purpose| purposes.contains(purpose)))
        .filter(|requirement| matches!((requirement.check)(host), Status::Missing))
        .collect()
}

fn announce(missing: &[&Requirement], host: &Host) {
    if missing.is_empty() {
        return;
    }
    eprintln!("setup: about to install on {}:", host.distribution.name());
    for requirement in missing {
        eprintln!("  {:<22} {}", requirement.name, requirement.why);
        eprintln!("  {:<22}   how: {}", "", requirement.how);
    }
}

fn check() -> Result<()> {
    let host = Host::detect()?;
    let mut missing_count = 0_usize;
    println!("{:<22} {:<8} {:<16} why", "what", "state", "for");
    for requirement in REQUIREMENTS {
        let (state, detail) = match (requirement.check)(&host) {
            Status::Have(detail) => ("have", detail),
            Status::NotHere(reason) => ("skipped", reason.to_owned()),
            Status::Missing => {
                missing_count += 1;
                ("missing", format!("by hand: {}", requirement.by_hand))
            }
        };
        let purposes = requirement.purposes.iter().map(|purpose| format!("{purpose:?}").to_lowercase());
        let purposes = purposes.collect::<Vec<_>>().join(",");
        println!("{:<22} {state:<8} {purposes:<16} {}", requirement.name, requirement.why);
        println!("{:<22} {:<8} {:<16}   {detail}", "", "", "");
    }
    if missing_count > 0 {
        bail!("{missing_count} of {} are missing; `cargo xtask setup` installs them", REQUIREMENTS.len());
    }
    Ok(())
}
