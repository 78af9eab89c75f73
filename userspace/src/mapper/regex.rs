//! Regular expressions of a file, name -> the first rule that matches somewhere in it.

use regex_automata::PatternID;
use regex_automata::meta::{BuildError, Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use super::go_regex::{self, GoRegexError};
use super::rule::MetricType;
use super::template::Captures;

/// Bytes of one compiled expression.
const BYTES_MAX: usize = 32 << 20;
/// Bytes of all compiled expressions of a file.
const TOTAL_BYTES_MAX: usize = 256 << 20;
/// Bytes of the states that a search in progress may remember.
const CACHE_BYTES: usize = 512 << 10;
/// With fewer, trying each in turn is no dearer than asking for all at once.
const SET_FROM: usize = 3;

#[derive(Debug, Error)]
pub(super) enum RegexError {
    #[error("{0}")]
    Syntax(#[from] GoRegexError),
    #[error("{0}")]
    Build(String),
    #[error("the expressions of the file take more than {} MiB when compiled", TOTAL_BYTES_MAX >> 20)]
    TotalSize,
}

/// The regular expressions of one file.
#[derive(Debug, Default)]
pub(super) struct Regexes {
    /// In the order of the file.
    entries: Vec<Entry>,
    /// All of them as one, to find out quickly that none matches.
    set: Option<Regex>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    rule: usize,
    metric_type: Option<MetricType>,
    /// As Rust reads it.
    pattern: String,
    regex: Regex,
}

fn config() -> Config {
    Config::new().nfa_size_limit(Some(BYTES_MAX)).hybrid_cache_capacity(CACHE_BYTES)
}

fn build_error(error: &BuildError) -> RegexError {
    RegexError::Build(match error.size_limit() {
        Some(limit) => format!("it takes more than {} MiB when compiled", limit >> 20),
        None => error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string),
    })
}

impl Regexes {
    /// Adds the next regular expression of the file; returns the names of its groups.
    ///
    /// # Errors
    ///
    /// A [`RegexError`] if Go would not take it, or if it is too large.
    pub(super) fn add(
        &mut self,
        rule: usize,
        pattern: &str,
        metric_type: Option<MetricType>,
    ) -> Result<Vec<Option<Box<str>>>, RegexError> {
        let translated = go_regex::translate(pattern)?;
        let regex = Regex::builder()
            .configure(config())
            .syntax(syntax::Config::new().nest_limit(1000))
            .build(&translated.pattern)
            .map_err(|error| build_error(&error))?;
        self.bytes = self.bytes.saturating_add(regex.memory_usage());
        if self.bytes > TOTAL_BYTES_MAX {
            return Err(RegexError::TotalSize);
        }
        self.entries.push(Entry { rule, metric_type, pattern: translated.pattern, regex });
        Ok(translated.group_names)
    }

    /// To be called when the last one is in.
    pub(super) fn finish(&mut self) {
        if self.entries.len() < SET_FROM {
            return;
        }
        let patterns: Vec<_> = self.entries.iter().map(|entry| &entry.pattern).collect();
        let set = Regex::builder()
            .configure(config().which_captures(WhichCaptures::Implicit))
            .syntax(syntax::Config::new().nest_limit(1000))
            .build_many(&patterns);
        // Too large for one: then each is tried in turn, which is slower and right.
        self.set = set.ok();
    }

    /// The first rule of the type that matches; `captures` gets its groups, the whole match first.
    ///
    /// `accept` has the last word on each.
    pub(super) fn find(
        &self,
        metric_type: MetricType,
        name: &str,
        captures: &mut Captures,
        mut accept: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        if self.entries.is_empty() || self.set.as_ref().is_some_and(|set| !set.is_match(name)) {
            return None;
        }
        let of_type = |entry: &&Entry| entry.metric_type.is_none_or(|of_type| of_type == metric_type);
        let mut entries = self.entries.iter().filter(of_type);
        let found = entries.find(|entry| entry.regex.is_match(name) && accept(entry.rule))?;
        found.capture(name, captures);
        Some(found.rule)
    }

    /// Whether one rule's expression matches the name.
    pub(super) fn matches(&self, rule: usize, name: &str) -> bool {
        let at = self.entries.binary_search_by_key(&rule, |entry| entry.rule);
        at.is_ok_and(|at| self.entries[at].regex.is_match(name))
    }
}

impl Entry {
    fn capture(&self, name: &str, captures: &mut Captures) {
        let count = 2 * self.regex.group_info().group_len(PatternID::ZERO);
        let mut slots: SmallVec<[Option<NonMaxUsize>; 24]> = smallvec![None; count];
        self.regex.search_slots(&name.into(), &mut slots);
        for pair in slots.chunks_exact(2) {
            let end = |slot: Option<NonMaxUsize>| u32::try_from(slot?.get()).ok();
            captures.push(end(pair[0]).zip(end(pair[1])));
        }
    }
}
