//! The Rotameter daemon, as a library so that tests and the bench can use its stages.
//!
//! The modules stand in the order in which a datagram passes them.

#![deny(unsafe_code)]

pub mod clock;
pub mod datagram;
pub mod exposition;
pub mod kernel;
pub mod line;
pub mod listener;
pub mod mapper;
pub mod registry;
pub mod web;

pub mod cli;
pub mod config;
pub mod logging;
pub mod shutdown;
pub mod startup;
