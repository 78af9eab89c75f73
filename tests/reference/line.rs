//! Line -> events: the grammar of statsd_exporter, step by step, on owned strings.

use std::collections::BTreeMap;

use super::number::{self, Number};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge { relative: bool },
    Observer,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge { .. } => "gauge",
            Self::Observer => "observer",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub kind: Kind,
    pub value: f64,
    pub times: u64,
    pub tags: BTreeMap<String, String>,
}

/// What became of one line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    pub events: Vec<Event>,
    pub samples: u64,
    pub tagged_samples: u64,
    pub tag_errors: u64,
    pub vanished: u64,
    /// `event`, `service_check` or neither.
    pub notice: Option<&'static str>,
    pub errors: BTreeMap<&'static str, u64>,
}

/// Reads `line`, with all dialects of tags; `packing` says whether counters and gauges may be packed.
pub fn read(line: &[u8], packing: bool) -> Read {
    let mut read = Read::default();
    if line.is_empty() {
        return read;
    }
    if let Err(reason) = read.line(line, packing) {
        read.error(reason);
    }
    read
}

impl Read {
    fn error(&mut self, reason: &'static str) {
        *self.errors.entry(reason).or_default() += 1;
    }

    fn line(&mut self, line: &[u8], packing: bool) -> Result<(), &'static str> {
        let line = String::from_utf8(line.to_vec()).map_err(|_| "malformed_line")?;
        if line.starts_with("_e{") {
            self.notice = Some(dogstatsd_event(&line).map(|()| "event").ok_or("malformed_event")?);
            return Ok(());
        }
        if line.starts_with("_sc|") {
            let parts: Vec<&str> = line.split('|').collect();
            if parts.len() < 3 || parts[1].is_empty() || !["0", "1", "2", "3"].contains(&parts[2]) {
                return Err("malformed_service_check");
            }
            self.notice = Some("service_check");
            return Ok(());
        }
        let (head, rest) = line.split_once(':').ok_or("malformed_line")?;
        if head.is_empty() {
            return Err("malformed_line");
        }
        let mut tags = BTreeMap::new();
        let name = self.name(head, &mut tags);
        let section = rest.contains("|#");
        if section && !tags.is_empty() {
            return Err("mixed_tagging_styles");
        }
        let parts: Vec<&str> = rest.splitn(3, '|').collect();
        if parts.len() < 2 {
            return Err("not_enough_parts_after_colon");
        }
        let samples: Vec<String> = if parts[0].contains(':') {
            let packs = if packing { &["ms", "h", "d", "c", "g"][..] } else { &["ms", "h", "d"] };
            if !packs.contains(&parts[1]) {
                return Err("invalid_extended_aggregate_type");
            }
            let after = parts[1..].join("|");
            parts[0].split(':').map(|value| format!("{value}|{after}")).collect()
        } else if section {
            vec![rest.to_owned()]
        } else {
            tear(rest)
        };
        for sample in samples {
            self.samples += 1;
            if let Err(reason) = self.sample(&name, &sample, &mut tags) {
                self.error(reason);
            }
        }
        Ok(())
    }

    fn name(&mut self, head: &str, tags: &mut BTreeMap<String, String>) -> String {
        match (head.find('['), head.find(']')) {
            (Some(open), Some(close)) if open < close => {
                self.tags(&head[open + 1..close], '=', tags);
                return format!("{}{}", &head[..open], &head[close + 1..]);
            }
            (None, None) => {}
            _ => {
                self.tag_errors += 1;
                return head.to_owned();
            }
        }
        match head.find(['#', ',']) {
            Some(end) => {
                self.tags(&head[end + 1..], '=', tags);
                head[..end].to_owned()
            }
            None => head.to_owned(),
        }
    }

    fn tags(&mut self, list: &str, separator: char, tags: &mut BTreeMap<String, String>) {
        let mut list: Vec<&str> = list.split(',').collect();
        if list.last() == Some(&"") {
            list.pop();
        }
        for tag in list {
            let tag = if separator == ':' { tag.strip_prefix('#').unwrap_or(tag) } else { tag };
            match tag.find(separator) {
                Some(at) if at > 0 && at + 1 < tag.len() => {
                    tags.insert(escape(&tag[..at]), tag[at + 1..].to_owned());
                }
                _ => self.tag_errors += 1,
            }
        }
    }

    fn sample(
        &mut self,
        name: &str,
        sample: &str,
        tags: &mut BTreeMap<String, String>,
    ) -> Result<(), &'static str> {
        let foreign = |part: &&str| part.starts_with("e:") || part.starts_with("card:");
        let mut parts: Vec<&str> = sample.split('|').collect();
        if parts.len() > 2 {
            let fields = parts.split_off(2);
            parts.extend(fields.into_iter().filter(|part| !foreign(part)));
        }
        if parts.len() < 2 || parts.len() > 6 {
            return Err("malformed_component");
        }
        let relative = parts[0].starts_with('+') || parts[0].starts_with('-');
        let Number::Is(mut value) = number::read(parts[0]) else { return Err("malformed_value") };
        if parts[2..].contains(&"") {
            return Err("malformed_component");
        }
        let observer = ["ms", "h", "d"].contains(&parts[1]);
        let mut times = 1.0;
        for field in &parts[2..] {
            match field.as_bytes()[0] {
                b'@' => {
                    let mut rate = match number::read(&field[1..]) {
                        Number::Is(rate) => rate,
                        Number::TooLarge(rate) => {
                            self.error("invalid_sample_factor");
                            rate
                        }
                        Number::Malformed => {
                            self.error("invalid_sample_factor");
                            1.0
                        }
                    };
                    if rate == 0.0 {
                        rate = 1.0;
                    }
                    if parts[1] == "c" {
                        value /= rate;
                    } else if observer {
                        times = (1.0 / rate).trunc();
                    }
                }
                b'#' => self.tags(&field[1..], ':', tags),
                b'c' if field.len() > 2 && field.starts_with("c:") => {
                    tags.insert("container_id".to_owned(), field[2..].to_owned());
                }
                b'c' => return Err("malformed_container_id"),
                b'T' => {}
                _ => return Err("invalid_sample_factor"),
            }
        }
        if !tags.is_empty() {
            self.tagged_samples += 1;
        }
        let kind = match parts[1] {
            "c" => Kind::Counter,
            "g" => Kind::Gauge { relative },
            "ms" | "h" | "d" => Kind::Observer,
            _ => return Err("illegal_event"),
        };
        if parts[1] == "ms" {
            value /= 1000.0;
        }
        // Also false for a NaN.
        if times >= 1.0 && times < 2f64.powi(63) {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number in range, checked above")]
            let times = times as u64;
            self.events.push(Event { name: name.to_owned(), kind, value, times, tags: tags.clone() });
        } else {
            self.vanished += 1;
        }
        Ok(())
    }
}

/// `_e{3,4}:abc|text` and what follows.
fn dogstatsd_event(line: &str) -> Option<()> {
    let (lengths, rest) = line[3..].split_once("}:")?;
    let (title, text) = lengths.split_once(',')?;
    let digits = |text: &str| text.chars().all(|character| character.is_ascii_digit());
    if !digits(title) || !digits(text) {
        return None;
    }
    let (title, text): (usize, usize) = (title.parse().ok()?, text.parse().ok()?);
    let rest = rest.as_bytes();
    let bar = |at: usize| rest.get(at) == Some(&b'|');
    let text_end = title.checked_add(text)?.checked_add(1)?;
    let fits = bar(title) && (rest.len() == text_end || bar(text_end));
    fits.then_some(())
}

/// Parts the samples of a line at each `:`; but from a container, an origin or a cardinality on, a
/// field after a type, the line is one sample.
fn tear(rest: &str) -> Vec<String> {
    let mut samples = vec![String::new()];
    let mut colons = true;
    for character in rest.chars() {
        let sample = samples.last_mut().expect("there is one");
        let parts: Vec<&str> = sample.split('|').collect();
        if parts.len() > 2 && ["c", "e", "card"].contains(&parts[parts.len() - 1]) && character == ':' {
            colons = false;
        }
        if character == ':' && colons {
            samples.push(String::new());
        } else {
            sample.push(character);
        }
    }
    samples
}

/// A name as Prometheus takes it.
pub fn escape(name: &str) -> String {
    let mut escaped = String::new();
    let characters: Vec<char> = name.chars().collect();
    for (at, &character) in characters.iter().enumerate() {
        if at == 0 && character.is_ascii_digit() {
            escaped.push('_');
        }
        if character == '-' && at > 0 && characters[at - 1] == '-' {
            continue;
        }
        escaped.push(if character.is_ascii_alphanumeric() { character } else { '_' });
    }
    escaped
}
