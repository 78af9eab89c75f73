//! Text of a mapping file -> rules.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use serde::Deserialize;
use yaml_serde::Value;

use super::{
    Combine, Copy,
    pattern::{Captures, Pattern},
};
use crate::load::{Identity, LineType};

/// One rule, as far as it decides what is shown where.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) is_glob: bool,
    pattern: Pattern,
    only: Option<LineType>,
    tags: TagMatch,
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) honor_labels: bool,
    pub(super) drop: bool,
    pub(super) scale: f64,
    pub(super) timer_per_second: f64,
    pub(super) up_down: bool,
    pub(super) combine: Combine,
    pub(super) copy: Option<Copy>,
    pub(super) siblings: Vec<(String, Vec<String>)>,
    drop_tags: Vec<String>,
    keep_tags: Option<Vec<String>>,
    rename_tags: Vec<(String, String)>,
}

impl Rule {
    /// What the wildcards or groups hold, if the rule takes such a line.
    pub(super) fn captures<'a>(
        &'a self,
        identity: &'a Identity,
        tags: &[(String, String)],
    ) -> Option<Captures<'a>> {
        let has = |key: &String| tags.iter().any(|(tag, _)| tag == key);
        let fits = self.only.is_none_or(|only| only == identity.line_type)
            && self.tags.present.iter().all(has)
            && !self.tags.absent.iter().any(has)
            && (self.tags.dialect.is_none() || identity.dogstatsd);
        if fits { self.pattern.captures(&identity.name) } else { None }
    }

    /// What it makes of the tags.
    pub(super) fn change(&self, tags: &mut Vec<(String, String)>) {
        tags.retain(|(key, _)| !self.drop_tags.contains(key));
        for (from, to) in &self.rename_tags {
            let Some(at) = tags.iter().position(|(key, _)| key == from) else { continue };
            if tags.iter().any(|(key, _)| key == to) {
                tags.remove(at);
            } else {
                tags[at].0.clone_from(to);
            }
        }
        if let Some(keep) = &self.keep_tags {
            tags.retain(|(key, _)| keep.contains(key) || self.rename_tags.iter().any(|(_, to)| to == key));
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileText {
    defaults: Option<Defaults>,
    mappings: Option<Vec<RuleText>>,
}

/// Of the keys here and below that stand for `Value`s none changes which sums and counts are shown where, as
/// long as nothing expires and no budget is reached.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Defaults {
    match_type: Option<String>,
    glob_disable_ordering: Option<bool>,
    #[serde(rename = "observer_type", alias = "timer_type")]
    _observer_type: Option<Value>,
    #[serde(rename = "ttl")]
    _ttl: Option<Value>,
    #[serde(rename = "summary_options", alias = "quantiles")]
    _summary_options: Option<Value>,
    #[serde(rename = "histogram_options", alias = "buckets")]
    _histogram_options: Option<Value>,
    #[serde(rename = "max_series")]
    _max_series: Option<Value>,
    #[serde(rename = "max_series_per_label")]
    _max_series_per_label: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RuleText {
    r#match: String,
    match_type: Option<String>,
    match_metric_type: Option<String>,
    match_tags: Option<TagMatch>,
    name: String,
    labels: Option<BTreeMap<String, Value>>,
    honor_labels: Option<bool>,
    action: Option<String>,
    scale: Option<f64>,
    timer_unit: Option<String>,
    counter_type: Option<String>,
    gauge_combine: Option<String>,
    same_event: Option<SameEvent>,
    drop_repeats_within: Option<Value>,
    zero_siblings: Option<Siblings>,
    drop_tags: Option<Vec<String>>,
    keep_tags: Option<Vec<String>>,
    rename_tags: Option<BTreeMap<String, String>>,
    #[serde(rename = "help")]
    _help: Option<Value>,
    #[serde(rename = "ttl")]
    _ttl: Option<Value>,
    #[serde(rename = "gauge_expiry")]
    _gauge_expiry: Option<Value>,
    #[serde(rename = "observer_type", alias = "timer_type")]
    _observer_type: Option<Value>,
    #[serde(rename = "summary_options", alias = "quantiles")]
    _summary_options: Option<Value>,
    #[serde(rename = "histogram_options", alias = "buckets")]
    _histogram_options: Option<Value>,
    #[serde(rename = "max_series")]
    _max_series: Option<Value>,
    #[serde(rename = "max_series_per_label")]
    _max_series_per_label: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TagMatch {
    present: Vec<String>,
    absent: Vec<String>,
    dialect: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SameEvent {
    name: String,
    rank: u32,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Siblings {
    One(SiblingText),
    Several(Vec<SiblingText>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiblingText {
    label: String,
    values: Vec<String>,
}

/// The rules of a file, in its order.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<Rule>> {
    let mut value: Value = yaml_serde::from_str(text)?;
    value.apply_merge()?;
    let file: Option<FileText> = yaml_serde::from_value(value)?;
    let file = file.unwrap_or_default();
    let defaults = file.defaults.unwrap_or_default();
    anyhow::ensure!(
        defaults.glob_disable_ordering != Some(true),
        "glob_disable_ordering: the bench takes rules in their order and cannot tell what is to be counted here"
    );
    let regex = defaults.match_type.as_deref() == Some("regex");
    file.mappings
        .unwrap_or_default()
        .into_iter()
        .enumerate()
        .map(|(place, rule)| {
            let name = format!("rule {} (match \"{}\")", place + 1, rule.r#match);
            rule.compile(regex).context(name)
        })
        .collect()
}

impl RuleText {
    fn compile(self, regex: bool) -> anyhow::Result<Rule> {
        let is_glob = match self.match_type.as_deref() {
            None | Some("") => !regex,
            Some("glob") => true,
            Some("regex") => false,
            Some(other) => anyhow::bail!("match_type \"{other}\": there are glob and regex"),
        };
        let only = match self.match_metric_type.as_deref() {
            None | Some("") => None,
            Some("counter") => Some(LineType::Counter),
            Some("gauge") => Some(LineType::Gauge),
            Some("observer" | "timer") => Some(LineType::Observer),
            Some(other) => anyhow::bail!("match_metric_type \"{other}\": there is no such type"),
        };
        let timer_per_second = match self.timer_unit.as_deref() {
            None | Some("milliseconds") => 1e3,
            Some("seconds") => 1.0,
            Some("microseconds") => 1e6,
            Some("nanoseconds") => 1e9,
            Some(other) => anyhow::bail!("timer_unit \"{other}\": there is no such unit"),
        };
        let combine = match self.gauge_combine.as_deref() {
            None | Some("last") => Combine::Newest,
            Some("sum") => Combine::Sum,
            Some("max") => Combine::Max,
            Some("min") => Combine::Min,
            Some(other) => anyhow::bail!("gauge_combine \"{other}\": there are last, sum, max and min"),
        };
        anyhow::ensure!(
            self.drop_repeats_within.is_none(),
            "drop_repeats_within: which lines it drops is a matter of their times, and the bench cannot tell"
        );
        let siblings = match self.zero_siblings {
            None => Vec::new(),
            Some(Siblings::One(one)) => vec![one],
            Some(Siblings::Several(several)) => several,
        };
        let labels = self.labels.unwrap_or_default().into_iter();
        Ok(Rule {
            is_glob,
            pattern: if is_glob { Pattern::glob(&self.r#match) } else { Pattern::regex(&self.r#match) }?,
            only,
            tags: self.match_tags.unwrap_or_default(),
            name: self.name,
            labels: labels.map(|(key, value)| Ok((key, plain(&value)?))).collect::<anyhow::Result<_>>()?,
            honor_labels: self.honor_labels.unwrap_or(false),
            drop: self.action.as_deref() == Some("drop"),
            scale: self.scale.filter(|scale| *scale != 0.0).unwrap_or(1.0),
            timer_per_second,
            up_down: self.counter_type.as_deref() == Some("up_down"),
            combine,
            copy: self.same_event.map(|same| Copy { event: Arc::from(same.name), rank: same.rank }),
            siblings: siblings.into_iter().map(|one| (one.label, one.values)).collect(),
            drop_tags: self.drop_tags.unwrap_or_default(),
            keep_tags: self.keep_tags,
            rename_tags: self.rename_tags.unwrap_or_default().into_iter().collect(),
        })
    }
}

/// A label value as text.
fn plain(value: &Value) -> anyhow::Result<String> {
    Ok(match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => String::new(),
        _ => anyhow::bail!("a label value that is no text"),
    })
}
