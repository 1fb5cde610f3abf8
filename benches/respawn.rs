//! How long a killed worker is missed: 100 times `kill -9` under half load, two workers, a
//! connection per request. From the kill to the first answer of the successor.
//!
//! `cargo bench --bench respawn [-- NAME…]`; `KILLS=100`. The last columns are about the others:
//! how many connections each kill cut, and the slowest answer of all: no arrival may be stuck.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod support;

use std::collections::BTreeSet;
use std::time::Duration;
use support::load::{Load, Outcome, Plan};
use support::ring::Ring;
use support::rounds::{CLOSE, Settings, number};
use support::server::{Contender, ENGINE_PIDS, NGINX_PIDS, Server, Setup};
use support::sys;

/// How a server's answers say who gave them.
const MARK: &[u8] = b"worker ";
/// Between two kills. The oldest worker is killed, so each slot's turn comes every second time: its
/// worker has then served long enough (1 s) for its death to be answered without back-off.
const SETTLE: Duration = Duration::from_millis(600);
/// Nobody takes this long to come back.
const RETURN_MAX: Duration = Duration::from_secs(5);

fn main() -> Result<(), String> {
    if support::has_served() {
        return Ok(());
    }
    let settings = Settings::start()?;
    let mut ring = Ring::new().map_err(|error| format!("io_uring: {error}"))?;
    println!("\nkill -9 of one of two workers under half load, one request a connection");
    println!(
        "  {:<22} {:>6} {:>6} {:>8} {:>8} {:>8} {:>9} {:>12}",
        "server", "kills", "req/s", "p50 ms", "p99 ms", "max ms", "cut/kill", "slowest ms"
    );
    for (name, contender, centralized) in [
        ("ringfort, shared", ENGINE_PIDS, false),
        ("ringfort, centralized", ENGINE_PIDS, true),
        ("nginx", NGINX_PIDS, false),
    ] {
        if settings.wants(name) {
            let setup = Setup { centralized, ..Setup::default() };
            measure(&settings, &mut ring, name, contender, setup)
                .map_err(|error| format!("{name}: {error}"))?;
        }
    }
    settings.end()
}

fn measure(
    settings: &Settings,
    ring: &mut Ring,
    name: &str,
    contender: Contender,
    setup: Setup,
) -> Result<(), String> {
    let Some(server) = Server::start(contender, setup, &settings.cpus)? else {
        return Ok(());
    };
    let plan = Plan { cuts: true, ..CLOSE };
    let full = Load::connect(ring, server.port, plan)?.run(Duration::from_millis(500))?.answers * 2;
    let rate = (full / 2).max(1);
    let mut load = Load::connect(ring, server.port, Plan { rate, ..plan })?;
    let kills = if settings.test { 2 } else { number("KILLS", 100) };
    let mut all = Outcome::default();
    let mut absences = Vec::new();
    for _ in 0..kills {
        absences.push(kill_one(&server, &mut load, &mut all)?);
    }
    absences.sort_unstable();
    let ms = |nanos: u64| nanos as f64 / 1e6;
    let values: Vec<f64> = absences.iter().map(|nanos| ms(*nanos)).collect();
    let change = settings.baseline.figure(&format!("{name}/ms"), &values);
    // Nearest rank: of 100 kills, p99 is the 99th.
    let rank = |percent: usize| ms(absences[(absences.len() * percent).div_ceil(100).max(1) - 1]);
    println!(
        "  {name:<22} {kills:>6} {rate:>6} {:>8.2} {:>8.2} {:>8.2} {:>9.2} {:>12.2}  {change}",
        rank(50),
        rank(99),
        rank(100),
        all.cut as f64 / kills as f64,
        ms(all.latencies.iter().copied().max().unwrap_or(0)),
    );
    Ok(())
}

/// Kills a worker that has answered; returns how long it took until a new one did.
fn kill_one(server: &Server, load: &mut Load<'_>, all: &mut Outcome) -> Result<u64, String> {
    let mut known = BTreeSet::new();
    all.add(load.run_until(SETTLE, |bytes| {
        known.extend(pid_in(bytes));
        false
    })?);
    let alive = server.processes();
    let victim = *known.iter().find(|pid| alive.contains(pid)).ok_or("nobody answered")?;
    sys::kill(victim).map_err(|error| error.to_string())?;
    let start = sys::now();
    let mut back = None;
    all.add(load.run_until(RETURN_MAX, |bytes| {
        let new = pid_in(bytes).is_some_and(|pid| known.insert(pid));
        back = back.or_else(|| new.then(sys::now));
        new
    })?);
    back.map(|at| at - start).ok_or_else(|| format!("nobody new answered within {RETURN_MAX:?}"))
}

/// The process that gave the answer these bytes end with.
fn pid_in(bytes: &[u8]) -> Option<i32> {
    let at = bytes.windows(MARK.len()).rposition(|window| window == MARK)?;
    str::from_utf8(&bytes[at + MARK.len()..]).ok()?.trim().parse().ok()
}
