//! A new program for an old one, in the same process, from outside: real binaries, processes and
//! loopback; what clients count is the judge.
//!
//! Each case runs in a process of its own, whose servers and workers must be gone when it ends;
//! `cargo test --test upgrade -- NAME` runs those whose name contains NAME.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "tests print what they measured")]

mod app;
#[path = "../reload/arrivals.rs"]
mod arrivals;
mod back;
mod bad;
mod board;
#[expect(dead_code, reason = "tests/process needs more of it")]
#[path = "../process/client.rs"]
mod client;
mod good;
#[path = "../kernel/groups.rs"]
mod groups;
#[path = "../kernel/harness.rs"]
mod harness;
mod kill;
mod late;
#[path = "../reload/load.rs"]
mod load;
#[expect(dead_code, reason = "tests/process needs more of it")]
#[path = "../kernel/own.rs"]
mod own;
mod pool;
#[expect(dead_code, reason = "tests/process needs more of it")]
#[path = "../process/raw.rs"]
mod raw;
#[expect(dead_code, reason = "tests/process needs more of it")]
#[path = "../process/server.rs"]
mod server;

use harness::{Case, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == app::FLAG).is_some() {
        return app::run(arguments);
    }
    let groups = [good::CASES, board::CASES, bad::CASES, late::CASES, back::CASES, kill::CASES];
    let cases: Vec<Case> = groups.into_iter().flatten().copied().collect();
    run(&cases)
}
