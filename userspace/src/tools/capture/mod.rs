//! Datagrams <-> files.
//!
//! A capture of our own form is gzip around a line of JSON for each datagram: `t` seconds since it
//! began, `p` the sender's port, `s` its address, `b` the payload in base64. It is flushed once a second,
//! so that of one that is cut off all but the last second can be read. pcap and pcapng hold packets,
//! from the IP header on.

mod distinct;
mod filter;
mod interface;
mod packet;
mod pcap;
mod reader;
mod record;
mod replay;
mod writer;

pub use record::{CaptureFlags, capture};
pub use replay::{ReplayFlags, replay};

pub(super) use distinct::distinct_lines;
pub(super) use packet::PortFlags;

use reader::Reader;
