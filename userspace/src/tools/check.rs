//! Mapping file -> findings.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Parser;
use tracing::{info, warn};

use super::{counted, print};
use crate::cli::ProfileFlags;
use crate::config::{self, Config, Mapping};
use crate::mapper::{LoadOptions, Loaded, Mapper, Severity, lint};
use crate::profile;

/// Checks a mapping file: what keeps it from loading, and what is hardly meant.
#[derive(Debug, Parser)]
#[command(name = "rotameter check", bin_name = "rotameter check")]
pub struct CheckFlags {
    /// Mapping file, YAML.
    #[arg(required_unless_present = "profile")]
    file: Option<PathBuf>,
    #[command(flatten)]
    profile: ProfileFlags,
    /// End with 1 on warnings, too.
    #[arg(long)]
    strict: bool,
}

/// Prints findings, one a line.
///
/// # Errors
///
/// What would keep the file from loading; with `--strict` also that there are warnings.
pub fn check(flags: &CheckFlags) -> anyhow::Result<()> {
    let profile = config::profile::load(&flags.profile)?;
    let options = LoadOptions { strict: flags.strict };
    let loaded = profile::load(flags.file.as_deref(), profile.as_ref(), options);
    let Loaded { mapper, warnings } = loaded.context("error loading config")?;
    let findings = lint(&mapper);
    let file = match (&flags.file, &profile) {
        (Some(file), _) => file.display().to_string(),
        (None, profile) => format!("profile {}", profile.as_ref().map_or("", |profile| profile.profile.name)),
    };
    for warning in &warnings {
        print(&format!("{file}: warning: {warning}"));
    }
    for finding in &findings {
        print(&format!("{file}: {finding}"));
    }
    let serious = findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
    print(&format!(
        "{file}: {}, {}, {}",
        counted(if flags.file.is_some() { mapper.rules().len() } else { mapper.rule_count() }, "rule"),
        counted(warnings.len() + serious, "warning"),
        counted(findings.len() - serious, "note")
    ));
    if flags.strict && serious > 0 {
        bail!("{file}: {}, which --strict takes for errors", counted(serious, "warning"));
    }
    Ok(())
}

/// What `--check-config` does: the flags are checked already.
///
/// # Errors
///
/// What would keep the daemon from starting.
pub fn flags_and_mapping(config: &Config) -> anyhow::Result<()> {
    if let Some(path) = &config.web.config_file {
        crate::web::check_settings(path)?;
    }
    let Mapping { file, profile, strict, .. } = &config.mapping;
    if file.is_none() && profile.is_none() {
        info!("flags are good; no mapping file is set");
        return Ok(());
    }
    let loaded = profile::load(file.as_deref(), profile.as_ref(), LoadOptions { strict: *strict });
    let Loaded { mapper, warnings } = loaded.context("error loading config")?;
    let file = file.clone().unwrap_or_default();
    for warning in &warnings {
        warn!(file = %file.display(), "{warning}");
    }
    dump_automaton(&config.mapping, &mapper);
    let (rules, warnings) = (mapper.rule_count(), warnings.len());
    info!(file = %file.display(), rules, warnings, "flags and mapping file are good");
    Ok(())
}

/// What `--debug.dump-fsm` does; a file that cannot be written keeps nothing from starting.
pub fn dump_automaton(config: &Mapping, mapper: &Mapper) {
    if let Some(path) = &config.dump_fsm
        && let Err(error) = std::fs::write(path, mapper.dump_dot())
    {
        warn!(file = %path.display(), %error, "the automaton of the globs was not written");
    }
}

/// A file by itself.
pub(super) fn load(file: &Path, strict: bool) -> anyhow::Result<Loaded> {
    Mapper::load(file, LoadOptions { strict }).context("error loading config")
}

/// The file on top of the profile; either may be missing.
pub(super) fn load_layers(file: Option<&Path>, flags: &ProfileFlags) -> anyhow::Result<Mapper> {
    let profile = config::profile::load(flags)?;
    let loaded =
        profile::load(file, profile.as_ref(), LoadOptions::default()).context("error loading config")?;
    Ok(loaded.mapper)
}
