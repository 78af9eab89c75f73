//! Built-in profiles over what Airflow really sends: nothing twice, nothing without its owner, no id in a name.

mod auto;
mod golden;
mod guides;
mod metrics;
mod totals;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use rotameter::clock::Timestamp;
use rotameter::datagram::{Datagram, Source, Transport};
use rotameter::exposition::Format;
use rotameter::mapper::Mapper;
use rotameter::pipeline::{Pipeline, PipelineOptions};
use rotameter::profile::{Client, DagId, Profile, Settings, Version};

use crate::corpus::{self, Recorded};

/// Release of Airflow that a recording is of.
fn version_of(recording: &str) -> Version {
    match recording.split('-').nth(1) {
        Some("v2") => Version::V2,
        Some("v31") => Version::V3,
        _ => Version::V32,
    }
}

/// Whether ids come as tags.
fn is_tagged(recording: &str) -> bool {
    recording.contains("datadog") || recording.contains("influx")
}

fn settings(version: Version) -> Settings {
    Settings { version, version_seen: false, client: Client::Auto, ..Settings::default() }
}

fn mapper(profile: &str, settings: &Settings) -> Arc<Mapper> {
    let profile = Profile::named(profile).expect("there is such a profile");
    profile.mapper(settings).expect("the profile loads")
}

fn pipeline(mapper: &Arc<Mapper>) -> Pipeline {
    Pipeline::new(PipelineOptions { mapper: Arc::clone(mapper), ..PipelineOptions::default() }, None)
}

fn ingest(pipeline: &Pipeline, payload: &[u8]) {
    let received = Timestamp(1);
    pipeline.ingest(&[Datagram { payload, received, source: Source::Nameless, transport: Transport::Udp }]);
}

fn exposition(pipeline: &Pipeline) -> String {
    pipeline.look(|core| core.ledger.check()).expect("the ledger closes");
    let mut out = Vec::new();
    pipeline.write_exposition(Vec::new(), Format::Text, &mut out);
    String::from_utf8(out).expect("an exposition is text")
}

/// Expositions by profile, recording and whether ids are known.
type Replays = HashMap<(String, String, bool), Arc<str>>;

/// What a recording becomes; each is replayed once for all tests.
fn replay(profile: &str, recording: &str, settings: &Settings) -> Arc<str> {
    static REPLAYS: Mutex<Option<Replays>> = Mutex::new(None);
    let key = (profile.to_owned(), recording.to_owned(), !settings.dag_ids.is_empty());
    let mut replays = REPLAYS.lock().unwrap_or_else(PoisonError::into_inner);
    let replays = replays.get_or_insert_default();
    if let Some(text) = replays.get(&key) {
        return Arc::clone(text);
    }
    let pipeline = pipeline(&mapper(profile, settings));
    for datagram in recorded(recording).iter() {
        ingest(&pipeline, &datagram.payload);
    }
    let text: Arc<str> = exposition(&pipeline).into();
    replays.insert(key, Arc::clone(&text));
    text
}

/// The datagrams of a recording, which is read once for all tests.
fn recorded(recording: &str) -> Arc<[Recorded]> {
    static RECORDINGS: Mutex<BTreeMap<String, Arc<[Recorded]>>> = Mutex::new(BTreeMap::new());
    let mut recordings = RECORDINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let load = || corpus::load(recording).expect("the recording loads").into();
    Arc::clone(recordings.entry(recording.to_owned()).or_insert_with(load))
}

fn dag_ids(text: &str) -> Vec<DagId> {
    let ids: BTreeMap<String, Vec<String>> = serde_json::from_str(text).expect("it is JSON");
    // Names of the client cannot hold what is not ASCII, so those never come in one.
    ids.keys().filter_map(|id| id.parse().ok()).collect()
}

/// A sample of an exposition: its name, labels and value.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
}

impl<'a> Sample<'a> {
    fn label(&self, key: &str) -> &'a str {
        self.labels.iter().find(|(other, _)| *other == key).map_or("", |(_, value)| value)
    }
}

/// Samples, of which no label value of these tests holds a comma or a quote.
fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once("=\""));
        let labels = labels.map(|(key, value)| (key, value.trim_end_matches('"'))).collect();
        Sample { name, labels, value: value.parse().expect("a value is a number") }
    })
}
