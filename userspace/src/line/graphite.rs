//! Graphite: `name;key=value;key=value`.

/// Ends the name where it comes first, and parts the tags, so that a value may hold a `,`.
pub(super) const DELIMITER: char = ';';
