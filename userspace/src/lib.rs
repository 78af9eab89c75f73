//! The Rotameter daemon, as a library so that tests and the bench can use its stages.
//!
//! The modules stand in the order in which a datagram passes them.

#![deny(unsafe_code)]

pub mod clock;
pub mod datagram;
mod memory;

pub mod kernel;
pub mod listener;
pub mod sender;

pub mod line;

pub mod relay;
pub mod reload;

pub mod mapper;
/// Name of a profile -> its mapping file.
pub mod profile;

pub mod registry;

pub mod exposition;

pub mod web;

pub mod pipeline;

pub mod ledger;

pub mod live;

pub mod process;
pub mod scheduling;
pub mod self_metrics;
pub mod version;

pub mod cli;
pub mod config;

pub mod logging;

pub mod daemon;

pub mod notify;
pub mod shutdown;
pub mod startup;

pub mod tools;
