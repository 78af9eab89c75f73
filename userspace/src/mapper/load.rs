//! Rules as the file has them -> checked rules with the defaults filled in.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use super::Mapper;
use super::file::{self, DefaultsText, FileText, HistogramText, MatchType, RuleText, SummaryText};
use super::glob::Glob;
use super::machine::Machine;
use super::problem::{LoadError, Problem, Report, RuleTag, Shown, Warning};
use super::regex::Regexes;
use super::rule::{DEFAULT_HELP, MetricType, ObserverType, Rule, SeriesOptions};
use super::template::Template;
use super::value_keys;
use super::walk::Walk;
use super::yaml::Document;
use crate::line::escape::escape_name;
use crate::registry::{HistogramOptions, Quantile, SummaryOptions};

/// A rule takes some 200 bytes.
const FILE_BYTES_MAX: usize = 16 << 20;

/// How a mapping file is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Whatever would be a warning is an error.
    pub strict: bool,
}

/// A mapping file that was taken.
#[derive(Debug)]
pub struct Loaded {
    pub mapper: Mapper,
    pub warnings: Vec<Warning>,
}

pub(super) fn load(path: &Path, options: LoadOptions) -> Result<Loaded, LoadError> {
    let read_error = |source| LoadError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read_error)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(read_error)?;
    from_bytes(&bytes, &path.display().to_string(), options)
}

/// Any bytes: a file is foreign.
pub(super) fn from_bytes(bytes: &[u8], file_name: &str, options: LoadOptions) -> Result<Loaded, LoadError> {
    let file = file_name.to_owned();
    if bytes.len() > FILE_BYTES_MAX {
        return Err(LoadError::TooLarge { file, bytes_max: FILE_BYTES_MAX });
    }
    let invalid = |line, text| {
        let problems = vec![Problem { line, rule: None, text }];
        Err(LoadError::Invalid { file: file.clone(), problems })
    };
    let text = match simdutf8::compat::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            return invalid(line, "yaml: not UTF-8; convert the file".to_owned());
        }
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => return invalid(error.line, error.to_string()),
    };
    let mut report = Report::new(options.strict);
    let text = file::read(&mut Walk { document: &document, report: &mut report });
    let mapper = check(text, &mut report);
    if report.problems.is_empty() {
        Ok(Loaded { mapper, warnings: report.warnings })
    } else {
        // A warning about the same rule often is the reason: a key with a typing error.
        let of_rules: Vec<_> = report.problems.iter().filter_map(|problem| problem.rule.clone()).collect();
        let reasons = report
            .warnings
            .into_iter()
            .filter(|warning| warning.rule.as_ref().is_some_and(|rule| of_rules.contains(rule)));
        report
            .problems
            .extend(reasons.map(|warning| Problem { text: format!("warning: {}", warning.text), ..warning }));
        report.problems.sort_by_key(|problem| problem.line);
        Err(LoadError::Invalid { file, problems: report.problems })
    }
}

fn check(file: FileText, report: &mut Report) -> Mapper {
    let defaults = &file.defaults;
    if defaults.ttl_nanos < 0 {
        report.warn(
            0,
            "defaults.ttl is negative; unmapped series leave at the next sweep, and rules have none",
        );
    }
    let mut mapper = Mapper {
        rules: Vec::with_capacity(file.rules.len()),
        unmapped: SeriesOptions {
            help: DEFAULT_HELP.into(),
            observer: defaults.observer_type.unwrap_or_default(),
            ttl: ttl(defaults.ttl_nanos),
            summary: unmapped_summary(&defaults.summary),
            histogram: histogram(None, defaults),
            max_series: defaults.max_series,
            label_budget: defaults.label_budget.clone(),
            sender_gauge: None,
        },
        machine: Machine::new(!defaults.glob_disable_ordering),
        regexes: Regexes::default(),
        under: None,
    };
    for (number, rule) in file.rules.into_iter().enumerate() {
        report.enter(Some(RuleTag { number: number + 1, pattern: rule.pattern.as_str().into() }));
        let rule = check_rule(number, rule, &file.defaults, &mut mapper, report);
        mapper.rules.push(rule);
    }
    report.enter(None);
    mapper.regexes.finish();
    mapper
}

fn check_rule(
    number: usize,
    mut text: RuleText,
    defaults: &DefaultsText,
    mapper: &mut Mapper,
    report: &mut Report,
) -> Rule {
    let observer = text.observer_type.or(defaults.observer_type);
    check_options(&mut text, observer, report);
    check_labels(&mut text, observer.unwrap_or_default(), report);
    check_name(&text, report);
    let (name, labels) = if text.match_type.unwrap_or(defaults.match_type) == MatchType::Glob {
        let glob = Glob::parse(&text.pattern);
        if glob.is_none() {
            report.error(
                text.pattern_line,
                format!(
                    "invalid match: {}; write segments of letters, digits, _, - and *, joined by dots, the first \
                     without a digit in front, or match_type: regex",
                    Shown(&text.pattern)
                ),
            );
        }
        let captures = glob.as_ref().map_or(0, Glob::captures);
        mapper.machine.add(glob, text.metric_type, text.tags.is_some());
        templates(&text, |template| Template::for_glob(template, captures))
    } else {
        mapper.machine.add(None, None, false);
        let names = match mapper.regexes.add(number, &text.pattern, text.metric_type) {
            Ok(names) => names,
            Err(error) => {
                let text_of = format!("invalid regex {} in mapping: {error}", Shown(&text.pattern));
                report.error(text.pattern_line, text_of);
                Vec::new()
            }
        };
        templates(&text, |template| Template::for_regex(template, &names))
    };
    if text.ttl_nanos < 0 {
        report.warn(text.ttl_line, "ttl is negative; its series leave at the next sweep");
    }
    let sender_gauge = value_keys::sender_gauge(&text, report);
    // A rule cannot opt out of a default: 0 is as good as nothing.
    let ttl_nanos =
        if text.ttl_nanos == 0 && defaults.ttl_nanos > 0 { defaults.ttl_nanos } else { text.ttl_nanos };
    Rule {
        number,
        profile: None,
        line: text.line,
        metric_type: text.metric_type,
        tags: text.tags,
        action: text.action,
        constant_name: name.constant().map(|name| {
            let mut escaped = String::new();
            escape_name(name, &mut escaped);
            escaped.into()
        }),
        name,
        labels,
        honor_labels: text.honor_labels,
        tag_changes: text.tag_changes,
        same_event: text.same_event,
        counter: text.counter,
        scale: text.scale,
        timer_unit: text.timer_unit,
        drop_repeats_within: text.drop_repeats_within,
        zero_siblings: text.zero_siblings,
        series: SeriesOptions {
            help: if text.help.is_empty() { DEFAULT_HELP.into() } else { text.help.into() },
            observer: observer.unwrap_or_default(),
            ttl: ttl(ttl_nanos),
            summary: summary(text.summary.as_ref(), observer, &defaults.summary),
            histogram: histogram(text.histogram.as_ref(), defaults),
            max_series: text.max_series.or(defaults.max_series),
            label_budget: text.label_budget.or_else(|| defaults.label_budget.clone()),
            sender_gauge,
        },
        pattern: text.pattern.into(),
    }
}

type Templates = (Template, Vec<(Box<str>, Template)>);

fn templates(text: &RuleText, make: impl Fn(&str) -> Template) -> Templates {
    let labels = text.labels.iter().map(|(key, _, template)| (key.as_str().into(), make(template)));
    (make(&text.name), labels.collect())
}

/// Options of the other observer type, and old lists beside the new ones, cannot both be meant.
fn check_options(text: &mut RuleText, observer: Option<ObserverType>, report: &mut Report) {
    if let Some(summary) = &text.summary {
        if observer == Some(ObserverType::Histogram) {
            report.error(
                summary.line,
                "cannot use histogram observer and summary options at the same time; write histogram_options, or \
                 observer_type: summary",
            );
        }
        if summary.quantiles.is_some() && text.legacy_quantiles.is_some() {
            report.error(
                summary.line,
                "cannot use quantiles in both the top level and summary options at the same time; leave the ones in \
                 summary_options",
            );
        }
    }
    if let Some(histogram) = &text.histogram {
        if observer == Some(ObserverType::Summary) {
            report.error(
                histogram.line,
                "cannot use summary observer and histogram options at the same time; write summary_options, or \
                 observer_type: histogram",
            );
        }
        if histogram.buckets.is_some() && text.legacy_buckets.is_some() {
            report.error(
                histogram.line,
                "cannot use buckets in both the top level and histogram options at the same time; leave the ones in \
                 histogram_options",
            );
        }
    }
    // The old lists only ever counted for the type that was set.
    match observer {
        Some(ObserverType::Summary) => {
            if let Some(quantiles) = text.legacy_quantiles.take().filter(|list| !list.is_empty()) {
                text.summary.get_or_insert_default().quantiles = Some(quantiles);
            }
        }
        Some(ObserverType::Histogram) => {
            if let Some(buckets) = text.legacy_buckets.take().filter(|list| !list.is_empty()) {
                text.histogram.get_or_insert_default().buckets = Some(buckets);
            }
        }
        None => {}
    }
}

fn check_labels(text: &mut RuleText, observer: ObserverType, report: &mut Report) {
    let bucket_label = if observer == ObserverType::Histogram { "le" } else { "quantile" };
    let metric_type = text.metric_type;
    text.labels.retain(|(key, line, _)| {
        let mut bytes = key.bytes();
        let good_start = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if key.len() < 2 || !good_start || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            report.error(
                *line,
                format!(
                    "invalid label key: {}; write two or more letters, digits and _, without a digit in front",
                    Shown(key)
                ),
            );
        } else if key.starts_with("__") {
            let text = format!("label {} is reserved by Prometheus; it is left out, rename it", Shown(key));
            report.warn(*line, text);
            return false;
        } else if key == bucket_label && metric_type == Some(MetricType::Observer) {
            let text = format!("label {key} is what Prometheus tells its buckets or quantiles by; it is left out");
            report.warn(*line, text);
            return false;
        } else if key == bucket_label && metric_type.is_none() {
            let text = format!("label {key} is reserved where the rule meets a timer; those events are refused");
            report.warn(*line, text);
        }
        true
    });
}

fn check_name(text: &RuleText, report: &mut Report) {
    if text.name.is_empty() {
        report.error(text.name_line, "metric mapping didn't set a metric name; add name: ...");
    } else if !is_name_template(&text.name) {
        report.error(
            text.name_line,
            format!(
                "metric name '{}' doesn't match regex: write letters, digits, _ and references such as ${{1}}, without a \
                 digit in front",
                Shown(&text.name)
            ),
        );
    }
}

/// Letters, digits, `_` and numbered references; not a digit in front.
fn is_name_template(name: &str) -> bool {
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'$' {
            let after = after.strip_prefix(b"{").unwrap_or(after);
            let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return false;
            }
            let after = &after[digits..];
            rest = after.strip_prefix(b"}").unwrap_or(after);
        } else {
            let at_start = rest.len() == name.len();
            if !(first.is_ascii_alphabetic() || *first == b'_' || (first.is_ascii_digit() && !at_start)) {
                return false;
            }
            rest = after;
        }
    }
    true
}

/// Below zero means gone at once, which a nanosecond is, too.
fn ttl(nanos: i64) -> Option<Duration> {
    match nanos {
        0 => None,
        _ => Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(1))),
    }
}

fn summary(
    own: Option<&SummaryText>,
    observer: Option<ObserverType>,
    defaults: &SummaryText,
) -> SummaryOptions {
    let Some(own) = own else { return unmapped_summary(defaults) };
    let quantiles = own.quantiles.as_ref().filter(|list| !list.is_empty()).or(defaults.quantiles.as_ref());
    // As in statsd_exporter: with no observer type anywhere, the other defaults do not come in.
    let fill = if observer.is_some() { defaults } else { &SummaryText::default() };
    let or = |own: u32, other: u32| if own == 0 { other } else { own };
    let max_age_nanos = if own.max_age_nanos == 0 { fill.max_age_nanos } else { own.max_age_nanos };
    summary_options(
        quantiles,
        max_age_nanos,
        or(own.age_buckets, fill.age_buckets),
        or(own.buf_cap, fill.buf_cap),
    )
}

fn unmapped_summary(defaults: &SummaryText) -> SummaryOptions {
    let SummaryText { quantiles, max_age_nanos, age_buckets, buf_cap, .. } = defaults;
    summary_options(quantiles.as_ref(), *max_age_nanos, *age_buckets, *buf_cap)
}

fn summary_options(
    quantiles: Option<&Vec<Quantile>>,
    max_age_nanos: i64,
    age_buckets: u32,
    buf_cap: u32,
) -> SummaryOptions {
    let mut options = SummaryOptions::default();
    if let Some(quantiles) = quantiles.filter(|list| !list.is_empty()) {
        options.quantiles.clone_from(quantiles);
    }
    match u64::try_from(max_age_nanos) {
        Ok(0) | Err(_) => {}
        Ok(nanos) => options.max_age = Duration::from_nanos(nanos),
    }
    if age_buckets > 0 {
        options.age_buckets = age_buckets;
    }
    if buf_cap > 0 {
        options.buf_cap = buf_cap;
    }
    options
}

fn histogram(own: Option<&HistogramText>, defaults: &DefaultsText) -> HistogramOptions {
    let defaults = &defaults.histogram;
    let own_buckets = own.and_then(|own| own.buckets.as_ref()).filter(|list| !list.is_empty());
    let mut options = HistogramOptions::default();
    if let Some(buckets) = own_buckets.or(defaults.buckets.as_ref().filter(|list| !list.is_empty())) {
        options.buckets.clone_from(buckets);
    }
    // Zero is as good as nothing; one or less, but not zero, switches native buckets off.
    if let Some(factor) = own.map(|own| own.native_factor).filter(|factor| *factor > 0.0) {
        options.native_bucket_factor = factor;
    } else if defaults.native_factor != 0.0 {
        options.native_bucket_factor = defaults.native_factor;
    }
    let own_max = own.map_or(0, |own| own.native_max_buckets);
    if let Some(max) = [own_max, defaults.native_max_buckets].into_iter().find(|max| *max > 0) {
        options.native_max_buckets = max;
    }
    options
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
