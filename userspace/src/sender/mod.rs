//! Who sent it: address or process of a sender -> pod, namespace, node, component.
//!
//! Off unless `--sender.labels` names what to show. The list of pods comes from the API server, by a
//! watch, or from the kubelet, by polling; without it, or before it is there, a sender is unknown and
//! its series carry none of these labels. Ingestion never waits for it.

mod api;
mod cgroup;
mod directory;
mod labels;
mod pod;
mod table;
#[cfg(test)]
mod tests;
mod watch;

pub use api::{Endpoint, EndpointError, Trust};
pub use directory::{DirectoryStats, PodDirectory};
pub use labels::{SenderLabel, SenderLabels};
pub use pod::Pod;
pub use table::{SenderId, SenderReading, SenderTable};
pub use watch::{PodSource, Scope, follow};
