//! What a profile can be told: prefixes, Airflow's version, its client, ids of DAGs.

use std::fmt;
use std::str::FromStr;

/// Prefixes beyond these are refused: each adds rules.
pub(crate) const PREFIXES_MAX: usize = 32;

/// Settings of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// At least one. With more, each is the label `deployment` of its series.
    pub prefixes: Vec<Prefix>,
    pub version: Version,
    /// The version is what was seen so far, the newest one if nothing was, not what was set.
    pub version_seen: bool,
    pub client: Client,
    /// Ids of DAGs that hold a dot.
    pub dag_ids: Vec<DagId>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prefixes: vec![Prefix("airflow".to_owned())],
            version: Version::V32,
            version_seen: true,
            client: Client::Auto,
            dag_ids: Vec::new(),
        }
    }
}

/// What does not do, and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// Airflow's `statsd_prefix`: segments of a name, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Prefix {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let starts_with_digit = text.starts_with(|first: char| first.is_ascii_digit());
        if text.is_empty() || (is_literal(text) && !starts_with_digit) {
            return Ok(Self(text.to_owned()));
        }
        Err(SettingsError(
            "a prefix is empty, or letters, digits, _ and - in segments joined by dots, without a digit in front"
                .to_owned(),
        ))
    }
}

/// Id of a DAG, as Airflow has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DagId(String);

impl DagId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DagId {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        if is_literal(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(SettingsError(
            "the id of a DAG is letters, digits, _, - and dots here, with no - behind a dot or in front"
                .to_owned(),
        ))
    }
}

/// Whether a glob can hold the text as it is.
fn is_literal(text: &str) -> bool {
    text.split('.').all(|segment| {
        !segment.is_empty()
            && !segment.starts_with('-')
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    })
}

/// Releases of Airflow, as far as they differ in what they send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.10 and 2.x.
    V2,
    /// 3.0 and 3.1.
    V3,
    /// 3.2 to 3.4: dots of ids are written as two underscores.
    V32,
}

impl Version {
    /// The first number of the releases.
    #[must_use]
    pub fn major(self) -> u32 {
        if self == Self::V2 { 2 } else { 3 }
    }

    /// The releases, for people.
    #[must_use]
    pub fn releases(self) -> &'static str {
        match self {
            Self::V2 => "1.10-2.x",
            Self::V3 => "3.0-3.1",
            Self::V32 => "3.2-3.4",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "2.0",
            Self::V3 => "3.0",
            Self::V32 => "3.2",
        })
    }
}

impl FromStr for Version {
    type Err = SettingsError;

    /// Any release, with or without its last numbers: `2`, `2.11`, `3.1.8`.
    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let mut numbers = text.split('.').map(str::parse::<u32>);
        let read = (numbers.next(), numbers.next().unwrap_or(Ok(u32::MAX)));
        let rest_is_good = numbers.take(2).all(|number| number.is_ok());
        match read {
            (Some(Ok(1 | 2)), Ok(_)) if rest_is_good => Ok(Self::V2),
            (Some(Ok(3)), Ok(0 | 1)) if rest_is_good => Ok(Self::V3),
            (Some(Ok(3)), Ok(_)) if rest_is_good => Ok(Self::V32),
            _ => Err(SettingsError(
                "write auto, or a release of Airflow from 1.10 to 3.4, such as 2.11 or 3".to_owned(),
            )),
        }
    }
}

/// The library that Airflow sends with: the Datadog one sends seconds where the type says milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Client {
    /// Datadog's, where a line has tags of DogStatsD.
    #[default]
    Auto,
    Statsd,
    Datadog,
}

impl Client {
    /// As the flag has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Statsd => "statsd",
            Self::Datadog => "datadog",
        }
    }
}

impl FromStr for Client {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        match text {
            "auto" => Ok(Self::Auto),
            "statsd" => Ok(Self::Statsd),
            "datadog" => Ok(Self::Datadog),
            _ => Err(SettingsError("write auto, statsd or datadog".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_apart_as_far_as_they_differ() {
        for (text, version) in [
            ("1.10.15", Some(Version::V2)),
            ("2", Some(Version::V2)),
            ("2.11.2", Some(Version::V2)),
            ("3.0", Some(Version::V3)),
            ("3.1.8", Some(Version::V3)),
            ("3", Some(Version::V32)),
            ("3.3", Some(Version::V32)),
            ("4", None),
            ("3.x", None),
            ("3.1.x", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), version, "{text}");
        }
    }

    #[test]
    fn prefixes_and_ids_are_what_a_glob_can_hold() {
        for good in ["", "airflow", "prod.airflow", "a-1"] {
            assert!(good.parse::<Prefix>().is_ok(), "{good}");
        }
        for bad in ["1a", "a.", "a b", "-a", "a.*"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        assert!("2024.legacy.9-9".parse::<DagId>().is_ok());
        for bad in ["", "a..b", "a.-b", "ü"] {
            assert!(bad.parse::<DagId>().is_err(), "{bad}");
        }
    }
}
