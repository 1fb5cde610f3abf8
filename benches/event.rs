//! What it costs to be asked in another way than by a handler: async blocks, an application's own
//! loop, and the same over `notify_fd` and epoll, each beside the handler inline, in turns. CPU of
//! all server processes per request, and the time from the last byte in to the first byte out.
//!
//! `cargo bench --bench event [-- NAME…]`; `ROUNDS=5 SECONDS=2`; `--save-baseline NAME`,
//! `--baseline NAME`.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod support;

use support::load::{Load, Plan};
use support::ring::Ring;
use support::rounds::{KEEP_ALIVE, Sample, Settings, percentile, sample, spread};
use support::server::{Contender, Server, Setup};

/// The same answer by each kind of worker; the first is what the others are held against.
const KINDS: [Contender; 4] = [
    kind("handler", |setup| Some(setup.command("engine"))),
    kind("async", |setup| Some(setup.command("engine-async"))),
    kind("own loop", |setup| Some(setup.command("engine-loop"))),
    kind("epoll", |setup| Some(setup.command("engine-epoll"))),
];

const fn kind(
    name: &'static str,
    command: fn(&Setup) -> Option<std::process::Command>,
) -> Contender {
    Contender { name, command, foreign: false, workers: 1 }
}

/// How they are asked. Paced, the client records each answer's time; it never sleeps, so that its
/// own wake-up is not in it, while the server's is.
const SCENARIOS: [(&str, Plan); 4] = [
    ("keep-alive: 64 connections", KEEP_ALIVE),
    ("pipelined-16: 64 connections", Plan { pipeline: 16, ..KEEP_ALIVE }),
    ("alone: 1 connection, 1,000 requests/s", Plan { connections: 1, rate: 1000, ..KEEP_ALIVE }),
    ("paced: 64 connections, 20,000 requests/s in all", Plan { rate: 20_000, ..KEEP_ALIVE }),
];

fn main() -> Result<(), String> {
    if support::has_served() {
        return Ok(());
    }
    let settings = Settings::start()?;
    let mut ring = Ring::new().map_err(|error| format!("io_uring: {error}"))?;
    for (name, plan) in SCENARIOS.iter().filter(|(name, _)| settings.wants(name)) {
        let mut samples: [Vec<Sample>; KINDS.len()] = Default::default();
        for _ in 0..settings.rounds {
            for (kind, own) in KINDS.iter().zip(&mut samples) {
                let sample = measure(&settings, &mut ring, *kind, *plan);
                own.push(sample.map_err(|error| format!("{name}, {}: {error}", kind.name))?);
            }
        }
        print_table(&settings, name, &samples);
    }
    settings.end()
}

fn measure(
    settings: &Settings,
    ring: &mut Ring,
    kind: Contender,
    plan: Plan,
) -> Result<Sample, String> {
    let server = Server::start(kind, Setup::default(), &[settings.server_cpu])?;
    let server = server.ok_or("it cannot be started")?;
    sample(settings, &server, &mut Load::connect(ring, server.port, plan)?)
}

/// Medians with least and most; ratios pair by pair, of the same round.
fn print_table(settings: &Settings, name: &str, samples: &[Vec<Sample>]) {
    println!("\n{name}");
    println!(
        "  {:<9} {:>8} {:>15} {:>9} {:>13} {:>8} {:>13} {:>8} {:>13}",
        "worker",
        "µs/req",
        "min–max",
        "×handler",
        "min–max",
        "p50 µs",
        "min–max",
        "p99 µs",
        "min–max"
    );
    for (kind, own) in KINDS.iter().zip(samples) {
        let (cpu, low, high) = spread(own.iter().map(|sample| sample.cpu));
        let pairs = own.iter().zip(&samples[0]);
        let (ratio, least, most) = spread(pairs.map(|(own, handler)| own.cpu / handler.cpu));
        print!(
            "  {:<9} {cpu:>8.3} {:>15} {ratio:>9.3} {:>13}",
            kind.name,
            format!("{low:.3}–{high:.3}"),
            format!("{least:.3}–{most:.3}")
        );
        for percent in [50, 99] {
            let of = |sample: &Sample| percentile(&sample.latencies, percent);
            if let Some(values) = own.iter().map(of).collect::<Option<Vec<f64>>>() {
                let (middle, low, high) = spread(values.into_iter());
                print!(" {middle:>8.1} {:>13}", format!("{low:.1}–{high:.1}"));
            }
        }
        let cpus: Vec<f64> = own.iter().map(|sample| sample.cpu).collect();
        println!(" {}", settings.baseline.figure(&format!("{name}/{}/µs", kind.name), &cpus));
    }
}
