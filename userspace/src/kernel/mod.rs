//! Kernel object -> open doors; ring -> datagrams; slots -> growth.

pub mod counters;
pub mod identities;
pub mod memory_map;
pub mod object;
pub mod promotion;
pub mod ring;
pub mod slots;
