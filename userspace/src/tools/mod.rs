//! Files -> what the daemon would make of them; no port, no rights.

pub mod check;
