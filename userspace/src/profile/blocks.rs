//! Template -> its head and its blocks, one for each family or so.

use super::settings::Version;

/// A block of a template: one rule of the mapping file with what makes several of it.
#[derive(Debug, Default)]
pub(super) struct Block<'a> {
    /// Comments above it.
    pub(super) comments: Vec<&'a str>,
    /// The name with the ids in it, and others for the same.
    pub(super) matches: Vec<&'a str>,
    /// The name with tags, without the prefix, and the tags that it must have.
    pub(super) tagged: Option<(&'a str, &'a str)>,
    /// What becomes of that name without those tags: `drop`, `none` if another block says it; else it is
    /// the worst copy.
    pub(super) untagged: Option<&'a str>,
    /// Only for these releases, `3` for `3.0` and `3.2`; for all if empty.
    pub(super) only: Vec<&'a str>,
    /// Which of the timers it is that come in seconds here and in milliseconds there.
    pub(super) seconds: Option<&'a str>,
    /// The event that this is a still worse copy of, without the prefix.
    pub(super) copy_of: Option<&'a str>,
    pub(super) labels: Vec<(&'a str, &'a str)>,
    /// All other lines, key and value.
    pub(super) rest: Vec<(&'a str, &'a str)>,
}

/// The head, up to `mappings:`, and the blocks.
pub(super) fn parse(template: &str) -> (&str, Vec<Block<'_>>) {
    let (head, body) = template.split_once("mappings:\n").unwrap_or((template, ""));
    let mut blocks = Vec::new();
    let mut comments = Vec::new();
    for text in body.split("\n\n").map(|text| text.trim_matches('\n')).filter(|text| !text.is_empty()) {
        let mut block = Block { comments: std::mem::take(&mut comments), ..Block::default() };
        text.lines().for_each(|line| block.line(line));
        if block.matches.is_empty() {
            comments = block.comments;
        } else {
            blocks.push(block);
        }
    }
    (head, blocks)
}

impl<'a> Block<'a> {
    fn line(&mut self, line: &'a str) {
        if line.starts_with('#') {
            return self.comments.push(line);
        }
        let line = line.trim_start_matches(['-', ' ']);
        let Some((key, value)) = line.split_once(": ") else { return };
        match key {
            "match" | "also" => self.matches.push(value),
            "tagged" => self.tagged = value.split_once(' '),
            "untagged" => self.untagged = Some(value),
            "only" => self.only = value.split(' ').collect(),
            "copy_of" => self.copy_of = Some(value),
            "seconds" => self.seconds = Some(value),
            "labels" => self.labels = pairs(value),
            _ => self.rest.push((key, value)),
        }
    }

    fn change(&mut self, over: &Self) {
        if !over.labels.is_empty() {
            self.labels.clone_from(&over.labels);
        }
        for (key, value) in &over.rest {
            match self.rest.iter_mut().find(|(other, _)| other == key) {
                Some(place) => place.1 = value,
                None => self.rest.push((key, value)),
            }
        }
    }

    pub(super) fn is_for(&self, version: Version) -> bool {
        let (release, major) = (version.to_string(), version.major().to_string());
        self.only.is_empty() || self.only.iter().any(|only| *only == release || *only == major)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.rest.iter().any(|(other, _)| *other == key)
    }
}

/// The blocks of a template, with what `over` says of those of the same match in their place. What is in
/// `over` only goes in front.
pub(super) fn overlay<'a>(mut blocks: Vec<Block<'a>>, over: Vec<Block<'a>>) -> Vec<Block<'a>> {
    let mut new = Vec::new();
    for block in over {
        let mut known = false;
        for base in blocks.iter_mut().filter(|base| base.matches.first() == block.matches.first()) {
            known = true;
            base.change(&block);
        }
        if !known {
            new.push(block);
        }
    }
    new.append(&mut blocks);
    new
}

/// `{a: b, c: d}`.
fn pairs(text: &str) -> Vec<(&str, &str)> {
    let inner = text.trim_start_matches('{').trim_end_matches('}');
    inner.split(", ").filter_map(|pair| pair.split_once(": ")).collect()
}
