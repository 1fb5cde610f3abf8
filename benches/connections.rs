//! What an idle keep-alive connection costs: memory of the server's processes, and the work of 64
//! busy ones beside 10,000 idle ones. `cargo bench --bench connections [-- NAME…]`;
//! `ROUNDS=5 SECONDS=2`; `--save-baseline NAME`, `--baseline NAME`.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use support::ends;
use support::rounds::{Settings, spread};
use support::server::{Contender, ENGINE, FLOOR, NGINX, Server, Setup, WORKER, WORKER_HTTP};

/// What one server did in one round.
struct Idle {
    /// Bytes of user memory per idle connection.
    bytes: f64,
    /// Microseconds of CPU per request of the busy ones, without and with idle ones beside them.
    alone: f64,
    beside: f64,
}

fn main() -> Result<(), String> {
    if support::has_served() {
        return Ok(());
    }
    let settings = Settings::start()?;
    let idle = if settings.test { 200 } else { 9_900 };
    println!("\n{idle} idle connections, 64 busy ones");
    println!(
        "  {:<12} {:>10} {:>15} {:>10} {:>10} {:>8} {:>13}",
        "server", "bytes each", "min–max", "µs alone", "µs beside", "×alone", "min–max"
    );
    for contender in [FLOOR, WORKER, WORKER_HTTP, ENGINE, NGINX] {
        if !settings.wants(contender.name) {
            continue;
        }
        let mut rounds = Vec::new();
        for _ in 0..settings.rounds {
            let round = measure(&settings, contender, idle)
                .map_err(|error| format!("{}: {error}", contender.name))?;
            rounds.extend(round);
        }
        if !rounds.is_empty() {
            print_row(&settings, contender.name, &rounds);
        }
    }
    settings.end()
}

fn measure(settings: &Settings, contender: Contender, idle: usize) -> Result<Option<Idle>, String> {
    let Some(server) = Server::start(contender, Setup::default(), &[settings.server_cpu])? else {
        return Ok(None);
    };
    let busy = || {
        let report = ends::plan(settings, &server)?.run().map_err(|error| error.to_string())?;
        if report.tally.answered == 0 || report.failed() > 0 {
            return Err(report.text());
        }
        Ok(ends::CPU.1(&report))
    };
    let alone = busy()?;
    let before = server.memory();
    let open = (0..idle).map(|_| asked_once(server.port)).collect::<Result<Vec<_>, _>>();
    let open = open.map_err(|error| format!("an idle connection: {error}"))?;
    let grown = server.memory().saturating_sub(before);
    let beside = busy()?;
    // The server first, so that no port of ours has to wait.
    drop((server, open));
    Ok(Some(Idle { bytes: grown as f64 / idle as f64, alone, beside }))
}

/// A connection that was answered and stays.
fn asked_once(port: u16) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n")?;
    match stream.read(&mut [0; 1024])? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(stream),
    }
}

fn print_row(settings: &Settings, name: &str, rounds: &[Idle]) {
    let (bytes, low, high) = spread(rounds.iter().map(|round| round.bytes));
    let (alone, ..) = spread(rounds.iter().map(|round| round.alone));
    let (beside, ..) = spread(rounds.iter().map(|round| round.beside));
    let (ratio, least, most) = spread(rounds.iter().map(|round| round.beside / round.alone));
    let note = |figure: &str, of: fn(&Idle) -> f64| {
        let values: Vec<f64> = rounds.iter().map(of).collect();
        settings.baseline.figure(&format!("{name}/{figure}"), &values)
    };
    let changes = [
        note("bytes each", |round| round.bytes),
        note("µs alone", |round| round.alone),
        note("µs beside", |round| round.beside),
    ];
    println!(
        "  {name:<12} {bytes:>10.0} {:>15} {alone:>10.3} {beside:>10.3} {ratio:>8.3} {:>13}  {}",
        format!("{low:.0}–{high:.0}"),
        format!("{least:.3}–{most:.3}"),
        changes.join(" ")
    );
}
