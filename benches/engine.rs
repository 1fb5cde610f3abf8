//! The engine beside the floor and its peers, in one run: CPU per request of all processes.
//!
//! `cargo bench --bench engine [-- NAME…]`; `ROUNDS=5 SECONDS=2`; one more server by
//! `SERVER='./server 127.0.0.1:{port}'` (it must answer `GET /` with `Hello, World!`).
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod support;

use support::ring::Ring;
use support::rounds::{SCENARIOS, Settings, run};
use support::server::{ENGINE, FLOOR, NGINX, OTHER, WORKER, WORKER_HTTP};

fn main() -> Result<(), String> {
    if support::has_served() {
        return Ok(());
    }
    let settings = Settings::start()?;
    let mut ring = Ring::new().map_err(|error| format!("io_uring: {error}"))?;
    for scenario in SCENARIOS.iter().filter(|scenario| settings.wants(scenario.name)) {
        run(&settings, &mut ring, scenario, &[FLOOR, WORKER, WORKER_HTTP, ENGINE, NGINX, OTHER])?;
    }
    settings.end()
}
