//! A benchmark of one's own application, with limits that fail a build: as `benches/app.rs` of one's
//! own crate, with `harness = false`, it runs under `cargo bench`, with filters and `--test`.

use ringfort::load::{Arrivals, Bench, Gates, Pace, Slo};
use ringfort::{Config, Error};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> Result<ExitCode, Error> {
    let slo = vec![Slo { quantile: 0.99, max: Duration::from_millis(50) }];
    let gates = Gates { slo, error_rate_max: Some(0.0) };
    let pace = Pace::Open { arrivals: Arrivals::Poisson, from: 500.0, to: 500.0 };
    Bench::new(Config::default(), |_, response| response.text("Hello, World!"))?
        .scenario("closed loop", |plan| plan.connections(64))
        .scenario("500 a second", |plan| plan.pace(pace).gates(gates))
        .run()
}
