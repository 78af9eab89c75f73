//! Tests that cross crates: kernel, network namespaces, recorded traffic.
