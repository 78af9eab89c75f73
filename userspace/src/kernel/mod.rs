//! The kernel's side -> what userspace knows of it.

pub mod interfaces;
