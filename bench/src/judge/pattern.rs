//! A glob or a regular expression -> which names it takes, and what stands for `$1`.

use anyhow::Context as _;
use regex_automata::{
    Input,
    meta::Regex,
    util::{captures::Captures as Groups, interpolate, syntax},
};

/// What a rule matches.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    expression: Regex,
    /// What a name has to begin with; spares most expressions.
    begins: String,
}

/// What a match has caught.
pub(super) struct Captures<'a> {
    expression: &'a Regex,
    groups: Groups,
    name: &'a str,
}

impl Pattern {
    pub(super) fn glob(glob: &str) -> anyhow::Result<Self> {
        let mut text = String::from("(?s)^");
        for (place, segment) in glob.split('.').enumerate() {
            if place > 0 {
                text.push_str("\\.");
            }
            if segment == "**" {
                // One segment or more, and a segment may be empty: any run of characters.
                text.push_str("(.*?)");
                continue;
            }
            for (place, part) in segment.split('*').enumerate() {
                if place > 0 {
                    text.push_str("([^.]*?)");
                }
                for character in part.chars() {
                    if character.is_ascii_punctuation() {
                        text.push('\\');
                    }
                    text.push(character);
                }
            }
        }
        text.push('$');
        let begins = glob.split('*').next().unwrap_or_default().to_owned();
        Ok(Self { expression: compile(&text)?, begins })
    }

    pub(super) fn regex(text: &str) -> anyhow::Result<Self> {
        Ok(Self { expression: compile(text)?, begins: String::new() })
    }

    pub(super) fn captures<'a>(&'a self, name: &'a str) -> Option<Captures<'a>> {
        if !name.starts_with(&self.begins) {
            return None;
        }
        let mut groups = self.expression.create_captures();
        self.expression.search_captures(&Input::new(name), &mut groups);
        groups.is_match().then_some(Captures { expression: &self.expression, groups, name })
    }
}

fn compile(text: &str) -> anyhow::Result<Regex> {
    // Go's classes are those of ASCII.
    let syntax = syntax::Config::new().unicode(false).utf8(false);
    let built = Regex::builder().syntax(syntax).build(text);
    built.with_context(|| format!("the expression {text}"))
}

impl Captures<'_> {
    /// The template with its references filled in; one that refers to nothing is empty.
    pub(super) fn fill(&self, template: &str) -> String {
        let mut text = String::new();
        interpolate::string(
            template,
            |group, text| {
                let caught = self.groups.get_group(group).and_then(|span| self.name.get(span.range()));
                text.push_str(caught.unwrap_or_default());
            },
            |name| self.expression.group_info().to_index(self.groups.pattern()?, name),
            &mut text,
        );
        text
    }
}
