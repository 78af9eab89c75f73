//! A mapper on top of another one, and whether they go together.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lint::{kind, label_keys};
use super::problem::{LoadError, Problem, RuleTag, Shown};
use super::rule::{Rule, RuleAction};
use super::{Mapper, SeriesOptions};

impl Mapper {
    /// No rule and no default but those of `under`.
    pub(crate) fn alone(under: Arc<Self>) -> Self {
        let unmapped: SeriesOptions = under.unmapped.clone();
        Self { unmapped, under: Some(under), ..Self::default() }
    }

    /// This one on top of `under`: its rules are asked first, globs and regular expressions alike, and its
    /// defaults hold for what neither takes. `file_name` is for messages.
    ///
    /// # Errors
    ///
    /// Rules of both that fill one family in different ways.
    pub(crate) fn over(self, under: Arc<Self>, file_name: &str) -> Result<Self, LoadError> {
        let mut by_name: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
        for rule in under.rules.iter().filter(|rule| rule.action == RuleAction::Map) {
            if let Some(name) = rule.name.constant() {
                by_name.entry(name).or_default().push(rule);
            }
        }
        let problems: Vec<Problem> = self
            .rules
            .iter()
            .filter(|rule| rule.action == RuleAction::Map)
            .filter_map(|rule| {
                let name = rule.name.constant()?;
                let text = clash(name, rule, by_name.get(name)?)?;
                let tag = RuleTag { number: rule.number + 1, pattern: rule.pattern.clone() };
                Some(Problem { line: rule.line, rule: Some(tag), text })
            })
            .collect();
        if problems.is_empty() {
            Ok(Self { under: Some(under), ..self })
        } else {
            Err(LoadError::Invalid { file: file_name.to_owned(), problems })
        }
    }
}

/// What keeps the rule from filling the family of `others`, which are not none.
fn clash(name: &str, rule: &Rule, others: &[&Rule]) -> Option<String> {
    let first = others.first()?;
    let name = Shown(name);
    let of = match first.profile {
        Some(profile) => format!("profile {profile}"),
        None => "the file beneath".to_owned(),
    };
    if let (Some(own), Some(other)) = (kind(rule), kind(first))
        && own != other
    {
        let (own, other) = (own.name(), other.name());
        return Some(format!("name {name} is a {own} here and a {other} in {of}; rename it"));
    }
    let own = label_keys(rule);
    if others.iter().any(|other| label_keys(other) == own) {
        return None;
    }
    // The copy that tells most is the one to follow.
    let wanted = others.iter().map(|other| label_keys(other)).max_by_key(std::collections::BTreeSet::len)?;
    let list = |keys: &std::collections::BTreeSet<String>| match keys.is_empty() {
        true => "none".to_owned(),
        false => keys.iter().cloned().collect::<Vec<_>>().join(", "),
    };
    Some(format!(
        "name {name} has the labels {} here and {} in {of}; give it the same, or rename it",
        list(&own),
        list(&wanted)
    ))
}
