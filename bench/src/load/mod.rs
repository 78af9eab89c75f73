//! Payloads -> a server, by wire or by socket, at a pace; with an account of what was sent.

pub mod cli;
mod options;
mod pace;
mod payloads;
pub mod replay;
mod sent;
pub mod socket;
pub mod stop;
mod totals;
pub mod wire;
mod within;

pub use pace::{Limits, Pace};
pub use payloads::{Payload, Payloads};
pub use sent::{Sent, per_second};
pub use socket::{Target, send};
pub use totals::{Identity, Last, LineTotal, LineType, Totals};
pub use wire::Wire;
