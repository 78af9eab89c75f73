//! Text of a mapping file -> tree of nodes with their lines.
//!
//! Scalars keep their source text, for YAML 1.1 and 1.2 read it differently, and a label value is
//! taken as it was written.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use thiserror::Error;

/// A mapping file needs 6 levels.
const DEPTH_MAX: usize = 64;
/// Nodes, those that aliases stand for counted each time. A rule with labels and options takes 40.
const NODES_MAX: usize = 1_000_000;

/// Why a text is not YAML that we read.
#[derive(Debug, Error)]
#[error("yaml: {text}")]
pub(super) struct YamlError {
    /// From 1.
    pub(super) line: usize,
    text: String,
}

impl YamlError {
    fn new(line: usize, text: impl Into<String>) -> Self {
        Self { line, text: text.into() }
    }
}

/// Index of a node in its [`Document`].
pub(super) type NodeId = usize;

/// The first document of a file.
#[derive(Debug, Default)]
pub(super) struct Document {
    nodes: Vec<Node>,
    /// `None` if the file is empty.
    pub(super) root: Option<NodeId>,
}

#[derive(Debug)]
pub(super) struct Node {
    /// From 1.
    pub(super) line: usize,
    pub(super) value: Value,
    /// Nodes in it, itself and what aliases stand for included.
    weight: usize,
}

#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence(Vec<NodeId>),
    /// Keys and values, in the order of the file; keys may repeat.
    Mapping(Vec<(NodeId, NodeId)>),
}

#[derive(Debug)]
pub(super) struct Scalar {
    pub(super) text: Box<str>,
    pub(super) form: ScalarForm,
}

/// How the type of a scalar is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScalarForm {
    /// By what it looks like: plain text, or one with a tag such as `!!int`.
    Resolved,
    /// It is text: quoted, a block, or tagged as such.
    Text,
}

impl Document {
    /// # Errors
    ///
    /// A [`YamlError`] with the line where the text stops being YAML, or goes over a limit.
    pub(super) fn parse(text: &str) -> Result<Self, YamlError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        refuse_control_characters(text)?;
        Builder::default().build(text)
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }
}

/// The parser would take a NUL for the end of the file; the others are no YAML either.
fn refuse_control_characters(text: &str) -> Result<(), YamlError> {
    let control = |byte: &u8| (*byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) || *byte == 0x7f;
    let Some(at) = text.bytes().position(|byte| control(&byte)) else { return Ok(()) };
    let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    Err(YamlError::new(line, "control characters are not allowed; write \"\\x01\" in double quotes"))
}

/// A sequence or mapping that has not ended yet.
struct Open {
    line: usize,
    anchor: usize,
    is_mapping: bool,
    children: Vec<NodeId>,
}

#[derive(Default)]
struct Builder {
    document: Document,
    open: Vec<Open>,
    /// Complete nodes by the number that the parser gave to their anchors.
    anchors: HashMap<usize, NodeId>,
}

impl Builder {
    fn build(mut self, text: &str) -> Result<Document, YamlError> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                let hint = if error.info().contains("unknown anchor") {
                    "; put a pattern that begins with * between quotes"
                } else {
                    ""
                };
                YamlError::new(error.marker().line(), format!("{}{hint}", error.info()))
            })?;
            let line = span.start.line();
            match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let form = scalar_form(style, tag.as_deref());
                    let scalar = Scalar { text: text.into_owned().into_boxed_str(), form };
                    self.add(Node { line, value: Value::Scalar(scalar), weight: 1 }, anchor)?;
                }
                Event::SequenceStart(anchor, _) => self.enter(line, anchor, false)?,
                Event::MappingStart(anchor, _) => self.enter(line, anchor, true)?,
                Event::SequenceEnd | Event::MappingEnd => self.leave()?,
                Event::Alias(anchor) => {
                    let Some(id) = self.anchors.get(&anchor) else {
                        return Err(YamlError::new(line, "an anchor's value contains its own alias"));
                    };
                    self.attach(*id);
                }
                // What follows the first document is not read, as ever.
                Event::DocumentEnd | Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
            }
        }
        Ok(self.document)
    }

    fn enter(&mut self, line: usize, anchor: usize, is_mapping: bool) -> Result<(), YamlError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(YamlError::new(line, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.open.push(Open { line, anchor, is_mapping, children: Vec::new() });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), YamlError> {
        let Some(Open { line, anchor, is_mapping, children }) = self.open.pop() else { return Ok(()) };
        let weights = children.iter().map(|child| self.document.nodes[*child].weight);
        let weight = weights.fold(1, usize::saturating_add);
        let value = if is_mapping {
            Value::Mapping(children.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
        } else {
            Value::Sequence(children)
        };
        self.add(Node { line, value, weight }, anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        if self.document.nodes.len() >= NODES_MAX || node.weight > NODES_MAX {
            let text = format!("more than {NODES_MAX} values, those that aliases stand for included");
            return Err(YamlError::new(node.line, text));
        }
        let id = self.document.nodes.len();
        self.document.nodes.push(node);
        if anchor > 0 {
            self.anchors.insert(anchor, id);
        }
        self.attach(id);
        Ok(())
    }

    fn attach(&mut self, id: NodeId) {
        match self.open.last_mut() {
            Some(open) => open.children.push(id),
            None => self.document.root = Some(id),
        }
    }
}

fn scalar_form(style: ScalarStyle, tag: Option<&Tag>) -> ScalarForm {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "int" | "float" | "bool" | "null" | "merge" => ScalarForm::Resolved,
            _ => ScalarForm::Text,
        },
        Some(_) => ScalarForm::Text,
        None if style == ScalarStyle::Plain => ScalarForm::Resolved,
        None => ScalarForm::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document in one line: `=` before text that is text for certain.
    fn show(document: &Document, id: NodeId) -> String {
        let list = |ids: &[NodeId]| ids.iter().map(|id| show(document, *id)).collect::<Vec<_>>().join(" ");
        match &document.node(id).value {
            Value::Scalar(Scalar { text, form: ScalarForm::Resolved }) => text.to_string(),
            Value::Scalar(scalar) => format!("={}", scalar.text),
            Value::Sequence(children) => format!("[{}]", list(children)),
            Value::Mapping(pairs) => {
                let pair = |(key, value): &(NodeId, NodeId)| {
                    format!("{}:{}", show(document, *key), show(document, *value))
                };
                format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let document = Document::parse(text).expect("it is YAML");
        assert_eq!(document.root.map_or_else(String::new, |root| show(&document, root)), expected);
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let error = Document::parse(text).expect_err("it is refused");
        let message = format!("{}: {error}", error.line);
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn scalars_keep_their_source_text() {
        check("a: 0x10\nb: '1'\nc: !!str yes\nd: [1_000, \"x\"]", "{a:0x10 b:=1 c:=yes d:[1_000 =x]}");
        check("{\"a\": [1, {\"b\": null}]}", "{=a:[1 {=b:null}]}");
    }

    #[test]
    fn only_the_first_document_counts() {
        check("a: b\n---\n: [", "{a:b}");
        check("", "");
        check("\u{feff}# nothing\n", "");
    }

    #[test]
    fn aliases_stand_for_their_anchors() {
        check("- &x {a: b}\n- *x", "[{a:b} {a:b}]");
        check_error("- &x [*x]", "1: yaml: an anchor's value contains its own alias");
        check_error("\nmatch: *.test.*", "2: yaml:");
    }

    #[test]
    fn aliases_cannot_make_a_bomb() {
        let mut text = String::from("- &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            text += &format!("- &a{level} [{alias}]\n");
        }
        check_error(&text, "more than 1000000 values");
    }

    #[test]
    fn depth_and_control_characters_are_refused() {
        check_error(&"[".repeat(100), "nested deeper than 64 levels");
        check_error(&"- ".repeat(100), "nested deeper than 64 levels");
        check_error("a: b\nc: \0", "2: yaml: control characters");
    }
}
