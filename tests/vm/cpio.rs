//! Files -> the archive that the kernel unpacks as its first file system.
//!
//! Source: linux `Documentation/driver-api/early-userspace/buffer-format.rst`, format "newc".

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive being written; paths are taken from the root, with or without leading slash.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    /// What is in already: folders are needed once, and two programs may share a library.
    paths: BTreeSet<String>,
}

impl Archive {
    /// Adds a folder and those above it.
    pub(super) fn folder(&mut self, path: &str) {
        let path = path.trim_start_matches('/');
        self.parents(path);
        if self.paths.insert(path.to_owned()) {
            self.entry(path, FOLDER | 0o755, &[]);
        }
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = path.trim_start_matches('/');
        self.parents(path);
        if self.paths.insert(path.to_owned()) {
            self.entry(path, FILE | (mode & 0o777), content);
        }
    }

    /// Adds a file of this machine, with its mode.
    pub(super) fn file_from(&mut self, path: &str, from: &Path) -> Result<()> {
        let mode = fs::metadata(from).with_context(|| format!("looking at {}", from.display()))?;
        let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        self.file(path, mode.permissions().mode(), &content);
        Ok(())
    }

    pub(super) fn link(&mut self, path: &str, to: &str) {
        if self.paths.insert(path.to_owned()) {
            self.entry(path, LINK | 0o777, to.as_bytes());
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        // Entries with the same inode and several links would be taken for one file.
        let inode = self.bytes.len() / 4 + 1;
        let fields = [
            inode,
            mode as usize,
            0, // user
            0, // group
            links,
            0, // time of change
            content.len(),
            0, // device, major and minor
            0,
            0, // device it stands for, major and minor
            0,
            path.len() + 1,
            0, // checksum, unused in this format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names in the archive in order, read back by the header's own lengths.
    fn names(archive: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        let mut at = 0;
        let field = |at: usize, index: usize| {
            let digits = &archive[at + 6 + 8 * index..][..8];
            usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
        };
        while at < archive.len() {
            assert_eq!(&archive[at..at + 6], b"070701");
            let (content, name) = (field(at, 6), field(at, 11));
            let start = at + 110;
            names.push(String::from_utf8(archive[start..start + name - 1].to_vec()).unwrap());
            at = (start + name).next_multiple_of(4);
            at = (at + content).next_multiple_of(4);
        }
        names
    }

    #[track_caller]
    fn check(fill: impl FnOnce(&mut Archive), expected: &[&str]) {
        let mut archive = Archive::default();
        fill(&mut archive);
        assert_eq!(names(&archive.finish()), expected);
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        check(|archive| archive.file("/a/b/c", 0o644, b"12345"), &["a", "a/b", "a/b/c", "TRAILER!!!"]);
    }

    #[test]
    fn a_path_is_written_once() {
        check(
            |archive| {
                archive.file("lib/x", 0o644, b"1");
                archive.file("/lib/x", 0o644, b"1");
            },
            &["lib", "lib/x", "TRAILER!!!"],
        );
    }
}
