//! Frames -> figures: load generators and scenarios, as a library so that tests use the same frames.

pub mod frame;

pub mod raw_map;
pub mod raw_program;

pub mod network;

pub mod fleet;

pub mod load;

pub mod judge;

#[path = "../../tests/corpus/mod.rs"]
pub mod corpus;

pub mod machine;

pub mod conditions;

pub mod server;

pub mod lab;

pub mod scenario;

pub mod report;
