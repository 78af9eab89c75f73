//! Tree of nodes -> typed values, with a problem where a node is something else.

use std::collections::{HashMap, HashSet};

use super::problem::{Report, Shown};
use super::scalar::{self, Resolved, mismatch};
use super::yaml::{Document, NodeId, Scalar, ScalarForm, Value};

/// One entry of a mapping.
pub(super) struct Field {
    pub(super) key: String,
    /// Of the key, from 1.
    pub(super) line: usize,
    pub(super) value: NodeId,
    /// Mappings of the same key that a merge set before, oldest first; what they say and `value` does
    /// not still holds.
    beneath: Vec<NodeId>,
}

/// Entries so far, in order of first appearance.
#[derive(Default)]
struct Fields {
    list: Vec<Field>,
    places: HashMap<String, usize>,
}

impl Fields {
    fn set(&mut self, document: &Document, key: &str, line: usize, value: NodeId) {
        let is_mapping = |id: NodeId| matches!(document.node(id).value, Value::Mapping(_));
        let Some(field) = self.places.get(key).and_then(|place| self.list.get_mut(*place)) else {
            self.places.insert(key.to_owned(), self.list.len());
            self.list.push(Field { key: key.to_owned(), line, value, beneath: Vec::new() });
            return;
        };
        if is_mapping(field.value) && is_mapping(value) {
            field.beneath.push(field.value);
        } else {
            field.beneath.clear();
        }
        (field.line, field.value) = (line, value);
    }
}

/// A document on its way into typed values.
pub(super) struct Walk<'a> {
    pub(super) document: &'a Document,
    pub(super) report: &'a mut Report,
}

impl<'a> Walk<'a> {
    pub(super) fn line(&self, id: NodeId) -> usize {
        self.document.node(id).line
    }

    pub(super) fn is_null(&self, id: NodeId) -> bool {
        matches!(&self.document.node(id).value, Value::Scalar(scalar)
            if scalar::resolve(scalar) == Resolved::Null)
    }

    /// Entries of a mapping, merged ones (`<<`) included; each key once. Null is an empty mapping.
    pub(super) fn fields(&mut self, id: NodeId, wanted: &str) -> Vec<Field> {
        let mut fields = Fields::default();
        self.gather(id, wanted, &mut fields);
        fields.list
    }

    /// Entries of the mapping that is the value of `field`, and of those beneath it.
    pub(super) fn fields_of(&mut self, field: &Field, wanted: &str) -> Vec<Field> {
        let mut fields = Fields::default();
        for &id in field.beneath.iter().chain([&field.value]) {
            self.gather(id, wanted, &mut fields);
        }
        fields.list
    }

    /// As the library of statsd_exporter merges: in the order of the file, so that a `<<` behind a key
    /// holds against it; of several merged ones the first. Mappings are merged with what they meet.
    /// The document's limits on depth and size bound the recursion, merges included.
    fn gather(&mut self, id: NodeId, wanted: &str, fields: &mut Fields) {
        let document = self.document;
        let Value::Mapping(pairs) = &document.node(id).value else {
            if !self.is_null(id) {
                self.mismatch(id, wanted);
            }
            return;
        };
        let mut own = HashSet::new();
        for &(key, value) in pairs {
            let line = document.node(key).line;
            let Value::Scalar(scalar) = &document.node(key).value else {
                self.report.error(line, "a key is a list or a mapping; write plain text");
                continue;
            };
            if scalar.form == ScalarForm::Resolved && &*scalar.text == "<<" {
                self.merge(value, fields);
                continue;
            }
            if !own.insert(&*scalar.text) {
                let text = format!("key \"{}\" already set; the last one holds", Shown(&scalar.text));
                self.report.warn(line, text);
            }
            fields.set(document, &scalar.text, line, value);
        }
    }

    fn merge(&mut self, id: NodeId, fields: &mut Fields) {
        const WANTED: &str = "a mapping to merge";
        let document = self.document;
        let items = match &document.node(id).value {
            Value::Sequence(items) => items.as_slice(),
            _ => &[id],
        };
        for &item in items.iter().rev() {
            if self.is_null(item) {
                self.mismatch(item, WANTED);
            } else {
                self.gather(item, WANTED, fields);
            }
        }
    }

    /// Items of a list; null is an empty one.
    pub(super) fn items(&mut self, id: NodeId, wanted: &str) -> &'a [NodeId] {
        let document = self.document;
        if let Value::Sequence(items) = &document.node(id).value {
            return items;
        }
        if !self.is_null(id) {
            self.mismatch(id, wanted);
        }
        &[]
    }

    fn scalar(&mut self, id: NodeId, wanted: &str) -> Option<&'a Scalar> {
        let document = self.document;
        if let Value::Scalar(scalar) = &document.node(id).value {
            return Some(scalar);
        }
        self.mismatch(id, wanted);
        None
    }

    /// Source text of a scalar; null is empty.
    pub(super) fn text(&mut self, id: NodeId) -> Option<String> {
        let scalar = self.scalar(id, "text")?;
        Some(if scalar::resolve(scalar) == Resolved::Null { String::new() } else { scalar.text.to_string() })
    }

    /// `None` for null, and for what is refused.
    pub(super) fn word(&mut self, id: NodeId) -> Option<String> {
        if self.is_null(id) { None } else { self.text(id) }
    }

    pub(super) fn flag(&mut self, id: NodeId) -> bool {
        let Some(scalar) = self.scalar(id, "true or false") else { return false };
        match scalar::resolve(scalar) {
            Resolved::Bool(flag) => flag,
            Resolved::Null => false,
            _ => {
                self.mismatch(id, "true or false");
                false
            }
        }
    }

    pub(super) fn float(&mut self, id: NodeId) -> Option<f64> {
        self.number(id, "a number", scalar::float)
    }

    pub(super) fn unsigned(&mut self, id: NodeId) -> Option<u32> {
        self.number(id, "a whole number from 0 to 4294967295", scalar::unsigned)
    }

    /// Nanoseconds; a bare number is taken as such, and that is hardly ever meant.
    pub(super) fn duration_nanos(&mut self, id: NodeId) -> Option<i64> {
        let nanos = self.number(id, "a duration such as 90s or 1h30m", scalar::duration_nanos)?;
        let document = self.document;
        if let Value::Scalar(scalar) = &document.node(id).value
            && nanos != 0
            && matches!(scalar::resolve(scalar), Resolved::Int(_) | Resolved::Float(_))
        {
            let text = format!("{0} means {0} nanoseconds; write {0}s for seconds", Shown(&scalar.text));
            self.report.warn(self.line(id), text);
        }
        Some(nanos)
    }

    fn number<T>(&mut self, id: NodeId, wanted: &str, read: fn(&Scalar) -> Option<T>) -> Option<T> {
        let scalar = self.scalar(id, wanted)?;
        let (number, null) = (read(scalar), scalar::resolve(scalar) == Resolved::Null);
        if number.is_none() && !null {
            self.mismatch(id, wanted);
        }
        number
    }

    fn mismatch(&mut self, id: NodeId, wanted: &str) {
        let node = self.document.node(id);
        let text = match &node.value {
            Value::Scalar(scalar) => mismatch(scalar, wanted),
            Value::Sequence(_) => format!("cannot unmarshal !!seq into {wanted}"),
            Value::Mapping(_) => format!("cannot unmarshal !!map into {wanted}"),
        };
        self.report.error(node.line, text);
    }

    pub(super) fn unknown(&mut self, field: &Field, place: &str) {
        let text = format!(
            "field {} not found in {place}; it has no effect, take it out or mend its spelling",
            Shown(&field.key)
        );
        self.report.warn(field.line, text);
    }
}
