//! Operators and their pools: control socket, health, pid file, handle, signals, privileges. Real
//! processes; run as root, since some of it is what root gives up.
//!
//! Each case runs in a process of its own, whose servers and workers must be gone when it ends;
//! `cargo test --test admin -- NAME` runs those whose name contains NAME.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "tests print what they measured")]

mod app;
#[expect(dead_code, reason = "tests/process needs more of it")]
#[path = "../process/client.rs"]
mod client;
mod control;
#[path = "../kernel/groups.rs"]
mod groups;
#[path = "../kernel/harness.rs"]
mod harness;
mod health;
mod limits;
#[expect(dead_code, reason = "tests/process needs more of it")]
#[path = "../kernel/own.rs"]
mod own;
mod pid_file;
mod privileges;
#[expect(dead_code, reason = "tests/process needs more of it")]
#[path = "../process/raw.rs"]
mod raw;
mod restarts;
mod rlimit;
#[expect(dead_code, reason = "tests/process needs more of it")]
#[path = "../process/server.rs"]
mod server;
mod signals;
mod spawned;
mod visits;

use harness::{Case, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == app::FLAG).is_some() {
        return app::run(arguments);
    }
    let groups = [
        control::CASES,
        visits::CASES,
        health::CASES,
        pid_file::CASES,
        spawned::CASES,
        signals::CASES,
        privileges::CASES,
        restarts::CASES,
        limits::CASES,
    ];
    let cases: Vec<Case> = groups.into_iter().flatten().copied().collect();
    run(&cases)
}
