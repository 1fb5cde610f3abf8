//! A benchmark of one's own application, with limits that fail a build: as `benches/latency.rs` of
//! one's own crate, with `harness = false`, it runs under `cargo bench`.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use ringfort::load::{Arrivals, Gates, Pace, Plan, Server, Slo};
use ringfort::{Config, Error};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> Result<ExitCode, Error> {
    let mut config = Config::default();
    config.add_address("127.0.0.1:0")?;
    let server = Server::start_with(config, &[], |_, response| response.text("Hello, World!"))?;
    let slo = Slo { quantile: 0.99, max: Duration::from_millis(50) };
    let report = Plan::new(&server.url())?
        .server_pid(server.pid())
        .pace(Pace::Open { arrivals: Arrivals::Poisson, from: 500.0, to: 500.0 })
        .duration(Duration::from_secs(1))
        .gates(Gates { slo: vec![slo], error_rate_max: Some(0.0) })
        .run()?;
    print!("{}", report.text());
    Ok(ExitCode::from(report.exit_code()))
}
