//! Attacks on the running server, over real sockets: every limit with its answer and its counter,
//! and the catalogue of malformed, slow, many and large.
//!
//! Each case runs in a process of its own and forks a real pool. `cargo test --test security --
//! NAME` runs those whose name contains NAME.

mod app;
mod catalogue;
mod client;
mod framing;
#[path = "../kernel/groups.rs"]
mod groups;
#[path = "../kernel/harness.rs"]
mod harness;
mod limits;
mod pool;
mod raw;
mod server;
mod slow;
mod syntax;
mod timeouts;

use harness::{Case, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let groups = [limits::CASES, timeouts::CASES, pool::CASES, catalogue::CASES, slow::CASES];
    let cases: Vec<Case> = groups.into_iter().flatten().copied().collect();
    run(&cases)
}
