//! A report as JSON: for scripts, so its names stay. Pure.

use super::{QUANTILES, Report};
use crate::load::Pace;
use crate::load::tally::{Connections, Failure, Latency};
use crate::load::usage::Usage;
use crate::load::verdict;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Of the JSON form.
pub(super) const SCHEMA: &str = "ringfort-bench/1";

impl Report {
    /// As JSON, in one object. `schema` is `ringfort-bench/1`: the number grows when a name goes
    /// or changes its meaning; new names may come without that. Times are in microseconds and end
    /// in `_us`, or in seconds and end in `_s`; a rate is per second; what is not known is null.
    ///
    /// - `requests` were due within the measured time; each is in `answered`, in one of `errors` or
    ///   in `unfinished`: without a reply when the run was interrupted. `errors` has every kind of
    ///   failure; those before `timeout` are connects, not requests, and `unasked` is a connection
    ///   between requests. `error_rate` is that of the requests that were not unfinished.
    /// - `rate.achieved` is `replies` (right, and within the measured time) by `measured_s`.
    /// - `latency_us`: `service` since a request was sent, `response` since it was due (in a closed
    ///   loop the same), `lag` by how much this client was late, `in_vain` for how long failed and
    ///   unfinished requests had waited; each `p50` … `max`, `mean`, `count`. Those that waited in
    ///   vain are in `service` and `response` too, among the ones that took longer.
    /// - `connections`: `requested`, `opened` before the clock, `answered` at least once,
    ///   `alive_min`, `reopened`.
    /// - `validity.reasons[].code`: see [`crate::load::Reason::code`]. `gates[].held`.
    /// - `series[]`: a second each: `replies` that came in it, `failures` of requests due in it.
    ///   `client`, `server`: CPUs, CPU time a reply, switches, memory.
    /// - `config`, `host`: what was asked for, and where.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text = format!("{:#}", self.value());
        text.push('\n');
        text
    }

    fn value(&self) -> Value {
        let Connections { requested, opened, answered, alive_min, reopened } =
            self.tally.connections;
        let offered = self.offered();
        let rate = self.has_measured().then(|| self.rate());
        json!({
            "schema": SCHEMA,
            "tool": format!("ringfort {}", env!("CARGO_PKG_VERSION")),
            "started_unix": self.started_unix,
            "host": {
                "kernel": self.machine.kernel,
                "cpu": self.machine.cpu,
                "cpus": self.machine.cpus,
                "load_before": self.machine.load,
            },
            "config": self.config(),
            "validity": {
                "ok": self.is_valid(),
                "interrupted": self.interrupted,
                "reasons": self.reasons.iter().map(|reason| json!({
                    "code": reason.code(),
                    "text": reason.to_string(),
                })).collect::<Vec<_>>(),
            },
            "gates": self.gates.iter().map(|gate| json!({
                "wanted": gate.wanted,
                "got": gate.got,
                "held": gate.held,
            })).collect::<Vec<_>>(),
            "measured_s": self.measured.as_secs_f64(),
            "rate": {
                "offered": offered,
                "achieved": rate,
                "ratio": offered.zip(rate).map(|(offered, rate)| rate / offered),
            },
            "requests": self.tally.requests,
            "answered": self.tally.answered,
            "unfinished": self.tally.unfinished,
            "replies": self.tally.replies,
            "errors": self.errors(),
            "error_rate": (self.tally.requests > self.tally.unfinished).then(|| self.error_rate()),
            "status": self.status_counts()
                .map(|(status, count)| (status.to_string(), json!(count)))
                .collect::<Map<_, _>>(),
            "bytes": { "in": self.tally.bytes_in, "out": self.tally.bytes_out },
            "connections": {
                "requested": requested,
                "opened": opened,
                "answered": answered,
                "alive_min": alive_min,
                "reopened": reopened,
            },
            "latency_us": {
                "service": latency(&self.tally.service),
                "response": latency(self.latency()),
                "lag": latency(&self.tally.lag),
                "in_vain": latency(&self.tally.in_vain),
            },
            "series": self.series(),
            "client": self.has_measured().then(|| self.used(&self.client, Some(self.client_busy))),
            "server": self.server.as_ref().map(|server| self.used(server, None)),
        })
    }

    fn config(&self) -> Value {
        let plan = &self.plan;
        let (arrivals, from, to) = match plan.pace {
            Pace::Closed => (None, None, None),
            Pace::Open { arrivals, from, to } => (Some(arrivals), Some(from), Some(to)),
        };
        json!({
            "url": plan.url,
            "loop": if arrivals.is_some() { "open" } else { "closed" },
            "arrivals": arrivals.map(|arrivals| format!("{arrivals:?}").to_lowercase()),
            "rate_from": from,
            "rate_to": to,
            "threads": plan.threads,
            "connections": plan.connections,
            "pipeline": plan.pipeline,
            "requests_per_connection": plan.requests_per_connection,
            "requests_in_mix": plan.templates.len(),
            "warm_up_s": plan.warm_up.as_secs_f64(),
            "duration_s": plan.duration.as_secs_f64(),
            "timeout_s": plan.timeout.as_secs_f64(),
        })
    }

    /// Every kind, so that a script need not ask whether it is there.
    fn errors(&self) -> Map<String, Value> {
        let count = |failure: &Failure| {
            (failure.name().to_owned(), json!(self.tally.failures.get(*failure)))
        };
        Failure::ALL.iter().map(count).collect()
    }

    fn series(&self) -> Vec<Value> {
        let seconds = (0..).zip(&self.tally.seconds);
        let second = |(at, second): (u32, &crate::load::tally::Second)| {
            let latency = &second.latency;
            let quantile = |part| (!latency.is_empty()).then(|| latency.value_at_quantile(part));
            json!({
                "second": at,
                "replies": second.replies,
                "failures": second.failures,
                "p50_us": quantile(0.5),
                "p99_us": quantile(0.99),
                "max_us": quantile(1.0),
            })
        };
        seconds.map(second).collect()
    }

    fn used(&self, usage: &Usage, busy: Option<f64>) -> Value {
        let per_reply = super::each(usage.cpu, self.tally.replies);
        json!({
            "cpus": usage.cores(self.measured),
            "cpu_us_per_reply": micros(per_reply),
            "cpu_wait_s": usage.wait.as_secs_f64(),
            "busiest_thread": busy,
            "switches_voluntary": usage.switches_voluntary,
            "switches_involuntary": usage.switches_involuntary,
            "memory_bytes": usage.memory_bytes,
            "processes": usage.processes,
        })
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Null when nothing was recorded.
fn latency(latency: &Latency) -> Value {
    if latency.is_empty() {
        return Value::Null;
    }
    let mut all: Map<String, Value> = QUANTILES
        .iter()
        .map(|(name, part)| ((*name).to_owned(), json!(micros(verdict::at(latency, *part)))))
        .collect();
    all.insert("mean".to_owned(), json!(latency.mean() / 1e3));
    all.insert("count".to_owned(), json!(latency.len()));
    Value::Object(all)
}
