//! Event -> family name and labels.

// Tag keys are escaped by the same rule, and `line` comes first on the way of a datagram.
pub use crate::line::escape;
