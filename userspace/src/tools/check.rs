//! Mapping file -> findings.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Parser;
use tracing::{info, warn};

use super::{counted, print};
use crate::config::{Config, Mapping};
use crate::mapper::{LoadOptions, Loaded, Mapper, Severity, lint};

/// Checks a mapping file: what keeps it from loading, and what is hardly meant.
#[derive(Debug, Parser)]
#[command(name = "rotameter check", bin_name = "rotameter check")]
pub struct CheckFlags {
    /// Mapping file, YAML.
    file: PathBuf,
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
    let Loaded { mapper, warnings } = load(&flags.file, flags.strict)?;
    let findings = lint(&mapper);
    let file = flags.file.display();
    for warning in &warnings {
        print(&format!("{file}: warning: {warning}"));
    }
    for finding in &findings {
        print(&format!("{file}: {finding}"));
    }
    let serious = findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
    print(&format!(
        "{file}: {}, {}, {}",
        counted(mapper.rules().len(), "rule"),
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
    let Some(file) = &config.mapping.file else {
        info!("flags are good; no mapping file is set");
        return Ok(());
    };
    let Loaded { mapper, warnings } = load(file, config.mapping.strict)?;
    for warning in &warnings {
        warn!(file = %file.display(), "{warning}");
    }
    dump_automaton(&config.mapping, &mapper);
    let (rules, warnings) = (mapper.rules().len(), warnings.len());
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

pub(super) fn load(file: &Path, strict: bool) -> anyhow::Result<Loaded> {
    Mapper::load(file, LoadOptions { strict }).context("error loading config")
}
