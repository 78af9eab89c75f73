//! What the user asked for -> what each scenario works with.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;

use crate::{
    judge::Judge,
    server::{Contestant, OURS, Profile, Setup},
};

/// The settings of one call.
#[derive(Clone, Debug)]
pub struct Lab {
    /// Runs of each measurement; a table shows their median and spread.
    pub runs: usize,
    /// Of each run.
    pub duration: Duration,
    /// Full sizes instead of quick ones.
    pub full: bool,
    /// For which an idle daemon is watched.
    pub idle: Duration,
    pub object: Option<PathBuf>,
    pub binary: Option<OsString>,
    /// Programs to compare with, in the order given.
    pub versus: Vec<Contestant>,
    /// For every program that is compared, and what it must make of lines.
    pub mapping: Option<PathBuf>,
    pub judge: Arc<Judge>,
    /// For our daemon.
    pub profile: Option<Profile>,
    /// Further flags of our daemon.
    pub flags: Vec<String>,
}

impl Lab {
    /// The kernel object's bytes.
    ///
    /// # Errors
    ///
    /// None was named, or it cannot be read.
    pub fn object(&self) -> anyhow::Result<Vec<u8>> {
        let path = self.object.as_ref().context(
            "which kernel object? --object or ROTAMETER_BPF_OBJECT names it; `cargo xtask bench` builds one \
             and sets it",
        )?;
        std::fs::read(path).with_context(|| format!("reading the kernel object {}", path.display()))
    }

    /// Our own daemon, with the profile if one was named.
    ///
    /// # Errors
    ///
    /// None was named, it cannot be started, or has no such profile.
    pub fn ours(&self) -> anyhow::Result<Contestant> {
        let ours = self.plain()?;
        self.profile.iter().try_fold(ours, Contestant::with_profile)
    }

    /// Our own daemon without a profile.
    ///
    /// # Errors
    ///
    /// As [`Self::ours`].
    pub fn plain(&self) -> anyhow::Result<Contestant> {
        let path = self.binary.clone().context(
            "which daemon? --binary or ROTAMETER_BIN names it; `cargo xtask bench` builds one and sets it",
        )?;
        Ok(Contestant::new(OURS, path, true)?.judged(&self.judge).flags(&self.flags))
    }

    /// All that take part: ours, then what it is compared with. With a profile that is ours without it, too.
    ///
    /// # Errors
    ///
    /// As [`Self::ours`].
    pub fn contestants(&self) -> anyhow::Result<Vec<Contestant>> {
        let mut contestants = vec![self.ours()?];
        if self.profile.is_some() {
            contestants.push(self.plain()?);
        }
        contestants.extend(self.versus.iter().cloned());
        Ok(contestants)
    }

    /// A setup with the mapping file of this call.
    #[must_use]
    pub fn setup(&self, doors: crate::server::Doors) -> Setup {
        Setup::new(doors).mapping(self.mapping.clone())
    }

    /// Runs of what takes many seconds each.
    #[must_use]
    pub fn long_runs(&self) -> usize {
        self.runs.min(self.size(1, 3))
    }

    /// `quick`, or `full` where full sizes were asked for.
    #[must_use]
    pub fn size<T>(&self, quick: T, full: T) -> T {
        if self.full { full } else { quick }
    }
}
