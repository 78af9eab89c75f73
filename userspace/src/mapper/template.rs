//! Text with references -> text, from what a pattern captured.

use smallvec::SmallVec;

/// Where in the name each wildcard or group matched; `None` for a group that took no part. Number 0
/// is the whole match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    ranges: SmallVec<[Option<(u32, u32)>; 8]>,
}

impl Captures {
    pub fn clear(&mut self) {
        self.ranges.clear();
    }

    pub fn push(&mut self, range: Option<(u32, u32)>) {
        self.ranges.push(range);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.ranges.truncate(len);
    }

    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The text of number `index` within `name`, the name that was matched; empty if there is none.
    #[must_use]
    pub fn text<'a>(&self, index: usize, name: &'a str) -> &'a str {
        let range = self.ranges.get(index).copied().flatten();
        range.and_then(|(from, to)| name.get(from as usize..to as usize)).unwrap_or_default()
    }
}

/// A metric name or label value of a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    pieces: Box<[Piece]>,
    /// References that stand for nothing, as they are written.
    dangling: Box<[Box<str>]>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(Box<str>),
    Capture(usize),
}

impl Template {
    /// For a glob with `captures` wildcards.
    ///
    /// A reference is `$`, perhaps `{`, the longest run of letters, digits, `_` and `$`, perhaps `}`. What
    /// names no wildcard stands for nothing; `$0` is the whole name, which statsd_exporter does not have.
    pub(super) fn for_glob(text: &str, captures: usize) -> Self {
        let tokens = glob_tokens(text);
        let mut template = Self::replaced_one_by_one(text, &tokens, captures)
            .unwrap_or_else(|| Self::replaced_in_place(text, &tokens, captures));
        let dangling = tokens.iter().filter(|token| token.index(captures).is_none());
        template.dangling = dangling.map(|token| token.text.into()).collect();
        template
    }

    /// As statsd_exporter has it: each reference is replaced wherever its text stands, so `$1` also
    /// within `$10`. `None` where the outcome would have references without a value, or the reverse.
    fn replaced_one_by_one(text: &str, tokens: &[GlobToken<'_>], captures: usize) -> Option<Self> {
        // Only a reference that begins another one can make a difference.
        let prefix = |token: &GlobToken<'_>| {
            tokens.iter().any(|other| other.text != token.text && other.text.starts_with(token.text))
        };
        if tokens.len() > TOKENS_ENTANGLED_MAX || !tokens.iter().any(prefix) {
            return None;
        }
        let mut parts = vec![Some(text.to_owned())];
        let mut values = Vec::new();
        for token in tokens {
            let index = token.index(captures);
            values.extend(index);
            parts = parts
                .into_iter()
                .flat_map(|part| split_at_token(part, token.text, index.is_some()))
                .collect();
        }
        if parts.iter().filter(|part| part.is_none()).count() != values.len() {
            return None;
        }
        let mut values = values.into_iter();
        let piece = |part: Option<String>| match part {
            Some(text) => Some(Piece::Literal(text.into())),
            None => values.next().map(Piece::Capture),
        };
        Some(Self::from_pieces(parts.into_iter().filter_map(piece)))
    }

    fn replaced_in_place(text: &str, tokens: &[GlobToken<'_>], captures: usize) -> Self {
        let mut pieces = Vec::new();
        let mut from = 0;
        for token in tokens {
            pieces.push(Piece::Literal(text[from..token.at].into()));
            pieces.extend(token.index(captures).map(Piece::Capture));
            from = token.at + token.text.len();
        }
        pieces.push(Piece::Literal(text[from..].into()));
        Self::from_pieces(pieces)
    }

    /// For a regular expression with these groups; number 0 is the whole match.
    ///
    /// A reference is `$name` or `${name}`, the longest run of letters, digits and `_`; `$$` is a dollar,
    /// and a dollar that begins no reference stays.
    ///
    /// Source: Go's documentation of `Regexp.Expand`.
    pub(super) fn for_regex(text: &str, group_names: &[Option<Box<str>>]) -> Self {
        let (mut pieces, mut dangling) = (Vec::new(), Vec::new());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            pieces.push(Piece::Literal(before.into()));
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                pieces.push(Piece::Literal("$".into()));
                rest = after;
            } else if let Some((name, after)) = regex_reference(rest) {
                match group_index(name, group_names) {
                    Some(index) => pieces.push(Piece::Capture(index)),
                    None => dangling.push(["$", &rest[..rest.len() - after.len()]].concat().into()),
                }
                rest = after;
            } else {
                pieces.push(Piece::Literal("$".into()));
            }
        }
        pieces.push(Piece::Literal(rest.into()));
        Self { dangling: dangling.into_boxed_slice(), ..Self::from_pieces(pieces) }
    }

    /// Joins neighbouring texts.
    fn from_pieces(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (joined.last_mut(), piece) {
                (_, Piece::Literal(text)) if text.is_empty() => {}
                (Some(Piece::Literal(before)), Piece::Literal(text)) => {
                    *before = [&**before, &*text].concat().into()
                }
                (_, piece) => joined.push(piece),
            }
        }
        Self { pieces: joined.into_boxed_slice(), dangling: Box::default() }
    }

    /// Appends the text for `name`, of which `captures` are parts.
    pub fn expand(&self, name: &str, captures: &Captures, out: &mut String) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Capture(index) => out.push_str(captures.text(*index, name)),
            }
        }
    }

    /// Whether [`Template::borrowed`] has nothing to lend.
    #[inline]
    #[must_use]
    pub fn is_composed(&self) -> bool {
        self.pieces.len() > 1
    }

    /// The text for `name`, where it stands in the template or in the name as it is: nearly always.
    #[inline]
    #[must_use]
    pub fn borrowed<'a>(&'a self, name: &'a str, captures: &Captures) -> Option<&'a str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            [Piece::Capture(index)] => Some(captures.text(*index, name)),
            _ => None,
        }
    }

    /// References to wildcards or groups that the pattern does not have.
    pub(super) fn dangling(&self) -> &[Box<str>] {
        &self.dangling
    }

    /// The text, if it is the same for every name.
    #[must_use]
    pub fn constant(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

/// References of which one is the beginning of another are few; with more, the clearer reading holds.
const TOKENS_ENTANGLED_MAX: usize = 64;

/// A reference of a glob's template.
struct GlobToken<'a> {
    at: usize,
    /// With dollar and braces.
    text: &'a str,
    run: &'a str,
}

impl GlobToken<'_> {
    /// `None` if it names no wildcard.
    fn index(&self, captures: usize) -> Option<usize> {
        let digits = !self.run.is_empty() && self.run.bytes().all(|byte| byte.is_ascii_digit());
        self.run.parse().ok().filter(|index| digits && *index <= captures)
    }
}

fn glob_tokens(text: &str) -> Vec<GlobToken<'_>> {
    let mut tokens = Vec::new();
    let mut from = 0;
    while let Some(dollar) = text.get(from..).and_then(|rest| rest.find('$')) {
        let at = from + dollar;
        let after = &text[at + 1..];
        let open = usize::from(after.starts_with('{'));
        let inner = &after[open..];
        let run = inner
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'))
            .count();
        if run == 0 {
            from = at + 1;
            continue;
        }
        let close = usize::from(inner[run..].starts_with('}'));
        let to = at + 1 + open + run + close;
        tokens.push(GlobToken { at, text: &text[at..to], run: &inner[..run] });
        from = to;
    }
    tokens
}

/// Cuts a text at each token; with `kept`, a hole marks where it was.
fn split_at_token(part: Option<String>, token: &str, kept: bool) -> Vec<Option<String>> {
    let Some(text) = part else { return vec![None] };
    if !kept {
        return vec![Some(text.replace(token, ""))];
    }
    let mut parts = Vec::new();
    for (index, piece) in text.split(token).enumerate() {
        if index > 0 {
            parts.push(None);
        }
        parts.push(Some(piece.to_owned()));
    }
    parts
}

/// What follows a dollar: the name of a group, and the text behind it.
fn regex_reference(after: &str) -> Option<(&str, &str)> {
    let braced = after.strip_prefix('{');
    let inner = braced.unwrap_or(after);
    let end = inner.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    if name.is_empty() {
        return None;
    }
    if braced.is_some() { Some((name, rest.strip_prefix('}')?)) } else { Some((name, rest)) }
}

/// By number, unless it has a zero in front; else by name. `None` if there is no such group.
fn group_index(name: &str, group_names: &[Option<Box<str>>]) -> Option<usize> {
    let number =
        name.bytes().all(|byte| byte.is_ascii_digit()) && (name.len() == 1 || !name.starts_with('0'));
    if number && name.len() <= 8 {
        return name.parse().ok().filter(|index| *index < group_names.len());
    }
    group_names.iter().position(|group| group.as_deref() == Some(name))
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
