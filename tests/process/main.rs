//! The running pool from outside: real processes, signals and loopback, in both modes. What clients
//! count is the judge.
//!
//! Each case runs in a process of its own, whose servers and workers must be gone when it ends;
//! `cargo test --test process -- NAME` runs those whose name contains NAME.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "tests print what they measured")]

mod addresses;
mod app;
mod client;
mod descriptors;
mod drain;
mod full;
#[path = "../kernel/groups.rs"]
mod groups;
mod hang;
#[path = "../kernel/harness.rs"]
mod harness;
mod kill;
mod load;
mod messages;
mod original;
mod orphans;
#[path = "../kernel/own.rs"]
mod own;
mod raw;
mod refused;
mod server;
mod traffic;

use harness::{Case, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == app::FLAG).is_some() {
        return app::run(arguments);
    }
    if arguments.next_if(|argument| argument == messages::FLAG).is_some() {
        return messages::run(arguments);
    }
    let groups = [
        traffic::CASES,
        kill::CASES,
        hang::CASES,
        drain::CASES,
        orphans::CASES,
        descriptors::CASES,
        addresses::CASES,
        full::CASES,
        refused::CASES,
        messages::CASES,
        original::CASES,
    ];
    let cases: Vec<Case> = groups.into_iter().flatten().copied().collect();
    run(&cases)
}
