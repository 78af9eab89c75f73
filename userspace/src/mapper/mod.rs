//! Event -> rule, family name and labels.
//!
//! A [`Mapper`] is one mapping file, checked; it never changes. A reload makes another one.

use std::path::Path;

pub mod cache;
pub mod results;
pub mod rule;
pub mod template;

mod dot;
mod explain;
mod file;
mod glob;
mod go_regex;
mod lint;
mod load;
mod machine;
mod problem;
mod regex;
mod scalar;
mod value_keys;
mod walk;
mod yaml;

// Tag keys are escaped by the same rule, and `line` comes first on the way of a datagram.
pub use crate::line::escape;
pub use explain::{Explanation, PassedOver, Reason};
pub use lint::{Finding, Severity, lint};
pub use load::{LoadOptions, Loaded};
pub use problem::{LoadError, Problem, RuleTag, Warning};
pub use rule::{
    CounterType, DEFAULT_HELP, MetricType, ObserverType, Rule, RuleAction, SeriesOptions, TimerUnit,
    ZeroSiblings,
};
pub use template::{Captures, Template};

use machine::Machine;
use regex::Regexes;

/// The rules of one mapping file.
#[derive(Debug, Default)]
pub struct Mapper {
    rules: Vec<Rule>,
    unmapped: SeriesOptions,
    machine: Machine,
    regexes: Regexes,
}

impl Mapper {
    /// Reads a mapping file.
    ///
    /// # Errors
    ///
    /// A [`LoadError`] with all that is wrong, each with line, rule and the way out.
    pub fn load(path: &Path, options: LoadOptions) -> Result<Loaded, LoadError> {
        load::load(path, options)
    }

    /// Reads the contents of a mapping file; `file_name` is for messages.
    ///
    /// # Errors
    ///
    /// As [`Mapper::load`].
    pub fn from_text(text: &[u8], file_name: &str, options: LoadOptions) -> Result<Loaded, LoadError> {
        load::from_bytes(text, file_name, options)
    }

    /// The rule that takes a metric, by its name after the tags were taken out and before escaping;
    /// `captures` then holds what its wildcards or groups matched.
    ///
    /// A glob goes before every regular expression. Of several globs that match, the first in the file
    /// wins, and of several regular expressions, too.
    pub fn find(&self, metric_type: MetricType, name: &str, captures: &mut Captures) -> Option<&Rule> {
        captures.clear();
        if let Some(rule) = self.machine.find(metric_type, name) {
            captures.push(u32::try_from(name.len()).ok().map(|end| (0, end)));
            self.machine.capture(rule, name, captures);
            return self.rules.get(rule);
        }
        let rule = self.regexes.find(metric_type, name, captures)?;
        self.rules.get(rule)
    }

    /// In the order of the file.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a rule keeps its gauges for each sender.
    #[must_use]
    pub fn keeps_senders_apart(&self) -> bool {
        self.rules.iter().any(|rule| rule.series.sender_gauge.is_some())
    }

    /// For events that no rule takes: the file's defaults.
    #[must_use]
    pub fn unmapped(&self) -> &SeriesOptions {
        &self.unmapped
    }
}

#[cfg(test)]
impl Mapper {
    /// No rules, and these options for everything.
    pub(crate) fn of_unmapped(unmapped: SeriesOptions) -> Self {
        Self { unmapped, ..Self::default() }
    }
}
