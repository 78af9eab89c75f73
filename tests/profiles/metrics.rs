//! Every metric of Airflow, by release and form -> a family without an id in its name.

use std::sync::Arc;

use rotameter::mapper::Mapper;
use rotameter::profile::{ALL, Client, Profile, Settings, Version};

use super::{exposition, ingest, mapper, pipeline, samples, settings};

const METRICS: &str = include_str!("metrics.txt");

/// Releases, form and line.
fn metrics() -> impl Iterator<Item = (Vec<Version>, &'static str, &'static str)> {
    METRICS.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut fields = line.splitn(3, ' ');
        let mut next = || fields.next().expect("a line has three fields");
        let versions = next().split(',').map(|version| match version {
            "2" => Version::V2,
            "3.0" => Version::V3,
            _ => Version::V32,
        });
        (versions.collect(), next(), next())
    })
}

const VERSIONS: [Version; 3] = [Version::V2, Version::V3, Version::V32];

/// Takes the line alone, so that no better copy is in its way.
fn alone(mapper: &Arc<Mapper>, line: &str) -> (String, u64) {
    let pipeline = pipeline(mapper);
    ingest(&pipeline, line.as_bytes());
    let refused = pipeline.look(|core| core.ledger.refused().map(|(_, times)| times).sum());
    (exposition(&pipeline), refused)
}

#[test]
fn no_metric_has_an_id_in_its_name() {
    assert!(metrics().count() > 300);
    for profile in &ALL {
        for version in VERSIONS {
            let mapper = mapper(profile.name, &settings(version));
            for (_, form, line) in metrics().filter(|(versions, ..)| versions.contains(&version)) {
                let (text, refused) = alone(&mapper, line);
                assert_eq!(refused, 0, "{}, {version}: {line}", profile.name);
                for sample in samples(&text) {
                    assert!(
                        !sample.name.contains('Q'),
                        "{}, {version}, {form}: {line}\n{text}",
                        profile.name
                    );
                    let numbers = sample.labels.iter().any(|(_, value)| value.starts_with("47"));
                    assert!(!numbers, "a job id is left: {line}\n{text}");
                }
            }
        }
    }
}

#[test]
fn the_airflow_profile_knows_every_metric() {
    for version in VERSIONS {
        let settings = settings(version);
        let profile = Profile::named("airflow").expect("it is there");
        let mapper = mapper("airflow", &settings);
        let families: Vec<String> = {
            let text = profile.render(&settings);
            let names = text.lines().filter_map(|line| line.strip_prefix("  name: "));
            names.map(|name| name.split("${").next().unwrap_or_default().to_owned()).collect()
        };
        // Also of other releases: a fleet is upgraded bit by bit.
        for (_, _, line) in metrics() {
            let (text, _) = alone(&mapper, line);
            for sample in samples(&text) {
                let known = families.iter().any(|family| sample.name.starts_with(family.as_str()));
                assert!(known, "{version}: {line} became {}", sample.name);
            }
        }
    }
}

/// All forms of one event together: the one with tags counts, or else the one with ids in its name.
#[test]
fn of_all_copies_of_an_event_one_counts() {
    for (profile, family) in [("airflow", "airflow_task_start_total")] {
        let lines = [
            "airflow.ti.start.Qdag.Qtask:1|c",
            "airflow.ti.start:1|c",
            "airflow.ti.start:1|c|#dag_id:Qdag,task_id:Qtask",
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
            let pipeline = pipeline(&mapper(profile, &settings(Version::V32)));
            for at in order.into_iter().cycle().take(6) {
                ingest(&pipeline, lines[at].as_bytes());
            }
            let text = exposition(&pipeline);
            let totals: Vec<f64> =
                samples(&text).filter(|sample| sample.name == family).map(|sample| sample.value).collect();
            assert_eq!(totals, [2.0], "{order:?}\n{text}");
        }
    }
}

#[test]
fn several_prefixes_are_several_deployments() {
    let prefixes = ["one", "two"].map(|prefix| prefix.parse().expect("a prefix")).to_vec();
    let settings = Settings { prefixes, client: Client::Auto, ..settings(Version::V2) };
    let pipeline = pipeline(&mapper("airflow", &settings));
    // One of them sends tags, the other one does not: each keeps its own.
    for line in [
        "one.ti.start.a.b:1|c\none.ti.start:1|c",
        "two.ti.start.a.b:1|c\ntwo.ti.start:1|c|#dag_id:a,task_id:b",
        "airflow.triggerer_heartbeat:1|c",
    ] {
        ingest(&pipeline, line.as_bytes());
    }
    let text = exposition(&pipeline);
    let shown: Vec<String> = samples(&text)
        .map(|sample| format!("{} {} {}", sample.name, sample.label("deployment"), sample.value))
        .collect();
    assert_eq!(
        shown,
        [
            "airflow_task_start_total one 1",
            "airflow_task_start_total two 1",
            "airflow_triggerer_heartbeats_total  1"
        ]
    );
}
