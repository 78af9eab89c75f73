//! Arguments as typed -> the same ones in one spelling, read as `statsd_exporter`'s parser reads them.
//!
//! A switch takes no value and is negated by `--no-...`; any other flag takes one, behind `=` or as
//! the next argument; `@file` stands for the lines of that file; nothing is abbreviated, and a flag
//! stands once unless the table says that it may be repeated.

use std::{collections::HashSet, ffi::OsString, fs::File, io::Read as _};

use clap::{ArgAction, Command};
use thiserror::Error;

/// What all files behind `@` may add; a file that names itself ends here.
const ARGUMENTS_MAX: usize = 10_000;
const ARGUMENT_FILE_BYTES_MAX: u64 = 1 << 20;

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// To run with these arguments, each `--flag` or `--flag=value`.
    Run(Vec<String>),
    Print(Page),
}

/// A text for standard output, instead of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Help,
    Man,
    Version,
    CompletionBash,
    CompletionZsh,
}

/// Flags that ask for a page.
pub(super) const PAGES: [(&str, Page); 6] = [
    ("help", Page::Help),
    ("help-long", Page::Help),
    ("help-man", Page::Man),
    ("version", Page::Version),
    ("completion-script-bash", Page::CompletionBash),
    ("completion-script-zsh", Page::CompletionZsh),
];

/// A command line that cannot be read.
#[derive(Debug, Error)]
pub enum UsageError {
    #[error("unknown long flag '--{name}'{}, try --help", did_you_mean(near))]
    UnknownLong { name: String, near: Option<String> },
    #[error("unknown short flag '-{0}', try --help")]
    UnknownShort(String),
    #[error(
        "expected argument for flag '--{0}'; one that begins with - is written as --{0}=-..., try --help"
    )]
    NoValue(String),
    #[error("unexpected {value}: --{name} is a switch; write --{name} or --no-{name}, try --help")]
    SwitchWithValue { name: String, value: String },
    #[error("unexpected {0}, try --help")]
    Positional(String),
    #[error("flag '{0}' cannot be repeated, try --help")]
    Repeated(String),
    #[error("argument \"{0}\" is not UTF-8")]
    NotUtf8(String),
    #[error("reading arguments from {path}")]
    ArgumentFile { path: String, source: std::io::Error },
    #[error("more than {ARGUMENTS_MAX} arguments; does a file behind @ name itself?")]
    TooMany,
}

fn did_you_mean(near: &Option<String>) -> String {
    near.as_ref().map_or_else(String::new, |near| format!(" (did you mean --{near}?)"))
}

/// Reads arguments, without the program's name, by the flags of `table`.
///
/// # Errors
///
/// The first argument that does not do.
pub(super) fn read(
    table: &Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Request, UsageError> {
    let arguments = arguments.into_iter().map(|argument| {
        argument.into_string().map_err(|text| UsageError::NotUtf8(shown(&text.to_string_lossy())))
    });
    let mut waiting = one_string(arguments.collect::<Result<Vec<_>, _>>()?);
    // The next one is the last of the list: files behind `@` are put where they stood.
    waiting.reverse();
    let mut given = HashSet::new();
    let mut read = Vec::new();
    let mut files = 0;
    // Printed only if the rest can be read; other pages do not wait for it.
    let mut help = false;
    while let Some(argument) = next(&mut waiting, &mut files)? {
        if argument == "--" {
            // Nothing but positional arguments may follow, and the daemon has none.
            match waiting.pop() {
                Some(next) if !help => return Err(UsageError::Positional(shown(&next))),
                _ => break,
            }
        }
        let Some(long) = argument.strip_prefix("--") else {
            match argument.strip_prefix('-').map(|short| short.chars().next()) {
                Some(Some('h')) => {
                    help = true;
                    continue;
                }
                Some(short) => {
                    return Err(UsageError::UnknownShort(short.map(String::from).unwrap_or_default()));
                }
                None if help => break,
                None => return Err(UsageError::Positional(shown(&argument))),
            }
        };
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let flag = Flag::find(table, name)?;
        if let (Kind::Page(_) | Kind::Switch, Some(value)) = (flag.kind, &value) {
            return Err(UsageError::SwitchWithValue { name: flag.name.to_owned(), value: shown(value) });
        }
        match flag.kind {
            Kind::Page(Page::Help) if name == "help" => {
                help = true;
                continue;
            }
            Kind::Page(page) => return Ok(Request::Print(page)),
            _ => {}
        }
        if !given.insert(flag.name.to_owned()) && flag.kind != Kind::Repeatable {
            return Err(UsageError::Repeated(flag.name.to_owned()));
        }
        if flag.kind == Kind::Switch {
            read.extend(flag.argument.map(|name| format!("--{name}")));
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => next(&mut waiting, &mut files)?
                .filter(|value| !value.starts_with('-'))
                .ok_or_else(|| UsageError::NoValue(name.to_owned()))?,
        };
        read.push(format!("--{name}={value}"));
    }
    Ok(if help { Request::Print(Page::Help) } else { Request::Run(read) })
}

/// The next argument, with files behind `@` read in its place.
fn next(waiting: &mut Vec<String>, files: &mut usize) -> Result<Option<String>, UsageError> {
    loop {
        let Some(argument) = waiting.pop() else { return Ok(None) };
        let Some(path) = argument.strip_prefix('@') else { return Ok(Some(argument)) };
        *files += 1;
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(ARGUMENT_FILE_BYTES_MAX).read_to_string(&mut text))
            .map_err(|source| UsageError::ArgumentFile { path: shown(path), source })?;
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        waiting.extend(lines.rev().map(str::to_owned));
        if waiting.len() > ARGUMENTS_MAX || *files > ARGUMENTS_MAX {
            return Err(UsageError::TooMany);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Page(Page),
    Switch,
    Single,
    Repeatable,
}

/// A flag as it was found in the table.
struct Flag<'a> {
    /// Without `no-`.
    name: &'a str,
    kind: Kind,
    /// What the table is asked for; `None` where a switch is off already.
    argument: Option<&'a str>,
}

impl<'a> Flag<'a> {
    fn find(table: &Command, name: &'a str) -> Result<Self, UsageError> {
        if let Some((_, page)) = PAGES.iter().find(|(page, _)| *page == name) {
            return Ok(Self { name, kind: Kind::Page(*page), argument: None });
        }
        let positive = name.strip_prefix("no-");
        match (kind(table, name), positive.map(|positive| (positive, kind(table, positive)))) {
            // Whether or not the table has the negation: without it the switch is off by default.
            (found, Some((positive, Some(Kind::Switch)))) => {
                Ok(Self { name: positive, kind: Kind::Switch, argument: found.map(|_| name) })
            }
            (Some(kind), _) => Ok(Self { name, kind, argument: Some(name) }),
            (None, _) => Err(UsageError::UnknownLong { name: shown(name), near: nearest(table, name) }),
        }
    }
}

fn kind(table: &Command, name: &str) -> Option<Kind> {
    let argument = table.get_arguments().find(|argument| argument.get_long() == Some(name))?;
    Some(match argument.get_action() {
        ArgAction::SetTrue => Kind::Switch,
        ArgAction::Append => Kind::Repeatable,
        _ => Kind::Single,
    })
}

/// The flag that was probably meant.
fn nearest(table: &Command, name: &str) -> Option<String> {
    let name: String = name.chars().take(64).collect();
    let flags = table.get_arguments().filter(|argument| !argument.is_hide_set());
    flags
        .filter_map(clap::Arg::get_long)
        .filter_map(|flag| {
            // What was left out at an end counts little: people shorten, and forget the part before
            // the dot.
            let part = name.len() >= 3 && (flag.starts_with(&name) || flag.ends_with(&name));
            let distance = if part { 1 } else { edits(&name, flag) };
            (distance <= 1 + name.len() / 5).then(|| (distance, flag.to_owned()))
        })
        .min()
        .map(|(_, flag)| flag)
}

/// Letters to insert, take out or replace until `a` is `b`.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (line, from) in a.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (cell, to) in row.iter_mut().zip(std::iter::once(None).chain(b.chars().map(Some))) {
            let above = *cell;
            if let Some(to) = to {
                left = (diagonal + usize::from(from != to)).min(left + 1).min(above + 1);
            }
            (*cell, diagonal) = (left, above);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Takes apart what an entry point hands over as one string of flags, and leaves out a program's name
/// that stands before them.
fn one_string(mut arguments: Vec<String>) -> Vec<String> {
    if let [only] = arguments.as_slice() {
        let words = words(only);
        let begins = words.first().is_some_and(|word| {
            // A flag's name has no space: with no `=` before it, the next word is the value.
            is_program(word) || word.starts_with("--") && !word.contains('=')
        });
        let goes_on = only.starts_with("--")
            && words.iter().skip(1).any(|word| {
                word.strip_prefix("--")
                    .is_some_and(|flag| flag.starts_with(|c: char| c.is_ascii_alphabetic()))
            });
        if words.len() > 1 && (begins || goes_on) {
            arguments = words;
        }
    }
    if arguments.first().is_some_and(|first| is_program(first)) {
        arguments.remove(0);
    }
    arguments
}

fn is_program(word: &str) -> bool {
    !word.starts_with('-') && matches!(word.rsplit('/').next(), Some("statsd_exporter" | "rotameter"))
}

/// Words between spaces; quotation marks hold a word together, as in a shell.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(mark), _) if character == mark => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
#[path = "kingpin_tests.rs"]
mod tests;
