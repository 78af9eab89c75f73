//! A line of the text format <-> a series, written in one way only.

/// A series as text, its labels sorted.
#[must_use]
pub fn series(name: &str, suffix: &str, labels: &[(String, String)]) -> String {
    let mut labels: Vec<(&str, String)> =
        labels.iter().map(|(key, value)| (key.as_str(), escape_value(value))).collect();
    labels.sort();
    join(format!("{name}{suffix}"), &labels)
}

fn join(mut text: String, labels: &[(&str, String)]) -> String {
    for (place, (key, value)) in labels.iter().enumerate() {
        text.push(if place == 0 { '{' } else { ',' });
        text.push_str(key);
        text.push_str("=\"");
        text.push_str(value);
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
    text
}

/// Every character that Prometheus does not take in a name becomes `_`.
#[must_use]
pub fn escaped(name: &str) -> String {
    let mut text: String = name
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || character == '_' { character } else { '_' })
        .collect();
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        text.insert(0, '_');
    }
    text
}

fn escape_value(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A line of the text format as its series, labels sorted, and its value.
#[must_use]
pub fn sample(line: &str) -> Option<(String, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (series, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let end = rest.rfind('}')?;
            let mut labels = labels(&rest[..end])?;
            labels.sort();
            (join(name.to_owned(), &labels), &rest[end + 1..])
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name.to_owned(), rest)
        }
    };
    let value = rest.split_whitespace().next()?;
    Some((series, value.parse().ok()?))
}

/// `a="b",c="d"`, the values still escaped.
fn labels(mut text: &str) -> Option<Vec<(&str, String)>> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (key, rest) = text.split_once("=\"")?;
        let mut escaping = false;
        let end = rest.find(|character| {
            let ends = character == '"' && !escaping;
            escaping = character == '\\' && !escaping;
            ends
        })?;
        labels.push((key, rest[..end].to_owned()));
        text = rest[end + 1..].trim_start_matches(',');
    }
    Some(labels)
}

/// Equal but for the last digits, in which sums of decimals depend on their order.
#[must_use]
pub fn same(one: f64, other: f64) -> bool {
    one == other
        || (one.is_nan() && other.is_nan())
        || (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
}
