//! Mapping file -> the findings of `rotameter check`.

use std::path::Path;

use super::super::check::load;
use super::finding::{Finding, Severity};
use crate::mapper::{self, lint};

/// Findings that are shown; `rotameter check` shows all.
const FINDINGS_MAX: usize = 20;

pub(super) fn look(file: &Path) -> Vec<Finding> {
    let shown = file.display();
    let finding = |severity, text: &str, evidence: String| Finding {
        rule: "mapping-file",
        severity,
        text: text.to_owned(),
        evidence,
        way_out: format!("rotameter check {shown} lists all; rotameter explain shows what takes a line"),
    };
    let loaded = match load(file, false) {
        Ok(loaded) => loaded,
        Err(error) => {
            return vec![finding(Severity::Error, "the mapping file does not load", format!("{error:#}"))];
        }
    };
    let warnings = loaded.warnings.iter().map(|warning| (Severity::Warning, warning.to_string()));
    let findings = lint(&loaded.mapper);
    let findings = findings.iter().map(|found| {
        let severity = match found.severity {
            mapper::Severity::Warning => Severity::Warning,
            mapper::Severity::Note => Severity::Note,
        };
        (severity, found.to_string())
    });
    let all = warnings.chain(findings).take(FINDINGS_MAX);
    all.map(|(severity, what)| {
        finding(severity, "the mapping file is hardly meant so", format!("{shown}: {what}"))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_that_does_not_load_and_one_with_a_dead_rule_are_told() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(
            b"mappings:\n- match: a.*\n  name: x\n- match: a.b\n  name: y\n- match: a.*\n  name: z\n",
        )
        .unwrap();
        let found = look(file.path());
        assert!(found.iter().any(|finding| finding.severity == Severity::Warning), "{found:?}");
        file.write_all(b"nonsense: [").unwrap();
        assert_eq!(look(file.path())[0].severity, Severity::Error);
    }
}
