//! Head -> name, for the dialects that put their tags into it.

use super::signalfx::{self, Brackets};
use super::tags::TagList;
use super::{influx, librato};

/// Which tag dialects are understood; all of them by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialects {
    pub dogstatsd: bool,
    pub influx: bool,
    pub librato: bool,
    pub signalfx: bool,
}

impl Default for Dialects {
    fn default() -> Self {
        Self { dogstatsd: true, influx: true, librato: true, signalfx: true }
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
    if !has_tags(head) {
        return Head { name: head, tag_errors: 0 };
    }
    if dialects.signalfx {
        match signalfx::find(head) {
            Brackets::Pair { before, tags: list, after } => {
                joined.clear();
                joined.push_str(before);
                joined.push_str(after);
                return Head { name: joined, tag_errors: tags.extend(list, SEPARATOR) };
            }
            // The name stays as it is, and no other dialect is tried on it.
            Brackets::Unbalanced => return Head { name: head, tag_errors: 1 },
            Brackets::None => {}
        }
    }
    let ends_name = |character| match character {
        librato::DELIMITER => dialects.librato,
        influx::DELIMITER => dialects.influx,
        _ => false,
    };
    match head.split_once(ends_name) {
        Some((name, list)) => Head { name, tag_errors: tags.extend(list, SEPARATOR) },
        None => Head { name: head, tag_errors: 0 },
    }
}

/// Whether any dialect finds something in `head`; nearly always not, and then this is all it costs.
fn has_tags(head: &str) -> bool {
    memchr::memchr3(b'[', b'#', b',', head.as_bytes()).is_some() || head.contains(']')
}
