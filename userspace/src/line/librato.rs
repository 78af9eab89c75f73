//! Librato: `name#key=value,key=value`.

/// Ends the name where it comes first; a later one belongs to a tag.
pub(super) const DELIMITER: char = '#';
