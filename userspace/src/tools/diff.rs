//! Two mapping files, captured lines -> the series that differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;

use super::capture::{PortFlags, distinct_lines};
use super::{check::load_layers, counted, outcome, print};
use crate::cli::ProfileFlags;
use crate::line::{Parser, Tally};
use crate::mapper::{Mapper, MetricType};

/// Shows what a new mapping file changes for captured lines.
#[derive(Debug, clap::Parser)]
#[command(name = "rotameter diff", bin_name = "rotameter diff")]
pub struct DiffFlags {
    /// Mapping file that is in use, or profile:NAME.
    old: PathBuf,
    /// Mapping file that is to replace it, or profile:NAME.
    new: PathBuf,
    /// A file of rotameter capture; a pcap or pcapng; StatsD lines, one a line; or datagrams as JSON,
    /// {"b": base64} a line. Gzip is unpacked.
    capture: PathBuf,
    #[command(flatten)]
    ports: PortFlags,
    #[command(flatten)]
    profile: ProfileFlags,
    /// Show each series, not only the first 20 of each rule.
    #[arg(long)]
    all: bool,
}

/// Series shown that go, and that come, under one pair of rules, without `--all`.
const SHOWN_MAX: usize = 20;

/// Prints each series that goes (-) and comes (+), under the rules that took its line.
///
/// # Errors
///
/// A file that cannot be read, or a capture that was cut off: what stands before the cut is shown.
pub fn diff(flags: &DiffFlags) -> anyhow::Result<()> {
    let old = Arc::new(side(&flags.old, &flags.profile)?);
    let new = Arc::new(side(&flags.new, &flags.profile)?);
    let mut changes = Changes::default();
    let seen = distinct_lines(&flags.capture, &flags.ports, |line| changes.look(&old, &new, line))?;
    if changes.statsd == 0 {
        seen.end?;
        bail!(
            "capture {}: not one of its {} is StatsD; it holds such lines, datagrams as JSON, \
             {{\"b\": base64}} a line, or is a pcap",
            flags.capture.display(),
            counted(seen.lines, "different line")
        );
    }
    changes.lines(if flags.all { usize::MAX } else { SHOWN_MAX }).iter().for_each(|line| print(line));
    seen.end
}

/// A file on top of the profile that is set; or the profile that the argument names.
fn side(argument: &Path, flags: &ProfileFlags) -> anyhow::Result<Mapper> {
    match argument.to_str().and_then(|argument| argument.strip_prefix("profile:")) {
        Some(name) => load_layers(None, &ProfileFlags { profile: Some(name.to_owned()), ..flags.clone() }),
        None => load_layers(Some(argument), flags),
    }
}

/// What changes, by the rules that take the line, old and new.
#[derive(Default)]
struct Changes {
    by_rules: BTreeMap<(String, String), (BTreeSet<String>, BTreeSet<String>)>,
    same: usize,
    /// Lines that gave an event.
    statsd: usize,
}

impl Changes {
    fn look(&mut self, old: &Arc<Mapper>, new: &Arc<Mapper>, line: &[u8]) {
        let (before, after) = (outcome::of_line(old, line), outcome::of_line(new, line));
        self.statsd += usize::from(before.events > 0);
        if before.series == after.series {
            self.same += 1;
            return;
        }
        let (gone, come) = self.by_rules.entry((rules(old, line), rules(new, line))).or_default();
        gone.extend(before.series.difference(&after.series).cloned());
        come.extend(after.series.difference(&before.series).cloned());
    }

    /// At most `shown_max` series that go, and as many that come, under each pair of rules.
    fn lines(&self, shown_max: usize) -> Vec<String> {
        let mut out = Vec::new();
        for ((old, new), (gone, come)) in &self.by_rules {
            out.push(format!("{old} -> {new}"));
            for (sign, all) in [('-', gone), ('+', come)] {
                out.extend(all.iter().take(shown_max).map(|series| format!("  {sign} {series}")));
                if let Some(more) = all.len().checked_sub(shown_max).filter(|more| *more > 0) {
                    out.push(format!("  {sign} and {more} more; --all shows them"));
                }
            }
        }
        let gone: usize = self.by_rules.values().map(|(gone, _)| gone.len()).sum();
        let come: usize = self.by_rules.values().map(|(_, come)| come.len()).sum();
        let stay = counted(self.same, "different line");
        out.push(format!("{gone} series go, {come} come; {stay} as before"));
        out
    }
}

/// The rules that take the samples of a line.
fn rules(mapper: &Mapper, line: &[u8]) -> String {
    let mut rules = Vec::new();
    Parser::new(outcome::all_dialects()).parse_line(line, &mut Tally::default(), &mut |event| {
        let rule = mapper
            .find_event(MetricType::from(event.kind), event.name, (&event).into(), &mut Default::default())
            .rule;
        let rule = rule.map_or_else(
            || "no rule".to_owned(),
            |rule| format!("rule {} (match {:?})", rule.number + 1, rule.pattern),
        );
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    });
    rules.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapper::LoadOptions;

    fn mapper(text: &str) -> Arc<Mapper> {
        Arc::new(Mapper::from_text(text.as_bytes(), "m.yml", LoadOptions::default()).unwrap().mapper)
    }

    #[test]
    fn a_series_that_changes_its_labels_goes_and_comes() {
        let old = mapper("mappings: [{match: a.*, name: one}]");
        let new = mapper("mappings: [{match: a.*, name: one, labels: {key: $1}}]");
        let mut changes = Changes::default();
        changes.look(&old, &new, b"a.b:1|c");
        changes.look(&old, &new, b"other:1|c");
        assert_eq!(
            changes.lines(1),
            [
                "rule 1 (match \"a.*\") -> rule 1 (match \"a.*\")",
                "  - counter one",
                "  + counter one{key=\"b\"}",
                "1 series go, 1 come; 1 different line as before",
            ]
        );
        changes.look(&old, &new, b"a.c:1|c");
        let lines = changes.lines(1);
        assert_eq!(lines[3], "  + and 1 more; --all shows them");
        assert_eq!(changes.lines(2)[3], "  + counter one{key=\"c\"}");
        assert_eq!(changes.statsd, 3);
    }
}
