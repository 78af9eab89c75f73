//! Datagrams -> verdicts: the compiled object against what it should do, and the properties that
//! kernel and daemon rely on together.

mod loaded;

mod frames;
mod payloads;

mod verifier;

mod old_kernel;
