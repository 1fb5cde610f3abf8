//! How long an answer takes at a rate that the server holds; from when a request was due.
//!
//! `cargo bench --bench latency [-- NAME…]`; `ROUNDS=5 SECONDS=2`; `--save-baseline NAME`,
//! `--baseline NAME`.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod support;

use ringfort::load::{Arrivals, Pace};
use support::ends::{CPU, P50, P99, P999, Table};
use support::rounds::Settings;
use support::server::{ENGINE, FLOOR, NGINX, Setup};

fn main() -> Result<(), String> {
    if support::has_served() {
        return Ok(());
    }
    let settings = Settings::start()?;
    let rates = [("paced-1000", 1_000.0), ("paced-20000", 20_000.0)];
    for (name, rate) in rates.into_iter().filter(|(name, _)| settings.wants(name)) {
        let pace = Pace::Open { arrivals: Arrivals::Poisson, from: rate, to: rate };
        Table {
            name,
            contenders: &[FLOOR, ENGINE, NGINX],
            setup: Setup::default(),
            plan: &|plan| plan.pace(pace),
            columns: &[P50, P99, P999, CPU],
            may_fail: false,
        }
        .run(&settings)?;
    }
    settings.end()
}
