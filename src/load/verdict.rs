//! Whether a result says something about the server, and whether it is good enough. Pure.

use super::tally::{Connections, Failure, Latency, Tally, nanos};
use std::fmt;
use std::time::Duration;

/// Why a result does not describe the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// The client was the limit: its busiest thread ran, or was ready to run and had no CPU, for
    /// this part of the time.
    ClientBound(f64),
    /// Fewer connections than asked for were opened, stayed open or were ever answered.
    ConnectionsMissing(Connections),
    /// The client sent later than the schedule said: this was the lag of 1 request in 100.
    Lagging(Duration),
    /// New connections found no free source port, so often.
    OutOfPorts(u64),
    /// Not one right reply came.
    NoAnswers,
    /// It was interrupted, before or while the clock ran.
    Interrupted {
        /// The clock ran.
        measured: bool,
    },
}

impl Reason {
    /// A word that never changes, for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::ClientBound(_) => "client_bound",
            Self::ConnectionsMissing(_) => "connections_missing",
            Self::Lagging(_) => "lagging",
            Self::OutOfPorts(_) => "out_of_ports",
            Self::NoAnswers => "no_answers",
            Self::Interrupted { .. } => "interrupted",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientBound(busy) => write!(
                f,
                "client-bound: a client thread was busy or without a CPU for {:.0} % of the time: \
                 give it CPUs of its own, or more threads",
                busy * 100.0
            ),
            Self::ConnectionsMissing(Connections {
                requested,
                opened,
                answered,
                alive_min,
                ..
            }) => write!(
                f,
                "connections missing: {requested} requested, {opened} opened, {answered} \
                 answered, at least {alive_min} alive"
            ),
            Self::Lagging(lag) => write!(
                f,
                "lagging: 1 request in 100 was sent {lag:.1?} or more after it was due, by the \
                 client's doing"
            ),
            Self::OutOfPorts(times) => write!(
                f,
                "out of ports: {times} connects found no free source port; old connections are in \
                 TIME-WAIT: let connections live longer, or lower the rate"
            ),
            Self::NoAnswers => f.write_str("no answers: not one request was answered as expected"),
            Self::Interrupted { measured: true } => {
                f.write_str("interrupted: this is what there was so far")
            }
            Self::Interrupted { measured: false } => {
                f.write_str("interrupted before the clock started: nothing was measured")
            }
        }
    }
}

/// The busiest client thread may be busy for so much of the time.
pub const BUSY_MAX: f64 = 0.90;
/// One request in 100 may be sent so late.
pub const LAG_MAX: Duration = Duration::from_millis(1);

/// Fewer late requests than this are an accident, not a habit.
const LATE_MIN: u64 = 10;

/// What there is against a result; nothing: it is valid. `busy`: of the busiest client thread, the
/// part of the time that it ran or waited for a CPU.
#[must_use]
pub(super) fn reasons(tally: &Tally, busy: f64) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let Connections { requested, opened, answered, alive_min, .. } = tally.connections;
    if tally.answered == 0 {
        reasons.push(Reason::NoAnswers);
    }
    if opened.min(alive_min) < requested || answered < requested.min(tally.requests) {
        reasons.push(Reason::ConnectionsMissing(tally.connections));
    }
    let out_of_ports = tally.failures.get(Failure::OutOfPorts);
    if out_of_ports > 0 {
        reasons.push(Reason::OutOfPorts(out_of_ports));
    }
    if busy > BUSY_MAX {
        reasons.push(Reason::ClientBound(busy));
    }
    let late = tally.lag.len() - tally.lag.count_between(0, nanos(LAG_MAX));
    if late >= LATE_MIN && late * 100 > tally.lag.len() {
        reasons.push(Reason::Lagging(at(&tally.lag, 0.99)));
    }
    reasons
}

/// The latency that this part of all requests did not exceed; zero without any.
#[must_use]
pub(super) fn at(latency: &Latency, quantile: f64) -> Duration {
    Duration::from_nanos(if latency.is_empty() { 0 } else { latency.value_at_quantile(quantile) })
}

/// What a result must reach, for scripts and CI.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gates {
    /// Latencies that must not be exceeded; of an open loop the response times.
    pub slo: Vec<Slo>,
    /// The part of all requests that may fail, 0 to 1.
    pub error_rate_max: Option<f64>,
}

/// A latency that must not be exceeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slo {
    /// By which part of the requests: 0.99 for p99; 1 for the maximum.
    pub quantile: f64,
    /// How long it may take.
    pub max: Duration,
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quantile, max } = self;
        if *quantile >= 1.0 {
            return write!(f, "max={max:?}");
        }
        // 0.999 is no exact number; a percentage of it shows that from the tenth digit on.
        write!(f, "p{}={max:?}", (quantile * 1e8).round() / 1e6)
    }
}

/// What came of a gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// As it was asked for.
    pub wanted: String,
    /// What was measured.
    pub got: String,
    /// Whether it is kept.
    pub held: bool,
}

impl Gates {
    /// Each gate, held against a result.
    #[must_use]
    pub fn check(&self, latency: &Latency, tally: &Tally) -> Vec<Gate> {
        let mut gates: Vec<Gate> = Vec::new();
        for slo in &self.slo {
            let got = at(latency, slo.quantile);
            let held = !latency.is_empty() && got <= slo.max;
            gates.push(Gate { wanted: slo.to_string(), got: format!("{got:.2?}"), held });
        }
        if let Some(max) = self.error_rate_max {
            let rate = error_rate(tally);
            gates.push(Gate {
                wanted: format!("error rate {max}"),
                got: format!("{rate:.6}"),
                held: rate <= max,
            });
        }
        gates
    }
}

/// The part of the requests that were not answered as expected, without the unfinished.
#[must_use]
pub(super) fn error_rate(tally: &Tally) -> f64 {
    let ended = tally.requests - tally.unfinished;
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = |part: u64| part as f64 / ended.max(1) as f64;
    if ended == 0 { 1.0 } else { ratio(ended - tally.answered) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Tally {
        let mut tally = Tally { requests: 100, answered: 100, ..Tally::default() };
        tally.connections =
            Connections { requested: 4, opened: 4, answered: 4, alive_min: 4, reopened: 0 };
        tally
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Tally), busy: f64, want: &[&str]) {
        let mut tally = good();
        change(&mut tally);
        let codes: Vec<&str> = reasons(&tally, busy).iter().map(Reason::code).collect();
        assert_eq!(codes, want);
    }

    #[test]
    fn each_reason_is_found_alone() {
        check(|_| {}, 0.89, &[]);
        check(|_| {}, 0.91, &["client_bound"]);
        check(|tally| tally.connections.opened = 3, 0.0, &["connections_missing"]);
        check(|tally| tally.connections.alive_min = 3, 0.0, &["connections_missing"]);
        check(|tally| tally.connections.answered = 3, 0.0, &["connections_missing"]);
        check(|tally| tally.fail(Failure::OutOfPorts, String::new), 0.0, &["out_of_ports"]);
        check(|tally| tally.answered = 0, 0.0, &["no_answers"]);
        let late = nanos(LAG_MAX + Duration::from_micros(10));
        check(|tally| tally.lag.saturating_record_n(late, 10), 0.0, &["lagging"]);
        check(|tally| tally.lag.saturating_record_n(late, 9), 0.0, &[]);
    }

    #[test]
    fn few_requests_need_not_reach_every_connection() {
        check(
            |tally| {
                (tally.requests, tally.answered) = (2, 2);
                tally.connections.answered = 2;
            },
            0.0,
            &[],
        );
    }

    #[test]
    fn gates() {
        let mut tally = good();
        tally.service.saturating_record_n(nanos(Duration::from_millis(1)), 99);
        tally.service.saturating_record_n(nanos(Duration::from_millis(9)), 1);
        tally.answered = 99;
        let slo = |quantile, millis| Slo { quantile, max: Duration::from_millis(millis) };
        let gates = Gates {
            slo: vec![slo(0.99, 2), slo(0.999, 2), slo(1.0, 10)],
            error_rate_max: Some(0.001),
        };
        let held: Vec<(String, bool)> =
            gates.check(&tally.service, &tally).into_iter().map(|g| (g.wanted, g.held)).collect();
        let want = [("p99=2ms", true), ("p99.9=2ms", false), ("max=10ms", true)];
        let want = want.into_iter().chain([("error rate 0.001", false)]);
        assert_eq!(held, want.map(|(text, held)| (text.to_owned(), held)).collect::<Vec<_>>());
        let empty = Tally::default();
        assert!(gates.check(&empty.service, &empty).iter().all(|gate| !gate.held));
    }
}
