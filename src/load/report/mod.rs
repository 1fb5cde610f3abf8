//! What came of a run: every figure, the verdict, the gates; and the forms it is written in. Pure,
//! but for the look at the machine.

mod html;
mod json;
mod text;

use super::Pace;
use super::plan::Plan;
use super::tally::{Latency, Of, Tally};
use super::threads::Watched;
use super::usage::Usage;
use super::verdict::{self, Gate, Reason};
use crate::system::SystemInfo;
use std::time::Duration;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) plan: Plan,
    /// All that was counted.
    pub tally: Tally,
    /// How long was measured.
    pub measured: Duration,
    /// When it began, in seconds since 1970.
    pub started_unix: u64,
    /// Where.
    pub machine: Machine,
    /// What the client's threads used while the clock ran.
    pub client: Usage,
    /// Of the busiest of them, the part of the time that it ran or waited for a CPU.
    pub client_busy: f64,
    /// What the server used, if its pid was known.
    pub server: Option<Usage>,
    /// CPU time, second by second.
    pub samples: Vec<Sample>,
    /// What there is against the result; empty: it is valid.
    pub reasons: Vec<Reason>,
    /// The gates, each with what came of it.
    pub gates: Vec<Gate>,
    /// It was stopped before its time.
    pub interrupted: bool,
}

/// Where a run took place.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Of Linux.
    pub kernel: String,
    /// As /proc/cpuinfo names it.
    pub cpu: String,
    /// What this process may use.
    pub cpus: u32,
    /// `load1 load5 load15` of other work before the run began.
    pub load: String,
}

/// CPU time over about one second.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the clock started.
    pub at: Duration,
    /// CPUs the client used.
    pub client_cores: f64,
    /// CPUs the server used, if its pid was known.
    pub server_cores: Option<f64>,
}

impl Machine {
    pub(super) fn look() -> Self {
        let system = SystemInfo::read(1);
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            kernel: system.kernel_release,
            cpu: model.unwrap_or_default().trim_start_matches([':', '\t', ' ']).to_owned(),
            cpus: system.cpus.usable,
            load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

/// The percentiles that are shown, by name and as a part of all.
pub(super) const QUANTILES: [(&str, f64); 8] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("max", 1.0),
];

impl Report {
    /// Ended as it should.
    pub const EXIT_OK: u8 = 0;
    /// A gate was breached.
    pub const EXIT_GATE: u8 = 3;
    /// The result does not describe the server.
    pub const EXIT_INVALID: u8 = 5;
    /// It was interrupted; gates were not checked.
    pub const EXIT_INTERRUPTED: u8 = 130;

    pub(super) fn new(
        plan: &Plan,
        tally: Tally,
        measured: Duration,
        client_busy: f64,
        client: Usage,
        watched: Watched,
    ) -> Self {
        let mut reasons = Vec::new();
        if watched.stopped {
            reasons.push(Reason::Interrupted { measured: !measured.is_zero() });
        }
        // Of what was not measured there is nothing to say.
        if !measured.is_zero() {
            reasons.append(&mut verdict::reasons(&tally, client_busy));
        }
        let mut report = Self {
            plan: plan.clone(),
            tally,
            measured,
            started_unix: watched.started_unix,
            machine: watched.machine,
            client,
            client_busy,
            server: watched.server,
            samples: watched.samples,
            reasons,
            gates: Vec::new(),
            interrupted: watched.stopped,
        };
        if !report.interrupted {
            report.gates = plan.gates.check(report.latency(), &report.tally);
        }
        report
    }

    /// Right replies a second: those that came within the measured time, by it.
    #[must_use]
    pub fn rate(&self) -> f64 {
        per(self.tally.replies, self.measured)
    }

    /// The rate that was asked for; `None` for a closed loop.
    #[must_use]
    pub fn offered(&self) -> Option<f64> {
        self.plan.pace.rate()
    }

    /// What users feel: of an open loop the time since a request was due, else since it was sent.
    #[must_use]
    pub fn latency(&self) -> &Latency {
        match self.plan.pace {
            Pace::Closed => &self.tally.service,
            Pace::Open { .. } => &self.tally.response,
        }
    }

    /// A latency that this part of all requests did not exceed.
    #[must_use]
    pub fn latency_at(&self, quantile: f64) -> Duration {
        verdict::at(self.latency(), quantile)
    }

    /// Whether the result describes the server.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Whether every gate was kept.
    #[must_use]
    pub fn gates_held(&self) -> bool {
        self.gates.iter().all(|gate| gate.held)
    }

    /// CPU time of the client for a reply.
    #[must_use]
    pub fn client_cpu_per_reply(&self) -> Duration {
        each(self.client.cpu, self.tally.replies)
    }

    /// CPU time of the server's processes for a reply, if its pid was known.
    #[must_use]
    pub fn server_cpu_per_reply(&self) -> Option<Duration> {
        self.server.map(|server| each(server.cpu, self.tally.replies))
    }

    /// The part of the ended requests that were not answered as expected, 0 to 1.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        verdict::error_rate(&self.tally)
    }

    /// Whether the clock ran at all: it was not interrupted before.
    #[must_use]
    pub fn has_measured(&self) -> bool {
        !self.measured.is_zero()
    }

    /// Requests that failed, of all kinds.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.tally.failures.total(Of::Request)
    }

    /// What a command ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.interrupted, self.is_valid(), self.gates_held()) {
            (true, _, _) => Self::EXIT_INTERRUPTED,
            (false, false, _) => Self::EXIT_INVALID,
            (false, true, false) => Self::EXIT_GATE,
            (false, true, true) => Self::EXIT_OK,
        }
    }

    /// In one line: what kind of load this was.
    pub(super) fn load(&self) -> String {
        let Plan { threads, connections, pipeline, requests_per_connection, pace, .. } = &self.plan;
        let pace = match pace {
            Pace::Closed => "closed loop".to_owned(),
            Pace::Open { arrivals, from, to } if from == to => {
                format!("open loop, {from} requests/s, {arrivals:?}")
            }
            Pace::Open { arrivals, from, to } => {
                format!("open loop, {from} to {to} requests/s, {arrivals:?}")
            }
        };
        let threads = if *threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
        let mut load = format!("{pace}, {connections} connections, {threads}");
        if *pipeline > 1 {
            load += &format!(", {pipeline} requests at once");
        }
        if let Some(count) = requests_per_connection {
            load += &format!(", {count} requests a connection");
        }
        if self.plan.templates.len() > 1 {
            load += &format!(", a mix of {} requests", self.plan.templates.len());
        }
        load
    }
}

fn per(count: u64, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let count = count as f64;
    count / time.as_secs_f64().max(1e-9)
}

fn each(time: Duration, count: u64) -> Duration {
    let nanos = time.as_nanos() / u128::from(count.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
