//! Head -> name, for the dialects that put their tags into it.

use super::signalfx::{self, Brackets};
use super::tags::TagList;
use super::{graphite, influx, librato};

/// Which tag dialects are understood; by default all that statsd_exporter knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialects {
    /// Also whether events and service checks are told from metrics. Fields after the type are read
    /// either way, only their tags are not.
    pub dogstatsd: bool,
    pub influx: bool,
    pub librato: bool,
    pub signalfx: bool,
    /// Off by default: to statsd_exporter a `;` belongs to the name.
    pub graphite: bool,
    /// Whether several values of a counter or gauge may stand before one type, as those of an observer
    /// always may. Off by default: statsd_exporter refuses them.
    pub packing: bool,
}

impl Default for Dialects {
    fn default() -> Self {
        Self { dogstatsd: true, influx: true, librato: true, signalfx: true, graphite: false, packing: false }
    }
}

/// Between the key and the value of a tag in the head.
const SEPARATOR: char = '=';

pub(super) struct Head<'a> {
    /// May be empty, where the tags come first.
    pub(super) name: &'a str,
    pub(super) tag_errors: u64,
}

/// Takes the tags out of `head`, the text before the first `:`, and appends them to `tags`.
///
/// `joined` is scratch space for a name that has its tags in the middle.
pub(super) fn parse<'a>(
    head: &'a str,
    dialects: Dialects,
    tags: &mut TagList<'a, '_>,
    joined: &'a mut String,
) -> Head<'a> {
    if !has_tags(head, dialects) {
        return Head { name: head, tag_errors: 0 };
    }
    if dialects.signalfx {
        match signalfx::find(head) {
            Brackets::Pair { before, tags: list, after } => {
                joined.clear();
                joined.push_str(before);
                joined.push_str(after);
                return Head { name: joined, tag_errors: tags.extend(list, ',', SEPARATOR) };
            }
            // The name stays as it is, and no other dialect is tried on it.
            Brackets::Unbalanced => return Head { name: head, tag_errors: 1 },
            Brackets::None => {}
        }
    }
    let ends_name = |character| match character {
        librato::DELIMITER => dialects.librato,
        influx::DELIMITER => dialects.influx,
        graphite::DELIMITER => dialects.graphite,
        _ => false,
    };
    let Some((name, list)) = head.split_once(ends_name) else { return Head { name: head, tag_errors: 0 } };
    let graphite = head.get(name.len()..).is_some_and(|rest| rest.starts_with(graphite::DELIMITER));
    let between = if graphite { graphite::DELIMITER } else { ',' };
    Head { name, tag_errors: tags.extend(list, between, SEPARATOR) }
}

/// Whether any dialect finds something in `head`; nearly always not, and then this is all it costs.
fn has_tags(head: &str, dialects: Dialects) -> bool {
    memchr::memchr3(b'[', b'#', b',', head.as_bytes()).is_some()
        || head.contains(']')
        || dialects.graphite && head.contains(graphite::DELIMITER)
}
