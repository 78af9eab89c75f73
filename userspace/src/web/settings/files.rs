//! Paths -> their contents, with stamps that tell when one has changed since.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A configuration or a chain of certificates has a few KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// A file that was written to this recently may not be whole yet. Half of one could well be valid,
/// and say less about who is to be let in.
const SETTLE: Duration = Duration::from_secs(1);

/// The files that settings were made of, as they were when they were read.
#[derive(Debug, Default)]
pub(super) struct Files {
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

/// What changes when a file is written to, or another one takes its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Files {
    /// Reads `path`, and remembers it.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        // Before the open: a named pipe would wait for its writer.
        let stamp = fs::metadata(path).ok();
        self.seen.push((path.to_owned(), stamp.as_ref().map(Stamp::of)));
        if stamp.is_some_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it has more than 1 MiB"));
        }
        Ok(bytes)
    }

    /// Whether one of the files is another one by now, and none of them is just being written.
    pub(super) fn have_changed(&self, now: SystemTime) -> bool {
        let mut changed = false;
        for (path, stamp) in &self.seen {
            let metadata = fs::metadata(path).ok();
            if metadata.as_ref().map(Stamp::of) == *stamp {
                continue;
            }
            let modified = metadata.and_then(|metadata| metadata.modified().ok());
            // A time in the future is an odd clock's; nobody could wait for that.
            let age = modified.and_then(|modified| now.duration_since(modified).ok());
            if age.is_some_and(|age| age < SETTLE) {
                return false;
            }
            changed = true;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_once_the_file_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "one").unwrap();
        let mut files = Files::default();
        assert_eq!(files.read(&path).unwrap(), b"one");
        let later = SystemTime::now() + 2 * SETTLE;
        assert!(!files.have_changed(later));
        fs::write(&path, "three").unwrap();
        assert!(!files.have_changed(SystemTime::now()));
        assert!(files.have_changed(later));
        fs::remove_file(&path).unwrap();
        assert!(files.have_changed(later));
    }

    #[test]
    fn a_symlink_that_points_elsewhere_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("link");
        for name in ["one", "two"] {
            fs::write(folder.path().join(name), "same").unwrap();
        }
        std::os::unix::fs::symlink("one", &path).unwrap();
        let mut files = Files::default();
        files.read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("two", &path).unwrap();
        assert!(files.have_changed(SystemTime::now() + 2 * SETTLE));
    }

    #[test]
    fn a_missing_file_is_seen_when_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut files = Files::default();
        assert!(files.read(&path).is_err());
        assert!(!files.have_changed(SystemTime::now() + 2 * SETTLE));
        fs::write(&path, "one").unwrap();
        assert!(files.have_changed(SystemTime::now() + 2 * SETTLE));
    }

    #[test]
    fn what_is_no_file_or_too_large_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Files::default().read(folder.path()).is_err());
        let path = folder.path().join("large");
        fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
        assert!(Files::default().read(&path).is_err());
    }
}
