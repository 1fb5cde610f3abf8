//! How much CPU a request costs, and how many there are in a second: closed loops, end to end.
//!
//! `cargo bench --bench throughput [-- NAME…]`; `ROUNDS=5 SECONDS=2`; `--save-baseline NAME`,
//! `--baseline NAME`.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod support;

use ringfort::load::Plan;
use support::ends::{CPU, P99, RATE, Table};
use support::rounds::Settings;
use support::server::{ENGINE, FLOOR, NGINX, Setup};

type Named = (&'static str, fn(Plan) -> Plan);

const TABLES: [Named; 4] = [
    ("keep-alive", |plan| plan),
    ("pipelined-16", |plan| plan.pipeline(16)),
    ("active-1000", |plan| plan.connections(1000)),
    ("close", |plan| plan.requests_per_connection(1)),
];

fn main() -> Result<(), String> {
    if support::has_served() {
        return Ok(());
    }
    let settings = Settings::start()?;
    for (name, plan) in TABLES.iter().filter(|(name, _)| settings.wants(name)) {
        Table {
            name,
            contenders: &[FLOOR, ENGINE, NGINX],
            setup: Setup::default(),
            plan,
            columns: &[CPU, RATE, P99],
            may_fail: false,
        }
        .run(&settings)?;
    }
    settings.end()
}
