//! The tree of globs -> Graphviz, for `--debug.dump-fsm`.

use std::fmt::Write as _;

use super::glob::Segment;
use super::{Mapper, MetricType};

impl Mapper {
    /// The automaton that names go through, as a graph for Graphviz: one node for each segment, the way
    /// of the name along the arrows, and a doubled circle with rule and metric types where a rule ends.
    #[must_use]
    pub fn dump_dot(&self) -> String {
        let mut out = String::from("digraph mapping {\n  rankdir=LR;\n  node [shape=circle, label=\"\"];\n");
        // Writing to a String cannot fail.
        let _ = self.write_dot(&mut out);
        out.push_str("}\n");
        out
    }

    fn write_dot(&self, out: &mut String) -> std::fmt::Result {
        let nodes = self.machine.nodes();
        for (number, node) in nodes.iter().enumerate() {
            let mut label = String::new();
            for metric_type in MetricType::ALL {
                let rule = self.rules.get(node.ends[metric_type as usize] as usize);
                if let Some(rule) = rule {
                    write!(
                        label,
                        "{}: rule {}\\n{}\\n",
                        metric_type.name(),
                        rule.number + 1,
                        quote(&rule.pattern)
                    )?;
                }
            }
            if !label.is_empty() {
                writeln!(out, "  n{number} [shape=doublecircle, label=\"{label}\"];")?;
            }
        }
        for (from, text, to) in self.machine.literal_edges() {
            writeln!(out, "  n{from} -> n{to} [label=\"{}\"];", quote(text))?;
        }
        for (number, node) in nodes.iter().enumerate() {
            for (segment, child) in &node.partials {
                if let Segment::Partial(texts) = segment {
                    writeln!(out, "  n{number} -> n{child} [label=\"{}\"];", quote(&texts.join("*")))?;
                }
            }
            if let Some(star) = node.star() {
                writeln!(out, "  n{number} -> n{star} [label=\"*\"];")?;
            }
            for (rule, _) in &node.deep {
                let Some(rule) = self.rules.get(*rule as usize) else { continue };
                let pattern = quote(&rule.pattern);
                let end = format!("r{}", rule.number + 1);
                writeln!(
                    out,
                    "  {end} [shape=doublecircle, label=\"rule {}\\n{pattern}\"];",
                    rule.number + 1
                )?;
                writeln!(out, "  n{number} -> {end} [label=\"**\"];")?;
            }
        }
        Ok(())
    }
}

fn quote(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use crate::mapper::{LoadOptions, Mapper};

    #[test]
    fn ways_and_ends_are_drawn() {
        let text =
            b"mappings:\n- {match: a.*, match_metric_type: gauge, name: aa}\n- {match: a.b*.**, name: bb}\n";
        let mapper = Mapper::from_text(text, "m.yml", LoadOptions::default()).expect("it loads").mapper;
        let expected = r#"digraph mapping {
  rankdir=LR;
  node [shape=circle, label=""];
  n2 [shape=doublecircle, label="gauge: rule 1\na.*\n"];
  n0 -> n1 [label="a"];
  n1 -> n3 [label="b*"];
  n1 -> n2 [label="*"];
  r2 [shape=doublecircle, label="rule 2\na.b*.**"];
  n3 -> r2 [label="**"];
}
"#;
        assert_eq!(mapper.dump_dot(), expected);
        assert!(Mapper::default().dump_dot().starts_with("digraph"));
    }
}
