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
    mapper::{LoadError, LoadOptions, Loaded, Mapper},
    pipeline::Pipeline,
    profile::{self, Selected},
};

/// How often the file is looked at. Asking for its metadata works for a ConfigMap, whose directory is
/// a symbolic link that is swapped, and on file systems that notify nobody.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A mapping file and a profile that are in force; one of them at least.
#[derive(Debug)]
pub struct MappingFile {
    path: Option<PathBuf>,
    options: LoadOptions,
    state: Mutex<State>,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// What was loaded last, with or without success.
    tried: Option<Fingerprint>,
    /// What the last look saw.
    looked: Option<Fingerprint>,
    /// What lies beneath the file, with what was learned.
    profile: Option<Selected>,
}

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
        let tried = path.and_then(|path| Fingerprint::of(path).ok());
        let loaded = load(path, profile.as_ref(), options)?;
        let file = Self {
            path: path.map(Path::to_owned),
            options,
            state: Mutex::new(State { tried, looked: tried, profile }),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        Ok((file, loaded))
    }

    /// Reads the file again and puts its rules in force. Blocks for a grace period of the kernel.
    ///
    /// # Errors
    ///
    /// Why the old rules stay; counted and logged already.
    pub fn reload(&self, pipeline: &Pipeline) -> anyhow::Result<()> {
        let mut state = self.state.lock();
        state.tried = self.fingerprint();
        state.looked = state.tried;
        let reloaded = self.load_into(pipeline, state.profile.as_ref());
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

    fn fingerprint(&self) -> Option<Fingerprint> {
        self.path.as_ref().and_then(|path| Fingerprint::of(path).ok())
    }

    /// Whether there is a profile whose rules go by what comes.
    #[must_use]
    pub fn learns(&self) -> bool {
        self.state.lock().profile.as_ref().is_some_and(Selected::learns)
    }

    /// Lets the profile look at what has come; if that makes another one of it, puts that in force.
    pub fn learn(&self, pipeline: &Pipeline) {
        let mut state = self.state.lock();
        let Some(mut profile) = state.profile.clone() else { return };
        if !pipeline.look(|core| profile.learn(|family| core.registry.family_id(family).is_some())) {
            return;
        }
        let (version, client) = (profile.settings.version, profile.settings.client);
        match self.load_into(pipeline, Some(&profile)) {
            Ok(_) => {
                info!(profile = profile.profile.name, airflow = %version, ?client, "the profile has learned");
            }
            // The file may just be changing. What was learned holds for its next reload.
            Err(error) => warn!(why = format!("{error:#}"), "the rules in force stay"),
        }
        state.profile = Some(profile);
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
        let mut state = self.state.lock();
        // A file that is not there now may come back.
        let Some(now) = self.fingerprint() else { return false };
        let rests = state.looked.replace(now) == Some(now);
        rests && state.tried != Some(now)
    }

    /// Reloads that succeeded, and those that did not.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.succeeded.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
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
}
