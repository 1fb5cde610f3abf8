//! Worker kinds on the real kernel: the application's own loop, futures, callbacks, protocols; in
//! both modes. What clients see is the judge.
//!
//! Each case runs in a process of its own, whose servers and workers must be gone when it ends;
//! `cargo test --test event -- NAME` runs those whose name contains NAME.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "tests print what they measured")]

mod app;
#[path = "../process/client.rs"]
mod client;
mod examples;
#[path = "../kernel/groups.rs"]
mod groups;
#[path = "../kernel/harness.rs"]
mod harness;
mod idle;
mod kinds;
mod loops;
#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "../kernel/own.rs"]
mod own;
mod protocols;
#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "../process/raw.rs"]
mod raw;
#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "../process/server.rs"]
mod server;
mod sockets;
mod tasks;

use harness::{Case, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == app::FLAG).is_some() {
        return app::run(arguments);
    }
    let groups = [
        kinds::CASES,
        loops::CASES,
        tasks::CASES,
        sockets::CASES,
        protocols::CASES,
        examples::CASES,
        idle::CASES,
    ];
    let cases: Vec<Case> = groups.into_iter().flatten().copied().collect();
    run(&cases)
}
