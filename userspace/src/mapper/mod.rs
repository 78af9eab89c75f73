//! Event -> rule, family name and labels.
//!
//! A [`Mapper`] is one mapping file, checked; it never changes. A reload makes another one.

use std::path::Path;
use std::sync::Arc;

pub mod cache;
pub mod results;
pub mod rule;
pub mod tags;
pub mod template;

mod doorkeeper;
mod dot;
mod explain;
mod file;
mod glob;
mod go_regex;
mod layers;
mod line_key;
mod line_table;
mod line_text;
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
pub use tags::EventTags;
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
    /// Takes what no rule of this one takes.
    under: Option<Arc<Mapper>>,
}

/// What a look-up gave.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub rule: Option<&'a Rule>,
    /// Of the rule, for [`Mapper::rule`].
    pub index: Option<usize>,
    /// Tags had a say: another event of this name and type may find another rule.
    pub by_tags: bool,
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
        self.find_event(metric_type, name, EventTags::default(), captures).rule
    }

    /// The same for an event with tags.
    pub fn find_event(
        &self,
        metric_type: MetricType,
        name: &str,
        tags: EventTags<'_>,
        captures: &mut Captures,
    ) -> Found<'_> {
        captures.clear();
        let mut by_tags = false;
        let accept = |rule: usize| match self.rules.get(rule).and_then(|rule| rule.tags.as_ref()) {
            Some(wanted) => {
                by_tags = true;
                wanted.takes(tags)
            }
            None => true,
        };
        let index = self.find_own(metric_type, name, captures, accept);
        if index.is_none()
            && let Some(under) = &self.under
        {
            let found = under.find_event(metric_type, name, tags, captures);
            let index = found.index.map(|index| self.rules.len() + index);
            return Found { rule: found.rule, index, by_tags: by_tags || found.by_tags };
        }
        Found { rule: index.and_then(|index| self.rules.get(index)), index, by_tags }
    }

    fn find_own(
        &self,
        metric_type: MetricType,
        name: &str,
        captures: &mut Captures,
        mut accept: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        captures.push(u32::try_from(name.len()).ok().map(|end| (0, end)));
        if let Some(rule) = self.machine.find(metric_type, name, captures, &mut accept) {
            return Some(rule);
        }
        captures.clear();
        self.regexes.find(metric_type, name, captures, accept)
    }

    /// Marks all rules as those of a built-in profile.
    pub(crate) fn set_profile(&mut self, name: &'static str) {
        for rule in &mut self.rules {
            rule.profile = Some(name);
        }
    }

    /// The rule that [`Found::index`] names.
    #[must_use]
    pub fn rule(&self, index: usize) -> Option<&Rule> {
        match index.checked_sub(self.rules.len()) {
            None => self.rules.get(index),
            Some(index) => self.under.as_ref()?.rule(index),
        }
    }

    /// Rules, those of the mapper beneath included.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.len() + self.under.as_ref().map_or(0, |under| under.rule_count())
    }

    /// In the order of the file, without those of the mapper beneath.
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
