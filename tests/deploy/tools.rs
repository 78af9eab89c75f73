//! Programs that `cargo xtask test` installed -> what they print, or why they failed.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of the repository.
pub(super) fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The text of a file of the repository.
#[track_caller]
pub(super) fn text(path: &str) -> String {
    std::fs::read_to_string(folder(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files of a folder whose names end so, sorted.
#[track_caller]
pub(super) fn files(path: &str, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.retain(|file| file.is_file() && file.to_string_lossy().ends_with(end));
    files.sort();
    files
}

/// The program or folder that a variable names.
#[track_caller]
pub(super) fn named(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
        panic!("{variable} is not set; `cargo xtask test` installs what it names, and sets it")
    })
}

/// Python that finds the packages which were installed for us.
pub(super) fn python() -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", named("ROTAMETER_PYTHONPATH")).env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

/// What it printed; an exit code other than 0 fails the test with all that it said.
#[track_caller]
pub(super) fn output(command: &mut Command) -> String {
    match attempt(command) {
        Ok(output) => output,
        Err(said) => panic!("{command:?}\n{said}"),
    }
}

/// What it printed, or what it said when it failed.
#[track_caller]
pub(super) fn attempt(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    Err(printed + &String::from_utf8_lossy(&output.stderr))
}
