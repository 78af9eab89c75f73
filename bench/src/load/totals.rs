//! Sent lines -> what any server must have counted: an exact total per line identity.
//!
//! Reads lines by code of its own, on purpose: what is to judge a server must not share its parser.

use std::collections::BTreeMap;

/// What a line does to its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineType {
    Counter,
    Gauge,
    /// A timer, histogram or distribution.
    Observer,
}

/// Name, tags and type of a line: all but its value. Tags are sorted by key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    pub name: String,
    pub tags: Vec<(String, String)>,
    pub line_type: LineType,
}

/// What the lines of one identity add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LineTotal {
    pub lines: u64,
    /// Lines that count nothing: a counter may not fall.
    pub refused: u64,
    /// Of counters, each scaled by its rate.
    pub sum: f64,
    /// Of observers, each line counted as often as its rate says.
    pub observations: f64,
    /// Of gauges: after the newest line.
    pub last: f64,
    /// The number of the newest line, among all.
    pub newest: u64,
}

/// Totals of all identities.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    identities: BTreeMap<Identity, LineTotal>,
    lines: u64,
    malformed: u64,
}

impl Totals {
    /// Adds the lines of one datagram.
    pub fn add(&mut self, datagram: &[u8]) {
        for line in datagram.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            self.lines += 1;
            match read(line) {
                Some((identity, value)) => self.add_line(identity, value),
                None => self.malformed += 1,
            }
        }
    }

    fn add_line(&mut self, identity: Identity, value: Value) {
        let line_type = identity.line_type;
        let total = self.identities.entry(identity).or_default();
        total.lines += 1;
        total.newest = self.lines;
        match line_type {
            LineType::Counter if value.number < 0.0 => total.refused += 1,
            LineType::Counter => total.sum += value.number / value.rate,
            LineType::Gauge if value.signed => total.last += value.number,
            LineType::Gauge => total.last = value.number,
            LineType::Observer => total.observations += (1.0 / value.rate).floor(),
        }
    }

    /// As if all that was added had been added `rounds` times over, one after the other. Exact where a
    /// gauge that is changed by a sign is set to an absolute value in each round, too, as Airflow does.
    pub(super) fn repeat(&mut self, rounds: u64) {
        let before = (rounds - 1) * self.lines;
        #[expect(clippy::cast_precision_loss, reason = "rounds of a table: far below 2^53")]
        let times = rounds as f64;
        for total in self.identities.values_mut() {
            total.lines *= rounds;
            total.refused *= rounds;
            total.sum *= times;
            total.observations *= times;
            total.newest += before;
        }
        self.lines *= rounds;
        self.malformed *= rounds;
    }

    /// All identities with their totals.
    pub fn iter(&self) -> impl Iterator<Item = (&Identity, &LineTotal)> {
        self.identities.iter()
    }

    /// Lines, the malformed among them.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Different lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.identities.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    /// Lines by type.
    #[must_use]
    pub fn lines_of(&self, line_type: LineType) -> u64 {
        let of_type = self.iter().filter(|(identity, _)| identity.line_type == line_type);
        of_type.map(|(_, total)| total.lines).sum()
    }

    /// The samples that a server without a mapping file has to expose: counters with their sums,
    /// `_count` of observers, gauges with their last value. Identities that come to one series after
    /// the escaping of their names are put together.
    #[must_use]
    pub fn exposition(&self) -> BTreeMap<String, f64> {
        let mut samples: BTreeMap<String, (f64, u64)> = BTreeMap::new();
        for (identity, total) in self.iter() {
            let suffix = if identity.line_type == LineType::Observer { "_count" } else { "" };
            let series = series(&identity.name, suffix, &identity.tags);
            match identity.line_type {
                LineType::Counter if total.lines == total.refused => {}
                LineType::Counter => samples.entry(series).or_default().0 += total.sum,
                LineType::Observer => samples.entry(series).or_default().0 += total.observations,
                LineType::Gauge => {
                    let sample = samples.entry(series).or_default();
                    if total.newest >= sample.1 {
                        *sample = (total.last, total.newest);
                    }
                }
            }
        }
        samples.into_iter().map(|(series, (value, _))| (series, value)).collect()
    }

    /// Where an exposition in the text format differs from what was sent, at most `most` of it; empty
    /// if all is there, and right. What else the server exposes is not looked at.
    #[must_use]
    pub fn differences(&self, exposition: &str, most: usize) -> Vec<String> {
        let shown: BTreeMap<String, f64> = exposition.lines().filter_map(sample).collect();
        let wrong = self.exposition().into_iter().filter_map(|(series, wanted)| match shown.get(&series) {
            None => Some(format!("{series}: not exposed, {wanted} expected")),
            Some(value) if same(*value, wanted) => None,
            Some(value) => Some(format!("{series}: {value}, {wanted} expected")),
        });
        wrong.take(most).collect()
    }
}

/// Sums of decimals depend on their order in the last digits.
fn same(one: f64, other: f64) -> bool {
    one == other
        || (one.is_nan() && other.is_nan())
        || (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
}

struct Value {
    number: f64,
    /// A gauge's sign makes it a change.
    signed: bool,
    rate: f64,
}

fn read(line: &[u8]) -> Option<(Identity, Value)> {
    let line = std::str::from_utf8(line).ok()?;
    let (name, sample) = line.split_once(':')?;
    let mut parts = sample.split('|');
    let (value, kind) = (parts.next()?, parts.next()?);
    let line_type = match kind {
        "c" => LineType::Counter,
        "g" => LineType::Gauge,
        "ms" | "h" | "d" => LineType::Observer,
        _ => return None,
    };
    let mut words = name.split(',');
    let mut identity = Identity { name: words.next()?.to_owned(), tags: Vec::new(), line_type };
    for word in words {
        let (key, value) = word.split_once('=')?;
        identity.tags.push((key.to_owned(), value.to_owned()));
    }
    let mut rate = 1.0;
    for part in parts {
        if let Some(text) = part.strip_prefix('@') {
            // A sampled gauge is a gauge.
            let sampled: f64 = text.parse().ok()?;
            rate = if line_type == LineType::Gauge || sampled <= 0.0 { 1.0 } else { sampled };
        } else if let Some(tags) = part.strip_prefix('#') {
            for tag in tags.split(',') {
                let (key, value) = tag.split_once(':')?;
                identity.tags.push((key.to_owned(), value.to_owned()));
            }
        }
    }
    identity.tags.sort();
    let signed = line_type == LineType::Gauge && value.starts_with(['+', '-']);
    Some((identity, Value { number: value.parse().ok()?, signed, rate }))
}

fn series(name: &str, suffix: &str, tags: &[(String, String)]) -> String {
    let mut text = escaped(name);
    text.push_str(suffix);
    let mut labels: Vec<(String, &str)> =
        tags.iter().map(|(key, value)| (escaped(key), value.as_str())).collect();
    labels.sort();
    join(text, labels.iter().map(|(key, value)| (key.as_str(), escape_value(value))))
}

fn join<'a>(mut text: String, labels: impl Iterator<Item = (&'a str, String)>) -> String {
    for (place, (key, value)) in labels.enumerate() {
        text.push(if place == 0 { '{' } else { ',' });
        text.push_str(&format!("{key}=\"{value}\""));
    }
    if text.contains('{') {
        text.push('}');
    }
    text
}

/// Every character that Prometheus does not take in a name becomes `_`.
fn escaped(name: &str) -> String {
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
fn sample(line: &str) -> Option<(String, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (series, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let end = rest.rfind('}')?;
            let mut labels = labels(&rest[..end])?;
            labels.sort();
            let series = join(name.to_owned(), labels.into_iter());
            (series, &rest[end + 1..])
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

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(lines: &[&str]) -> Totals {
        let mut totals = Totals::default();
        lines.iter().for_each(|line| totals.add(line.as_bytes()));
        totals
    }

    #[track_caller]
    fn check(lines: &[&str], expected: &[(&str, f64)]) {
        let expected: BTreeMap<String, f64> =
            expected.iter().map(|(series, value)| ((*series).to_owned(), *value)).collect();
        assert_eq!(totals(lines).exposition(), expected);
    }

    #[test]
    fn counters_are_summed_and_refused_below_zero() {
        check(&["a.b:1|c", "a.b:0|c", "a.b:3|c|@0.5", "a.b:-1|c", "n:-1|c"], &[("a_b", 7.0)]);
    }

    #[test]
    fn gauges_keep_the_last_and_take_signs_as_changes() {
        check(&["g:5|g", "g:0|g\ng:-4|g", "h:inf|g|@0.1", "h:2.5|g|@0.1"], &[("g", -4.0), ("h", 2.5)]);
        // Two identities, one series: the newest line of both.
        check(&["a-b:1|g", "a_b:2|g", "a-b:3|g"], &[("a_b", 3.0)]);
    }

    #[test]
    fn tags_of_both_dialects_become_labels() {
        let expected = [("t_count{dag_id=\"a.b\",env=\"x\"}", 1.0), ("t_count{k=\"v\"}", 2.0)];
        check(&["t:1.5|ms|#env:x,dag_id:a.b\n", "t,k=v:1|ms", "t,k=v:2|ms"], &expected);
    }

    #[test]
    fn rounds_count_as_if_sent_over_and_over() {
        let mut totals = totals(&["c:2|c", "g:1|g", "g:7|g", "t:1|ms", "bad"]);
        totals.repeat(3);
        let wanted = [("c".to_owned(), 6.0), ("g".to_owned(), 7.0), ("t_count".to_owned(), 3.0)];
        assert_eq!(totals.exposition(), BTreeMap::from(wanted));
        assert_eq!((totals.lines(), totals.malformed()), (15, 3));
    }

    #[test]
    fn an_exposition_is_compared_series_by_series() {
        let totals = totals(&["c:2|c|#b:2,a:1", "g:1|g", "t:4|ms"]);
        let right = "# TYPE c counter\nc{b=\"2\",a=\"1\"} 2\ng 1\nt_sum 0.004\nt_count 1\nother 9\n";
        assert_eq!(totals.differences(right, 9), Vec::<String>::new());
        let wrong = "c{a=\"1\",b=\"2\"} 3\nt_count 1\n";
        assert_eq!(totals.differences(wrong, 9).len(), 2);
    }
}
