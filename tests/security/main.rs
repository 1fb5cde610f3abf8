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

/// Before the name of a case that runs in centralized mode; else it runs in shared mode, or in
/// those that it names itself.
const CENTRALIZED: &str = "centralized::";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--case").skip(1);
    if arguments.next().is_some_and(|name| name.starts_with(CENTRALIZED)) {
        server::centralized();
    }
    let both: Vec<Case> =
        [limits::CASES, timeouts::CASES, slow::CASES].into_iter().flatten().copied().collect();
    let twin = |(name, case): &Case| -> Case { (format!("{CENTRALIZED}{name}").leak(), *case) };
    let twins: Vec<Case> = both.iter().map(twin).collect();
    let others = [pool::CASES, catalogue::CASES].into_iter().flatten().copied();
    run(&both.into_iter().chain(twins).chain(others).collect::<Vec<Case>>())
}
