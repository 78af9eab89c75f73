//! Payloads -> a server, by wire or by socket, at a pace; with an account of what was sent.

mod pace;
mod payloads;
mod sent;
pub mod socket;
pub mod stop;
mod totals;
pub mod wire;

pub use pace::{Limits, Pace};
pub use payloads::{Payload, Payloads};
pub use sent::Sent;
pub use socket::{Target, send};
pub use totals::{LineTotal, LineType, Totals};
pub use wire::Wire;
