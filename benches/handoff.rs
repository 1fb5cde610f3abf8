//! What a connection costs that the master accepts and passes on, beside one that the worker
//! accepts itself: one request each, closed by the client.
//!
//! `cargo bench --bench handoff [-- NAME…]`; `ROUNDS=5 SECONDS=2`; `--save-baseline NAME`,
//! `--baseline NAME`.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod support;

use support::ends::{CPU, P99, RATE, Table};
use support::rounds::Settings;
use support::server::{ENGINE, FLOOR, Setup};

fn main() -> Result<(), String> {
    if support::has_served() {
        return Ok(());
    }
    let settings = Settings::start()?;
    for (name, centralized, defer) in [
        ("shared", false, false),
        ("centralized", true, false),
        ("shared-deferred", false, true),
        ("centralized-deferred", true, true),
    ] {
        if settings.wants(name) {
            Table {
                name,
                contenders: &[FLOOR, ENGINE],
                setup: Setup { centralized, defer, ..Setup::default() },
                plan: &|plan| plan.requests_per_connection(1),
                columns: &[CPU, RATE, P99],
                may_fail: false,
            }
            .run(&settings)?;
        }
    }
    settings.end()
}
