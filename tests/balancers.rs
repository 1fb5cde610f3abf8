//! Which balancer when: the whole pool on the simulated kernel, under loads that differ, and the
//! table in the README that comes of it.
//!
//! A worker serves one request at a time, in the order in which they came, as a handler that
//! computes does. `cargo test --features sim --test balancers -- --nocapture` prints the table.
#![cfg(feature = "sim")]

use ringfort::Config;
use ringfort::balancer::{Balancer, LeastConnections, RoundRobin, Sticky, Weighted, Weights};
use ringfort::http::{Request, Response};
use ringfort::sim::Prng;
use ringfort::testing::{Answered, SimulatedPool, SimulatedWorker};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const WORKERS: u32 = 4;
const REQUESTS: u64 = 1500;
/// Milliseconds that a request takes on average, and between two arrivals: 3 of 4 workers are busy.
const SERVICE_MS: u64 = 30;
const ARRIVAL_MS: u64 = 10;
const SEED: u64 = 0x0ba1_a9ce;

/// A load: what differs from request to request, and from worker to worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Every request takes as long as any other.
    Even,
    /// One of ten takes 20 times as long as the others.
    Skewed,
    /// One worker is half as fast as the others.
    SlowWorker,
    /// Each worker keeps what it knows of the last clients; for one it knows, a request takes a
    /// quarter of the time.
    Sessions,
}

const LOADS: [(Load, &str); 4] = [
    (Load::Even, "all requests alike"),
    (Load::Skewed, "1 of 10 takes 20 times as long"),
    (Load::SlowWorker, "1 of 4 workers half as fast"),
    (Load::Sessions, "workers remember 16 of 40 clients"),
];

const BALANCERS: [&str; 4] = ["least connections", "round robin", "weighted", "sticky"];

fn balancer(name: &str, load: Load) -> Box<dyn Balancer> {
    let half = if load == Load::SlowWorker { 1 } else { 2 };
    match name {
        "least connections" => Box::new(LeastConnections::default()),
        "round robin" => Box::new(RoundRobin::default()),
        "weighted" => Box::new(Weighted::new(Weights::new(&[half, 2, 2, 2]).unwrap())),
        _ => Box::new(Sticky::default()),
    }
}

/// A handler that is busy until it has served all that came before.
fn handler(
    worker: &SimulatedWorker,
    load: Load,
) -> impl FnMut(&Request<'_>, &mut Response) + use<> {
    let (worker, mut busy_until) = (worker.clone(), Duration::ZERO);
    let mut known: VecDeque<String> = VecDeque::new();
    move |request, response| {
        let mut path = request.path().split('/').skip(1);
        let client = path.next().unwrap().to_owned();
        let mut millis: u64 = path.next().unwrap().parse().unwrap();
        if load == Load::SlowWorker && worker.slot == 0 {
            millis *= 2;
        }
        if load == Load::Sessions {
            let knew = known.iter().position(|other| *other == client);
            millis = if knew.is_some() { millis / 4 } else { millis };
            knew.map(|at| known.remove(at));
            known.push_back(client);
            known.drain(..known.len().saturating_sub(16));
        }
        let now = worker.clock.now();
        busy_until = busy_until.max(now) + Duration::from_millis(millis);
        response.after(busy_until - now, |response| response.text("done"));
    }
}

fn run(name: &str, load: Load) -> Vec<Answered> {
    let mut pool = SimulatedPool::with(
        SEED,
        WORKERS,
        &Config::default(),
        balancer(name, load),
        move |worker| handler(worker, load),
    );
    // The same arrivals for every balancer.
    let mut chance = Prng::new(SEED);
    let mut micros = 0;
    for _ in 0..REQUESTS {
        micros += chance.range(0, 2 * ARRIVAL_MS * 1000);
        let client = chance.range(0, 39);
        let millis = match (load, chance.range(0, 9)) {
            (Load::Skewed, 0) => 10 * SERVICE_MS * 20 / 29,
            (Load::Skewed, _) => 10 * SERVICE_MS / 29,
            (Load::Sessions, _) => SERVICE_MS * 3 / 2,
            (Load::Even | Load::SlowWorker, _) => SERVICE_MS,
        };
        // Far apart, as real clients are.
        let address = Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(client * 65_537).unwrap());
        pool.ask_at(
            Duration::from_micros(micros),
            &format!("/{client}/{millis}"),
            b"",
            Some(SocketAddr::from((address, 1))),
        );
    }
    pool.run().unwrap_or_else(|wrong| panic!("{name}, {load:?}: {wrong}"))
}

/// Milliseconds until the answer: of half of all, and of all but one of a hundred.
fn percentiles(answers: &[Answered]) -> (u128, u128) {
    let mut took: Vec<u128> = answers.iter().map(|answer| answer.took.as_millis()).collect();
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

#[test]
fn the_table_of_the_readme_is_what_the_simulator_measures() {
    let mut table = format!("| until the answer, p50 / p99 | {} |\n", BALANCERS.join(" | "));
    table += &format!("|---|{}\n", "---|".repeat(BALANCERS.len()));
    for (load, said) in LOADS {
        let cells = BALANCERS.map(|name| percentiles(&run(name, load)));
        let best = |of: fn(&(u128, u128)) -> u128| cells.iter().map(of).min().unwrap();
        let best = (best(|(half, _)| *half), best(|(_, high)| *high));
        let mark =
            |got: u128, best| if got == best { format!("**{got}**") } else { got.to_string() };
        let cells =
            cells.map(|(half, high)| format!("{} / {} ms", mark(half, best.0), mark(high, best.1)));
        table += &format!("| {said} | {} |\n", cells.join(" | "));
    }
    println!("{table}");
    let readme = std::fs::read_to_string("README.md").unwrap();
    assert!(readme.contains(&table), "the table in README.md is to be\n\n{table}");
}
