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
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Literal(Box<str>),
    Capture(usize),
}

impl Template {
    #[must_use]
    pub(super) fn from_pieces(pieces: Vec<Piece>) -> Self {
        Self { pieces }
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
}
