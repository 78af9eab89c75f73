//! Datagram -> lines -> [`Event`]s.

pub mod event;

pub use event::{Event, EventKind};
