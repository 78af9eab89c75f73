//! What is wrong with a mapping file -> text that names file, line, rule and the way out.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Errors beyond these are not reported: whoever has so many will run the check again.
const PROBLEMS_MAX: usize = 100;
const WARNINGS_MAX: usize = 1000;

/// Bytes of a foreign text that a message shows.
const SHOWN_BYTES_MAX: usize = 64;

/// Why a mapping file was not taken.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error("reading mapping file {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("mapping file {file} has more than {bytes_max} bytes; split what it maps over several daemons")]
    TooLarge { file: String, bytes_max: usize },
    /// Never without problems.
    #[error("{}", Listed(problems, file))]
    Invalid { file: String, problems: Vec<Problem> },
}

/// One finding in a mapping file, also where it is no more than a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 if the file as a whole is meant.
    pub line: usize,
    pub rule: Option<RuleTag>,
    /// What is wrong, and the way out.
    pub text: String,
}

/// Something that a file says and that is not taken as it says, but has a sane meaning.
pub type Warning = Problem;

/// A rule as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTag {
    /// From 1, in the order of the file.
    pub number: usize,
    pub pattern: Box<str>,
}

impl fmt::Display for RuleTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mapping rule {} (match \"{}\")", self.number, Shown(&self.pattern))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if let Some(rule) = &self.rule {
            write!(f, "{rule}: ")?;
        }
        f.write_str(&self.text)
    }
}

struct Listed<'a>(&'a [Problem], &'a str);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "mapping file {}: {problem}", self.1)?;
        }
        Ok(())
    }
}

/// Text of a file within a message: escaped, and cut where it gets long.
pub(super) struct Shown<'a>(pub(super) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = 0;
        for character in self.0.chars() {
            if written >= SHOWN_BYTES_MAX {
                return f.write_str("...");
            }
            written += character.len_utf8();
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

/// Gathers what is found while a file is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What would be a warning is an error.
    strict: bool,
    rule: Option<RuleTag>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
}

impl Report {
    pub(super) fn new(strict: bool) -> Self {
        Self { strict, ..Self::default() }
    }

    /// What is reported from now on belongs to this rule.
    pub(super) fn enter(&mut self, rule: Option<RuleTag>) {
        self.rule = rule;
    }

    pub(super) fn error(&mut self, line: usize, text: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { line, rule: self.rule.clone(), text: text.into() });
        }
    }

    pub(super) fn warn(&mut self, line: usize, text: impl Into<String>) {
        if self.strict {
            self.error(line, text);
        } else if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(Warning { line, rule: self.rule.clone(), text: text.into() });
        }
    }
}
