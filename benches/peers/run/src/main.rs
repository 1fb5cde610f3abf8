//! Measures ringfort, the floor and the peers, interleaved, and writes a record of it.
//!
//! `peers-run RECORD [NAME…]`: only peers and scenarios whose names contain one of these.
//! `ROUNDS=3 EACH=1` (seconds of each measurement).

mod peers;
mod record;
mod scenario;

use peers::{FLOOR, OURS, PEERS, Peer, first_line};
use record::Row;
use scenario::{CLIENT_CPU, SCENARIOS, SERVER_CPU, Scenario};
use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

fn main() -> Result<(), String> {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().ok_or("peers-run RECORD [NAME…]")?;
    let names: Vec<String> = arguments.collect();
    let rounds = number("ROUNDS", 3.0).clamp(1.0, 100.0) as usize;
    let each = Duration::from_secs_f64(number("EACH", 1.0).clamp(0.05, 60.0));
    ringfort::sys::process::raise_nofile().map_err(|failed| format!("descriptors: {failed:?}"))?;
    let scratch = env::temp_dir().join(format!("ringfort-peers-{}", std::process::id()));
    fs::create_dir_all(&scratch).map_err(|error| error.to_string())?;
    let text = run(&names, rounds, each, &scratch);
    let removed = fs::remove_dir_all(&scratch);
    fs::write(&path, text).and(removed).map_err(|error| format!("{path}: {error}"))?;
    eprintln!("\nwritten to {path}");
    Ok(())
}

fn number(name: &str, default: f64) -> f64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(names: &[String], rounds: usize, each: Duration, scratch: &Path) -> String {
    let wanted = |text: &str| names.iter().any(|name| text.contains(name.as_str()));
    let scenarios: Vec<&Scenario> = match SCENARIOS.iter().any(|scenario| wanted(scenario.name)) {
        true => SCENARIOS.iter().filter(|scenario| wanted(scenario.name)).collect(),
        false => SCENARIOS.iter().collect(),
    };
    let always = |peer: &&Peer| [FLOOR, OURS].contains(&peer.name) || wanted(peer.name);
    let peers: Vec<&Peer> = match PEERS.iter().any(|peer| wanted(peer.name)) {
        true => PEERS.iter().filter(always).collect(),
        false => PEERS.iter().collect(),
    };
    let start = Instant::now();
    let head = head(&peers, scratch, rounds, each);
    let (mut tables, mut better, mut raw) = (String::new(), String::new(), String::new());
    for scenario in scenarios {
        let rows = interleaved(scenario, &peers, rounds, each, scratch);
        let table = record::table(scenario, &rows);
        eprint!("\n{table}");
        tables += &table;
        better += &record::better(scenario, &rows);
        raw += &record::raw(scenario, &rows);
    }
    if better.is_empty() {
        better = "Nowhere by more than the spread of both.\n".to_owned();
    }
    format!(
        "{head}\n{tables}## Where a peer is better than ringfort\n\nBy more than the spread of both \
         (its median to ours); not where the client was the limit:\n\n{better}\n\
         ## Raw figures\n\nRound by round; it took {} s.\n\n\
         ```\n{raw}```\n",
        start.elapsed().as_secs()
    )
}

/// A B C, B C A, …: what disturbs the machine disturbs all alike. Who failed twice is not asked
/// again; what it did before stays.
fn interleaved(
    scenario: &Scenario,
    peers: &[&Peer],
    rounds: usize,
    each: Duration,
    scratch: &Path,
) -> Vec<Row> {
    let row = |peer: &&Peer| Row {
        name: peer.name,
        samples: Vec::new(),
        refused: scenario.refused(peer),
        failures: Vec::new(),
    };
    let mut rows: Vec<Row> = peers.iter().map(row).collect();
    for round in 0..rounds {
        for turn in 0..peers.len() {
            let at = (turn + round) % peers.len();
            let row = &mut rows[at];
            if row.refused.is_some() || row.failures.len() > 1 {
                continue;
            }
            eprint!(
                "\r\x1b[K{}, round {} of {rounds}: {}",
                scenario.name,
                round + 1,
                peers[at].name
            );
            match scenario.measure(peers[at], scratch, each) {
                Ok(sample) => row.samples.push(sample),
                Err(why) => row.failures.push(format!("round {}: {why}", round + 1)),
            }
        }
    }
    rows
}

fn head(peers: &[&Peer], scratch: &Path, rounds: usize, each: Duration) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let output = |program: &str, argument| first_line(program, argument).unwrap_or_else(|why| why);
    let mut text = format!(
        "# ringfort and its peers\n\n- {} CPUs: {}\n- Linux {}; {}; load before: {}\n\
         - each server has one worker on CPU {SERVER_CPU}, the client (ours, one thread) CPU \
         {CLIENT_CPU}; loopback\n- `ROUNDS={rounds} EACH={} scripts/peers.sh`: medians of {rounds} \
         interleaved rounds; each server is started anew for each, its answer is checked first, \
         then every answer that is counted\n- CPU: user and system time of all processes of a \
         server, ended children too, for each answer\n- all built in one workspace: fat LTO, one \
         codegen unit, panic=abort\n\n| server | version | started by |\n|---|---|---|\n",
        info.matches("processor\t").count(),
        model.map_or("?", |(_, model)| model),
        read("/proc/sys/kernel/osrelease").trim(),
        output("rustc", "--version"),
        read("/proc/loadavg").trim(),
        each.as_secs_f64(),
    );
    for peer in peers {
        let version = peer.version().unwrap_or_else(|why| why);
        let words = peer.words(scratch, 0, false);
        let words = words.map_or_else(|why| why, |words| format!("`{}`", words.join(" ")));
        // What is only of this machine does not belong into a record.
        let mut words = words.replace(&scratch.display().to_string(), "SCRATCH");
        let built = env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
        for folder in built.into_iter().chain([peers::folder()]) {
            words = words.replace(&format!("{}/", folder.display()), "");
        }
        text += &format!("| {} | {version} | {words} |\n", peer.name);
    }
    text
}
