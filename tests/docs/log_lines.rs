//! Log lines that troubleshooting quotes -> whether the daemon says them.

use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../docs/troubleshooting.md");
/// Sections whose first column quotes the daemon.
const SECTIONS: [&str; 2] = ["A warning in the log", "Nothing is counted in the kernel"];

/// All sources of the daemon, with literals that go on in the next line in one.
fn sources() -> String {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../userspace/src")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                text += &fs::read_to_string(path).expect("source is text");
            }
        }
    }
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |joined, part| joined + part.trim_start())
}

#[test]
fn the_daemon_says_what_is_quoted() {
    let sources = sources();
    let mut quotes = 0;
    for section in SECTIONS {
        let body = PAGE.split("\n## ").find_map(|part| part.strip_prefix(section)).expect("the section");
        let rows = body.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        for quote in rows.flat_map(|cell| cell.split('`').step_by(2)) {
            for part in quote.split('…') {
                let part = part.trim();
                assert!(sources.contains(part), "docs/troubleshooting.md quotes {part:?}");
            }
            quotes += 1;
        }
    }
    assert!(quotes > 12, "{quotes}");
}
