//! Changed files -> new settings, while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use tracing::{info, warn};

use super::files::Files;
use super::{Settings, SettingsError, read};

/// The settings in force. They follow their files: whoever asks for them looks at these first.
pub struct Live {
    /// `None` without `--web.config.file`: then nothing ever changes.
    path: Option<PathBuf>,
    state: Mutex<State>,
    /// Times that changed files became the settings, and that they did not do.
    pub(crate) reloads: AtomicU64,
    pub(crate) failures: AtomicU64,
}

struct State {
    settings: Arc<Settings>,
    /// Of the last attempt to read them, whatever came of it.
    files: Files,
}

impl Live {
    /// Reads the file for the first time.
    ///
    /// # Errors
    ///
    /// The file, or one that it names, does not do.
    pub fn load(path: Option<&Path>) -> Result<Self, SettingsError> {
        let mut files = Files::default();
        let settings = path.map(|path| read(path, &mut files)).transpose()?.unwrap_or_default();
        Ok(Self {
            path: path.map(Path::to_owned),
            state: Mutex::new(State { settings: Arc::new(settings), files }),
            reloads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// What protects the pages now, for the start-up table: `, TLS, basic auth`.
    pub(crate) fn summary(&self) -> String {
        let settings = self.now();
        [(settings.tls.is_some(), ", TLS"), (!settings.users.is_empty(), ", basic auth")]
            .into_iter()
            .filter_map(|(on, text)| on.then_some(text))
            .collect()
    }

    /// The settings by the files as they are at `now`. Where those do not do, the ones before stay.
    pub(in crate::web) fn at(&self, now: SystemTime) -> Arc<Settings> {
        let mut state = self.state.lock();
        if let Some(path) = &self.path
            && state.files.have_changed(now)
        {
            let mut files = Files::default();
            let read = read(path, &mut files).and_then(|settings| {
                // Otherwise a file that was emptied by mistake would let everyone in.
                if settings.tls.is_some() == state.settings.tls.is_some() {
                    return Ok(settings);
                }
                let what = "TLS is switched on or off by a restart only".to_owned();
                Err(SettingsError { path: path.clone(), line: None, what })
            });
            // Remembered also after an error, so that it is tried and logged once.
            state.files = files;
            match read {
                Ok(settings) => {
                    state.settings = Arc::new(settings);
                    self.reloads.fetch_add(1, Ordering::Relaxed);
                    info!(path = %path.display(), "web configuration read anew");
                }
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    warn!(%error, "the web configuration stays as it was");
                }
            }
        }
        Arc::clone(&state.settings)
    }

    /// The settings now.
    pub(in crate::web) fn now(&self) -> Arc<Settings> {
        self.at(SystemTime::now())
    }
}
