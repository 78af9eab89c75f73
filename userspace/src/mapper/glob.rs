//! Text of a glob -> segments, and one name against them.
//!
//! `*` as a whole segment takes one segment, also an empty one. Beyond statsd_exporter, `*` within a
//! segment takes any run of characters, and `**` one segment or more. Where a name can be read in
//! several ways, each wildcard from the left takes as little as it can.

use super::template::Captures;
use crate::line::scan;

/// Segments of one glob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Glob {
    pub(super) segments: Box<[Segment]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    /// `*`
    Star,
    /// `a*b*c`: the texts between the stars, two at least; the outer ones may be empty.
    Partial(Box<[Box<str>]>),
    /// `**`
    Deep,
}

impl Glob {
    /// `None` if the text is no glob.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let segments = text.split('.').enumerate().map(|(index, text)| Segment::parse(text, index == 0));
        Some(Self { segments: segments.collect::<Option<_>>()? })
    }

    /// Wildcards, `$1` to `$n` of the templates.
    pub(super) fn captures(&self) -> usize {
        let count = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Star | Segment::Deep => 1,
            Segment::Partial(texts) => texts.len() - 1,
        };
        self.segments.iter().map(count).sum()
    }

    /// Whether the whole name matches; then `captures` gets what each wildcard took, in order.
    pub(super) fn capture(&self, name: &str, captures: &mut Captures) -> bool {
        match_segments(&self.segments, name, 0, Some(captures))
    }
}

impl Segment {
    fn parse(text: &str, first: bool) -> Option<Self> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'*');
        let start = text.bytes().next()?;
        if !text.bytes().all(good) || start == b'-' || (first && start.is_ascii_digit()) {
            return None;
        }
        Some(match text {
            "*" => Self::Star,
            "**" => Self::Deep,
            _ if text.contains("**") => return None,
            _ if text.contains('*') => Self::Partial(text.split('*').map(Box::from).collect()),
            _ => Self::Literal(text.into()),
        })
    }

    /// Whether this one segment of a name matches; `**` is not asked.
    pub(super) fn matches(
        &self,
        name: &str,
        from: usize,
        to: usize,
        captures: Option<&mut Captures>,
    ) -> bool {
        let Some(text) = name.get(from..to) else { return false };
        match self {
            Self::Literal(literal) => **literal == *text,
            Self::Star => {
                if let Some(captures) = captures {
                    captures.push(range(from, to));
                }
                true
            }
            Self::Partial(texts) => match_partial(texts, text, from, captures),
            Self::Deep => false,
        }
    }
}

/// `text` lies at `offset` of the name.
fn match_partial(texts: &[Box<str>], text: &str, offset: usize, mut captures: Option<&mut Captures>) -> bool {
    let [prefix, middle @ .., suffix] = texts else { return false };
    let Some(rest) = text.strip_prefix(&**prefix) else { return false };
    let Some(mut rest) = rest.strip_suffix(&**suffix) else { return false };
    let mut at = offset + prefix.len();
    for literal in middle {
        let Some(found) = rest.find(&**literal) else { return false };
        if let Some(captures) = captures.as_deref_mut() {
            captures.push(range(at, at + found));
        }
        at += found + literal.len();
        rest = &rest[found + literal.len()..];
    }
    if let Some(captures) = captures {
        captures.push(range(at, at + rest.len()));
    }
    true
}

/// Whether `name` from `start`, the beginning of a segment, matches the segments to its end.
///
/// Takes at most the product of both lengths: a block of segments between two `**` is put where it
/// fits first, and that choice need never be taken back. A failed call may leave captures behind.
pub(super) fn match_segments(
    segments: &[Segment],
    name: &str,
    start: usize,
    mut captures: Option<&mut Captures>,
) -> bool {
    let mut blocks = segments.split(|segment| *segment == Segment::Deep);
    let Some(first) = blocks.next() else { return false };
    let Some(mut at) = match_block(first, name, start, captures.as_deref_mut()) else { return false };
    let mut blocks = blocks.peekable();
    while let Some(block) = blocks.next() {
        let found = if blocks.peek().is_some() {
            place_first(block, name, at, captures.as_deref_mut())
        } else {
            place_last(block, name, at, captures.as_deref_mut())
        };
        let Some(after) = found else { return false };
        at = after;
    }
    at == name.len() + 1
}

/// Matches consecutive segments; returns where the next one begins, which is one past the end of the
/// name behind its last segment.
fn match_block(
    block: &[Segment],
    name: &str,
    start: usize,
    mut captures: Option<&mut Captures>,
) -> Option<usize> {
    let mut at = start;
    for segment in block {
        if at > name.len() {
            return None;
        }
        let end = segment_end(name, at);
        if !segment.matches(name, at, end, captures.as_deref_mut()) {
            return None;
        }
        at = end + 1;
    }
    Some(at)
}

/// Gives the `**` before `block` as few segments as will do.
fn place_first(
    block: &[Segment],
    name: &str,
    deep: usize,
    mut captures: Option<&mut Captures>,
) -> Option<usize> {
    let mut at = deep;
    let taken = captures.as_deref().map_or(0, Captures::len);
    while at <= name.len() {
        at = segment_end(name, at) + 1;
        if let Some(captures) = captures.as_deref_mut() {
            captures.truncate(taken);
            captures.push(range(deep, at - 1));
        }
        if let Some(after) = match_block(block, name, at, captures.as_deref_mut()) {
            return Some(after);
        }
    }
    None
}

/// Gives the `**` before `block` all but the segments that the end of the pattern needs.
fn place_last(
    block: &[Segment],
    name: &str,
    deep: usize,
    mut captures: Option<&mut Captures>,
) -> Option<usize> {
    let mut at = name.len() + 1;
    for _ in block {
        // The end of the segment before `at` is the dot at `at - 1`, or the end of the name.
        let before = name.get(..at.checked_sub(1)?)?;
        at = memchr::memrchr(b'.', before.as_bytes()).map_or(0, |dot| dot + 1);
        if at == 0 {
            break;
        }
    }
    // `**` takes a segment at least; an empty one lies between a dot and a dot.
    if at == 0 || at <= deep {
        return None;
    }
    if let Some(captures) = captures.as_deref_mut() {
        captures.push(range(deep, at - 1));
    }
    match_block(block, name, at, captures)
}

/// Of the segment that begins at `at`: where its dot is, or the name's end.
pub(super) fn segment_end(name: &str, at: usize) -> usize {
    scan::first_from(name.as_bytes(), at, [b'.']).unwrap_or(name.len())
}

fn range(from: usize, to: usize) -> Option<(u32, u32)> {
    Some((u32::try_from(from).ok()?, u32::try_from(to).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, name: &str, expected: Option<&[&str]>) {
        let glob = Glob::parse(pattern).expect("it is a glob");
        let mut captures = Captures::default();
        let matched = glob.capture(name, &mut captures);
        let texts: Vec<_> = (0..captures.len()).map(|index| captures.text(index, name)).collect();
        assert_eq!(matched.then_some(&*texts), expected, "{pattern} on {name}");
        if matched {
            assert_eq!(captures.len(), glob.captures());
        }
    }

    #[test]
    fn a_star_takes_one_segment_also_an_empty_one() {
        check("*", "a", Some(&["a"]));
        check("*", "a.b", None);
        check("a.*.c", "a.b.c", Some(&["b"]));
        check("a.*.c", "a..c", Some(&[""]));
        check("a.*", "a", None);
        check("a.*", "a.", Some(&[""]));
        check("a.b", "a.b.c", None);
    }

    #[test]
    fn a_star_within_a_segment_takes_any_run() {
        check("a.foo_*", "a.foo_bar", Some(&["bar"]));
        check("a.foo_*", "a.foo_", Some(&[""]));
        check("a.foo_*", "a.foo_x.y", None);
        check("*_bar", "foo_bar", Some(&["foo"]));
        check("a*b*c", "axbybzc", Some(&["x", "ybz"]));
        check("a*a", "a", None);
        check("a*a", "aa", Some(&[""]));
    }

    #[test]
    fn two_stars_take_one_segment_or_more() {
        check("a.**", "a.b", Some(&["b"]));
        check("a.**", "a.b.c.d", Some(&["b.c.d"]));
        check("a.**", "a", None);
        check("a.**", "a.", Some(&[""]));
        check("**.z", "a.b.z", Some(&["a.b"]));
        check("**.z", "z", None);
        check("a.**.z", "a.z", None);
        check("a.**.z", "a.b.z.z", Some(&["b.z"]));
        check("**.m.**", "a.m.m.z", Some(&["a", "m.z"]));
        check("**.m.*.**", "m.m.m.m.m", Some(&["m", "m", "m.m"]));
        check("**.**", "a", None);
        check("**.**", "a.b.c", Some(&["a", "b.c"]));
        check("**.a*.**.z", "q.b.ax.c.d.z", Some(&["q.b", "x", "c.d"]));
        check("**", "", Some(&[""]));
    }

    #[test]
    fn what_is_no_glob_is_refused() {
        for text in
            ["", ".", "a.", ".a", "1a", "-a", "a.-b", "a b", "a.b$", "ü", "a**b", "a.***", "a.b.c-.", "a:b"]
        {
            assert_eq!(Glob::parse(text), None, "{text}");
        }
        for text in ["*", "a-b", "a.1b", "a.9", "_", "*.a", "a-", "*-a"] {
            assert!(Glob::parse(text).is_some(), "{text}");
        }
    }
}
