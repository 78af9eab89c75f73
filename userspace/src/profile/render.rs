//! Template and settings -> text of a mapping file.
//!
//! In a template `PREFIX` stands for each prefix, and `ANYPREFIX` also for `airflow`, which some of
//! Airflow's names keep whatever the prefix is. `<x>` in a match is one segment or a part of one, `<x+>` one
//! or more; `<x>` in a label or name is what it took. `tagged` is the name of the copy that has the ids as
//! tags, with those; `also` is another name for the same.

use std::fmt::Write as _;

use super::Profile;
use super::blocks::{Block, overlay, parse};
use super::settings::{Client, Settings, Version};

/// Unbounded, so never a label.
const TAGS_NEVER_KEPT: &str = "job_id, run_id";

/// The mapping file of a profile.
pub(super) fn render(profile: &Profile, settings: &Settings) -> String {
    let (head, mut blocks) = parse(profile.template);
    if let Some(base) = profile.base {
        blocks = overlay(parse(base).1, blocks);
    }
    let mut out = String::new();
    let prefixes: Vec<&str> = settings.prefixes.iter().map(|prefix| prefix.as_str()).collect();
    let seen = if settings.version_seen { " or what is seen" } else { "" };
    let _ = write!(
        out,
        "# Profile {} of Rotameter for Airflow {}{seen}; prefixes: {}.\n# {}.\n",
        profile.name,
        settings.version,
        prefixes.join(", "),
        profile.summary
    );
    for line in head.lines().filter(|line| !line.starts_with('#')) {
        let _ = writeln!(out, "{line}");
    }
    out.push_str("mappings:\n");
    for block in blocks.iter().filter(|block| block.is_for(settings.version)) {
        if !block.comments.is_empty() {
            let _ = write!(out, "\n{}\n", block.comments.join("\n"));
        }
        for place in places(block, &prefixes) {
            Rules { out: &mut out, block, settings, place }.write();
        }
    }
    out
}

/// One prefix of a block.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// `None` for a name without one.
    prefix: Option<&'a str>,
    /// The label `deployment`, where there are several.
    deployment: Option<&'a str>,
}

fn places<'a>(block: &Block<'_>, prefixes: &[&'a str]) -> Vec<Place<'a>> {
    let pattern = block.matches.first().copied().unwrap_or_default();
    if !pattern.contains("PREFIX.") {
        return vec![Place { prefix: None, deployment: None }];
    }
    let several = prefixes.len() > 1;
    let place = |prefix: &&'a str| Place { prefix: Some(prefix), deployment: several.then_some(*prefix) };
    let mut places: Vec<_> = prefixes.iter().map(place).collect();
    if pattern.starts_with("ANYPREFIX.") && !prefixes.contains(&"airflow") {
        // Nobody can tell whose these are.
        places.push(Place { prefix: Some("airflow"), deployment: several.then_some("") });
    }
    places
}

/// The rules of one block and prefix on their way into the text.
struct Rules<'a> {
    out: &'a mut String,
    block: &'a Block<'a>,
    settings: &'a Settings,
    place: Place<'a>,
}

/// One way in which the events of a block come.
struct Source<'a> {
    /// Without prefix.
    pattern: &'a str,
    tags: Option<&'a str>,
    rank: u32,
    /// The name holds ids.
    named: bool,
    drop: bool,
    /// A known id of a DAG, and how the name spells it.
    dag: Option<(&'a str, String)>,
}

impl Rules<'_> {
    fn write(&mut self) {
        let block = self.block;
        if let Some((pattern, tags)) = block.tagged {
            self.source(&Source { pattern, tags: Some(tags), rank: 1, named: false, drop: false, dag: None });
        }
        for pattern in &block.matches {
            let pattern = pattern.trim_start_matches("ANY").trim_start_matches("PREFIX.");
            // What is dropped is dropped whatever the id is.
            if pattern.contains("<dag") && !block.has("action") {
                for id in &self.settings.dag_ids {
                    for spelling in spellings(id.as_str()) {
                        let dag = Some((id.as_str(), spelling));
                        self.source(&Source { pattern, tags: None, rank: 2, named: true, drop: false, dag });
                    }
                }
            }
            self.source(&Source { pattern, tags: None, rank: 2, named: true, drop: false, dag: None });
        }
        if let Some((pattern, _)) = block.tagged.filter(|_| block.untagged != Some("none")) {
            let drop = block.untagged == Some("drop");
            self.source(&Source { pattern, tags: None, rank: 3, named: false, drop, dag: None });
        }
    }

    fn source(&mut self, source: &Source<'_>) {
        let unit =
            self.block.seconds.map_or((false, false), |class| in_seconds(class, self.settings.version));
        match self.settings.client {
            Client::Statsd => self.rule(source, false, unit.0),
            Client::Datadog => self.rule(source, false, unit.1),
            Client::Auto if unit.0 == unit.1 => self.rule(source, false, unit.0),
            Client::Auto => {
                self.rule(source, true, unit.1);
                self.rule(source, false, unit.0);
            }
        }
    }

    /// `dialect` limits the rule to tags of DogStatsD; `seconds` says that a timer comes in seconds.
    fn rule(&mut self, source: &Source<'_>, dialect: bool, seconds: bool) {
        let (block, place) = (self.block, self.place);
        let (pattern, captures) = glob(source);
        let prefix = place.prefix.filter(|prefix| !prefix.is_empty());
        let prefix = prefix.map(|prefix| format!("{prefix}.")).unwrap_or_default();
        let _ = writeln!(self.out, "\n- match: '{prefix}{pattern}'");
        let present = source.tags.map(|tags| format!("present: {tags}"));
        let dialect = dialect.then(|| "dialect: dogstatsd".to_owned());
        let wanted: Vec<String> = present.into_iter().chain(dialect).collect();
        if !wanted.is_empty() {
            let _ = writeln!(self.out, "  match_tags: {{{}}}", wanted.join(", "));
        }
        for (key, value) in &block.rest {
            let value = match *key {
                "name" => references(value, &captures),
                "buckets" => {
                    let _ = writeln!(self.out, "  histogram_options: {{buckets: {value}}}");
                    continue;
                }
                "drop_tags" => value.replace('[', &format!("[{TAGS_NEVER_KEPT}, ")),
                _ => (*value).to_owned(),
            };
            let _ = writeln!(self.out, "  {key}: {value}");
        }
        if !block.has("drop_tags") && !block.has("keep_tags") {
            let _ = writeln!(self.out, "  drop_tags: [{TAGS_NEVER_KEPT}]");
        }
        let labels = labels(block, source, &captures, place);
        if !labels.is_empty() {
            let _ = writeln!(self.out, "  labels: {{{}}}", labels.join(", "));
            if source.named && block.tagged.is_some() {
                // What a tag says is certain, what a name says is not.
                self.out.push_str("  honor_labels: true\n");
            }
        }
        if source.drop {
            self.out.push_str("  action: drop\n");
        } else if let Some((name, _)) = block.tagged {
            let name = name.replace(['<', '>'], "");
            let _ = writeln!(self.out, "  same_event: {{name: '{prefix}{name}', rank: {}}}", source.rank);
        } else if let Some(name) = block.copy_of {
            let _ = writeln!(self.out, "  same_event: {{name: '{prefix}{name}', rank: 4}}");
        }
        if seconds {
            self.out.push_str("  timer_unit: seconds\n");
        }
    }
}

/// How names spell the id of a DAG, where a rule for any id would not find it: since 3.2 without dots.
fn spellings(id: &str) -> impl Iterator<Item = String> {
    let flat = id.replace('.', "__");
    let has_dots = flat != *id;
    [id.to_owned(), flat].into_iter().filter(move |_| has_dots)
}

/// The glob of a source, and the names of what it captures, in order.
fn glob<'a>(source: &Source<'a>) -> (String, Vec<&'a str>) {
    let (mut glob, mut captures) = (String::new(), Vec::new());
    let mut rest = source.pattern;
    while let Some((before, after)) = rest.split_once('<') {
        let (token, after) = after.split_once('>').unwrap_or((after, ""));
        let name = token.trim_end_matches('+');
        glob.push_str(before);
        match &source.dag {
            Some((_, spelling)) if name == "dag" => glob.push_str(spelling),
            _ => {
                captures.push(name);
                glob.push_str(if token.ends_with('+') { "**" } else { "*" });
            }
        }
        rest = after;
    }
    glob.push_str(rest);
    (glob, captures)
}

/// A template of the mapping language, with numbers for names.
fn references(text: &str, captures: &[&str]) -> String {
    let mut text = text.to_owned();
    for (index, name) in captures.iter().enumerate() {
        text = text.replace(&format!("<{name}>"), &format!("${{{}}}", index + 1));
    }
    text
}

/// Those that the pattern of the source has a value for.
fn labels(block: &Block<'_>, source: &Source<'_>, captures: &[&str], place: Place<'_>) -> Vec<String> {
    let named = block.labels.iter().any(|(_, value)| *value == "<prefix>");
    let deployment = place.deployment.filter(|_| !named);
    let mut labels: Vec<String> =
        deployment.iter().map(|deployment| format!("deployment: \"{deployment}\"")).collect();
    for (key, value) in &block.labels {
        let name = value.trim_matches(['<', '>']);
        let value = match &source.dag {
            Some((id, _)) if *value == "<dag>" => (*id).to_owned(),
            _ if *value == "<prefix>" => place.prefix.unwrap_or_default().to_owned(),
            _ if !value.starts_with('<') => (*value).to_owned(),
            _ => match captures.iter().position(|capture| *capture == name) {
                Some(index) => format!("${}", index + 1),
                None => continue,
            },
        };
        labels.push(format!("{key}: \"{value}\""));
    }
    labels
}

/// Whether timers of a class come in seconds from the plain client, and from the Datadog one.
fn in_seconds(class: &str, version: Version) -> (bool, bool) {
    let old = version == Version::V2;
    match class {
        // Measured around a block of code.
        "loop" => (false, true),
        // Computed by the scheduler, or by the task.
        "run" | "task" => (false, old),
        "wait" => (old, old),
        "always" => (true, true),
        _ => (false, false),
    }
}
