//! Mapping file and profile -> one mapper, the file on top.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::dag_ids::{self, DagIdsError};
use super::{Client, DagId, Profile, Settings, Version};
use crate::mapper::{LoadError, LoadOptions, Loaded, Mapper};

/// A profile as it was asked for, and what was learned since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    pub profile: &'static Profile,
    pub settings: Settings,
    /// Ids of DAGs that were given by themselves, and a file with more of them.
    pub dag_ids: Vec<DagId>,
    pub dag_id_file: Option<PathBuf>,
    /// The family that told the version.
    pub evidence: Option<&'static str>,
}

/// Where the version comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionFrom {
    /// It was set.
    Flag,
    /// From what came.
    Seen(&'static str),
    /// Nothing came yet that only one release sends.
    Guess,
}

impl VersionFrom {
    /// For a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Seen(_) => "seen",
            Self::Guess => "guess",
        }
    }
}

/// What a look at what has come tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    Nothing,
    /// The version that was guessed is right.
    Confirmed,
    /// The rules are others now.
    Changed,
}

/// Events, or gauges, of a family from which on it tells something: one may be a stray.
const EVIDENCE_MIN: f64 = 2.0;

impl Selected {
    /// A profile whose ids of DAGs are those of its settings.
    #[must_use]
    pub fn new(profile: &'static Profile, settings: Settings) -> Self {
        let dag_ids = settings.dag_ids.clone();
        Self { profile, settings, dag_ids, dag_id_file: None, evidence: None }
    }

    /// Where the version comes from.
    #[must_use]
    pub fn version_from(&self) -> VersionFrom {
        match self.evidence {
            _ if !self.settings.version_seen => VersionFrom::Flag,
            Some(family) => VersionFrom::Seen(family),
            None => VersionFrom::Guess,
        }
    }

    /// Reads the file with ids of DAGs again.
    ///
    /// # Errors
    ///
    /// It cannot be read, or does not do; then the ids stay as they are.
    pub fn read_dag_ids(&mut self) -> Result<(), DagIdsError> {
        self.settings.dag_ids = dag_ids::all(&self.dag_ids, self.dag_id_file.as_deref())?;
        Ok(())
    }

    /// Families that the profile fills in another way than before, by name.
    #[must_use]
    pub fn changed_families(&self, before: &Self) -> Vec<String> {
        let rules = |selected: &Self| -> HashSet<String> {
            let text = selected.profile.render(&selected.settings);
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            lines.join("\n").split("\n- match: ").skip(1).map(|rule| rule.trim().to_owned()).collect()
        };
        let (old, new) = (rules(before), rules(self));
        let mut names = BTreeSet::new();
        for rule in old.symmetric_difference(&new) {
            names.extend(rule.lines().find_map(|line| line.strip_prefix("  name: ")).map(str::to_owned));
        }
        names.into_iter().collect()
    }

    /// Whether version or client were left to what comes.
    #[must_use]
    pub fn learns(&self) -> bool {
        let open = self.settings.version_seen || self.settings.client == Client::Auto;
        open && self.profile.markers().next().is_some()
    }

    /// Looks at what has come so far, where version or client were left to that. `total` is the sum of a
    /// family's counters, or the number of its gauges.
    pub fn learn(&mut self, mut total: impl FnMut(&str) -> f64) -> Learned {
        let (before, was_known) = (self.settings.clone(), self.evidence.is_some());
        let mut seen = |what: &str| {
            let mut of_it = self.profile.markers().filter(|(marker, _)| *marker == what);
            of_it.find(|(_, family)| total(family) >= EVIDENCE_MIN).map(|(_, family)| family)
        };
        let mut found = None;
        if self.settings.version_seen {
            // Whoever has sent something of a newer release was upgraded.
            let versions = [Version::V32, Version::V3, Version::V2];
            found = versions.into_iter().find_map(|version| Some((version, seen(&version.to_string())?)));
        }
        if self.settings.client == Client::Auto && seen("datadog").is_some() {
            self.settings.client = Client::Datadog;
        }
        if let Some((version, family)) = found {
            self.settings.version = version;
            self.evidence = Some(family);
        }
        if self.settings != before {
            Learned::Changed
        } else if self.evidence.is_some() && !was_known {
            Learned::Confirmed
        } else {
            Learned::Nothing
        }
    }
}

/// Reads the file, if there is one, and puts it on top of the profile, if there is one.
///
/// # Errors
///
/// The file does not load, or does not go with the profile.
pub fn load(
    file: Option<&Path>,
    selected: Option<&Selected>,
    options: LoadOptions,
) -> Result<Loaded, LoadError> {
    let under = selected.map(|selected| selected.profile.mapper(&selected.settings)).transpose()?;
    match (file, under) {
        (None, None) => Ok(Loaded { mapper: Mapper::default(), warnings: Vec::new() }),
        (None, Some(under)) => Ok(Loaded { mapper: Mapper::alone(under), warnings: Vec::new() }),
        (Some(file), None) => Mapper::load(file, options),
        (Some(file), Some(under)) => {
            let Loaded { mapper, warnings } = Mapper::load(file, options)?;
            Ok(Loaded { mapper: mapper.over(under, &file.display().to_string())?, warnings })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::mapper::{Captures, MetricType};

    fn selected() -> Selected {
        let profile = Profile::named("airflow").expect("it is there");
        Selected::new(profile, Settings::default())
    }

    fn over(text: &str) -> Result<Mapper, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file can be had");
        file.write_all(text.as_bytes()).expect("it can be written");
        let loaded = load(Some(file.path()), Some(&selected()), LoadOptions::default());
        loaded.map(|loaded| loaded.mapper).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_is_asked_first_expressions_included() {
        let text = "mappings:\n- {match: '^airflow\\.ti_fail', match_type: regex, name: mine_total}\n";
        let mapper = over(text).expect("they go together");
        let name = |name| {
            let found =
                mapper.find_event(MetricType::Counter, name, Default::default(), &mut Captures::default());
            let by_index = found.index.and_then(|index| mapper.rule(index));
            assert_eq!(by_index.map(|rule| rule.line), found.rule.map(|rule| rule.line));
            found.rule.and_then(|rule| rule.name.constant())
        };
        assert_eq!(name("airflow.ti_failures"), Some("mine_total"));
        assert_eq!(name("airflow.ti_successes"), Some("airflow_task_successes_total"));
        assert_eq!(name("other"), None);
    }

    #[test]
    fn what_does_not_go_together_is_an_error_that_names_both() {
        let other_type =
            "mappings:\n- {match: a.b, match_metric_type: gauge, name: airflow_task_failures_total}\n";
        let error = over(other_type).expect_err("they clash");
        assert!(
            error.contains("airflow_task_failures_total") && error.contains("profile airflow"),
            "{error}"
        );
        let other_labels = "mappings:\n- {match: a.*, match_metric_type: counter, name: airflow_task_start_total, \
                            labels: {dag: $1}}\n";
        let error = over(other_labels).expect_err("they clash");
        assert!(error.contains("line 2") && error.contains("dag_id"), "{error}");
        over(
            "mappings:\n- {match: a.*.*, match_metric_type: counter, name: airflow_task_start_total, \
              labels: {dag_id: $1, task_id: $2}}\n",
        )
        .expect("they go together");
    }

    #[test]
    fn the_version_is_learned_from_what_comes() {
        let mut selected = selected();
        let only = |families: &'static [&str]| {
            move |family: &str| if families.contains(&family) { 2.0 } else { 1.0 }
        };
        assert_eq!(selected.learn(only(&[])), Learned::Nothing);
        assert_eq!(selected.version_from(), VersionFrom::Guess);
        assert_eq!(selected.learn(only(&["airflow_task_exits_total"])), Learned::Changed);
        assert_eq!(selected.settings.version, Version::V2);
        assert_eq!(selected.version_from(), VersionFrom::Seen("airflow_task_exits_total"));
        let both = only(&["airflow_task_exits_total", "airflow_dag_processor_heartbeats_total"]);
        assert_eq!(selected.learn(both), Learned::Changed);
        assert_eq!(selected.settings.version, Version::V3);
        assert_eq!(selected.learn(only(&["datadog_client_metrics_total"])), Learned::Changed);
        assert_eq!(selected.settings.client, Client::Datadog);
        assert_eq!(selected.learn(|_| 9.0), Learned::Changed);
        assert_eq!(selected.learn(|_| 9.0), Learned::Nothing);
        selected.settings.version_seen = false;
        selected.settings.version = Version::V2;
        assert_eq!(selected.learn(|_| 9.0), Learned::Nothing);
        assert_eq!(selected.version_from(), VersionFrom::Flag);
    }

    #[test]
    fn what_was_guessed_can_be_right() {
        let mut selected = selected();
        assert_eq!(selected.learn(|_| 9.0), Learned::Changed, "the client is learned");
        let settings = Settings { client: Client::Statsd, ..Settings::default() };
        let mut selected = Selected::new(selected.profile, settings);
        assert_eq!(selected.learn(|_| 9.0), Learned::Confirmed);
        assert_eq!(selected.learn(|_| 9.0), Learned::Nothing);
    }
}
