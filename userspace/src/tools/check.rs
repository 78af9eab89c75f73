//! Mapping file -> findings.

use std::path::Path;

use anyhow::Context as _;
use tracing::{info, warn};

use crate::config::Config;
use crate::mapper::{LoadOptions, Loaded, Mapper};

/// What `--check-config` does: the flags are checked already.
///
/// # Errors
///
/// What would keep the daemon from starting.
pub fn flags_and_mapping(config: &Config) -> anyhow::Result<()> {
    let Some(file) = &config.mapping.file else {
        info!("flags are good; no mapping file is set");
        return Ok(());
    };
    let Loaded { mapper, warnings } = load(file, config.mapping.strict)?;
    for warning in &warnings {
        warn!(file = %file.display(), "{warning}");
    }
    if let Some(path) = &config.mapping.dump_fsm
        && let Err(error) = std::fs::write(path, mapper.dump_dot())
    {
        warn!(file = %path.display(), %error, "the automaton of the globs was not written");
    }
    info!(file = %file.display(), rules = mapper.rules().len(), warnings = warnings.len(), "flags and mapping file are good");
    Ok(())
}

fn load(file: &Path, strict: bool) -> anyhow::Result<Loaded> {
    Mapper::load(file, LoadOptions { strict }).context("error loading config")
}
