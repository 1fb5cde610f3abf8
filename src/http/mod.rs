//! HTTP/1.1, server side, without descriptors, clock or kernel. Pure.

pub mod body;
pub mod chunk;
pub mod close;
pub mod head;
mod syntax;
