//! Interleaved rounds (A B C, A B C, …), medians with their spread, and the ratio to the first
//! server of each round, pair by pair: what disturbs the machine disturbs both of a pair.

use super::baseline::Baseline;
use super::load::{Load, Plan};
use super::ring::Ring;
use super::server::{Contender, OTHER, Server, Setup};
use super::sys;
use std::cell::Cell;
use std::fs;
use std::time::Duration;

/// One row of numbers: how it is asked, and how it is to serve.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) plan: Plan,
    pub(crate) centralized: bool,
    pub(crate) defer: bool,
}

pub(crate) const KEEP_ALIVE: Plan =
    Plan { connections: 64, pipeline: 1, close: false, rate: 0, cuts: false };
pub(crate) const CLOSE: Plan = Plan { close: true, ..KEEP_ALIVE };

const fn scenario(name: &'static str, plan: Plan) -> Scenario {
    Scenario { name, plan, centralized: false, defer: false }
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    scenario("keep-alive", KEEP_ALIVE),
    scenario("pipelined-16", Plan { pipeline: 16, ..KEEP_ALIVE }),
    scenario("active-1000", Plan { connections: 1000, ..KEEP_ALIVE }),
    scenario("active-10000", Plan { connections: 10_000, ..KEEP_ALIVE }),
    scenario("paced-20000", Plan { rate: 20_000, ..KEEP_ALIVE }),
    scenario("close", CLOSE),
    Scenario { defer: true, ..scenario("close-deferred", CLOSE) },
    Scenario { centralized: true, ..scenario("close-centralized", CLOSE) },
    Scenario { centralized: true, defer: true, ..scenario("close-centralized-deferred", CLOSE) },
];

/// How much to do, from the command line and the environment.
pub(crate) struct Settings {
    /// One short round of everything: does it still work?
    pub(crate) test: bool,
    /// `ROUNDS`, default 5.
    pub(crate) rounds: u64,
    /// `SECONDS` of each measurement, default 2.
    pub(crate) time: Duration,
    filters: Vec<String>,
    /// A filter has let something through.
    found: Cell<bool>,
    pub(crate) server_cpu: usize,
    pub(crate) cpus: Vec<usize>,
    pub(crate) baseline: Baseline,
}

impl Settings {
    /// Prints the facts of the machine, takes the client's CPU.
    pub(crate) fn start() -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut args: Vec<String> = std::env::args().skip(1).collect();
        let baseline = Baseline::take(&mut args)?;
        // As criterion has it: `cargo bench` says `--bench`, `cargo test --benches` does not.
        let (flags, filters): (Vec<String>, Vec<String>) =
            args.into_iter().partition(|arg| arg.starts_with('-'));
        if let Some(flag) = flags.iter().find(|flag| !FLAGS.contains(&flag.as_str())) {
            return Err(format!("{flag}: no option of a bench; {USAGE}"));
        }
        let has = |wanted: &str| flags.iter().any(|flag| flag == wanted);
        let test = has("--test") || !has("--bench");
        let cpus = sys::cpus().map_err(text)?;
        let (client_cpu, server_cpu) = (cpus[0], cpus[cpus.len() - 1]);
        sys::adopt_orphans().map_err(text)?;
        let descriptors = sys::raise_descriptors().map_err(text)?;
        facts(client_cpu, server_cpu, descriptors);
        sys::pin(&[client_cpu]).map_err(text)?;
        Ok(Self {
            test,
            rounds: if test { 1 } else { number("ROUNDS", 5).max(1) },
            time: if test {
                Duration::from_millis(30)
            } else {
                Duration::from_secs(number("SECONDS", 2).clamp(1, 600))
            },
            filters,
            found: Cell::new(false),
            server_cpu,
            cpus,
            baseline,
        })
    }

    /// Where a server runs: one with several workers on all CPUs.
    pub(crate) fn servers(&self, contender: &Contender) -> Vec<usize> {
        if contender.workers > 1 { self.cpus.clone() } else { vec![self.server_cpu] }
    }

    /// Whether a name passes the filters.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let wanted =
            self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part.as_str()));
        self.found.set(self.found.get() || wanted);
        wanted
    }

    /// Last thing in every `main`: saves the baseline. A filter that let nothing through is no
    /// error, as the same words go to all benches; it is said.
    pub(crate) fn end(&self) -> Result<(), String> {
        if !self.found.get() {
            println!("nothing here is named like {}", self.filters.join(", "));
        }
        self.baseline.write(!self.filters.is_empty())
    }
}

const FLAGS: [&str; 2] = ["--bench", "--test"];
const USAGE: &str = "[NAME…] [--test] [--save-baseline NAME] [--baseline NAME]";

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn facts(client_cpu: usize, server_cpu: usize, descriptors: u64) {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let command: Vec<String> = std::env::args().skip(1).collect();
    println!("Linux {}", read("/proc/sys/kernel/osrelease").trim());
    println!("CPU {}: client on {client_cpu}, servers on {server_cpu}", model.map_or("?", |m| m.1));
    println!("descriptors {descriptors}, load average {}", read("/proc/loadavg").trim());
    println!("arguments {}", command.join(" "));
    if client_cpu == server_cpu {
        println!("ONE CPU: client and server disturb each other");
    }
}

/// What one server did in one round.
pub(crate) struct Sample {
    /// Microseconds of CPU per request, of all processes and of the master alone.
    pub(crate) cpu: f64,
    master: f64,
    rate: f64,
    /// Of a paced plan, in nanoseconds, sorted.
    pub(crate) latencies: Vec<u64>,
    /// Of one answer.
    bytes: usize,
}

/// Measures the servers in turn, round by round, and prints a table. `Err`: something is broken.
pub(crate) fn run(
    settings: &Settings,
    ring: &mut Ring,
    scenario: &Scenario,
    contenders: &[Contender],
) -> Result<(), String> {
    let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..settings.rounds {
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            let sample = measure(settings, ring, scenario, *contender)
                .map_err(|error| format!("{}, {}: {error}", scenario.name, contender.name))?;
            samples.extend(sample);
        }
    }
    let differs = |(contender, own): (&Contender, &Vec<Sample>)| {
        !contender.foreign && own.first().is_some_and(|own| own.bytes != samples[0][0].bytes)
    };
    if contenders.iter().zip(&samples).any(differs) {
        return Err("the floor's answer must be as long as the engine's".to_owned());
    }
    println!("\n{} ({})", scenario.name, describe(scenario));
    println!(
        "  {:<12} {:>8} {:>15} {:>8} {:>8} {:>13} {:>10} {:>5} {:>6} {:>6}",
        "server",
        "µs/req",
        "min–max",
        "master",
        "×floor",
        "min–max",
        "req/s",
        "bytes",
        "p50",
        "p99"
    );
    for (contender, own) in contenders.iter().zip(&samples) {
        if !own.is_empty() {
            print_row(settings, scenario, contender.name, own, &samples[0]);
        } else if !scenario.centralized && contender.name != OTHER.name {
            println!("  {:<12} is not installed", contender.name);
        }
    }
    Ok(())
}

fn measure(
    settings: &Settings,
    ring: &mut Ring,
    scenario: &Scenario,
    contender: Contender,
) -> Result<Option<Sample>, String> {
    let Scenario { mut plan, centralized, defer, .. } = *scenario;
    if settings.test {
        plan.connections = plan.connections.min(500);
    }
    let setup = Setup { port: 0, centralized, close: plan.close, defer };
    let Some(server) = Server::start(contender, setup, &[settings.server_cpu])? else {
        return Ok(None);
    };
    let mut load = Load::connect(ring, server.port, plan)?;
    sample(settings, &server, &mut load).map(Some)
}

/// Warms up until each connection was answered twice, then measures.
pub(crate) fn sample(
    settings: &Settings,
    server: &Server,
    load: &mut Load<'_>,
) -> Result<Sample, String> {
    let mut answers = 0;
    while answers < 2 * load.connections() as u64 {
        answers += load.run(settings.time / 4)?.answers;
    }
    let (master, all) = server.cpu_time();
    let start = sys::now();
    let mut outcome = load.run(settings.time)?;
    while outcome.answers == 0 {
        outcome.add(load.run(settings.time)?); // a machine that had no time for us
    }
    let elapsed = Duration::from_nanos(sys::now() - start).as_secs_f64();
    let (master_after, all_after) = server.cpu_time();
    let count = outcome.answers as f64;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / count;
    let mut latencies = outcome.latencies;
    latencies.sort_unstable();
    Ok(Sample {
        cpu: micros(all_after.saturating_sub(all)),
        master: micros(master_after.saturating_sub(master)),
        rate: count / elapsed,
        latencies,
        bytes: load.answer_bytes(),
    })
}

fn describe(scenario: &Scenario) -> String {
    let Plan { connections, pipeline, close, rate, .. } = scenario.plan;
    let mut words = vec![format!("{connections} connections")];
    words.extend((pipeline > 1).then(|| format!("{pipeline} requests at once")));
    words.extend((rate > 0).then(|| format!("{rate} requests/s in all")));
    words.extend(close.then(|| "one request each".to_owned()));
    words.extend(scenario.centralized.then(|| "the master accepts and passes on".to_owned()));
    words.extend(scenario.defer.then(|| "TCP_DEFER_ACCEPT".to_owned()));
    words.join(", ")
}

fn print_row(
    settings: &Settings,
    scenario: &Scenario,
    name: &str,
    own: &[Sample],
    floor: &[Sample],
) {
    let (cpu, low, high) = spread(own.iter().map(|sample| sample.cpu));
    let (master, ..) = spread(own.iter().map(|sample| sample.master));
    let (rate, ..) = spread(own.iter().map(|sample| sample.rate));
    let (ratio, least, most) =
        spread(own.iter().zip(floor).map(|(own, floor)| own.cpu / floor.cpu));
    print!(
        "  {name:<12} {cpu:>8.3} {:>15} {:>8} {ratio:>8.3} {:>13} {rate:>10.0} {:>5}",
        format!("{low:.3}–{high:.3}"),
        if scenario.centralized { format!("{master:.3}") } else { "–".to_owned() },
        format!("{least:.3}–{most:.3}"),
        own[0].bytes
    );
    for percent in [50, 99] {
        let of = |sample: &Sample| percentile(&sample.latencies, percent);
        if let Some(values) = own.iter().map(of).collect::<Option<Vec<f64>>>() {
            print!(" {:>6.1}", spread(values.into_iter()).0);
        }
    }
    let cpus: Vec<f64> = own.iter().map(|sample| sample.cpu).collect();
    println!("  {}", settings.baseline.figure(&format!("{}/{name}/µs", scenario.name), &cpus));
}

/// In microseconds, by nearest rank.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map(|nanos| *nanos as f64 / 1e3)
}

/// Median, least and most.
pub(crate) fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
    (middle, values[0], values[values.len() - 1])
}
