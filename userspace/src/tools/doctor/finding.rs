//! What a rule found.

use std::fmt;

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Good to know.
    Note,
    /// Something is lost, or will be.
    Warning,
    /// Nothing arrives, or nobody can see it.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Fixed, for scripts.
    pub(super) rule: &'static str,
    pub(super) severity: Severity,
    pub(super) text: String,
    /// What was seen, and where.
    pub(super) evidence: String,
    pub(super) way_out: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, severity, text, evidence, way_out } = self;
        write!(f, "{severity}: {text} [{rule}]\n  seen: {}\n  way out: {way_out}", printable(evidence))
    }
}

/// What came from elsewhere must not move somebody's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
