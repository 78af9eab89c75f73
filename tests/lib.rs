//! Tests that cross crates: kernel, network namespaces, recorded traffic.

pub mod corpus;
pub mod reference;

#[cfg(test)]
mod accounting;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod dropin;
#[cfg(test)]
mod e2e;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod parser;
#[cfg(test)]
mod profiles;
#[cfg(test)]
mod vm;
