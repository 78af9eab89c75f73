//! Regular expression as Go's `regexp` reads it -> the same one as Rust's reads it.
//!
//! Both come from RE2 and match alike; what differs is spelling, and what `\d`, `\w`, `\s` and `\b`
//! stand for, which is ASCII in Go. Groups lose their names on the way, as Go allows names that Rust
//! does not; [`Translated`] keeps them.
//!
//! Source: Go's `regexp/syntax` documentation.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::CharIndices;

use thiserror::Error;

/// Go refuses more repetitions, also those that nesting multiplies to.
const REPEAT_MAX: u32 = 1000;
const DEPTH_MAX: usize = 250;

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum GoRegexError {
    #[error("invalid escape sequence at byte {0}")]
    Escape(usize),
    #[error(
        "invalid or unsupported Perl syntax at byte {0}: no look-around, no back reference, flags are i, m, s and U"
    )]
    Group(usize),
    #[error("invalid named capture at byte {0}: a name is letters, digits and _, and given once")]
    Name(usize),
    #[error("invalid character class at byte {0}")]
    Class(usize),
    #[error("invalid nested repetition operator at byte {0}")]
    NestedRepetition(usize),
    #[error("missing argument to repetition operator at byte {0}")]
    MissingArgument(usize),
    #[error("invalid repeat count at byte {0}: at most {REPEAT_MAX}, nested ones multiplied")]
    RepeatCount(usize),
    #[error("missing or unexpected parenthesis at byte {0}")]
    Parenthesis(usize),
    #[error("trailing backslash at the end of the expression")]
    TrailingBackslash,
    #[error("groups nested deeper than {DEPTH_MAX} levels")]
    Depth,
}

/// An expression for Rust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) pattern: String,
    /// By the number of the group; number 0 is the whole match.
    pub(super) group_names: Vec<Option<Box<str>>>,
}

/// # Errors
///
/// A [`GoRegexError`] where Go would refuse the expression, too.
pub(super) fn translate(text: &str) -> Result<Translated, GoRegexError> {
    let translator = Translator {
        text,
        rest: text.char_indices().peekable(),
        out: String::with_capacity(text.len() + 16),
        names: vec![None],
        open: Vec::new(),
        atom: Atom::None,
        atom_repeat: 1,
        inner_repeat: 1,
    };
    translator.run()
}

/// What a repetition operator would repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Atom {
    None,
    Some,
    Repeated,
}

struct Translator<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    out: String,
    names: Vec<Option<Box<str>>>,
    /// For each open group, how often the fullest part before it in its surroundings repeats.
    open: Vec<u32>,
    atom: Atom,
    /// How often the counted repetitions within the last atom repeat, multiplied.
    atom_repeat: u32,
    /// The same, the most of all atoms of the present group.
    inner_repeat: u32,
}

impl<'a> Translator<'a> {
    fn run(mut self) -> Result<Translated, GoRegexError> {
        while let Some((at, character)) = self.rest.next() {
            match character {
                '\\' => self.escape(at)?,
                '[' => self.class(at)?,
                '(' => self.group(at)?,
                ')' => {
                    let outer = self.open.pop().ok_or(GoRegexError::Parenthesis(at))?;
                    self.out.push(')');
                    let inner = self.inner_repeat;
                    self.inner_repeat = outer;
                    self.atom(inner);
                }
                '*' | '+' | '?' => {
                    self.check_repeat(at)?;
                    self.out.push(character);
                    self.finish_repeat();
                }
                '{' => self.braces(at)?,
                '|' => {
                    self.out.push('|');
                    self.atom = Atom::None;
                }
                '.' | '^' | '$' => {
                    self.out.push(character);
                    self.atom(1);
                }
                _ => self.literal(character),
            }
        }
        if !self.open.is_empty() {
            return Err(GoRegexError::Parenthesis(self.text.len()));
        }
        Ok(Translated { pattern: self.out, group_names: self.names })
    }

    fn after(&mut self) -> &'a str {
        let at = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        &self.text[at..]
    }

    fn skip(&mut self, characters: usize) {
        for _ in 0..characters {
            self.rest.next();
        }
    }

    fn atom(&mut self, repeat: u32) {
        self.atom = Atom::Some;
        self.atom_repeat = repeat;
        self.inner_repeat = self.inner_repeat.max(repeat);
    }

    fn literal(&mut self, character: char) {
        push_literal(&mut self.out, character);
        self.atom(1);
    }

    fn check_repeat(&self, at: usize) -> Result<(), GoRegexError> {
        match self.atom {
            Atom::None => Err(GoRegexError::MissingArgument(at)),
            Atom::Repeated => Err(GoRegexError::NestedRepetition(at)),
            Atom::Some => Ok(()),
        }
    }

    fn finish_repeat(&mut self) {
        if self.rest.next_if(|(_, next)| *next == '?').is_some() {
            self.out.push('?');
        }
        self.atom = Atom::Repeated;
    }

    /// `{n}`, `{n,}` or `{n,m}`; everything else that begins with a brace is text.
    fn braces(&mut self, at: usize) -> Result<(), GoRegexError> {
        let Some((body, _)) = self.after().split_once('}') else {
            self.literal('{');
            return Ok(());
        };
        let (min, max) = body.split_once(',').map_or((body, None), |(min, max)| (min, Some(max)));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // As Go has it: a number with a zero in front is none.
            let good = digits && (text.len() == 1 || !text.starts_with('0'));
            good.then(|| text.parse::<u32>().unwrap_or(u32::MAX))
        };
        let bounds = match (number(min), max) {
            (Some(min), None) => Some((min, Some(min))),
            (Some(min), Some("")) => Some((min, None)),
            (Some(min), Some(max)) => number(max).map(|max| (min, Some(max))),
            (None, _) => None,
        };
        let Some((min, max)) = bounds else {
            self.literal('{');
            return Ok(());
        };
        let length = body.chars().count() + 1;
        if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
            return Err(GoRegexError::RepeatCount(at));
        }
        self.check_repeat(at)?;
        let repeat = self.atom_repeat.saturating_mul(max.unwrap_or(min).max(1));
        if repeat > REPEAT_MAX {
            return Err(GoRegexError::RepeatCount(at));
        }
        self.skip(length);
        // Writing to a String cannot fail.
        let _ = match max {
            Some(max) => write!(self.out, "{{{min},{max}}}"),
            None => write!(self.out, "{{{min},}}"),
        };
        self.atom(repeat);
        self.finish_repeat();
        Ok(())
    }

    fn group(&mut self, at: usize) -> Result<(), GoRegexError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(GoRegexError::Depth);
        }
        if !self.after().starts_with('?') {
            self.names.push(None);
            self.enter("(");
            return Ok(());
        }
        self.skip(1);
        let rest = self.after();
        let named = rest.strip_prefix("P<").map(|name| (2, name));
        let named = named.or_else(|| rest.strip_prefix('<').map(|name| (1, name)));
        if let Some((prefix, name)) = named {
            let (name, _) = name.split_once('>').ok_or(GoRegexError::Name(at))?;
            let good =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let taken = self.names.iter().flatten().any(|other| **other == *name);
            if !good {
                // `(?<=` and `(?<!` are no names but look-behind.
                return Err(if name.starts_with(['=', '!']) {
                    GoRegexError::Group(at)
                } else {
                    GoRegexError::Name(at)
                });
            }
            if taken {
                return Err(GoRegexError::Name(at));
            }
            let (name, length) = (Box::from(name), prefix + name.len() + 1);
            self.names.push(Some(name));
            self.skip(length);
            self.enter("(");
            return Ok(());
        }
        self.flags(at)
    }

    fn enter(&mut self, opening: &str) {
        self.out.push_str(opening);
        self.open.push(self.inner_repeat);
        self.inner_repeat = 1;
        self.atom = Atom::None;
    }

    fn flags(&mut self, at: usize) -> Result<(), GoRegexError> {
        let error = GoRegexError::Group(at);
        let (mut on, mut off, mut negative) = (String::new(), String::new(), false);
        loop {
            match self.rest.next().ok_or(error)?.1 {
                flag @ ('i' | 'm' | 's' | 'U') => {
                    let flags = if negative { &mut off } else { &mut on };
                    // Rust refuses a flag that is given twice.
                    if !flags.contains(flag) {
                        flags.push(flag);
                    }
                }
                '-' if !negative => negative = true,
                end @ (':' | ')') if !negative || !off.is_empty() => {
                    on.retain(|flag| !off.contains(flag));
                    let minus = if off.is_empty() { "" } else { "-" };
                    if end == ':' {
                        self.enter(&format!("(?{on}{minus}{off}:"));
                    } else if !on.is_empty() || !off.is_empty() {
                        self.out.push_str(&format!("(?{on}{minus}{off})"));
                    }
                    return Ok(());
                }
                _ => return Err(error),
            }
        }
    }

    fn escape(&mut self, at: usize) -> Result<(), GoRegexError> {
        let (_, character) = *self.rest.peek().ok_or(GoRegexError::TrailingBackslash)?;
        match character {
            'A' | 'z' => {
                self.out.push('\\');
                self.out.push(character);
            }
            'b' | 'B' => self.out.push_str(if character == 'b' { r"(?-u:\b)" } else { r"(?-u:\B)" }),
            'Q' => {
                self.skip(1);
                return self.quoted();
            }
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => self.out.push_str(perl_class(character)),
            'p' | 'P' => {
                self.skip(1);
                let class = self.unicode_class(at, character)?;
                self.out.push_str(&class);
                self.atom(1);
                return Ok(());
            }
            _ => {
                let character = self.escaped_character(at)?;
                self.literal(character);
                return Ok(());
            }
        }
        self.skip(1);
        self.atom(1);
        Ok(())
    }

    /// `\Q...\E`, or to the end of the expression.
    fn quoted(&mut self) -> Result<(), GoRegexError> {
        while let Some((_, character)) = self.rest.next() {
            if character == '\\' && self.rest.next_if(|(_, next)| *next == 'E').is_some() {
                break;
            }
            self.literal(character);
        }
        Ok(())
    }

    /// The character that the escape sequence after a backslash stands for.
    fn escaped_character(&mut self, at: usize) -> Result<char, GoRegexError> {
        let error = GoRegexError::Escape(at);
        let (_, character) = self.rest.next().ok_or(GoRegexError::TrailingBackslash)?;
        match character {
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0b'),
            'x' => self.hexadecimal().ok_or(error),
            '0' => Ok(self.octal(0, 2)),
            // A single digit would be a back reference.
            '1'..='7' if self.rest.peek().is_some_and(|(_, next)| ('0'..='7').contains(next)) => {
                Ok(self.octal(character.to_digit(8).unwrap_or_default(), 2))
            }
            _ if character.is_ascii() && !character.is_ascii_alphanumeric() => Ok(character),
            _ => Err(error),
        }
    }

    fn octal(&mut self, mut value: u32, digits_max: usize) -> char {
        for _ in 0..digits_max {
            let Some((_, digit)) = self.rest.next_if(|(_, next)| ('0'..='7').contains(next)) else { break };
            value = value * 8 + digit.to_digit(8).unwrap_or_default();
        }
        char::from_u32(value).unwrap_or_default()
    }

    /// After `\x`: two digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<char> {
        if self.rest.next_if(|(_, next)| *next == '{').is_none() {
            let high = self.rest.next()?.1.to_digit(16)?;
            let low = self.rest.next()?.1.to_digit(16)?;
            return char::from_u32(high * 16 + low);
        }
        let (mut value, mut digits) = (0_u32, 0);
        loop {
            let (_, character) = self.rest.next()?;
            if character == '}' {
                return if digits > 0 { char::from_u32(value) } else { None };
            }
            value = value.checked_mul(16)?.checked_add(character.to_digit(16)?)?;
            digits += 1;
        }
    }

    /// After `\p` or `\P`: one letter, or a name in braces that `^` negates.
    fn unicode_class(&mut self, at: usize, kind: char) -> Result<String, GoRegexError> {
        let error = GoRegexError::Class(at);
        let mut negated = kind == 'P';
        let (_, first) = self.rest.next().ok_or(error)?;
        let mut name = String::new();
        if first == '{' {
            loop {
                match self.rest.next().ok_or(error)?.1 {
                    '}' => break,
                    '^' if name.is_empty() => negated = !negated,
                    character => name.push(character),
                }
            }
        } else {
            name.push(first);
        }
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(error);
        }
        Ok(format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }))
    }

    /// After `[`.
    fn class(&mut self, at: usize) -> Result<(), GoRegexError> {
        let error = GoRegexError::Class(at);
        self.out.push('[');
        if self.rest.next_if(|(_, next)| *next == '^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let (member_at, character) = *self.rest.peek().ok_or(error)?;
            if character == ']' && !first {
                self.skip(1);
                break;
            }
            first = false;
            if character == '[' && self.posix_class(error)? {
                continue;
            }
            if character == '\\' {
                let mut ahead = self.rest.clone();
                ahead.next();
                match ahead.next().map(|(_, next)| next) {
                    Some(kind @ ('p' | 'P')) => {
                        self.skip(2);
                        let class = self.unicode_class(member_at, kind)?;
                        self.out.push_str(&class);
                        continue;
                    }
                    Some(kind @ ('d' | 'D' | 's' | 'S' | 'w' | 'W')) => {
                        self.skip(2);
                        self.out.push_str(perl_class(kind));
                        continue;
                    }
                    _ => {}
                }
            }
            let low = self.class_character(error)?;
            let mut high = low;
            let after = self.after();
            if after.starts_with('-') && !after.starts_with("-]") && after.len() > 1 {
                self.skip(1);
                high = self.class_character(error)?;
            }
            if high < low {
                return Err(error);
            }
            push_class_literal(&mut self.out, low);
            if high != low {
                self.out.push('-');
                push_class_literal(&mut self.out, high);
            }
        }
        self.out.push(']');
        self.atom(1);
        Ok(())
    }

    fn class_character(&mut self, error: GoRegexError) -> Result<char, GoRegexError> {
        let (at, character) = self.rest.next().ok_or(error)?;
        if character == '\\' { self.escaped_character(at) } else { Ok(character) }
    }

    /// `[:alpha:]` within a class; `false` if what follows is none, and then it is text.
    fn posix_class(&mut self, error: GoRegexError) -> Result<bool, GoRegexError> {
        let Some(rest) = self.after().strip_prefix("[:") else { return Ok(false) };
        let Some((name, _)) = rest.split_once(":]") else { return Ok(false) };
        let known = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        if !known.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(error);
        }
        let (class, length) = (format!("[:{name}:]"), name.len() + 4);
        self.out.push_str(&class);
        self.skip(length);
        Ok(true)
    }
}

fn perl_class(kind: char) -> &'static str {
    match kind {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\x0c\r ]",
        'S' => r"[^\t\n\x0c\r ]",
        'w' => "[0-9A-Za-z_]",
        _ => "[^0-9A-Za-z_]",
    }
}

fn push_literal(out: &mut String, character: char) {
    if regex_syntax::is_meta_character(character) {
        out.push('\\');
    }
    out.push(character);
}

fn push_class_literal(out: &mut String, character: char) {
    if character.is_ascii_alphanumeric() {
        out.push(character);
    } else {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\x{{{:X}}}", u32::from(character));
    }
}

#[cfg(test)]
#[path = "go_regex_tests.rs"]
mod tests;
