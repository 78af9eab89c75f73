//! Flags of the mapping -> which file, how strictly, what is remembered.

use std::path::PathBuf;

use super::{ConfigError, flag, units};
use crate::cli::MappingFlags;
use crate::mapper::results::ResultCacheType;
use crate::profile::Selected;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Not read yet.
    pub file: Option<PathBuf>,
    /// What lies beneath the file.
    pub profile: Option<Selected>,
    /// Keys of older versions are errors.
    pub strict: bool,
    pub cache_type: ResultCacheType,
    /// Names that the result cache remembers; 0 for none, and no metrics of it.
    pub cache_names_max: usize,
    /// Where the automaton of the globs is to be written.
    pub dump_fsm: Option<PathBuf>,
}

pub(super) fn load(flags: &MappingFlags) -> Result<Mapping, ConfigError> {
    let path = |path: &Option<String>| path.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from);
    Ok(Mapping {
        file: path(&flags.file),
        profile: super::profile::load(&flags.profile)?,
        strict: flags.strict,
        cache_type: flag("statsd.cache-type", &flags.cache_type, |text| match text {
            "lru" => Ok(ResultCacheType::Lru),
            "random" => Ok(ResultCacheType::Random),
            _ => Err("enum value must be one of lru,random"),
        })?,
        cache_names_max: flag("statsd.cache-size", &flags.cache_size, |text| {
            let names = units::parse_integer(text)?;
            usize::try_from(names).map_err(|_| units::UnitError::Negative)
        })?,
        dump_fsm: path(&flags.dump_fsm),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use crate::cli::Cli;

    fn load(argument: &str) -> Result<Mapping, ConfigError> {
        Config::load(&Cli::from_arguments(["rotameter", argument]).expect("the argument parses"))
            .map(|config| config.mapping)
    }

    #[test]
    fn the_defaults_are_statsd_exporters() {
        let mapping = load("--log.level=info").unwrap();
        assert_eq!(mapping.file, None);
        assert!(!mapping.strict);
        assert_eq!((mapping.cache_type, mapping.cache_names_max), (ResultCacheType::Lru, 1000));
        assert_eq!(mapping.dump_fsm, None);
    }

    #[test]
    fn an_empty_path_is_none() {
        assert_eq!(load("--statsd.mapping-config=").unwrap().file, None);
        assert_eq!(load("--statsd.mapping-config=/m").unwrap().file, Some(PathBuf::from("/m")));
    }

    #[test]
    fn cache_sizes_are_read_as_statsd_exporter_reads_them() {
        assert_eq!(load("--statsd.cache-size=0").unwrap().cache_names_max, 0);
        assert_eq!(load("--statsd.cache-size=1e4").unwrap().cache_names_max, 10_000);
        let error = |argument| anyhow::Error::from(load(argument).unwrap_err());
        assert_eq!(
            format!("{:#}", error("--statsd.cache-size=-1")),
            "--statsd.cache-size=\"-1\": below 0; write 0 or more"
        );
        assert_eq!(
            format!("{:#}", error("--statsd.cache-type=foo")),
            "--statsd.cache-type=\"foo\": enum value must be one of lru,random"
        );
    }
}
