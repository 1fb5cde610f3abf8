//! End to end on the load library: servers as processes, measured in turns, with a baseline.

use super::rounds::{Settings, spread};
use super::server::{Contender, Server, Setup};
use ringfort::load::{Go, Live, Plan, Report};
use std::time::Duration;

/// A figure of a report, and how it is called.
pub(crate) type Column = (&'static str, fn(&Report) -> f64);

pub(crate) const CPU: Column = ("µs CPU", |report| {
    report.server_cpu_per_reply().map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
});
pub(crate) const RATE: Column = ("req/s", Report::rate);
pub(crate) const P50: Column = ("p50 µs", |report| micros(report, 0.5));
pub(crate) const P99: Column = ("p99 µs", |report| micros(report, 0.99));
pub(crate) const P999: Column = ("p99.9 µs", |report| micros(report, 0.999));
pub(crate) const MAX: Column = ("max µs", |report| micros(report, 1.0));
pub(crate) const FAILED: Column = ("failed", |report| report.failed() as f64);

fn micros(report: &Report, quantile: f64) -> f64 {
    report.latency_at(quantile).as_secs_f64() * 1e6
}

/// One table: how the servers are asked, and what is done to them meanwhile.
pub(crate) struct Table<'a> {
    pub(crate) name: &'a str,
    pub(crate) contenders: &'a [Contender],
    pub(crate) setup: Setup,
    pub(crate) plan: &'a dyn Fn(Plan) -> Plan,
    pub(crate) columns: &'a [Column],
    /// What it does costs requests: they are counted, not an error.
    pub(crate) may_fail: bool,
}

impl Table<'_> {
    /// Measures in turns and prints.
    pub(crate) fn run(&self, settings: &Settings) -> Result<(), String> {
        self.run_watched(settings, &mut |_, _| {})
    }

    /// The same; ten times a second `watch` may do something to the server.
    pub(crate) fn run_watched(
        &self,
        settings: &Settings,
        watch: &mut dyn FnMut(&Server, &Live),
    ) -> Result<(), String> {
        let mut reports: Vec<Vec<Report>> = self.contenders.iter().map(|_| Vec::new()).collect();
        for _ in 0..settings.rounds {
            for (contender, reports) in self.contenders.iter().zip(&mut reports) {
                let one = self.measure(settings, *contender, watch);
                reports.extend(
                    one.map_err(|why| format!("{}, {}: {why}", self.name, contender.name))?,
                );
            }
        }
        print!("\n{}\n  {:<22}", self.name, "server");
        self.columns.iter().for_each(|(name, _)| print!(" {name:>10} {:>17}", "min–max"));
        println!();
        for (contender, reports) in self.contenders.iter().zip(&reports) {
            if !reports.is_empty() {
                self.print_row(settings, contender.name, reports);
            }
        }
        Ok(())
    }

    fn measure(
        &self,
        settings: &Settings,
        contender: Contender,
        watch: &mut dyn FnMut(&Server, &Live),
    ) -> Result<Option<Report>, String> {
        let Some(server) = Server::start(contender, self.setup, &settings.servers(&contender))?
        else {
            return Ok(None);
        };
        let watched = &mut |live: &Live| {
            watch(&server, live);
            Go::On
        };
        let report = (self.plan)(plan(settings, &server)?).run_watched(watched);
        let report = report.map_err(|error| error.to_string())?;
        if report.tally.answered == 0 || (report.failed() > 0 && !self.may_fail) {
            return Err(report.text());
        }
        Ok(Some(report))
    }

    fn print_row(&self, settings: &Settings, name: &str, reports: &[Report]) {
        print!("  {name:<22}");
        for (column, of) in self.columns {
            let values: Vec<f64> = reports.iter().map(of).collect();
            let figure = format!("{}/{name}/{column}", self.name);
            let change = settings.baseline.figure(&figure, &values);
            let (median, least, most) = spread(values.into_iter());
            let digits = if median < 100.0 { 2 } else { 0 };
            let range = format!("{least:.digits$}–{most:.digits$}");
            print!(" {median:>10.digits$} {range:>17}");
            if !change.is_empty() {
                print!(" ({change})");
            }
        }
        let mut reasons: Vec<&str> =
            reports.iter().flat_map(|report| &report.reasons).map(|reason| reason.code()).collect();
        reasons.dedup();
        println!("  {}", reasons.join(" "));
    }
}

/// As long as the settings say, from the client's CPU.
pub(crate) fn plan(settings: &Settings, server: &Server) -> Result<Plan, String> {
    let url = format!("http://127.0.0.1:{}/", server.port);
    let plan = Plan::new(&url).map_err(|error| error.to_string())?;
    Ok(plan
        .duration(settings.time.max(Duration::from_millis(100)))
        .warm_up(settings.time / 4)
        .timeout(Duration::from_secs(30))
        .server_pid(server.master().unsigned_abs()))
}
