//! The floor: what serving costs at least on this machine; all other numbers are ratios to it.
//!
//! `cargo bench --bench floor [-- NAME…]`; `ROUNDS=5 SECONDS=2`; any server beside it by
//! `SERVER='./server 127.0.0.1:{port}'` (it must answer `GET /` with `Hello, World!`).
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod support;

use support::ring::Ring;
use support::rounds::{SCENARIOS, Settings, run};
use support::server::{FLOOR, OTHER};

fn main() -> Result<(), String> {
    if support::has_served() {
        return Ok(());
    }
    support::floor::check();
    let settings = Settings::start()?;
    let mut ring = Ring::new().map_err(|error| format!("io_uring: {error}"))?;
    for scenario in SCENARIOS.iter().filter(|scenario| settings.wants(scenario.name)) {
        run(&settings, &mut ring, scenario, &[FLOOR, OTHER])?;
    }
    settings.end()
}
