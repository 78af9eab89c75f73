//! InfluxDB: `name,key=value,key=value`.

/// Ends the name where it comes first; the same character parts the tags, as in every dialect.
pub(super) const DELIMITER: char = ',';
