//! SignalFx: head -> name and the tags between its brackets.
//!
//! `name[key=value,key=value]`, the brackets anywhere in the name.

pub(super) enum Brackets<'a> {
    None,
    /// The first `[` and the first `]` after it; the name is what stands around them.
    Pair {
        before: &'a str,
        tags: &'a str,
        after: &'a str,
    },
    /// One bracket without the other, or the first `]` before the first `[`. The latter crashes
    /// statsd_exporter.
    Unbalanced,
}

pub(super) fn find(head: &str) -> Brackets<'_> {
    match (head.split_once('['), head.split_once(']')) {
        (None, None) => Brackets::None,
        (Some((before, _)), Some((inside, after))) => match inside.get(before.len() + 1..) {
            Some(tags) => Brackets::Pair { before, tags, after },
            None => Brackets::Unbalanced,
        },
        _ => Brackets::Unbalanced,
    }
}
