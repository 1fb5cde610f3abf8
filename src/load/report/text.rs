//! A report for people and for spreadsheets: text, Markdown, CSV. Pure.

use super::{QUANTILES, Report, each};
use crate::load::Pace;
use crate::load::tally::{Connections, Failure, Latency, Tally};
use crate::load::usage::Usage;
use crate::load::verdict;
use std::fmt::Write;
use std::time::Duration;

impl Report {
    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.plan.url, self.load());
        if !self.has_measured() {
            self.connected(&mut text);
            self.failures(|name, count, example| {
                line(&mut text, "", format!("{name} {count}{example}"));
            });
            line(&mut text, "verdict", self.verdict());
            return text;
        }
        let (measured, warm_up) = (self.measured.as_secs_f64(), self.plan.warm_up);
        let _ = writeln!(text, "measured for {measured:.2} s after {warm_up:?}\n");
        let rate = format!("{:.1} requests/s", self.rate());
        let of = self.offered().map(|offered| format!(" of {offered:.1} offered"));
        line(&mut text, "rate", rate + &of.unwrap_or_default());
        line(&mut text, "", QUANTILES.map(|(name, _)| format!("{name:>9}")).concat());
        for (name, latency) in self.latencies() {
            line(&mut text, name, quantiles(latency));
        }
        let Tally { requests, answered, unfinished, .. } = self.tally;
        let mut requests = format!("{requests}: {answered} answered, {} failed", self.failed());
        if unfinished > 0 {
            requests += &format!(", {unfinished} unfinished");
        }
        line(&mut text, "requests", requests);
        self.failures(|name, count, example| {
            line(&mut text, "", format!("{name} {count}{example}"));
        });
        line(&mut text, "status", self.statuses());
        let (bytes_in, bytes_out) = (bytes(self.tally.bytes_in), bytes(self.tally.bytes_out));
        line(&mut text, "bytes", format!("{bytes_in} in, {bytes_out} out"));
        self.connected(&mut text);
        let client = self.usage(&self.client);
        line(&mut text, "client", format!("{client}, {:.0} % busy", self.client_busy * 100.0));
        if let Some(server) = &self.server {
            let memory = format!("{}, {} processes", self.usage(server), server.processes);
            line(&mut text, "server", memory);
        }
        for gate in &self.gates {
            let held = if gate.held { "held" } else { "BREACHED" };
            line(&mut text, "gate", format!("{}: {} {held}", gate.wanted, gate.got));
        }
        line(&mut text, "verdict", self.verdict());
        text
    }

    fn connected(&self, text: &mut String) {
        let Connections { requested, opened, answered, alive_min, reopened } =
            self.tally.connections;
        let mut connections = format!("{requested} requested, {opened} opened");
        if self.has_measured() {
            connections +=
                &format!(", {answered} answered, {alive_min} alive at least, {reopened} reopened");
        }
        line(text, "connections", connections);
    }

    /// The latencies that say something about this kind of load.
    fn latencies(&self) -> Vec<(&'static str, &Latency)> {
        let Tally { service, response, lag, in_vain, .. } = &self.tally;
        let mut all = match self.plan.pace {
            Pace::Closed => vec![("latency", service)],
            Pace::Open { .. } => vec![("response", response), ("service", service), ("lag", lag)],
        };
        all.extend((!in_vain.is_empty()).then_some(("in vain", in_vain)));
        all
    }

    /// In one line.
    pub(super) fn verdict(&self) -> String {
        let reasons: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        match (self.interrupted, reasons.is_empty()) {
            (true, _) => reasons.join("; "),
            (false, true) => "valid".to_owned(),
            (false, false) => format!("INVALID: {}", reasons.join("; ")),
        }
    }

    /// Each kind of failure that occurred: its name, how often, and an example in brackets.
    pub(super) fn failures(&self, mut each: impl FnMut(&str, u64, &str)) {
        for failure in Failure::ALL {
            let count = self.tally.failures.get(*failure);
            let example = self.tally.examples.iter().find(|(known, _)| known == failure);
            let example = example.map(|(_, why)| format!(" ({why})")).unwrap_or_default();
            if count > 0 {
                each(failure.name(), count, &example);
            }
        }
    }

    /// Statuses that occurred, each with its count.
    pub(super) fn status_counts(&self) -> impl Iterator<Item = (u16, u64)> {
        (100..).zip(self.tally.status.iter().copied()).filter(|(_, count)| *count > 0)
    }

    fn statuses(&self) -> String {
        let each = self.status_counts().map(|(status, count)| format!("{status}: {count}"));
        each.collect::<Vec<_>>().join(", ")
    }

    fn usage(&self, usage: &Usage) -> String {
        format!(
            "{:.2} CPUs, {:.2?} a request, {} + {} context switches, {}",
            usage.cores(self.measured),
            each(usage.cpu, self.tally.replies),
            usage.switches_voluntary,
            usage.switches_involuntary,
            bytes(usage.memory_bytes),
        )
    }

    /// As a table, for a record or a pull request.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("| {} | |\n|---|---|\n", self.plan.url.replace('|', "\\|"));
        let mut row = |name: &str, value: String| {
            let _ = writeln!(text, "| {name} | {value} |");
        };
        row("load", self.load());
        row("verdict", self.verdict());
        if !self.has_measured() {
            return text;
        }
        row("rate", format!("{:.1} requests/s", self.rate()));
        for (name, quantile) in QUANTILES {
            row(name, format!("{:.2?}", self.latency_at(quantile)));
        }
        row("requests", self.tally.requests.to_string());
        row("failed", self.failed().to_string());
        row("client", self.usage(&self.client));
        if let Some(server) = &self.server {
            row("server", self.usage(server));
        }
        text
    }

    /// A line of names and a line of figures; times in microseconds.
    #[must_use]
    pub fn csv(&self) -> String {
        // What was not measured is empty.
        let some = |text: String| if self.has_measured() { text } else { String::new() };
        let micros = |time: Duration| some(format!("{:.3}", time.as_secs_f64() * 1e6));
        let mut columns: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, value: String| columns.push((name.to_owned(), value));
        add("url", format!("\"{}\"", self.plan.url.replace('"', "\"\"")));
        add("valid", self.is_valid().to_string());
        add("connections", self.plan.connections.to_string());
        add("pipeline", self.plan.pipeline.to_string());
        add("offered", self.offered().map(|rate| rate.to_string()).unwrap_or_default());
        add("rate", some(format!("{:.1}", self.rate())));
        add("requests", self.tally.requests.to_string());
        add("failed", self.failed().to_string());
        add("unfinished", self.tally.unfinished.to_string());
        for (name, quantile) in QUANTILES {
            add(&format!("{name}_us"), micros(self.latency_at(quantile)));
        }
        add("client_cpu_us", micros(self.client_cpu_per_reply()));
        add("server_cpu_us", self.server_cpu_per_reply().map(micros).unwrap_or_default());
        add("interrupted", self.interrupted.to_string());
        let (names, values): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        format!("{}\n{}\n", names.join(","), values.join(","))
    }
}

fn line(text: &mut String, name: &str, value: String) {
    let _ = writeln!(text, "{name:<12}{value}");
}

fn quantiles(latency: &Latency) -> String {
    QUANTILES.map(|(_, quantile)| format!("{:>9}", time(verdict::at(latency, quantile)))).concat()
}

/// In three digits and a unit: `1.23ms`, `12.3ms`, `123ms`.
fn time(time: Duration) -> String {
    let nanos = time.as_nanos();
    let digits = match nanos.checked_ilog10().unwrap_or(0) % 3 {
        _ if nanos < 1000 => 0,
        0 => 2,
        1 => 1,
        _ => 0,
    };
    format!("{time:.digits$?}")
}

/// `12.3 MiB`.
pub(super) fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit behind the point")]
    let mut value = count as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}
