//! Datagrams -> verdicts: the compiled object against what it should do, and the properties that
//! kernel and daemon rely on together.

mod loaded;

mod frames;
mod payloads;
mod plain;
mod rings;

mod generate;
mod model;

mod differential;
mod sockets;

mod conservation;
mod gauges;
mod grace;
mod subset;

mod verifier;

mod old_kernel_vm;

mod allocation;
