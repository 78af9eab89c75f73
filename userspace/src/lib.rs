//! The Rotameter daemon, as a library so that tests and the bench can use its stages.
//!
//! The modules stand in the order in which a datagram passes them.

#![deny(unsafe_code)]

pub mod clock;
pub mod datagram;
pub mod kernel;
pub mod exposition;
pub mod ledger;
pub mod pipeline;
pub mod line;
pub mod mapper;
pub mod registry;
