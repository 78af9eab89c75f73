//! Flags of the profile -> the profile and its settings.

use std::path::PathBuf;

use super::{ConfigError, flag};
use crate::cli::ProfileFlags;
use crate::profile::settings::PREFIXES_MAX;
use crate::profile::{ALL, DagId, Prefix, Profile, Selected, Settings, Version};

/// `None` without `--profile`.
///
/// # Errors
///
/// The first flag whose value does not do.
pub fn load(flags: &ProfileFlags) -> Result<Option<Selected>, ConfigError> {
    let settings = settings(flags)?;
    let Some(name) = flags.profile.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
    let profile = flag("profile", name, |name| Profile::named(name).ok_or_else(unknown))?;
    let mut selected = Selected::new(profile, settings);
    for text in &flags.dag_id {
        selected.dag_ids.push(flag("profile.dag-id", text, str::parse::<DagId>)?);
    }
    selected.dag_id_file = flags.dag_id_file.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from);
    let (name, value) = match &flags.dag_id_file {
        Some(path) if !path.is_empty() => ("profile.dag-id-file", path.as_str()),
        _ => ("profile.dag-id", ""),
    };
    flag(name, value, |_| selected.read_dag_ids())?;
    Ok(Some(selected))
}

fn unknown() -> String {
    let names: Vec<&str> = ALL.iter().map(|profile| profile.name).collect();
    format!("there is no such profile; write one of {}", names.join(", "))
}

fn settings(flags: &ProfileFlags) -> Result<Settings, ConfigError> {
    let mut prefixes: Vec<Prefix> = Vec::new();
    for text in &flags.prefix {
        let prefix = flag("profile.prefix", text, str::parse::<Prefix>)?;
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    if prefixes.len() > PREFIXES_MAX {
        return flag("profile.prefix", "", |_| Err(format!("at most {PREFIXES_MAX} of them")));
    }
    let version = match flags.airflow_version.as_str() {
        "auto" => None,
        text => Some(flag("profile.airflow-version", text, str::parse::<Version>)?),
    };
    let defaults = Settings::default();
    Ok(Settings {
        prefixes,
        version: version.unwrap_or(defaults.version),
        version_seen: version.is_none(),
        client: flag("profile.client", &flags.client, str::parse)?,
        dag_ids: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::Config;
    use super::*;
    use crate::cli::Cli;

    fn load(arguments: &[&str]) -> Result<Option<Selected>, String> {
        let arguments = std::iter::once(&"rotameter").chain(arguments);
        let config = Config::load(&Cli::from_arguments(arguments).expect("the arguments parse"));
        config
            .map(|config| config.mapping.profile)
            .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    #[test]
    fn without_a_name_there_is_no_profile() {
        assert_eq!(load(&[]), Ok(None));
        assert_eq!(load(&["--profile.prefix=x", "--profile="]), Ok(None));
        let selected = load(&["--profile=airflow"]).unwrap().unwrap();
        assert_eq!((selected.profile.name, selected.settings), ("airflow", Settings::default()));
    }

    #[test]
    fn what_does_not_do_is_an_error_with_the_way_out() {
        let error = load(&["--profile=flow"]).unwrap_err();
        assert!(
            error.starts_with("--profile=\"flow\": there is no such profile; write one of airflow"),
            "{error}"
        );
        for argument in [
            "--profile.prefix=1x",
            "--profile.airflow-version=5",
            "--profile.client=x",
            "--profile.dag-id=a..b",
            "--profile.dag-id-file=/nowhere",
        ] {
            assert!(load(&["--profile=airflow", argument]).is_err(), "{argument}");
        }
        assert!(load(&["--profile=airflow", "--profile.dag-id=a.b", "--profile.dag-id=a.b"]).is_ok());
    }

    #[test]
    fn ids_come_from_flags_and_a_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "# ours\nb.c\n\n a.b \n").unwrap();
        let path = format!("--profile.dag-id-file={}", file.path().display());
        let selected = load(&["--profile=airflow", "--profile.dag-id=c.d", &path]).unwrap().unwrap();
        let ids: Vec<&str> = selected.settings.dag_ids.iter().map(DagId::as_str).collect();
        assert_eq!(ids, ["a.b", "b.c", "c.d"]);
    }
}
