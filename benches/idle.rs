//! What an idle keep-alive connection costs: memory of the server's processes, and the work of 64
//! busy ones beside 10,000 idle ones. `cargo bench --bench idle`; `ROUNDS=5 SECONDS=2`.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod support;

use support::load::{Load, Plan};
use support::ring::Ring;
use support::rounds::{KEEP_ALIVE, Settings, sample, spread};
use support::server::{Contender, ENGINE, FLOOR, NGINX, Server, Setup, WORKER, WORKER_HTTP};

/// What one server did in one round.
struct Idle {
    /// Bytes of user memory per idle connection.
    bytes: f64,
    /// Microseconds of CPU per request of the busy ones, without and with idle ones beside them.
    alone: f64,
    beside: f64,
}

fn main() -> Result<(), String> {
    if support::has_served() {
        return Ok(());
    }
    let settings = Settings::start();
    let mut ring = Ring::new().map_err(|error| format!("io_uring: {error}"))?;
    let idle = if settings.test { 200 } else { 9_900 };
    println!("\n{idle} idle connections, 64 busy ones");
    println!(
        "  {:<12} {:>10} {:>15} {:>10} {:>10} {:>8} {:>13}",
        "server", "bytes each", "min–max", "µs alone", "µs beside", "×alone", "min–max"
    );
    for contender in [FLOOR, WORKER, WORKER_HTTP, ENGINE, NGINX] {
        if !settings.wants(contender.name) {
            continue;
        }
        let mut rounds = Vec::new();
        for _ in 0..settings.rounds {
            let round = measure(&settings, &mut ring, contender, idle)
                .map_err(|error| format!("{}: {error}", contender.name))?;
            rounds.extend(round);
        }
        if !rounds.is_empty() {
            print_row(contender.name, &rounds);
        }
    }
    Ok(())
}

fn measure(
    settings: &Settings,
    ring: &mut Ring,
    contender: Contender,
    idle: usize,
) -> Result<Option<Idle>, String> {
    let Some(server) = Server::start(contender, Setup::default(), &[settings.server_cpu])? else {
        return Ok(None);
    };
    let alone = sample(settings, &server, &mut Load::connect(ring, server.port, KEEP_ALIVE)?)?.cpu;
    let before = server.memory();
    let mut load = Load::connect(ring, server.port, Plan { idle, ..KEEP_ALIVE })?;
    let grown = server.memory().saturating_sub(before);
    let beside = sample(settings, &server, &mut load)?.cpu;
    Ok(Some(Idle { bytes: grown as f64 / idle as f64, alone, beside }))
}

fn print_row(name: &str, rounds: &[Idle]) {
    let (bytes, low, high) = spread(rounds.iter().map(|round| round.bytes));
    let (alone, ..) = spread(rounds.iter().map(|round| round.alone));
    let (beside, ..) = spread(rounds.iter().map(|round| round.beside));
    let (ratio, least, most) = spread(rounds.iter().map(|round| round.beside / round.alone));
    println!(
        "  {name:<12} {bytes:>10.0} {:>15} {alone:>10.3} {beside:>10.3} {ratio:>8.3} {:>13}",
        format!("{low:.0}–{high:.0}"),
        format!("{least:.3}–{most:.3}")
    );
}
