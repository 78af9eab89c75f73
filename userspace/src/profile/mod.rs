//! Name and settings of a profile -> the mapping file that it is.
//!
//! A profile is a template: `airflow.yml` and its like beside this file say in their heads what stands for
//! what. Which rules come of it depends on the prefix, on Airflow's version and on its client.

mod blocks;
pub mod dag_ids;
mod render;
mod selected;
pub mod settings;

#[cfg(test)]
mod tests;

pub use selected::{Learned, Selected, VersionFrom, load};
pub use settings::{Client, DagId, Prefix, Settings, Version};

use std::sync::Arc;

use crate::mapper::{LoadError, LoadOptions, Mapper};

/// A profile of the binary.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: &'static str,
    /// What it is for, in a line.
    pub summary: &'static str,
    template: &'static str,
    /// What lies under the template, if that only says what is different.
    base: Option<&'static str>,
}

const CHART: &str = include_str!("chart.yml");

/// All there are.
pub static ALL: [Profile; 5] = [
    Profile {
        name: "airflow",
        summary: "clean names and labels, base units, for Airflow 1.10 to 3.4",
        template: include_str!("airflow.yml"),
        base: None,
    },
    Profile {
        name: "airflow-chart",
        summary: "names of the official Helm chart's mapping, its gaps filled",
        template: CHART,
        base: None,
    },
    Profile {
        name: "airflow-mixin",
        summary: "series that Grafana's Airflow mixin asks for",
        template: include_str!("mixin.yml"),
        base: None,
    },
    Profile {
        name: "airflow-databand",
        summary: "series that Databand's dashboards for Airflow ask for, the rest as airflow-chart",
        template: include_str!("databand.yml"),
        base: Some(CHART),
    },
    Profile {
        name: "airflow-book",
        summary: "names of the mapping in \"Data Pipelines with Apache Airflow\", the rest as airflow-chart",
        template: include_str!("book.yml"),
        base: Some(CHART),
    },
];

impl Profile {
    /// The profile of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|profile| profile.name == name)
    }

    /// Its mapping file.
    #[must_use]
    pub fn render(&self, settings: &Settings) -> String {
        render::render(self, settings)
    }

    /// Its rules.
    ///
    /// # Errors
    ///
    /// None for settings that were checked; a test holds all profiles to it.
    pub fn mapper(&self, settings: &Settings) -> Result<Arc<Mapper>, LoadError> {
        let text = self.render(settings);
        let options = LoadOptions { strict: true };
        let mut mapper =
            Mapper::from_text(text.as_bytes(), &format!("profile {}", self.name), options)?.mapper;
        mapper.set_profile(self.name);
        Ok(Arc::new(mapper))
    }

    /// Families whose presence tells what sends, each with what it tells.
    pub fn markers(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let lines = self.template.lines().filter_map(|line| line.strip_prefix("# marker ")?.split_once(": "));
        lines.flat_map(|(what, families)| families.split(' ').map(move |family| (what, family)))
    }
}
