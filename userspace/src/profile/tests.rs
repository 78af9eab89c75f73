//! Every profile, version, client and prefix -> a mapping file without a fault.

use super::*;
use crate::mapper::{Captures, MetricType, Severity, lint};

fn settings(prefixes: &[&str], version: Version, client: Client) -> Settings {
    let prefixes = prefixes.iter().map(|prefix| prefix.parse().expect("a good prefix")).collect();
    let dag_ids = vec!["a.b".parse().expect("a good id")];
    Settings { prefixes, version, version_seen: false, client, dag_ids }
}

fn every() -> impl Iterator<Item = (&'static Profile, Settings)> {
    let versions = [Version::V2, Version::V3, Version::V32];
    let clients = [Client::Auto, Client::Statsd, Client::Datadog];
    let prefixes: [&[&str]; 4] = [&["airflow"], &[""], &["prod.af"], &["one", "two"]];
    ALL.iter().flat_map(move |profile| {
        versions.into_iter().flat_map(move |version| {
            clients.into_iter().flat_map(move |client| {
                prefixes.into_iter().map(move |prefixes| (profile, settings(prefixes, version, client)))
            })
        })
    })
}

#[test]
fn each_profile_loads_strictly_and_no_rule_is_in_vain() {
    for (profile, settings) in every() {
        let mapper = profile
            .mapper(&settings)
            .unwrap_or_else(|error| panic!("{error}\n{}", profile.render(&settings)));
        let findings: Vec<String> = lint(&mapper)
            .iter()
            .filter(|finding| finding.severity == Severity::Warning)
            .map(ToString::to_string)
            .collect();
        assert!(findings.is_empty(), "{} {settings:?}\n{}", profile.name, findings.join("\n"));
    }
}

#[test]
fn the_markers_are_families_of_the_profile() {
    for profile in &ALL {
        for (what, family) in profile.markers() {
            assert!(what == "datadog" || what.parse::<Version>().is_ok(), "{what}");
            let rendered = [Version::V2, Version::V3]
                .map(|version| profile.render(&settings(&["airflow"], version, Client::Auto)));
            let lines = rendered.iter().flat_map(|text| text.lines());
            let mut names = lines.filter_map(|line| line.strip_prefix("  name: "));
            let is_it = |name: &str| {
                let (stem, rest) = name.split_once("${").unwrap_or((name, ""));
                let end = rest.rsplit_once('}').map_or("", |(_, end)| end);
                family.starts_with(stem) && family.ends_with(end) && name.len() > "airflow_${1}".len()
            };
            assert!(names.any(is_it), "{family}");
        }
    }
}

#[test]
fn several_deployments_are_told_apart() {
    let profile = Profile::named("airflow").expect("it is there");
    let mapper = profile.mapper(&settings(&["one", "two"], Version::V2, Client::Auto)).expect("it loads");
    let mut captures = Captures::default();
    let mut label = |name: &str| {
        let rule = mapper.find(MetricType::Counter, name, &mut captures)?;
        let deployment = rule.labels.iter().find(|(key, _)| &**key == "deployment")?;
        deployment.1.constant().map(str::to_owned)
    };
    assert_eq!(label("one.ti_failures").as_deref(), Some("one"));
    assert_eq!(label("two.ti.start.a.b").as_deref(), Some("two"));
    assert_eq!(label("airflow.triggerer_heartbeat").as_deref(), Some(""));
    assert_eq!(label("airflow.ti_failures"), None);
}

#[test]
fn a_known_id_is_found_however_it_is_spelt() {
    let profile = Profile::named("airflow").expect("it is there");
    let mapper = profile.mapper(&settings(&["airflow"], Version::V2, Client::Auto)).expect("it loads");
    for name in ["airflow.ti.start.a.b.group.task", "airflow.ti.start.a__b.group.task"] {
        let mut captures = Captures::default();
        let rule = mapper.find(MetricType::Counter, name, &mut captures).expect("it is mapped");
        let labels: Vec<String> = rule
            .labels
            .iter()
            .map(|(key, value)| {
                let mut text = format!("{key}=");
                value.expand(name, &captures, &mut text);
                text
            })
            .collect();
        assert_eq!(labels, ["dag_id=a.b", "task_id=group.task"], "{name}");
    }
}
