//! The engine beside the floor and its peers, in one run: CPU per request of all processes.
//!
//! `cargo bench --bench engine [-- NAME…]`; `ROUNDS=5 SECONDS=2`; one more server by
//! `SERVER='./server 127.0.0.1:{port}'` (it must answer `GET /` with `Hello, World!`).
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod support;
#[path = "support/worker.rs"]
mod worker;

use support::ring::Ring;
use support::rounds::{SCENARIOS, Settings, run};
use support::server::{Contender, FLOOR, NGINX, OTHER, Setup};

/// Has no master, so it cannot serve centralized.
const WORKER: Contender = Contender {
    name: "worker",
    command: |setup| (!setup.centralized).then(|| setup.command("worker")),
};

fn main() -> Result<(), String> {
    if let Some((name, setup)) = Setup::from_args() {
        match name.as_str() {
            "floor" => support::floor::serve(&setup),
            "floor-worker" => support::floor::serve_channel(&setup),
            _ => worker::serve(&setup),
        }
        return Ok(());
    }
    let settings = Settings::start();
    let mut ring = Ring::new().map_err(|error| format!("io_uring: {error}"))?;
    for scenario in SCENARIOS.iter().filter(|scenario| settings.wants(scenario.name)) {
        run(&settings, &mut ring, scenario, &[FLOOR, WORKER, NGINX, OTHER])?;
    }
    Ok(())
}
