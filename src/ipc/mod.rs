//! The wire between master and worker: handoff and control messages on a SEQPACKET channel, application
//! messages on a stream, counters on a shared board. Pure.

pub mod board;
pub mod frame;
pub mod handoff;
pub mod message;
