//! Measuring: from the command line to a plan, the live line, and the report to where it goes.

use super::bench::{Bench, Content, Format};
use super::compare;
use ringfort::load::{
    Capacity, Expect, ExpectBody, Found, Go, Live, Pace, Plan, Report, Server, Template, Tree,
};
use ringfort::sys::signal;
use ringfort::{Config, Error, ErrorKind};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// `ringfort bench`: the code to end with. `print`: to stdout.
pub(crate) fn run(bench: Bench, print: impl Fn(&str) -> Result<(), Error>) -> Result<u8, Error> {
    let split = Split::of_machine();
    let (text, code) = if !bench.sides.is_empty() {
        compare::run(&bench)?
    } else if let Some((name, values)) = bench.compare.clone() {
        compare(&bench, &split, &name, &values)?
    } else if bench.own {
        // Forked before anything else: a process with threads could not.
        let server = Server::start(own_config(&bench, &split, None)?, &split.server)?;
        let plan = own_plan(&bench, &split, &server)?;
        measure(&bench, plan)?
    } else {
        let url = bench.url.clone().unwrap_or_default();
        measure(&bench, plan(&bench, &url)?)?
    };
    match &bench.output {
        Some(path) => fs::write(path, text)
            .map_err(|error| failed(format!("cannot write {}: {error}", path.display())))?,
        None => print(&text)?,
    }
    Ok(code)
}

fn measure(bench: &Bench, plan: Plan) -> Result<(String, u8), Error> {
    let mut watcher = Watcher::new(bench.quiet)?;
    if bench.find_capacity {
        let start = bench.rate.map_or(1000.0, |(from, _)| from);
        let capacity = Capacity::new(start, bench.precision.unwrap_or(0.02));
        let found = plan.find_capacity(capacity, &mut |live| watcher.look(live));
        watcher.end();
        let found = found?;
        return Ok((capacity_text(bench.format, &found), found.exit_code()));
    }
    let report = plan.run_watched(&mut |live| watcher.look(live));
    watcher.end();
    let report = report?;
    Ok((written(bench.format, &report), report.exit_code()))
}

fn written(format: Format, report: &Report) -> String {
    match format {
        Format::Text => report.text(),
        Format::Json => report.json(),
        Format::Csv => report.csv(),
        Format::Markdown => report.markdown(),
        Format::Html => report.html(),
    }
}

/// The report of the highest rate that held, and what was found.
fn capacity_text(format: Format, found: &Found) -> String {
    let rate = found.best.as_ref().and_then(Report::offered);
    let limit = found.limit.as_ref().and_then(Report::offered);
    // Without a rate that held, the one that broke or was stopped shows why.
    let report = found.best.as_ref().or(found.limit.as_ref()).or(found.stopped.as_ref());
    let text = report.map(|report| written(format, report)).unwrap_or_default();
    let number = |rate: Option<f64>| rate.map(|rate| format!("{rate:.1}")).unwrap_or_default();
    let shown = rate.map_or_else(|| "none".to_owned(), |rate| format!("{rate:.0} requests/s"));
    let broke = limit.map(|limit| format!(", {limit:.0} broke")).unwrap_or_default();
    let (trials, note) = (found.trials, found.note());
    let plural = if trials == 1 { "trial" } else { "trials" };
    let line = format!("capacity: {shown}{broke}; {trials} {plural}; {note}");
    match format {
        Format::Json => {
            // It was JSON a moment ago.
            let mut value: Value = serde_json::from_str(&text).unwrap_or_default();
            value["capacity"] = json!({
                "rate": rate,
                "broke_at": limit,
                "trials": trials,
                "client_was_limit": found.client_was_limit,
                "interrupted": found.stopped.is_some(),
                "note": note,
            });
            format!("{value:#}\n")
        }
        Format::Text | Format::Markdown => format!("{line}\n\n{text}"),
        Format::Csv => {
            let (rate, limit) = (number(rate), number(limit));
            let more =
                ["capacity,broke_at,trials,note", &format!("{rate},{limit},{trials},{note}")];
            let lines = text.lines().zip(more).map(|(own, more)| format!("{own},{more}\n"));
            lines.collect()
        }
        Format::Html => {
            let is_valid = found.exit_code() == Report::EXIT_OK;
            let class = if is_valid { "valid" } else { "invalid" };
            text.replacen("</h1>\n", &format!("</h1>\n<p class=\"{class}\">{line}</p>\n"), 1)
        }
    }
}

pub(super) fn plan(bench: &Bench, url: &str) -> Result<Plan, Error> {
    let mut plan = Plan::new(url)?;
    let short = Duration::from_millis(500);
    let tenths = |count: u64| Duration::from_millis(100 * count);
    let (duration, warm_up) = match (bench.compare.is_some(), bench.find_capacity, bench.own) {
        _ if !bench.sides.is_empty() => (tenths(3), tenths(1)),
        (true, _, _) => (Duration::from_secs(1), Duration::from_millis(200)),
        (_, true, _) => (Duration::from_secs(2), short),
        (_, _, true) => (Duration::from_secs(3), short),
        _ => (Duration::from_secs(10), Duration::from_secs(1)),
    };
    plan = plan
        .duration(bench.duration.unwrap_or(duration))
        .warm_up(bench.warm_up.unwrap_or(warm_up))
        .gates(bench.gates.clone())
        .cpus(&bench.cpus)
        .expect(expect(bench)?);
    if let Some(threads) = bench.threads {
        plan = plan.threads(threads);
    }
    if let Some(connections) = bench.connections {
        plan = plan.connections(connections);
    }
    if let Some(timeout) = bench.timeout {
        plan = plan.timeout(timeout);
    }
    if let Some(pipeline) = bench.pipeline {
        plan = plan.pipeline(pipeline);
    }
    if let Some(count) = bench.requests_per_connection {
        plan = plan.requests_per_connection(count);
    }
    if let Some(pid) = bench.server_pid {
        if Tree::look(pid).is_none() {
            return Err(Error::new(ErrorKind::Config, format!("--server-pid: no process {pid}")));
        }
        plan = plan.server_pid(pid);
    }
    if let Some(seed) = bench.seed {
        plan = plan.seed(seed);
    }
    let arrivals = bench.arrivals.unwrap_or(ringfort::load::Arrivals::Constant);
    if let Some((from, to)) = bench.rate {
        plan = plan.pace(Pace::Open { arrivals, from, to });
    } else if bench.find_capacity {
        plan = plan.pace(Pace::Open { arrivals, from: 1.0, to: 1.0 });
    }
    for template in templates(bench, &plan)? {
        plan = plan.request(template);
    }
    Ok(plan)
}

fn templates(bench: &Bench, plan: &Plan) -> Result<Vec<Template>, Error> {
    if bench.templates.is_empty() {
        let body = bench.body.as_ref().map(read).transpose()?.unwrap_or_default();
        let method = match (&bench.method, body.is_empty()) {
            (Some(method), _) => method.as_str(),
            (None, true) => "GET",
            (None, false) => "POST",
        };
        return Ok(vec![Template::build(plan.target(), method, &bench.fields, &body)?]);
    }
    let read = |(path, weight): &(std::path::PathBuf, u32)| {
        let template = Template::from_file(plan.target(), &read_file(path)?)?;
        Ok(Template { weight: *weight, ..template })
    };
    bench.templates.iter().map(read).collect()
}

fn expect(bench: &Bench) -> Result<Expect, Error> {
    let body = match (&bench.expect_body, bench.same_body) {
        (Some(content), _) => ExpectBody::Exactly(read(content)?.into()),
        (None, true) => ExpectBody::SameAsFirst,
        (None, false) => ExpectBody::Any,
    };
    Ok(Expect { status: bench.expect_status, body })
}

fn read(content: &Content) -> Result<Vec<u8>, Error> {
    match content {
        Content::Text(text) => Ok(text.clone().into_bytes()),
        Content::File(path) => read_file(path),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let wrong = |error: io::Error| {
        Error::new(ErrorKind::Config, format!("cannot read {}: {error}", path.display()))
    };
    fs::read(path).map_err(wrong)
}

pub(super) fn failed(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::System, what)
}

/// Which CPUs a server of ours gets and which the client.
pub(super) struct Split {
    pub(super) server: Vec<u32>,
    pub(super) client: Vec<u32>,
}

impl Split {
    pub(super) fn of_machine() -> Self {
        let (server, client) = ringfort::load::split();
        Self { server, client }
    }
}

/// The settings of a server of ours; `one_more`: of a variant.
fn own_config(
    bench: &Bench,
    split: &Split,
    one_more: Option<(&str, &str)>,
) -> Result<Config, Error> {
    let mut config = Config::default();
    let workers = split.server.len().max(1).to_string();
    let set = bench.set.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in [("workers", workers.as_str())].into_iter().chain(set).chain(one_more) {
        config.set(name, value)?;
    }
    config.add_address("127.0.0.1:0")?;
    Ok(config)
}

fn own_plan(bench: &Bench, split: &Split, server: &Server) -> Result<Plan, Error> {
    let mut plan = plan(bench, &server.url())?.server_pid(server.pid());
    if bench.cpus.is_empty() {
        plan = plan.cpus(&split.client);
    }
    if bench.threads.is_none() {
        plan = plan.threads(u32::try_from(split.client.len().max(1)).unwrap_or(1));
    }
    Ok(plan)
}

/// One value of the setting that is compared, and its rounds.
struct Variant {
    value: String,
    server: Server,
    reports: Vec<Report>,
}

/// All servers are up at once, and measured in turns, so that what the machine does meanwhile
/// befalls each alike.
fn compare(
    bench: &Bench,
    split: &Split,
    name: &str,
    values: &[String],
) -> Result<(String, u8), Error> {
    if !matches!(bench.format, Format::Text | Format::Markdown | Format::Json) {
        return Err(Error::new(ErrorKind::Config, "--compare: as text, md or json"));
    }
    let mut variants = Vec::new();
    for value in values {
        let config = own_config(bench, split, Some((name, value)))?;
        let server = Server::start(config, &split.server)?;
        variants.push(Variant { value: value.clone(), server, reports: Vec::new() });
    }
    let mut watcher = Watcher::new(bench.quiet)?;
    for round in 0..bench.rounds.unwrap_or(5).max(1) as usize {
        for turn in 0..variants.len() {
            // The order rotates: nobody is always first.
            let at = (turn + round) % variants.len();
            let variant = &mut variants[at];
            let plan = own_plan(bench, split, &variant.server)?;
            let report = plan.run_watched(&mut |live| watcher.look(live));
            let report = report.inspect_err(|_| watcher.end())?;
            let stopped = report.interrupted;
            variant.reports.push(report);
            if stopped {
                watcher.end();
                return Ok((table(bench.format, name, &variants), Report::EXIT_INTERRUPTED));
            }
        }
    }
    watcher.end();
    let codes = variants.iter().flat_map(|variant| &variant.reports).map(Report::exit_code);
    Ok((table(bench.format, name, &variants), codes.max().unwrap_or(0)))
}

fn table(format: Format, name: &str, variants: &[Variant]) -> String {
    let rates = |variant: &Variant| variant.reports.iter().map(Report::rate).collect::<Vec<_>>();
    let cpus = |variant: &Variant| {
        let each = variant.reports.iter().filter_map(Report::server_cpu_per_reply);
        each.map(|time| time.as_secs_f64() * 1e6).collect::<Vec<_>>()
    };
    let p99s = |variant: &Variant| {
        let each = variant.reports.iter().map(|report| report.latency_at(0.99));
        each.map(|time| time.as_secs_f64() * 1e6).collect::<Vec<_>>()
    };
    let reasons = |variant: &Variant| {
        let all = variant.reports.iter().flat_map(|report| &report.reasons);
        let mut codes: Vec<&str> = all.map(ringfort::load::Reason::code).collect();
        codes.sort_unstable();
        codes.dedup();
        codes.join(" ")
    };
    if format == Format::Json {
        let each = variants.iter().map(|variant| {
            json!({
                "value": variant.value,
                "rate": rates(variant),
                "server_cpu_us_per_reply": cpus(variant),
                "p99_us": p99s(variant),
                "reasons": reasons(variant),
            })
        });
        let all: Vec<Value> = each.collect();
        return format!("{:#}\n", json!({"schema": "ringfort-bench-variants/1", name: all}));
    }
    let base = variants.first().map_or(0.0, |first| median(&rates(first)));
    let mut text = format!(
        "| {name} | requests/s | spread | to the first | server CPU a request | p99 | |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for variant in variants {
        let rates = rates(variant);
        let rate = median(&rates);
        let spread = rates.iter().copied().fold(0.0, f64::max)
            - rates.iter().copied().fold(f64::INFINITY, f64::min);
        text += &format!(
            "| {} | {rate:.0} | {:.1} % | {:.3} | {:.2} µs | {:.0} µs | {} |\n",
            variant.value,
            100.0 * spread / rate,
            rate / base,
            median(&cpus(variant)),
            median(&p99s(variant)),
            reasons(variant),
        );
    }
    text
}

/// Of none: no number.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn live_line(live: &Live, rate: f64) -> String {
    let Live { phase, elapsed, open, failures, .. } = live;
    let phase = format!("{phase:?}").to_lowercase();
    let seconds = elapsed.as_secs_f64();
    format!("{phase} {seconds:.1} s  {rate:.0} requests/s  {open} open  {failures} failed")
}

/// Shows how it goes on a terminal, and hears Ctrl-C.
pub(super) struct Watcher {
    signals: ringfort::io::Fd,
    shows: bool,
    last: Option<(Duration, u64)>,
}

impl Watcher {
    pub(super) fn new(quiet: bool) -> Result<Self, Error> {
        let (signals, _) = signal::open(&[signal::INT, signal::TERM])
            .map_err(|failed| failed.error("listen to signals"))?;
        Ok(Self { signals, shows: !quiet && io::stderr().is_terminal(), last: None })
    }

    pub(super) fn look(&mut self, live: &Live) -> Go {
        if self.shows {
            self.show(live);
        }
        self.interrupted()
    }

    /// Whether to go on: not after an INT or a TERM.
    pub(super) fn interrupted(&self) -> Go {
        if signal::read_now(&self.signals).is_empty() { Go::On } else { Go::Stop }
    }

    fn show(&mut self, live: &Live) {
        let (since, before) = self.last.unwrap_or((Duration::ZERO, 0));
        // A phase began anew, or the second is not over.
        let is_new = live.elapsed < since || live.replies < before;
        let time = live.elapsed.saturating_sub(since);
        if !is_new && self.last.is_some() && time < Duration::from_millis(500) {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "shown without digits behind the point")]
        let rate = match is_new {
            true => 0.0,
            false => (live.replies - before) as f64 / time.as_secs_f64().max(1e-9),
        };
        self.last = Some((live.elapsed, live.replies));
        // Who cannot read it misses nothing.
        let _ = write!(io::stderr(), "\r\x1b[K{}", live_line(live, rate));
    }

    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.shows) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
