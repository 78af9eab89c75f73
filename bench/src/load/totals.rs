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
    /// The line has a section of tags as DogStatsD writes it.
    pub dogstatsd: bool,
}

/// A gauge's value after the newest line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Last {
    pub value: f64,
    /// The number of the newest line, among all, from 1.
    pub newest: u64,
    /// Whether a line set it; otherwise lines have only changed it.
    set: bool,
}

/// What the lines of one identity add up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineTotal {
    pub lines: u64,
    /// Lines that count nothing: a counter may not fall.
    pub refused: u64,
    /// What they would have counted.
    pub refused_sum: f64,
    /// Of counters, and of observers that are not typed `ms`, each scaled by its rate.
    pub sum: f64,
    /// Of observers typed `ms`, likewise.
    pub timer_sum: f64,
    /// Of observers, each line counted as often as its rate says.
    pub observations: f64,
    /// Of gauges.
    pub last: Last,
    /// Of gauges, for each sender.
    pub senders: BTreeMap<u32, Last>,
}

/// Totals of all identities.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    identities: BTreeMap<Identity, LineTotal>,
    lines: u64,
    malformed: u64,
}

impl Last {
    fn take(&mut self, value: &Value, line: u64) {
        self.newest = line;
        self.set |= !value.signed;
        self.value = if value.signed { self.value + value.number } else { value.number };
    }

    /// As if what made `later` had come afterwards, with numbers `before` higher.
    fn append(&mut self, later: Self, before: u64) {
        let value = if later.set { later.value } else { self.value + later.value };
        *self = Self { value, newest: later.newest + before, set: self.set || later.set };
    }
}

impl Totals {
    /// Adds the lines of one datagram.
    pub fn add(&mut self, datagram: &[u8]) {
        self.add_from(datagram, 0);
    }

    /// As [`Self::add`], from a sender, who is told apart by a number.
    pub fn add_from(&mut self, datagram: &[u8], sender: u32) {
        for line in datagram.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            self.lines += 1;
            match read(line) {
                Some((identity, value)) => self.add_line(identity, &value, sender),
                None => self.malformed += 1,
            }
        }
    }

    fn add_line(&mut self, identity: Identity, value: &Value, sender: u32) {
        let line_type = identity.line_type;
        let total = self.identities.entry(identity).or_default();
        total.lines += 1;
        let counted = value.number / value.rate;
        match line_type {
            LineType::Counter if value.number < 0.0 => {
                total.refused += 1;
                total.refused_sum += counted;
            }
            LineType::Counter => total.sum += counted,
            LineType::Gauge => {
                total.last.take(value, self.lines);
                total.senders.entry(sender).or_default().take(value, self.lines);
            }
            LineType::Observer => {
                let times = (1.0 / value.rate).floor();
                total.observations += times;
                let sum = if value.milliseconds { &mut total.timer_sum } else { &mut total.sum };
                *sum += times * value.number;
            }
        }
    }

    /// As if all of `later` had been added now.
    pub fn append(&mut self, later: &Self) {
        for (identity, more) in later.iter() {
            let total = self.identities.entry(identity.clone()).or_default();
            total.lines += more.lines;
            total.refused += more.refused;
            total.refused_sum += more.refused_sum;
            total.sum += more.sum;
            total.timer_sum += more.timer_sum;
            total.observations += more.observations;
            total.last.append(more.last, self.lines);
            for (sender, last) in &more.senders {
                total.senders.entry(*sender).or_default().append(*last, self.lines);
            }
        }
        self.lines += later.lines;
        self.malformed += later.malformed;
    }

    /// As if all that was added had been added `rounds` times over, one after the other.
    pub(super) fn repeat(&mut self, rounds: u64) {
        let before = (rounds - 1) * self.lines;
        #[expect(clippy::cast_precision_loss, reason = "rounds of a table: far below 2^53")]
        let times = rounds as f64;
        for total in self.identities.values_mut() {
            total.lines *= rounds;
            total.refused *= rounds;
            total.refused_sum *= times;
            total.sum *= times;
            total.timer_sum *= times;
            total.observations *= times;
            for last in std::iter::once(&mut total.last).chain(total.senders.values_mut()) {
                last.newest += before;
                if !last.set {
                    last.value *= times;
                }
            }
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
}

struct Value {
    number: f64,
    /// A gauge's sign makes it a change.
    signed: bool,
    milliseconds: bool,
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
    let mut identity =
        Identity { name: words.next()?.to_owned(), tags: Vec::new(), line_type, dogstatsd: false };
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
            identity.dogstatsd = true;
            for tag in tags.split(',') {
                let (key, value) = tag.split_once(':')?;
                identity.tags.push((key.to_owned(), value.to_owned()));
            }
        }
    }
    identity.tags.sort();
    let signed = line_type == LineType::Gauge && value.starts_with(['+', '-']);
    Some((identity, Value { number: value.parse().ok()?, signed, milliseconds: kind == "ms", rate }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(lines: &[&str]) -> Totals {
        let mut totals = Totals::default();
        lines.iter().for_each(|line| totals.add(line.as_bytes()));
        totals
    }

    /// Sums, counts of observations, and last values, by name.
    fn by_name(totals: &Totals) -> Vec<(&str, f64, f64, f64)> {
        let of = |(identity, total)| -> (&str, f64, f64, f64) {
            let (identity, total): (&Identity, &LineTotal) = (identity, total);
            (&identity.name, total.sum + total.timer_sum, total.observations, total.last.value)
        };
        totals.iter().map(of).collect()
    }

    #[test]
    fn rounds_count_as_if_sent_over_and_over() {
        let mut totals = totals(&["c:2|c", "g:1|g", "g:7|g", "r:+2|g", "t:1|ms", "bad"]);
        totals.repeat(3);
        let wanted = [("c", 6.0, 0.0, 0.0), ("g", 0.0, 0.0, 7.0), ("r", 0.0, 0.0, 6.0), ("t", 3.0, 3.0, 0.0)];
        assert_eq!(by_name(&totals), wanted);
        assert_eq!((totals.lines(), totals.malformed()), (18, 3));
    }

    #[test]
    fn what_is_appended_comes_later() {
        let mut first = totals(&["c:2|c", "g:5|g", "h:5|g"]);
        first.append(&totals(&["c:3|c", "g:-1|g", "h:9|g", "n:1|g"]));
        let wanted = [("c", 5.0, 0.0, 0.0), ("g", 0.0, 0.0, 4.0), ("h", 0.0, 0.0, 9.0), ("n", 0.0, 0.0, 1.0)];
        assert_eq!(by_name(&first), wanted);
        assert_eq!(first.iter().map(|(_, total)| total.last.newest).max(), Some(7));
    }
}
