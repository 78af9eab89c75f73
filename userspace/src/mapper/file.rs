//! Tree of nodes -> rules and defaults as the file has them.
//!
//! Nothing is filled in here, and nothing compared with anything else; that is for
//! [`load`](super::load). What releases of statsd_exporter up to 0.30 took is taken, with a warning.

use super::problem::{RuleTag, Shown};
use super::rule::{CounterType, MetricType, ObserverType, RuleAction, TimerUnit, ZeroSiblings};
use super::tags::{SameEvent, TagChanges, TagMatch};
use super::value_keys;
use super::walk::{Field, Walk};
use super::yaml::{NodeId, Value};
use crate::registry::{Combine, LabelBudget, Quantile};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MatchType {
    #[default]
    Glob,
    Regex,
}

/// `summary_options`; `None` is what the file does not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SummaryText {
    pub(super) line: usize,
    pub(super) quantiles: Option<Vec<Quantile>>,
    pub(super) max_age_nanos: i64,
    pub(super) age_buckets: u32,
    pub(super) buf_cap: u32,
}

/// `histogram_options`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct HistogramText {
    pub(super) line: usize,
    pub(super) buckets: Option<Vec<f64>>,
    pub(super) native_factor: f64,
    pub(super) native_max_buckets: u32,
}

/// `defaults`.
#[derive(Clone, Debug, Default)]
pub(super) struct DefaultsText {
    pub(super) observer_type: Option<ObserverType>,
    pub(super) match_type: MatchType,
    pub(super) glob_disable_ordering: bool,
    pub(super) ttl_nanos: i64,
    pub(super) summary: SummaryText,
    pub(super) histogram: HistogramText,
    pub(super) max_series: Option<u32>,
    pub(super) label_budget: Option<LabelBudget>,
}

/// One entry of `mappings`.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleText {
    pub(super) line: usize,
    pub(super) pattern: String,
    pub(super) pattern_line: usize,
    pub(super) match_type: Option<MatchType>,
    pub(super) metric_type: Option<MetricType>,
    pub(super) name: String,
    pub(super) name_line: usize,
    /// Key, line of the key, template.
    pub(super) labels: Vec<(String, usize, String)>,
    pub(super) honor_labels: bool,
    pub(super) observer_type: Option<ObserverType>,
    pub(super) help: String,
    pub(super) action: RuleAction,
    pub(super) ttl_nanos: i64,
    pub(super) ttl_line: usize,
    pub(super) scale: Option<f64>,
    pub(super) summary: Option<SummaryText>,
    pub(super) histogram: Option<HistogramText>,
    pub(super) legacy_quantiles: Option<Vec<Quantile>>,
    pub(super) legacy_buckets: Option<Vec<f64>>,
    pub(super) counter: CounterType,
    pub(super) max_series: Option<u32>,
    pub(super) label_budget: Option<LabelBudget>,
    pub(super) combine: Option<Combine>,
    /// Line of the key, and nanoseconds.
    pub(super) gauge_expiry: Option<(usize, i64)>,
    pub(super) zero_siblings: Vec<ZeroSiblings>,
    pub(super) timer_unit: TimerUnit,
    pub(super) drop_repeats_within: Option<u32>,
    pub(super) tags: Option<TagMatch>,
    pub(super) tag_changes: TagChanges,
    pub(super) same_event: Option<SameEvent>,
}

/// A file.
#[derive(Debug, Default)]
pub(super) struct FileText {
    pub(super) defaults: DefaultsText,
    pub(super) rules: Vec<RuleText>,
}

/// Reads the document; what is wrong goes to the walk's report.
pub(super) fn read(walk: &mut Walk<'_>) -> FileText {
    let mut file = FileText::default();
    let Some(root) = walk.document.root else { return file };
    for field in walk.fields(root, "a mapping with `defaults` and `mappings`") {
        match field.key.as_str() {
            "defaults" => file.defaults = defaults(walk, field.value),
            "mappings" => {
                let items = walk.items(field.value, "a list of mapping rules");
                for (index, item) in items.iter().enumerate() {
                    file.rules.push(rule(walk, *item, index + 1));
                }
                walk.report.enter(None);
            }
            _ => walk.unknown(&field, "the file"),
        }
    }
    file
}

fn defaults(walk: &mut Walk<'_>, id: NodeId) -> DefaultsText {
    let mut defaults = DefaultsText::default();
    let (mut timer_type, mut buckets, mut quantiles) = (None, None, None);
    for field in walk.fields(id, "a mapping of defaults") {
        let value = field.value;
        match field.key.as_str() {
            "observer_type" => defaults.observer_type = observer_type(walk, value),
            "match_type" => defaults.match_type = match_type(walk, value).unwrap_or_default(),
            "glob_disable_ordering" => defaults.glob_disable_ordering = walk.flag(value),
            "ttl" => defaults.ttl_nanos = walk.duration_nanos(value).unwrap_or_default(),
            "summary_options" => defaults.summary = summary_options(walk, &field),
            "histogram_options" => defaults.histogram = histogram_options(walk, &field),
            "max_series" => defaults.max_series = max_series(walk, value),
            "max_series_per_label" => defaults.label_budget = value_keys::label_budget(walk, &field),
            "timer_type" => {
                legacy(walk, &field, "observer_type");
                timer_type = observer_type(walk, value);
            }
            "buckets" => {
                legacy(walk, &field, "histogram_options.buckets");
                buckets = Some(self::buckets(walk, value));
            }
            "quantiles" => {
                legacy(walk, &field, "summary_options.quantiles");
                quantiles = Some(self::quantiles(walk, value));
            }
            _ => walk.unknown(&field, "defaults"),
        }
    }
    defaults.observer_type = defaults.observer_type.or(timer_type);
    // The old lists took the place of all the options, and so they still do.
    if let Some(buckets) = buckets.filter(|buckets| !buckets.is_empty())
        && defaults.histogram.buckets.as_ref().is_none_or(Vec::is_empty)
    {
        defaults.histogram = HistogramText { buckets: Some(buckets), ..HistogramText::default() };
    }
    if let Some(quantiles) = quantiles.filter(|quantiles| !quantiles.is_empty())
        && defaults.summary.quantiles.as_ref().is_none_or(Vec::is_empty)
    {
        defaults.summary = SummaryText { quantiles: Some(quantiles), ..SummaryText::default() };
    }
    defaults
}

fn rule(walk: &mut Walk<'_>, id: NodeId, number: usize) -> RuleText {
    let line = walk.line(id);
    let mut rule =
        RuleText { line, pattern_line: line, name_line: line, ttl_line: line, ..RuleText::default() };
    let pattern = peek_pattern(walk, id);
    walk.report.enter(Some(RuleTag { number, pattern: pattern.into() }));
    let mut timer_type = None;
    for field in walk.fields(id, "a mapping rule") {
        let value = field.value;
        match field.key.as_str() {
            "match" => {
                rule.pattern = walk.text(value).unwrap_or_default();
                rule.pattern_line = field.line;
            }
            "match_type" => rule.match_type = match_type(walk, value),
            "match_metric_type" => rule.metric_type = metric_type(walk, value),
            "name" => {
                rule.name = walk.text(value).unwrap_or_default();
                rule.name_line = field.line;
            }
            "labels" => {
                for label in walk.fields_of(&field, "a mapping of labels") {
                    let template = walk.text(label.value).unwrap_or_default();
                    rule.labels.push((label.key, label.line, template));
                }
            }
            "honor_labels" => rule.honor_labels = walk.flag(value),
            "observer_type" => rule.observer_type = observer_type(walk, value),
            "help" => rule.help = walk.text(value).unwrap_or_default(),
            "action" => rule.action = action(walk, value),
            "ttl" => {
                rule.ttl_nanos = walk.duration_nanos(value).unwrap_or_default();
                rule.ttl_line = field.line;
            }
            "scale" => rule.scale = walk.float(value),
            "summary_options" if !walk.is_null(value) => rule.summary = Some(summary_options(walk, &field)),
            "histogram_options" if !walk.is_null(value) => {
                rule.histogram = Some(histogram_options(walk, &field));
            }
            "summary_options" | "histogram_options" => {}
            "counter_type" => rule.counter = counter_type(walk, value),
            "max_series" => rule.max_series = max_series(walk, value),
            "max_series_per_label" => rule.label_budget = value_keys::label_budget(walk, &field),
            "gauge_combine" => rule.combine = value_keys::combine(walk, value),
            "gauge_expiry" => {
                rule.gauge_expiry = walk.duration_nanos(value).map(|nanos| (field.line, nanos));
            }
            "zero_siblings" => rule.zero_siblings = value_keys::zero_siblings(walk, &field),
            "timer_unit" => rule.timer_unit = value_keys::timer_unit(walk, value),
            "drop_repeats_within" => rule.drop_repeats_within = value_keys::repeats_within(walk, &field),
            "match_tags" => rule.tags = TagMatch::read(walk, &field),
            "drop_tags" | "keep_tags" | "rename_tags" => rule.tag_changes.read(walk, &field),
            "same_event" => rule.same_event = SameEvent::read(walk, &field),
            "timer_type" => {
                legacy(walk, &field, "observer_type");
                timer_type = observer_type(walk, value);
            }
            "buckets" => {
                legacy(walk, &field, "histogram_options.buckets");
                rule.legacy_buckets = Some(buckets(walk, value));
            }
            "quantiles" => {
                legacy(walk, &field, "summary_options.quantiles");
                rule.legacy_quantiles = Some(quantiles(walk, value));
            }
            _ => walk.unknown(&field, "a mapping rule"),
        }
    }
    rule.observer_type = rule.observer_type.or(timer_type);
    rule
}

/// The pattern, before anything is reported about its rule.
fn peek_pattern(walk: &Walk<'_>, id: NodeId) -> String {
    let Value::Mapping(pairs) = &walk.document.node(id).value else { return String::new() };
    let text = |id: NodeId| match &walk.document.node(id).value {
        Value::Scalar(scalar) => Some(&*scalar.text),
        _ => None,
    };
    let pattern = pairs.iter().find(|(key, _)| text(*key) == Some("match"));
    pattern.and_then(|(_, value)| text(*value)).unwrap_or_default().to_owned()
}

fn legacy(walk: &mut Walk<'_>, field: &Field, instead: &str) {
    let text = format!("field {} not found in today's language; write {instead}", field.key);
    walk.report.warn(field.line, text);
}

fn summary_options(walk: &mut Walk<'_>, of: &Field) -> SummaryText {
    let mut options = SummaryText { line: walk.line(of.value), ..SummaryText::default() };
    for field in walk.fields_of(of, "a mapping of summary options") {
        match field.key.as_str() {
            "quantiles" => options.quantiles = Some(quantiles(walk, field.value)),
            "max_age" => options.max_age_nanos = walk.duration_nanos(field.value).unwrap_or_default(),
            "age_buckets" => options.age_buckets = walk.unsigned(field.value).unwrap_or_default(),
            "buf_cap" => options.buf_cap = walk.unsigned(field.value).unwrap_or_default(),
            _ => walk.unknown(&field, "summary_options"),
        }
    }
    if options.max_age_nanos < 0 {
        walk.report.warn(options.line, "max_age is negative; the default of 10m holds");
        options.max_age_nanos = 0;
    }
    options
}

fn histogram_options(walk: &mut Walk<'_>, of: &Field) -> HistogramText {
    let mut options = HistogramText { line: walk.line(of.value), ..HistogramText::default() };
    for field in walk.fields_of(of, "a mapping of histogram options") {
        match field.key.as_str() {
            "buckets" => options.buckets = Some(buckets(walk, field.value)),
            "native_histogram_bucket_factor" => {
                options.native_factor = walk.float(field.value).unwrap_or_default();
            }
            "native_histogram_max_buckets" => {
                options.native_max_buckets = walk.unsigned(field.value).unwrap_or_default();
            }
            _ => walk.unknown(&field, "histogram_options"),
        }
    }
    options
}

/// Ascending, each once.
fn buckets(walk: &mut Walk<'_>, id: NodeId) -> Vec<f64> {
    let mut buckets = Vec::new();
    for item in walk.items(id, "a list of numbers") {
        buckets.push(walk.float(*item).unwrap_or_default());
    }
    if buckets.iter().any(|bound| bound.is_nan()) {
        walk.report.warn(walk.line(id), "a bucket is .nan; it is left out");
        buckets.retain(|bound| !bound.is_nan());
    }
    if !buckets.is_sorted_by(|a, b| a < b) {
        walk.report.warn(walk.line(id), "buckets do not ascend; they are sorted, and each taken once");
        buckets.sort_by(f64::total_cmp);
        buckets.dedup();
    }
    buckets
}

fn quantiles(walk: &mut Walk<'_>, id: NodeId) -> Vec<Quantile> {
    let mut quantiles: Vec<Quantile> = Vec::new();
    for &item in walk.items(id, "a list of quantiles") {
        let mut entry = Quantile { quantile: 0.0, error: 0.0 };
        for field in walk.fields(item, "a mapping with `quantile` and `error`") {
            match field.key.as_str() {
                "quantile" => entry.quantile = walk.float(field.value).unwrap_or_default(),
                "error" => entry.error = walk.float(field.value).unwrap_or_default(),
                _ => walk.unknown(&field, "quantiles"),
            }
        }
        let line = walk.line(item);
        if !(0.0..=1.0).contains(&entry.quantile) {
            walk.report
                .warn(line, format!("quantile {} is not within 0 and 1; it is left out", entry.quantile));
            continue;
        }
        if !(0.0..=1.0).contains(&entry.error) {
            let text = format!("error {} is not within 0 and 1; 0.001 holds", entry.error);
            walk.report.warn(line, text);
            entry.error = 0.001;
        }
        // Of two entries for one quantile the later one holds.
        quantiles.retain(|other| other.quantile != entry.quantile);
        quantiles.push(entry);
    }
    quantiles
}

/// The empty text is the default said out loud; null says nothing.
fn observer_type(walk: &mut Walk<'_>, id: NodeId) -> Option<ObserverType> {
    match walk.word(id)?.as_str() {
        "" | "summary" => Some(ObserverType::Summary),
        "histogram" => Some(ObserverType::Histogram),
        other => invalid(walk, id, "observer type", other, "summary or histogram"),
    }
}

fn match_type(walk: &mut Walk<'_>, id: NodeId) -> Option<MatchType> {
    match walk.word(id)?.as_str() {
        "" | "glob" => Some(MatchType::Glob),
        "regex" => Some(MatchType::Regex),
        other => invalid(walk, id, "match type", other, "glob or regex"),
    }
}

fn metric_type(walk: &mut Walk<'_>, id: NodeId) -> Option<MetricType> {
    match walk.word(id)?.as_str() {
        "counter" => Some(MetricType::Counter),
        "gauge" => Some(MetricType::Gauge),
        "observer" => Some(MetricType::Observer),
        "timer" => {
            let text = "invalid metric type 'timer' in today's language; write observer";
            walk.report.warn(walk.line(id), text);
            Some(MetricType::Observer)
        }
        other => invalid(walk, id, "metric type", other, "counter, gauge or observer"),
    }
}

fn action(walk: &mut Walk<'_>, id: NodeId) -> RuleAction {
    match walk.word(id).as_deref() {
        None | Some("" | "map") => RuleAction::Map,
        Some("drop") => RuleAction::Drop,
        Some(other) => invalid(walk, id, "action type", other, "map or drop").unwrap_or_default(),
    }
}

fn counter_type(walk: &mut Walk<'_>, id: NodeId) -> CounterType {
    match walk.word(id).as_deref() {
        None | Some("counter") => CounterType::Counter,
        Some("up_down") => CounterType::UpDown,
        Some(other) => invalid(walk, id, "counter type", other, "counter or up_down").unwrap_or_default(),
    }
}

fn max_series(walk: &mut Walk<'_>, id: NodeId) -> Option<u32> {
    let number = walk.unsigned(id)?;
    if number == 0 {
        walk.report.error(walk.line(id), "max_series is 0; write action: drop, or a number from 1");
    }
    Some(number)
}

pub(super) fn invalid<T>(walk: &mut Walk<'_>, id: NodeId, kind: &str, word: &str, known: &str) -> Option<T> {
    let text = format!("invalid {kind} '{}'; write {known}", Shown(word));
    walk.report.error(walk.line(id), text);
    None
}
