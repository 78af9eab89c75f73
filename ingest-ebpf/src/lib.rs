//! What the kernel program and the daemon must agree on: splitter, layouts, verdicts.
//!
//! No dependency, no allocation, no panic path; builds for any target.

#![no_std]

pub mod checksum;
pub mod identity;
pub mod layout;
pub mod plain;
pub mod verdict;
