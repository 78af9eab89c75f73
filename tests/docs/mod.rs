//! Documents + the code that they describe -> where they have drifted apart.

mod commands;
mod log_lines;

use std::collections::BTreeSet;
use std::fs;

const CLI: &str = include_str!("../../userspace/src/cli.rs");
const CONFIG: &str = include_str!("../../userspace/src/config/mod.rs");
/// Every file that names families of ours.
const SELF_METRICS: [&str; 9] = [
    include_str!("../../userspace/src/self_metrics/mod.rs"),
    include_str!("../../userspace/src/self_metrics/statsd_exporter.rs"),
    include_str!("../../userspace/src/self_metrics/datagrams.rs"),
    include_str!("../../userspace/src/self_metrics/relay.rs"),
    include_str!("../../userspace/src/self_metrics/events.rs"),
    include_str!("../../userspace/src/self_metrics/kernel.rs"),
    include_str!("../../userspace/src/self_metrics/build.rs"),
    include_str!("../../userspace/src/self_metrics/process.rs"),
    include_str!("../../userspace/src/self_metrics/web.rs"),
];
const VERDICT: &str = include_str!("../../ingest-ebpf/src/verdict.rs");

const README: &str = include_str!("../../README.md");
const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");
const CHANGELOG: &str = include_str!("../../CHANGELOG.md");
const LIMITS_PAGE: &str = include_str!("../../docs/limits.md");
const OPERATING_PAGE: &str = include_str!("../../docs/operating.md");
const PRIVILEGES_PAGE: &str = include_str!("../../docs/privileges.md");
const SELF_METRICS_PAGE: &str = include_str!("../../docs/self-metrics.md");

/// Each page with the folder that its links start from.
const PAGES: [(&str, &str, &str); 11] = [
    ("README.md", "", README),
    ("ARCHITECTURE.md", "", ARCHITECTURE),
    ("CHANGELOG.md", "", CHANGELOG),
    ("docs/airflow.md", "docs", include_str!("../../docs/airflow.md")),
    ("docs/differences.md", "docs", include_str!("../../docs/differences.md")),
    ("docs/limits.md", "docs", LIMITS_PAGE),
    ("docs/live.md", "docs", include_str!("../../docs/live.md")),
    ("docs/mapping.md", "docs", include_str!("../../docs/mapping.md")),
    ("docs/operating.md", "docs", OPERATING_PAGE),
    ("docs/privileges.md", "docs", PRIVILEGES_PAGE),
    ("docs/self-metrics.md", "docs", SELF_METRICS_PAGE),
];

/// Those and every other page under `docs/` and `deploy/`: file, folder, text.
fn pages() -> Vec<(String, String, String)> {
    let owned =
        |(file, folder, page): (&str, &str, &str)| (file.to_owned(), folder.to_owned(), page.to_owned());
    let mut pages: Vec<_> = PAGES.into_iter().map(owned).collect();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec!["docs".to_owned(), "deploy".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).expect("the folder is there") {
            let entry = entry.expect("a readable folder");
            let file = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push(file);
            } else if file.ends_with(".md") && pages.iter().all(|(known, _, _)| *known != file) {
                let page = fs::read_to_string(entry.path()).expect("a page is text");
                pages.push((file, folder.clone(), page));
            }
        }
    }
    pages
}

/// What every family of ours begins with.
const NAME_SPACES: [&str; 4] = ["rotameter_", "statsd_", "process_", "promhttp_"];

/// String literals of Rust source that are whole names of families.
fn families_in_code(source: &str) -> BTreeSet<&str> {
    let tests_begin = source.find("#[cfg(test)]").unwrap_or(source.len());
    let is_name = |text: &&str| {
        NAME_SPACES.iter().any(|space| text.starts_with(space))
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    source[..tests_begin].split('"').filter(is_name).collect()
}

/// Names in the first column of a page's tables.
fn families_on_page(page: &str) -> Vec<&str> {
    let name_of = |line| -> Option<&str> { str::strip_prefix(line, "| `")?.split('`').next() };
    page.lines()
        .filter_map(name_of)
        .filter(|name| NAME_SPACES.iter().any(|space| name.starts_with(space)))
        .collect()
}

/// What stands between `before` and the next quotation mark.
fn quoted_after<'a>(source: &'a str, before: &str) -> BTreeSet<&'a str> {
    source.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn each_family_has_one_row_and_each_row_a_family() {
    let code: BTreeSet<&str> = SELF_METRICS.into_iter().flat_map(families_in_code).collect();
    assert!(code.len() > 40, "the source is not read as it should be: {code:?}");
    let rows = families_on_page(SELF_METRICS_PAGE);
    let page: BTreeSet<&str> = rows.iter().copied().collect();
    assert_eq!(code, page, "left: self_metrics/, right: docs/self-metrics.md");
    assert_eq!(rows.len(), page.len(), "a family has two rows");
}

#[test]
fn each_verdict_has_a_row() {
    let reasons = quoted_after(VERDICT, "=> \"");
    assert!(reasons.contains("ring_full") && reasons.contains("hot"), "{reasons:?}");
    for reason in reasons {
        assert!(SELF_METRICS_PAGE.contains(&format!("`{reason}`")), "{reason}");
    }
}

#[test]
fn the_other_pages_name_no_family_that_is_not_there() {
    let code: BTreeSet<&str> = SELF_METRICS.into_iter().flat_map(families_in_code).collect();
    for (file, _, page) in pages() {
        let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("rotameter_") && !word.ends_with('_')) {
            assert!(code.contains(word), "{file} names {word}");
        }
    }
}

#[test]
fn each_flag_is_explained_and_each_explained_flag_is_there() {
    let flags = quoted_after(CLI, "long = \"");
    assert!(flags.contains("statsd.listen-udp") && flags.contains("ebpf"), "{flags:?}");
    let explained: BTreeSet<&str> = OPERATING_PAGE
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .flat_map(|line| line.split("`--").skip(1).filter_map(|rest| rest.split('`').next()))
        .collect();
    assert_eq!(flags, explained, "left: cli.rs, right: the tables of docs/operating.md");
}

#[test]
fn each_flag_stands_with_its_default() {
    let mut defaults = 0;
    for argument in CLI.split("long = \"").skip(1) {
        let (argument, _) = argument.split_once(")]").expect("an attribute ends");
        let flag = argument.split('"').next().expect("a flag has a name");
        let Some((_, default)) = argument.split_once("default_value = \"") else { continue };
        let default = default.split('"').next().expect("a default is quoted");
        let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
        let row = format!("| `--{flag}` | {default} | ");
        assert!(OPERATING_PAGE.contains(&row), "docs/operating.md lacks the row {row}");
        defaults += 1;
    }
    assert!(defaults > 10, "{defaults}");
}

#[test]
fn the_default_allow_list_is_the_one_that_is_explained() {
    let list = CONFIG.split("const ALLOW_SOURCE_DEFAULT").nth(1).expect("the constant is there");
    let list = list.split_once("] =").and_then(|(_, list)| list.split(']').next()).expect("it is a list");
    let ranges: Vec<String> =
        list.split('"').filter(|text| text.contains('/')).map(|text| format!("`{text}`")).collect();
    assert!(ranges.len() > 3, "{ranges:?}");
    let page = PRIVILEGES_PAGE.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(&format!("its own: {}.", ranges.join(", "))), "{ranges:?}");
}

#[test]
fn the_readme_has_the_two_commands() {
    let block = README.split("```").find(|block| block.contains("cargo xtask run"));
    let lines: Vec<&str> = block.into_iter().flat_map(str::lines).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, ["cargo xtask run", "cargo xtask test"]);
}

#[test]
fn links_lead_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (file, folder, page) in pages() {
        let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = root.join(&folder).join(path);
            let text =
                if target.starts_with('#') { Some(page.to_owned()) } else { fs::read_to_string(&path).ok() };
            assert!(target.starts_with('#') || path.exists(), "{file} links to {target}");
            let headings = text.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with('#'));
            let found = heading.is_empty() || headings.map(anchor).any(|anchor| anchor == heading);
            assert!(found, "{file} links to {target}, and there is no such heading");
        }
    }
}

/// What a link to a heading says after its `#`.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
