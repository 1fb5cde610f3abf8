//! What to measure and how: the settings of a run, each with its default and range. Pure.

use super::pace::Pace;
use super::request::{Expect, Target, Template};
use super::wrong;
use crate::error::Error;
use std::time::Duration;

/// A run to be. Made for one target, changed by its methods, run by [`Plan::run`].
///
/// ```no_run
/// use ringfort::load::Plan;
/// use std::time::Duration;
///
/// fn main() -> Result<(), ringfort::Error> {
///     let plan = Plan::new("http://127.0.0.1:8080/")?.duration(Duration::from_secs(3));
///     let report = plan.run()?;
///     println!("{}", report.text());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a plan does nothing until it runs"]
pub struct Plan {
    pub(super) url: String,
    pub(super) target: Target,
    pub(super) threads: u32,
    pub(super) connections: u32,
    pub(super) pipeline: u32,
    pub(super) requests_per_connection: Option<u64>,
    pub(super) pace: Pace,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    pub(super) timeout: Duration,
    /// Empty: one GET of the target.
    pub(super) templates: Vec<Template>,
    pub(super) expect: Expect,
    pub(super) cpus: Vec<u32>,
    pub(super) server_pid: Option<u32>,
    pub(super) gates: super::Gates,
    pub(super) seed: u64,
}

impl Plan {
    /// One GET of this URL, again and again: 1 thread, 64 connections, closed loop, 1 s of warm-up,
    /// then 10 s. Of a host with several addresses the first that takes a connection is measured.
    ///
    /// # Errors
    ///
    /// As [`Target::parse`].
    pub fn new(url: &str) -> Result<Self, Error> {
        Ok(Self {
            url: url.to_owned(),
            target: Target::parse(url)?,
            threads: 1,
            connections: 64,
            pipeline: 1,
            requests_per_connection: None,
            pace: Pace::Closed,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            templates: Vec::new(),
            expect: Expect::default(),
            cpus: Vec::new(),
            server_pid: None,
            gates: super::Gates::default(),
            seed: 1,
        })
    }

    /// Threads, each with a ring of its own: 1 to 256. One is enough for most servers; no more than
    /// connections are used.
    pub fn threads(mut self, count: u32) -> Self {
        self.threads = count;
        self
    }

    /// Connections over all threads: 1 to 1,000,000.
    pub fn connections(mut self, count: u32) -> Self {
        self.connections = count;
        self
    }

    /// Requests on their way on one connection: 1 to 1024. Defaults to 1.
    pub fn pipeline(mut self, depth: u32) -> Self {
        self.pipeline = depth;
        self
    }

    /// Close a connection after so many replies and open a new one. Defaults to never. Over
    /// loopback the source address rotates, so that ports do not run out.
    pub fn requests_per_connection(mut self, count: u64) -> Self {
        self.requests_per_connection = Some(count);
        self
    }

    /// Closed loop (the default) or open loop at a rate.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// How long to ask before the clock starts. Defaults to 1 s.
    pub fn warm_up(mut self, duration: Duration) -> Self {
        self.warm_up = duration;
        self
    }

    /// How long to measure: 10 ms to a week. Defaults to 10 s.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// A request without a reply for so long has failed, and so has a connect. At the end, what is
    /// on its way is awaited for so long. 1 ms to 10 min; defaults to 2 s. What times out stays in
    /// the latencies with the time it had waited.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// One more request of the mix. Without any, the target is asked for by GET.
    pub fn request(mut self, template: Template) -> Self {
        self.templates.push(template);
        self
    }

    /// What replies must be, for requests that say nothing of their own.
    pub fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// Put each thread on one of these CPUs, in turn. Defaults to none: the kernel decides.
    pub fn cpus(mut self, cpus: &[u32]) -> Self {
        self.cpus = cpus.to_vec();
        self
    }

    /// Watch this process and all below it: their CPU time, context switches and memory.
    pub fn server_pid(mut self, pid: u32) -> Self {
        self.server_pid = Some(pid);
        self
    }

    /// What the result must reach.
    pub fn gates(mut self, gates: super::Gates) -> Self {
        self.gates = gates;
        self
    }

    /// What the chance of Poisson arrivals comes from. Defaults to 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The target it was made for.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The same plan with all that was left open decided, or what is wrong with it.
    pub(super) fn check(mut self) -> Result<Self, Error> {
        let bounded = |name: &str, value: u64, min: u64, max: u64| {
            let wrong_ = || wrong(format!("{name}: {value}: expected {min} to {max}"));
            if (min..=max).contains(&value) { Ok(()) } else { Err(wrong_()) }
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        bounded("threads", self.threads.into(), 1, 256)?;
        bounded("connections", self.connections.into(), 1, 1_000_000)?;
        bounded("pipeline", self.pipeline.into(), 1, 1024)?;
        bounded("duration in ms", millis(self.duration), 10, 7 * 24 * 3_600_000)?;
        bounded("warm-up in ms", millis(self.warm_up), 0, 24 * 3_600_000)?;
        bounded("timeout in ms", millis(self.timeout), 1, 600_000)?;
        bounded("requests per connection", self.requests_per_connection.unwrap_or(1), 1, u64::MAX)?;
        if let Pace::Open { from, to, .. } = self.pace {
            let fine = |rate: f64| rate.is_finite() && (0.0..=1e9).contains(&rate);
            if !fine(from) || !fine(to) || from + to <= 0.0 {
                return Err(wrong(format!("rate: {from}:{to}: expected more than 0, up to 1e9")));
            }
        }
        if self.templates.is_empty() {
            self.templates.push(Template::build(&self.target, "GET", &[], &[])?);
        }
        bounded("requests of a mix", self.templates.len() as u64, 1, 1024)?;
        for template in &mut self.templates {
            bounded("weight", template.weight.into(), 1, 1_000_000)?;
            if template.expect == Expect::default() {
                template.expect = self.expect.clone();
            }
        }
        self.threads = self.threads.min(self.connections);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Arrivals;

    #[track_caller]
    fn check(change: impl FnOnce(Plan) -> Plan, want: &str) {
        let plan = change(Plan::new("http://h/").unwrap());
        let got = plan.check().err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(got, want);
    }

    #[test]
    fn every_setting_has_a_range() {
        check(|plan| plan, "");
        check(|plan| plan.threads(0), "threads: 0: expected 1 to 256 [config]");
        check(|plan| plan.connections(0), "connections: 0: expected 1 to 1000000 [config]");
        check(|plan| plan.pipeline(1025), "pipeline: 1025: expected 1 to 1024 [config]");
        check(
            |plan| plan.duration(Duration::ZERO),
            "duration in ms: 0: expected 10 to 604800000 [config]",
        );
        check(
            |plan| plan.timeout(Duration::ZERO),
            "timeout in ms: 0: expected 1 to 600000 [config]",
        );
        check(
            |plan| plan.warm_up(Duration::MAX),
            "warm-up in ms: 18446744073709551615: expected 0 to 86400000 [config]",
        );
        check(
            |plan| plan.requests_per_connection(0),
            "requests per connection: 0: expected 1 to 18446744073709551615 [config]",
        );
        for (from, to) in [(0.0, 0.0), (-1.0, 5.0), (f64::NAN, 1.0), (1.0, 2e9)] {
            let pace = Pace::Open { arrivals: Arrivals::Constant, from, to };
            let want = format!("rate: {from}:{to}: expected more than 0, up to 1e9 [config]");
            check(|plan| plan.pace(pace), &want);
        }
    }

    #[test]
    fn no_more_threads_than_connections() {
        let plan = Plan::new("http://h/").unwrap().threads(8).connections(3).check().unwrap();
        assert_eq!(plan.threads, 3);
    }
}
