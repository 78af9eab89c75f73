//! Event -> family name and labels.
//!
//! Without a mapping file every event is unmapped: its name is escaped and its tags are its labels.

pub mod cache;

// Tag keys are escaped by the same rule, and `line` comes first on the way of a datagram.
pub use crate::line::escape;
