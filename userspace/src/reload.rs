//! A mapping file that changes, a profile that learns -> the rules in force.
//!
//! At a signal, a request or by itself, when the file has changed and rests. Whole or not at all: a
//! file that does not load leaves the rules as they are.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::{
    clock::Timestamp,
    mapper::{LoadError, LoadOptions, Loaded, Mapper},
    pipeline::Pipeline,
    profile::{self, Learned, Selected, VersionFrom},
    self_metrics::ProfileReading,
};

/// How often the file is looked at. Asking for its metadata works for a ConfigMap, whose directory is
/// a symbolic link that is swapped, and on file systems that notify nobody.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// So long after the start, what a profile took wrongly before it had learned goes. Later there is too much
/// that is right.
const AMENDS: Duration = Duration::from_secs(600);

/// A mapping file and a profile that are in force; one of them at least.
#[derive(Debug)]
pub struct MappingFile {
    path: Option<PathBuf>,
    options: LoadOptions,
    /// Held by whoever changes the rules, also while files are read; taken before `state`.
    changing: Mutex<()>,
    /// Scrapes and pages wait for it, so it is never held while a file is read.
    state: Mutex<State>,
    succeeded: AtomicU64,
    failed: AtomicU64,
    opened: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    /// What was loaded last, with or without success.
    tried: Fingerprints,
    /// What the last look saw.
    looked: Fingerprints,
    /// What lies beneath the file, with what was learned.
    profile: Option<Selected>,
}

/// The mapping file, and the one with ids of DAGs.
type Fingerprints = [Option<Fingerprint>; 2];

/// Tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Fingerprint {
    fn of(path: &Path) -> io::Result<Self> {
        // Follows links, so a swapped link shows as another inode.
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl MappingFile {
    /// Loads the file for the first time.
    ///
    /// # Errors
    ///
    /// It cannot be read, or does not hold a mapping.
    pub fn open(
        path: Option<&Path>,
        profile: Option<Selected>,
        options: LoadOptions,
    ) -> Result<(Self, Mapper), LoadError> {
        // Before the content is read: a change after that shows.
        let tried = fingerprints(path, profile.as_ref());
        let loaded = load(path, profile.as_ref(), options)?;
        let file = Self {
            path: path.map(Path::to_owned),
            options,
            changing: Mutex::new(()),
            state: Mutex::new(State { tried, looked: tried, profile }),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            opened: Timestamp::now(),
        };
        Ok((file, loaded))
    }

    /// Reads the file again and puts its rules in force. Blocks for a grace period of the kernel.
    ///
    /// # Errors
    ///
    /// Why the old rules stay; counted and logged already.
    pub fn reload(&self, pipeline: &Pipeline) -> anyhow::Result<()> {
        let _changing = self.changing.lock();
        let mut profile = self.profile();
        // Before the content is read: a change after that shows.
        let tried = fingerprints(self.path.as_deref(), profile.as_ref());
        {
            let mut state = self.state.lock();
            (state.tried, state.looked) = (tried, tried);
        }
        let ids = profile.as_mut().map_or(Ok(()), Selected::read_dag_ids);
        let reloaded = ids
            .context("reading the ids of DAGs (--profile.dag-id-file)")
            .and_then(|()| self.load_into(pipeline, profile.as_ref()));
        if reloaded.is_ok() {
            self.state.lock().profile = profile;
        }
        match reloaded {
            Ok(rules) => {
                self.succeeded.fetch_add(1, Ordering::Relaxed);
                let file = self.path.as_deref().unwrap_or(Path::new("")).display();
                info!(%file, rules, "mapping file reloaded");
                Ok(())
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                warn!(
                    why = format!("{error:#}"),
                    "the mapping file is not reloaded; the rules in force stay"
                );
                Err(error)
            }
        }
    }

    fn profile(&self) -> Option<Selected> {
        self.state.lock().profile.clone()
    }

    /// Whether there is a profile whose rules go by what comes.
    #[must_use]
    pub fn learns(&self) -> bool {
        self.state.lock().profile.as_ref().is_some_and(Selected::learns)
    }

    /// The profile in force, for a metric.
    #[must_use]
    pub fn profile_reading(&self) -> Option<ProfileReading> {
        let state = self.state.lock();
        let profile = state.profile.as_ref()?;
        Some(ProfileReading {
            profile: profile.profile.name,
            airflow_version: profile.settings.version.releases(),
            version_from: profile.version_from().name(),
            client: profile.settings.client.name(),
        })
    }

    /// The profile in force, for a page.
    #[must_use]
    pub fn profile_summary(&self) -> Option<String> {
        let state = self.state.lock();
        let profile = state.profile.as_ref()?;
        let why = match profile.version_from() {
            VersionFrom::Flag => "as --profile.airflow-version says".to_owned(),
            VersionFrom::Seen(family) => format!("for {family} has come"),
            VersionFrom::Guess => {
                "a guess until something tells; set --profile.airflow-version if you know it".to_owned()
            }
        };
        let (name, releases) = (profile.profile.name, profile.settings.version.releases());
        Some(format!("{name}, Airflow {releases} ({why}), client {}", profile.settings.client.name()))
    }

    /// Lets the profile look at what has come; if that makes another one of it, puts that in force.
    pub fn learn(&self, pipeline: &Pipeline) {
        let _changing = self.changing.lock();
        let Some(mut profile) = self.profile() else { return };
        let before = profile.clone();
        let learned = profile.learn(|family| pipeline.family_total(family));
        if learned == Learned::Nothing {
            return;
        }
        let (airflow, from) = (profile.settings.version.releases(), profile.evidence.unwrap_or_default());
        let (name, client) = (profile.profile.name, profile.settings.client.name());
        if learned == Learned::Confirmed {
            info!(profile = name, airflow, from, client, "the profile's guess of the release was right");
        } else {
            match self.load_into(pipeline, Some(&profile)) {
                Ok(_) => {
                    // What came before may have been taken in another unit.
                    if Timestamp::now().since(self.opened) < AMENDS {
                        let changed = profile.changed_families(&before);
                        pipeline.discard_families(&changed.iter().map(String::as_str).collect::<Vec<_>>());
                    }
                    info!(profile = name, airflow, from, client, "the profile has learned what sends");
                }
                // The file may just be changing. What was learned holds for its next reload.
                Err(error) => warn!(why = format!("{error:#}"), "the rules in force stay"),
            }
        }
        self.state.lock().profile = Some(profile);
    }

    fn load_into(&self, pipeline: &Pipeline, profile: Option<&Selected>) -> anyhow::Result<usize> {
        let mapper = load(self.path.as_deref(), profile, self.options)?;
        let rules = mapper.rule_count();
        pipeline
            .reload(Arc::new(mapper))
            .context("waiting for the kernel's programs to let go of the old rules")?;
        Ok(rules)
    }

    /// Whether the file is another one than was loaded, and the same as at the last look: one that is
    /// still being written is left alone.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let now = fingerprints(self.path.as_deref(), self.profile().as_ref());
        let mut state = self.state.lock();
        // A file that is not there now may come back.
        let is_gone =
            |(then, now): (&Option<Fingerprint>, &Option<Fingerprint>)| then.is_some() && now.is_none();
        if state.tried.iter().zip(&now).any(is_gone) {
            return false;
        }
        let rests = std::mem::replace(&mut state.looked, now) == now;
        rests && state.tried != now
    }

    /// Reloads that succeeded, and those that did not.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.succeeded.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

fn fingerprints(path: Option<&Path>, profile: Option<&Selected>) -> Fingerprints {
    let ids = profile.and_then(|profile| profile.dag_id_file.as_deref());
    [path, ids].map(|path| path.and_then(|path| Fingerprint::of(path).ok()))
}

/// Loads the file and logs what it warns of.
fn load(path: Option<&Path>, profile: Option<&Selected>, options: LoadOptions) -> Result<Mapper, LoadError> {
    let Loaded { mapper, warnings } = profile::load(path, profile, options)?;
    for warning in &warnings {
        warn!(file = %path.unwrap_or(Path::new("")).display(), "{warning}");
    }
    Ok(mapper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::PipelineOptions;

    const ONE: &str = "mappings:\n- match: a.*\n  name: one\n";
    const TWO: &str = "mappings:\n- match: a.*\n  name: two\n- match: b.*\n  name: three\n";

    fn pipeline() -> Pipeline {
        Pipeline::new(PipelineOptions::default(), None)
    }

    fn rules(pipeline: &Pipeline) -> usize {
        pipeline.look(|core| core.mapper.rules().len())
    }

    #[test]
    fn a_bad_file_leaves_the_rules_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mapping.yml");
        fs::write(&path, ONE).unwrap();
        let (file, mapper) = MappingFile::open(Some(&path), None, LoadOptions::default()).unwrap();
        let pipeline = pipeline();
        pipeline.reload(Arc::new(mapper)).unwrap();
        fs::write(&path, "mappings: [").unwrap();
        assert!(file.reload(&pipeline).is_err());
        assert_eq!((rules(&pipeline), file.counts()), (1, (0, 1)));
        fs::write(&path, TWO).unwrap();
        file.reload(&pipeline).unwrap();
        assert_eq!((rules(&pipeline), file.counts()), (2, (1, 1)));
    }

    #[test]
    fn nobody_waits_for_a_file_that_is_being_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mapping.yml");
        fs::write(&path, ONE).unwrap();
        let selected =
            Selected::new(profile::Profile::named("airflow").unwrap(), profile::Settings::default());
        let (file, _) = MappingFile::open(Some(&path), Some(selected), LoadOptions::default()).unwrap();
        let pipeline = pipeline();
        // Reading a pipe lasts until its writer is done.
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        std::thread::scope(|scope| {
            let reload = scope.spawn(|| file.reload(&pipeline));
            let mut writer = fs::File::options().write(true).open(&path).unwrap();
            let (done, answered) = std::sync::mpsc::channel();
            let (file, pipeline) = (&file, &pipeline);
            scope.spawn(move || {
                let profile = file.profile_reading().is_some() && file.profile_summary().is_some();
                let _ = done.send((profile, file.learns(), file.has_changed(), rules(pipeline)));
            });
            let answer = answered.recv_timeout(Duration::from_secs(10));
            assert_eq!(answer.expect("it waits for the file"), (true, true, false, 0));
            io::Write::write_all(&mut writer, TWO.as_bytes()).unwrap();
            drop(writer);
            reload.join().unwrap().unwrap();
        });
        assert_eq!(rules(&pipeline), 2);
    }

    #[test]
    fn a_change_shows_once_and_only_when_it_rests() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("first.yml"), directory.path().join("second.yml"));
        fs::write(&first, ONE).unwrap();
        fs::write(&second, TWO).unwrap();
        let link = directory.path().join("mapping.yml");
        std::os::unix::fs::symlink(&first, &link).unwrap();
        let (file, _) = MappingFile::open(Some(&link), None, LoadOptions::default()).unwrap();
        assert!(!file.has_changed() && !file.has_changed());
        // As the kubelet swaps a ConfigMap.
        let swapped = directory.path().join("new");
        std::os::unix::fs::symlink(&second, &swapped).unwrap();
        fs::rename(&swapped, &link).unwrap();
        assert!(!file.has_changed(), "it may still be written");
        assert!(file.has_changed());
        file.reload(&pipeline()).unwrap();
        assert!(!file.has_changed() && !file.has_changed());
        fs::remove_file(&link).unwrap();
        assert!(!file.has_changed() && !file.has_changed());
    }

    #[test]
    fn ids_of_dags_are_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ids");
        fs::write(&path, "a.b\n").unwrap();
        let airflow = profile::Profile::named("airflow").unwrap();
        let mut selected = Selected::new(airflow, profile::Settings::default());
        selected.dag_id_file = Some(path.clone());
        selected.read_dag_ids().unwrap();
        let (file, mapper) = MappingFile::open(None, Some(selected), LoadOptions::default()).unwrap();
        let pipeline = pipeline();
        pipeline.reload(Arc::new(mapper)).unwrap();
        let before = pipeline.look(|core| core.mapper.rule_count());
        fs::write(&path, "a.b\nc.d\n").unwrap();
        assert!(!file.has_changed() && file.has_changed());
        file.reload(&pipeline).unwrap();
        assert!(pipeline.look(|core| core.mapper.rule_count()) > before);
        fs::write(&path, "c..d\n").unwrap();
        let error = format!("{:#}", file.reload(&pipeline).unwrap_err());
        assert!(error.contains("--profile.dag-id-file") && error.contains("line 1"), "{error}");
        assert!(pipeline.look(|core| core.mapper.rule_count()) > before);
    }
}
