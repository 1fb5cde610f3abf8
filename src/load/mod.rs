//! The load generator: measures this server or any other that speaks HTTP/1.1.
//!
//! # What calls what
//!
//! A [`Plan`] says what to measure: target, connections, closed or open loop ([`Pace`]), requests
//! ([`Template`]), what replies must be ([`Expect`]), what the result must reach ([`Gates`]).
//! [`Plan::run`] measures and answers with a [`Report`]; [`Plan::run_watched`] also tells how it
//! goes, ten times a second ([`Live`]), and can be stopped. A report knows whether it says anything
//! about the server at all ([`Report::reasons`]), which gates it broke, and writes itself as text,
//! JSON, CSV, Markdown and HTML. [`Capacity`] searches for the highest rate that holds; it is told
//! of each report and says which rate to try next. [`Server`] forks a server of ours to measure, or
//! any program. [`Bench`] is all of it for a bench of one's own; [`paired`] judges A against B.
//!
//! ```no_run
//! use ringfort::load::{Arrivals, Gates, Pace, Plan, Slo};
//! use std::time::Duration;
//!
//! fn main() -> Result<(), ringfort::Error> {
//!     let slo = Slo { quantile: 0.99, max: Duration::from_millis(5) };
//!     let report = Plan::new("http://127.0.0.1:8080/")?
//!         .connections(64)
//!         .pace(Pace::Open { arrivals: Arrivals::Poisson, from: 20_000.0, to: 20_000.0 })
//!         .gates(Gates { slo: vec![slo], error_rate_max: Some(0.0) })
//!         .run()?;
//!     print!("{}", report.text());
//!     std::process::exit(i32::from(report.exit_code()));
//! }
//! ```
//!
//! # What is measured
//!
//! The rate is right replies that came within the measured time, divided by it. Of an open loop
//! the latency counts from when a request was due, so a server that stops for half a second shows
//! as it would to users who do not wait for each other. Every request that was due is in exactly
//! one count: answered, or one of the failures ([`Failure`]).
//!
//! The loop of a thread ([`run::Client`]) sees the kernel only through the seam of the engine, so
//! it too runs in the simulator.

mod bench;
mod capacity;
mod pace;
pub mod paired;
mod plan;
pub mod reply;
mod report;
mod request;
#[doc(hidden)]
pub mod run;
mod search;
mod server;
mod tally;
mod threads;
mod usage;
mod verdict;

pub use bench::{Bench, split};
pub use capacity::{Capacity, Trial};
pub use pace::{Arrivals, Pace, Schedule};
pub use plan::Plan;
pub use report::{Machine, Report, Sample};
pub use request::{Expect, ExpectBody, Place, Rotation, Target, Template};
pub use search::Found;
pub use server::Server;
pub use tally::{Connections, Failure, Failures, Half, Latency, Of, Second, Tally};
pub use threads::{Go, Live};
pub use usage::{Tree, Usage};
pub use verdict::{BUSY_MAX, Gate, Gates, LAG_MAX, Reason, Slo};

use crate::error::{Error, ErrorKind};

/// A setting that makes no sense.
fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, what)
}
