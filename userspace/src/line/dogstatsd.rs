//! DogStatsD: the fields after the type -> tags, container, sample rates.
//!
//! `name:value|type|@rate|#key:value,key:value|c:container|T1656581400|e:origin|card:low`

use super::number::{self, NumberError};
use super::tags::TagList;
use super::{Dialects, LineError};

/// A sample has at most this many parts between `|`, its value and type among them; those that
/// [`is_ignored`] come on top.
const PARTS_MAX: usize = 6;

/// Label that the container field sets.
const CONTAINER_KEY: &str = "container_id";

/// Whether what follows the name has a tag section. It then holds one sample, and no tags may stand
/// in the head; both whether or not the dialect is switched on.
pub(super) fn has_tags(rest: &str) -> bool {
    memchr::memchr_iter(b'#', rest.as_bytes())
        .any(|at| at.checked_sub(1).and_then(|before| rest.as_bytes().get(before)) == Some(&b'|'))
}

/// The first sample of `rest` and what follows its `:`, if a `:` ends it.
///
/// The `:` of a container (or origin, or cardinality) does not: it belongs to the field, and what has
/// such a field comes from a client that puts one sample into a line. Value and type stand before any
/// field, so `1|c:2|c` is two samples.
pub(super) fn cut_sample(rest: &str) -> Option<(&str, &str)> {
    let (sample, after) = rest.split_once(':')?;
    let field = sample.rsplit_once('|').filter(|(before, _)| before.contains('|')).map(|(_, field)| field);
    let belongs = matches!(field, Some("c" | "e" | "card"));
    (!belongs).then_some((sample, after))
}

/// Where the client runs, as its agent knows it, and how many tags the agent is to add: nothing that
/// Prometheus has a place for.
fn is_ignored(field: &str) -> bool {
    field.starts_with("e:") || field.starts_with("card:")
}

/// What the fields of a sample say, apart from its tags.
#[derive(Default)]
pub(super) struct Fields {
    /// The sample must go, for this reason.
    pub(super) error: Option<LineError>,
    /// Sample rates that were not numbers; the sample stays.
    pub(super) bad_rates: u64,
    pub(super) tag_errors: u64,
    rates: [f64; PARTS_MAX - 2],
    rate_count: usize,
}

impl Fields {
    /// The sample rates as given, but 1 for a 0. At most four.
    pub(super) fn rates(&self) -> &[f64] {
        self.rates.get(..self.rate_count).unwrap_or_default()
    }
}

/// Whether a sample with these `fields` after its type has too many parts.
pub(super) fn too_many(fields: Option<&str>) -> bool {
    fields.is_some_and(|fields| {
        memchr::memchr_iter(b'|', fields.as_bytes()).nth(PARTS_MAX - 3).is_some()
            && fields.split('|').filter(|field| !is_ignored(field)).nth(PARTS_MAX - 2).is_some()
    })
}

/// Reads the fields after the type in their order, and appends their tags to `tags`.
pub(super) fn parse<'a>(fields: &'a str, dialects: Dialects, tags: &mut TagList<'a, '_>) -> Fields {
    let mut parsed = Fields::default();
    if has_empty(fields.as_bytes()) {
        parsed.error = Some(LineError::MalformedComponent);
        return parsed;
    }
    for field in fields.split('|') {
        if is_ignored(field) {
            continue;
        }
        if let Some(rate) = field.strip_prefix('@') {
            parsed.rate(rate);
        } else if let Some(list) = field.strip_prefix('#') {
            if dialects.dogstatsd {
                parsed.tag_errors += tags.extend_each(list, ',', ':', without_hash);
            }
        } else if field.starts_with('c') {
            match field.strip_prefix("c:") {
                Some(container) if !container.is_empty() => tags.insert(CONTAINER_KEY, container),
                _ => {
                    parsed.error = Some(LineError::MalformedContainerId);
                    return parsed;
                }
            }
        } else if !field.starts_with('T') {
            // `T` is the client's own time, which Prometheus has no use for. Anything else is unknown.
            parsed.error = Some(LineError::InvalidSampleFactor);
            return parsed;
        }
    }
    parsed
}

/// Whether one of the `fields` is empty.
fn has_empty(fields: &[u8]) -> bool {
    fields.is_empty()
        || fields.starts_with(b"|")
        || memchr::memchr_iter(b'|', fields).any(|at| matches!(fields.get(at + 1), None | Some(b'|')))
}

impl Fields {
    fn rate(&mut self, text: &str) {
        let parsed = number::parse(text.as_bytes());
        self.bad_rates += u64::from(parsed.is_err());
        let rate = match parsed {
            Ok(rate) | Err(NumberError::OutOfRange(rate)) if rate != 0.0 => rate,
            _ => 1.0,
        };
        if let Some(place) = self.rates.get_mut(self.rate_count) {
            *place = rate;
            self.rate_count += 1;
        }
    }
}

/// Some clients put the `#` of the section before each tag.
fn without_hash(tag: &str) -> &str {
    tag.strip_prefix('#').unwrap_or(tag)
}
