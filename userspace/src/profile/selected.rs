//! Mapping file and profile -> one mapper, the file on top.

use std::path::Path;

use super::{Client, Profile, Settings, Version};
use crate::mapper::{LoadError, LoadOptions, Loaded, Mapper};

/// A profile as it was asked for, and what was learned since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    pub profile: &'static Profile,
    pub settings: Settings,
}

impl Selected {
    /// Whether version or client were left to what comes.
    #[must_use]
    pub fn learns(&self) -> bool {
        let open = self.settings.version_seen || self.settings.client == Client::Auto;
        open && self.profile.markers().next().is_some()
    }

    /// Looks at what has come so far, where version or client were left to that. Returns whether the
    /// profile is another one now. `has` says whether there is a family of a name.
    pub fn learn(&mut self, has: impl Fn(&str) -> bool) -> bool {
        let before = self.settings.clone();
        let seen = |what: &str| self.profile.markers().any(|(marker, family)| marker == what && has(family));
        if self.settings.version_seen {
            // Whoever has sent something of a newer release was upgraded.
            let versions = [Version::V32, Version::V3, Version::V2];
            let found = versions.into_iter().find(|version| seen(&version.to_string()));
            self.settings.version = found.unwrap_or(self.settings.version);
        }
        if self.settings.client == Client::Auto && seen("datadog") {
            self.settings.client = Client::Datadog;
        }
        self.settings != before
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
        Selected { profile, settings: Settings::default() }
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
        assert!(!selected.learn(|_| false));
        assert!(selected.learn(|family| family == "airflow_task_exits_total"));
        assert_eq!(selected.settings.version, Version::V2);
        assert!(selected.learn(|family| family.contains("heartbeat") || family.contains("exits")));
        assert_eq!(selected.settings.version, Version::V3);
        assert!(selected.learn(|family| family == "datadog_client_metrics_total"));
        assert_eq!(selected.settings.client, Client::Datadog);
        assert!(selected.learn(|_| true) && !selected.learn(|_| true));
        selected.settings.version_seen = false;
        selected.settings.version = Version::V2;
        assert!(!selected.learn(|_| true));
    }
}
