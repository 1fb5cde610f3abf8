//! What only the real kernel can answer: processes, signals, limits, and the traps that the design
//! avoids. Each case runs in a process of its own, because it forks, is signalled or limits itself;
//! `cargo test --test kernel -- NAME` runs those whose name contains NAME.

mod groups;
mod harness;
mod limits;
mod own;
mod processes;
mod raw;
mod signals;
mod traps;

use harness::{Case, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let groups = [processes::CASES, signals::CASES, limits::CASES, traps::CASES];
    let cases: Vec<Case> = groups.into_iter().flatten().copied().collect();
    run(&cases)
}
