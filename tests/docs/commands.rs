//! Commands in the pages -> whether the binary takes them.

use std::ffi::OsString;

use rotameter::cli::Cli;
use rotameter::tools::Tool;

use super::pages;

/// Lines of blocks that call the binary, in words.
fn commands(page: &str) -> Vec<Vec<String>> {
    let (mut commands, mut fenced, mut begun) = (Vec::new(), false, String::new());
    for line in page.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if !(fenced || line.starts_with("    ")) {
            continue;
        }
        // A backslash goes on in the next line.
        if let Some(part) = line.strip_suffix('\\') {
            begun += part;
            continue;
        }
        let whole = std::mem::take(&mut begun) + line;
        let words = words(&whole);
        let is_ours = |word: &String| word == "rotameter" || word.ends_with("release/rotameter");
        // Behind `sudo`, and behind the `--` of `kubectl exec`; elsewhere it is an argument of something else.
        let at = words.iter().position(is_ours);
        if let Some(at) =
            at.filter(|at| words[..*at].last().is_none_or(|word| word == "sudo" || word == "--"))
        {
            commands.push(words[at..].to_vec());
        }
    }
    commands
}

/// As a shell takes them apart, up to a comment or a pipe.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#' | '|' | ';' | '&') if word.is_none() => return words,
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn each_command_is_taken() {
    let mut seen = 0;
    for (file, _, page) in pages() {
        for command in commands(&page) {
            let arguments: Vec<OsString> = command.iter().map(Into::into).collect();
            let problem = match Tool::from_arguments(&arguments) {
                Some(tool) => tool.err().map(|error| error.to_string()),
                None => Cli::from_arguments(&arguments).err().map(|error| error.to_string()),
            };
            assert_eq!(problem, None, "{file}: {}", command.join(" "));
            seen += 1;
        }
    }
    assert!(seen > 20, "the pages are not read as they should be: {seen}");
}

#[test]
fn each_finding_that_is_explained_is_one() {
    const DOCTOR: [&str; 7] = [
        include_str!("../../userspace/src/tools/doctor/airflow.rs"),
        include_str!("../../userspace/src/tools/doctor/daemon.rs"),
        include_str!("../../userspace/src/tools/doctor/log.rs"),
        include_str!("../../userspace/src/tools/doctor/machine.rs"),
        include_str!("../../userspace/src/tools/doctor/mapping.rs"),
        include_str!("../../userspace/src/tools/doctor/ports.rs"),
        include_str!("../../userspace/src/tools/doctor/probe.rs"),
    ];
    let page = include_str!("../../docs/live.md");
    let (_, table) = page.split_once("| finding | severity | means |").expect("the table is there");
    let rows: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let quoted = format!("\"{row}\"");
        assert!(DOCTOR.iter().any(|source| source.contains(&quoted)), "docs/live.md explains {row}");
    }
}
