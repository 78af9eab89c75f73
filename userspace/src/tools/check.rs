//! Mapping file -> findings.

use std::path::Path;

use anyhow::Context as _;
use tracing::{info, warn};

use crate::config::{Config, Mapping};
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
    dump_automaton(&config.mapping, &mapper);
    info!(file = %file.display(), rules = mapper.rules().len(), warnings = warnings.len(), "flags and mapping file are good");
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

fn load(file: &Path, strict: bool) -> anyhow::Result<Loaded> {
    Mapper::load(file, LoadOptions { strict }).context("error loading config")
}
