//! What clients feel of a reload: 2,000 requests a second, and a HUP every half second, beside the
//! same load left in peace. The floor cannot reload: its row says what the machine does.
//!
//! `cargo bench --bench reload [-- NAME…]`; `ROUNDS=5 SECONDS=2`; `--save-baseline NAME`,
//! `--baseline NAME`.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod support;

use ringfort::load::{Arrivals, Pace, Plan};
use std::collections::{BTreeMap, BTreeSet};
use support::ends::{FAILED, MAX, P50, P99, Table};
use support::rounds::Settings;
use support::server::{ENGINE, ENGINE_PIDS, FLOOR, NGINX, NGINX_PIDS, Setup};
use support::sys;

/// Nanoseconds.
const EVERY: u64 = 500_000_000;

fn main() -> Result<(), String> {
    if support::has_served() {
        return Ok(());
    }
    let settings = Settings::start()?;
    let pace = Pace::Open { arrivals: Arrivals::Poisson, from: 2_000.0, to: 2_000.0 };
    let paced = |plan: Plan| plan.pace(pace);
    let table = |name, contenders, may_fail| Table {
        name,
        contenders,
        setup: Setup::default(),
        plan: &paced,
        columns: &[P50, P99, MAX, FAILED],
        may_fail,
    };
    if settings.wants("peace") {
        table("peace", &[FLOOR, ENGINE, NGINX], false).run(&settings)?;
    }
    if settings.wants("reload") {
        let mut next = sys::now();
        // Every process that each server ever had.
        let mut seen: BTreeMap<i32, BTreeSet<i32>> = BTreeMap::new();
        let mut reload = |server: &support::server::Server, _: &_| {
            seen.entry(server.master()).or_default().extend(server.processes());
            if sys::now() >= next {
                next = sys::now() + EVERY;
                sys::signal(server.master(), libc::SIGHUP).expect("it runs");
            }
        };
        table("reload", &[ENGINE_PIDS, NGINX_PIDS], true).run_watched(&settings, &mut reload)?;
        // A quick round is over before the first has come up.
        if !settings.test && seen.values().any(|processes| processes.len() <= 3) {
            return Err(format!("a server replaced no worker: {seen:?}"));
        }
    }
    settings.end()
}
