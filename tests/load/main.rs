//! The load generator: against servers that misbehave in known ways, against known delays, on the
//! simulated kernel, and as a command.

mod bad;
mod command;
mod compare;
mod paced;
mod server;
#[cfg(feature = "sim")]
mod sim;
