//! Exposition text + expectation -> what differs.

use std::collections::BTreeMap;

use super::Expected;
use super::totals::{Labels, QUANTILES, Series, Type};

/// Families that a daemon shows about itself.
const OWN: [&str; 6] =
    ["statsd_exporter_", "rotameter_", "process_", "go_", "promhttp_", "statsd_metric_mapper_"];

/// How far a sum may be off where the order of its parts is free.
const ORDER_FREE_ERROR: f64 = 1e-9;

/// An exposition, read back: what a text says, and no more.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Family name -> the word after `# TYPE`.
    pub types: BTreeMap<String, String>,
    /// Name and labels of each line -> its value.
    pub lines: BTreeMap<(String, Labels), f64>,
}

impl Exposition {
    /// Reads the text format 0.0.4, as far as it is used here: no timestamps.
    ///
    /// # Errors
    ///
    /// The lines that could not be read, or came twice.
    pub fn read(text: &str) -> Result<Self, Vec<String>> {
        let (mut exposition, mut errors) = (Self::default(), Vec::new());
        if !text.is_empty() && !text.ends_with('\n') {
            errors.push("the last line is not complete".to_owned());
        }
        // Only `\n` ends a line; a label value may hold a `\r`.
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            let read = if let Some(comment) = line.strip_prefix("# TYPE ") {
                comment.split_once(' ').is_some_and(|(name, kind)| {
                    exposition.types.insert(name.to_owned(), kind.to_owned()).is_none()
                })
            } else if line.starts_with('#') {
                true
            } else {
                series_line(line).is_some_and(|(key, value)| exposition.lines.insert(key, value).is_none())
            };
            if !read {
                errors.push(format!("unreadable, or there twice: {line}"));
            }
        }
        if errors.is_empty() { Ok(exposition) } else { Err(errors) }
    }
}

/// `name{key="value",...} number`
fn series_line(line: &str) -> Option<((String, Labels), f64)> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Labels::new();
    if let Some(after) = rest.strip_prefix('{') {
        rest = after;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            if labels.insert(key.to_owned(), value).is_some() {
                return None;
            }
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = match rest.strip_prefix(' ')? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number if number.starts_with(|first: char| first.is_ascii_digit() || first == '-') => {
            number.parse().ok()?
        }
        _ => return None,
    };
    Some(((name.to_owned(), labels), value))
}

/// The label value that ends at the next bare `"`, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other @ ('\\' | '"') => other,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}

fn is_own(name: &str) -> bool {
    OWN.iter().any(|prefix| name.starts_with(prefix))
}

impl Expected {
    /// Holds `exposition_text` against what was sent. Only the families of senders count, and all of
    /// theirs must be there with nothing else: type, label sets, values.
    ///
    /// # Errors
    ///
    /// One sentence per difference.
    pub fn compare(&self, exposition_text: &str) -> Result<(), Vec<String>> {
        let mut shown = Exposition::read(exposition_text)?;
        shown.types.retain(|name, _| !is_own(name));
        shown.lines.retain(|(name, _), _| !is_own(name));
        let mut differences = Vec::new();
        for (name, family) in self.totals.families.iter().filter(|(name, _)| !is_own(name)) {
            let kind = shown.types.remove(name);
            if kind.as_deref() != Some(family.kind.name()) {
                differences.push(format!("{name}: type is {kind:?}, not {}", family.kind.name()));
            }
            for (labels, series) in &family.series {
                self.compare_series(name, family.kind, labels, series, &mut shown, &mut differences);
            }
        }
        differences.extend(shown.types.keys().map(|name| format!("{name}: family was not sent")));
        differences
            .extend(shown.lines.keys().map(|(name, labels)| format!("{name}{labels:?}: was not sent")));
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    }

    fn compare_series(
        &self,
        name: &str,
        kind: Type,
        labels: &Labels,
        series: &Series,
        shown: &mut Exposition,
        differences: &mut Vec<String>,
    ) {
        let mut take = |name: String, labels: Labels, check: &dyn Fn(f64) -> Result<(), String>| {
            let text = format!("{name}{labels:?}");
            let checked = match shown.lines.remove(&(name, labels)) {
                Some(value) => check(value),
                None => Err("is missing".to_owned()),
            };
            differences.extend(checked.err().map(|error| format!("{text}: {error}")));
        };
        let sum = |value| same(value, series.value, self.order_free);
        match kind {
            Type::Counter => take(name.to_owned(), labels.clone(), &sum),
            Type::Gauge => take(name.to_owned(), labels.clone(), &|value| same(value, series.value, false)),
            Type::Summary => {
                for (q, error) in QUANTILES {
                    let mut labels = labels.clone();
                    labels.insert("quantile".to_owned(), q.to_string());
                    take(name.to_owned(), labels, &|value| series.check_quantile(q, error, value));
                }
                take(format!("{name}_sum"), labels.clone(), &sum);
                let count = series.count() as f64;
                take(format!("{name}_count"), labels.clone(), &|value| same(value, count, false));
            }
        }
    }
}

fn same(shown: f64, expected: f64, rounding: bool) -> Result<(), String> {
    let near = rounding && (shown - expected).abs() <= ORDER_FREE_ERROR * expected.abs();
    if shown == expected || (shown.is_nan() && expected.is_nan()) || near {
        return Ok(());
    }
    Err(format!("is {shown}, not {expected}"))
}
