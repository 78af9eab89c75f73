//! Kernel object -> open doors; ring -> datagrams; slots -> growth.

pub mod interfaces;

pub mod cpus;
pub mod object;
mod permission;

pub mod doors;
pub mod drainer;
mod listen_set;

pub mod memory_map;

pub mod doorbell;
pub mod ring;
pub mod rings;

pub mod counters;
pub mod slots;

pub mod grace;
pub mod identities;
pub mod promoted;
pub mod promotion;
