//! The real side of the seam: all `unsafe` of the crate.

pub mod log;
