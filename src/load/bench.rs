//! A bench of one's own application: scenarios with gates, for a target with `harness = false`.

use super::plan::Plan;
use super::report::Report;
use super::server::Server;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::http::{Request, Response};
use crate::sys::cpu;
use std::process::ExitCode;
use std::time::Duration;

/// Named scenarios against one server of ours. Understands what `cargo bench` passes on: words
/// filter by name, `--test` is one quick round in which only failures count, not gates. Any other
/// option is an error.
///
/// ```no_run
/// use ringfort::Config;
/// use ringfort::load::Bench;
/// use std::process::ExitCode;
///
/// fn main() -> Result<ExitCode, ringfort::Error> {
///     Bench::new(Config::default(), |_, response| response.text("Hello, World!"))?
///         .scenario("throughput", |plan| plan.connections(64))
///         .scenario("pipelined", |plan| plan.pipeline(16))
///         .run()
/// }
/// ```
#[derive(Debug)]
#[must_use = "a bench does nothing until it runs"]
pub struct Bench {
    server: Server,
    client: Vec<u32>,
    scenarios: Vec<(String, Plan)>,
}

/// How long a quick round measures.
const QUICK: Duration = Duration::from_millis(100);

impl Bench {
    /// Forks the server: on half of the CPUs, at a free port of 127.0.0.1 unless `config` has an
    /// address. Call it before any thread is started.
    ///
    /// # Errors
    ///
    /// As [`Server::start_with`].
    pub fn new(
        mut config: Config,
        handler: impl FnMut(&Request<'_>, &mut Response) + 'static,
    ) -> Result<Self, Error> {
        if config.addresses().is_empty() {
            config.add_address("127.0.0.1:0")?;
        }
        let (server, client) = split();
        let server = Server::start_with(config, &server, handler)?;
        Ok(Self { server, client, scenarios: Vec::new() })
    }

    /// One more scenario. Its plan begins as [`Plan::new`], on CPUs of its own and with the
    /// server's pid, and measures for 3 s.
    pub fn scenario(mut self, name: &str, change: impl FnOnce(Plan) -> Plan) -> Self {
        // The server's own address is always a target.
        if let Ok(plan) = Plan::new(&self.server.url()) {
            let plan = plan.server_pid(self.server.pid()).cpus(&self.client);
            let plan = plan.duration(Duration::from_secs(3)).warm_up(Duration::from_millis(500));
            self.scenarios.push((name.to_owned(), change(plan)));
        }
        self
    }

    /// Runs those that the command line asks for, prints each report, and answers with the code to
    /// end with: the highest of [`Report::exit_code`].
    ///
    /// # Errors
    ///
    /// As [`Plan::run`]; an unknown option.
    pub fn run(self) -> Result<ExitCode, Error> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let is_unknown = |arg: &&String| arg.starts_with('-') && !FLAGS.contains(&arg.as_str());
        if let Some(flag) = args.iter().find(is_unknown) {
            return Err(Error::new(ErrorKind::Config, format!("{flag}: no option of a bench")));
        }
        let mut code = 0;
        let reports = self.reports(&args)?;
        if reports.is_empty() {
            // The same words go to all benches of a crate.
            print("no scenario here has such a name\n");
        }
        for (name, report) in reports {
            print(&format!("\n{name}\n{}", report.text()));
            code = code.max(if is_quick(&args) { quick_code(&report) } else { report.exit_code() });
        }
        Ok(ExitCode::from(code))
    }

    fn reports(self, args: &[String]) -> Result<Vec<(String, Report)>, Error> {
        let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
        let wanted =
            |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(*part));
        let mut reports = Vec::new();
        for (name, mut plan) in self.scenarios.into_iter().filter(|(name, _)| wanted(name)) {
            if is_quick(args) {
                plan = plan.duration(QUICK).warm_up(Duration::ZERO);
            }
            reports.push((name, plan.run()?));
        }
        Ok(reports)
    }
}

const FLAGS: [&str; 2] = ["--bench", "--test"];

/// As criterion has it: `cargo bench` says `--bench`, `cargo test --benches` does not.
fn is_quick(args: &[String]) -> bool {
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    has("--test") || !has("--bench")
}

/// A quick round says nothing about speed, only that it works.
fn quick_code(report: &Report) -> u8 {
    let works = report.tally.answered > 0 && report.failed() == 0;
    if works { Report::EXIT_OK } else { Report::EXIT_INVALID }
}

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn print(text: &str) {
    print!("{text}");
}

/// CPUs for a server and for the client: half each, so that neither takes the other's time. On a
/// machine with one CPU they share it (both lists are empty), and the verdict says what came of it.
#[must_use]
pub fn split() -> (Vec<u32>, Vec<u32>) {
    let mut server = cpu::allowed();
    if server.len() < 2 {
        return (Vec::new(), Vec::new());
    }
    let client = server.split_off(server.len() / 2);
    (server, client)
}
