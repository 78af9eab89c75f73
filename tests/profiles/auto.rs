//! A profile that was told nothing -> what it makes of each recording.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rotameter::mapper::LoadOptions;
use rotameter::pipeline::{Pipeline, PipelineOptions};
use rotameter::profile::{ALL, Profile, Selected, Settings};
use rotameter::reload::MappingFile;

use super::{exposition, ingest, recorded, replay, samples, settings, version_of};
use crate::corpus;

/// Datagrams between two looks at what came; the recordings have 60 to 190 a second.
const A_LOOK: usize = 100;

/// The mean of each timer, the ids left out.
fn means(text: &str) -> BTreeMap<String, f64> {
    let names: BTreeSet<&str> =
        samples(text).filter_map(|sample| sample.name.strip_suffix("_count")).collect();
    let of = |name: String| -> f64 {
        samples(text).filter(|sample| sample.name == name).map(|sample| sample.value).sum()
    };
    names
        .into_iter()
        .map(|name| (name.to_owned(), of(format!("{name}_sum")) / of(format!("{name}_count"))))
        .collect()
}

#[test]
fn release_and_client_are_told_from_what_comes() {
    for recording in corpus::names().expect("the corpus is there") {
        for profile in &ALL {
            // One of them to the end, the others until they know.
            let (whole, end) = (profile.name == "airflow", recorded(&recording).len());
            let selected = Selected::new(profile, Settings::default());
            let (file, mapper) =
                MappingFile::open(None, Some(selected), LoadOptions::default()).expect("the profile loads");
            let mapper = Arc::new(mapper);
            let pipeline = Pipeline::new(PipelineOptions { mapper, ..PipelineOptions::default() }, None);
            for datagrams in recorded(&recording)[..if whole { end } else { end / 6 }].chunks(A_LOOK) {
                datagrams.iter().for_each(|datagram| ingest(&pipeline, &datagram.payload));
                file.learn(&pipeline);
            }
            let reading = file.profile_reading().expect("there is a profile");
            let version = version_of(&recording).releases();
            assert_eq!((reading.airflow_version, reading.version_from), (version, "seen"), "{recording}");
            let client = if recording.contains("datadog") { "datadog" } else { "auto" };
            assert_eq!(reading.client, client, "{recording}, {}", profile.name);
            if whole {
                compare(&recording, &exposition(&pipeline));
            }
        }
    }
}

/// Holds what a profile made of a recording that was told nothing against one that was told all.
#[track_caller]
fn compare(recording: &str, text: &str) {
    let told = replay("airflow", recording, &settings(version_of(recording)));
    let families = |text: &str| -> BTreeSet<String> {
        let heads = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        heads.map(str::to_owned).collect()
    };
    // A timer that comes once, when a process starts, may have come before it knew the unit.
    let lost: Vec<String> = families(&told).difference(&families(text)).cloned().collect();
    assert!(lost.is_empty() || lost == ["airflow_serializer_load_duration_seconds histogram"], "{lost:?}");
    assert!(families(text).is_subset(&families(&told)), "{recording}");
    let told = means(&told);
    for (name, mean) in means(text) {
        let wanted = told.get(&name).copied().unwrap_or(f64::NAN);
        assert!((0.2..5.0).contains(&(mean / wanted)), "{recording} {name}: {mean} for {wanted}");
    }
}

#[test]
fn a_guess_is_called_one() {
    let profile = Profile::named("airflow").expect("it is there");
    let selected = Some(Selected::new(profile, Settings::default()));
    let (file, _) = MappingFile::open(None, selected, LoadOptions::default()).expect("the profile loads");
    assert_eq!(file.profile_reading().map(|reading| reading.version_from), Some("guess"));
    let summary = file.profile_summary().expect("there is a profile");
    assert!(summary.contains("3.2-3.4 (a guess until"), "{summary}");
}
