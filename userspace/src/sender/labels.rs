//! `pod,namespace` -> which labels a series gets, and their values for one pod.

use std::{fmt, str::FromStr};

use super::pod::Pod;

/// What can be said about a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SenderLabel {
    Pod,
    Namespace,
    Node,
    Component,
}

impl SenderLabel {
    pub const ALL: [Self; 4] = [Self::Pod, Self::Namespace, Self::Node, Self::Component];

    /// Name of the label, and of its part in the flag.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Namespace => "namespace",
            Self::Node => "node",
            Self::Component => "component",
        }
    }

    /// The value for a pod; empty where Kubernetes says nothing.
    #[must_use]
    pub fn value(self, pod: &Pod) -> &str {
        match self {
            Self::Pod => &pod.name,
            Self::Namespace => &pod.namespace,
            Self::Node => &pod.node,
            Self::Component => &pod.component,
        }
    }
}

impl fmt::Display for SenderLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The labels that are wanted, each once; none switches the whole thing off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderLabels(Vec<SenderLabel>);

impl SenderLabels {
    pub fn iter(&self) -> impl Iterator<Item = SenderLabel> + '_ {
        self.0.iter().copied()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for SenderLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, label) in self.iter().enumerate() {
            write!(f, "{}{label}", if position > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for SenderLabels {
    type Err = UnknownLabel;

    fn from_str(text: &str) -> Result<Self, UnknownLabel> {
        let mut labels = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let label = SenderLabel::ALL.into_iter().find(|label| label.name() == part);
            let label = label.ok_or_else(|| UnknownLabel { label: part.to_owned() })?;
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        Ok(Self(labels))
    }
}

/// A word that names no label.
#[derive(Debug, thiserror::Error)]
#[error(
    "{label:?} is not known of a sender; there are pod, namespace, node and component, separated by commas"
)]
pub struct UnknownLabel {
    label: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_once_each() {
        let labels: SenderLabels = "pod, namespace,pod".parse().unwrap();
        assert_eq!(labels.to_string(), "pod, namespace");
        assert!("".parse::<SenderLabels>().unwrap().is_empty());
    }

    #[test]
    fn an_unknown_word_is_named() {
        let error = "pod,host".parse::<SenderLabels>().unwrap_err().to_string();
        assert!(error.starts_with("\"host\" is not known"), "{error}");
    }
}
