//! Glob or regular expression -> whether a line is wanted.

use std::fmt::Write as _;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

/// Bytes of a pattern, and of what is made of it.
const PATTERN_BYTES_MAX: usize = 1024;
const AUTOMATON_BYTES_MAX: usize = 1 << 20;

/// Which lines are wanted.
#[derive(Clone, Debug)]
pub enum Filter {
    All,
    /// Matches the name: the line up to its first `:`.
    Name(Regex),
    /// Matches anywhere in the line.
    Line(Regex),
}

/// Why there is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("the pattern is longer than {PATTERN_BYTES_MAX} bytes; write a shorter one")]
    Long,
    #[error("{0:?} is no regular expression, or a very large one: {1}")]
    Regex(String, String),
}

impl Filter {
    /// A name in which `*` stands for any characters and `?` for one.
    ///
    /// # Errors
    ///
    /// It is too long.
    pub fn glob(glob: &str) -> Result<Self, FilterError> {
        let mut pattern = "^(?:".to_owned();
        for c in glob.chars() {
            match c {
                // Names may hold bytes that are no UTF-8.
                '*' => pattern.push_str("(?s-u:.)*"),
                '?' => pattern.push_str("(?s:.|(?-u:.))"),
                c if c.is_ascii_alphanumeric() => pattern.push(c),
                // Writing to a String cannot fail.
                c => drop(write!(pattern, "\\x{{{:x}}}", u32::from(c))),
            }
        }
        pattern.push_str(")$");
        compile(glob, &pattern).map(Self::Name)
    }

    /// A regular expression, as the mapping file takes them but for Go's own spellings.
    ///
    /// # Errors
    ///
    /// It is none, or too long.
    pub fn regex(regex: &str) -> Result<Self, FilterError> {
        compile(regex, regex).map(Self::Line)
    }

    #[must_use]
    pub fn wants(&self, line: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Name(regex) => {
                let end = memchr::memchr(b':', line).unwrap_or(line.len());
                regex.is_match(line.get(..end).unwrap_or(line))
            }
            Self::Line(regex) => regex.is_match(line),
        }
    }
}

fn compile(shown: &str, pattern: &str) -> Result<Regex, FilterError> {
    if shown.len() > PATTERN_BYTES_MAX {
        return Err(FilterError::Long);
    }
    let config = Regex::config().nfa_size_limit(Some(AUTOMATON_BYTES_MAX)).utf8_empty(false);
    let built = Regex::builder().configure(config).syntax(syntax::Config::new().utf8(false)).build(pattern);
    built.map_err(|error| {
        let why = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
        FilterError::Regex(shown.to_owned(), why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_matches_the_whole_name() {
        let filter = Filter::glob("airflow.ti.*.et?").unwrap();
        assert!(filter.wants(b"airflow.ti.start.etl:1|c"));
        assert!(!filter.wants(b"airflow.ti.start.etl2:1|c"));
        assert!(!filter.wants(b"x.airflow.ti.start.etl:1|c"));
        assert!(Filter::glob("a+(b").unwrap().wants(b"a+(b:1|c"));
        assert!(Filter::glob("*").unwrap().wants(b"\xff\xfe:1|c"));
        assert!(Filter::glob("?b").unwrap().wants("\u{e4}b:1|c".as_bytes()));
    }

    #[test]
    fn a_regular_expression_matches_anywhere_in_the_line() {
        let filter = Filter::regex("dag_id:etl|\\|ms$").unwrap();
        assert!(filter.wants(b"a:1|c|#dag_id:etl") && filter.wants(b"a:1|ms") && !filter.wants(b"a:1|c"));
    }

    #[test]
    fn what_is_none_or_too_large_is_refused() {
        assert!(matches!(Filter::regex("("), Err(FilterError::Regex(..))));
        assert!(matches!(Filter::regex("(?:a{1000}){1000}"), Err(FilterError::Regex(..))));
        assert_eq!(Filter::regex(&"a".repeat(2000)).unwrap_err(), FilterError::Long);
    }
}
