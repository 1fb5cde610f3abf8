//! The built command against the real kernel: what it says, and what its options do. One program,
//! so that everything in `support` has its user.

mod cli;
mod examples;
mod options;
mod paths;
mod support;
