//! New workers for old, from outside: reload, scaling, recycling, another mode, the end. Real
//! processes, signals and loopback; what clients count is the judge.
//!
//! Each case runs in a process of its own, whose servers and workers must be gone when it ends;
//! `cargo test --test reload -- NAME` runs those whose name contains NAME.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "tests print what they measured")]

mod app;
mod arrivals;
#[path = "../process/client.rs"]
mod client;
mod ends;
#[path = "../kernel/groups.rs"]
mod groups;
#[path = "../kernel/harness.rs"]
mod harness;
mod load;
#[expect(dead_code, reason = "tests/process needs more of it")]
#[path = "../kernel/own.rs"]
mod own;
mod pool;
#[expect(dead_code, reason = "tests/process needs more of it")]
#[path = "../process/raw.rs"]
mod raw;
mod recycle;
mod reload;
mod scale;
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
    let groups = [reload::CASES, scale::CASES, recycle::CASES, ends::CASES];
    let cases: Vec<Case> = groups.into_iter().flatten().copied().collect();
    run(&cases)
}
