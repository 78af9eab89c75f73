//! Load generators and scenarios, as a library so that tests use the same frames.

pub mod frame;
pub mod kernel_cost;
