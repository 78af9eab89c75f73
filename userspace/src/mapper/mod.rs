//! Event -> rule, family name and labels.
//!
//! A [`Mapper`] is one mapping file, checked; it never changes. A reload makes another one.

pub mod cache;
pub mod results;
pub mod rule;
pub mod template;

// Tag keys are escaped by the same rule, and `line` comes first on the way of a datagram.
pub use crate::line::escape;
pub use rule::{CounterType, DEFAULT_HELP, MetricType, ObserverType, Rule, RuleAction, SeriesOptions};
pub use template::{Captures, Template};

/// The rules of one mapping file.
#[derive(Debug, Default)]
pub struct Mapper {
    rules: Vec<Rule>,
    unmapped: SeriesOptions,
}

impl Mapper {
    /// The rule that takes a metric, by its name after the tags were taken out and before escaping;
    /// `captures` then holds what its wildcards or groups matched.
    pub fn find(&self, metric_type: MetricType, name: &str, captures: &mut Captures) -> Option<&Rule> {
        let _ = (metric_type, name);
        captures.clear();
        None
    }

    /// In the order of the file.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
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
