//! Real datagrams in, real scrapes out: the running daemon from outside, in network namespaces.
//!
//! What a test makes (namespaces, processes) hangs on guards that take it away again, also when the
//! test fails; the daemon's log is shown then.

mod daemon;
mod figures;
mod namespace;
mod traffic;
mod world;

mod budget;
mod errors;
mod fleet;
mod gauges;
mod interfaces;
mod listeners;
mod live;
mod loopback;
mod nasty;
mod order;
mod overload;
mod prometheus;
mod relay;
mod reload;
mod replay;
mod sender_gauges;
mod status;
mod web;
