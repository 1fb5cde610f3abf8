//! `ringfort compare A B`: is B slower than A, by more than A differs from itself? Rounds of A, A
//! again and B, each a server started anew, so that where a process happens to lie in memory is
//! noise and not a difference.

use super::bench::{Bench, Format};
use super::bench_run::{Split, Watcher, failed, plan};
use ringfort::load::paired::{Difference, ROUNDS_MIN, Round, Verdict, judge, middle};
use ringfort::load::{Go, Reason, Report, Server};
use ringfort::sys::process;
use ringfort::{Error, ErrorKind};
use serde_json::{Value, json};

/// What is measured of each side.
struct Figure {
    name: &'static str,
    unit: &'static str,
    of: fn(&Report) -> f64,
    /// More of it is better.
    more_is_better: bool,
    /// It says nothing when the client was the limit.
    by_the_client: bool,
}

const FIGURES: [Figure; 4] = [
    Figure {
        name: "server CPU a request",
        unit: "µs",
        of: |report| report.server_cpu_per_reply().map_or(0.0, |time| time.as_secs_f64() * 1e6),
        more_is_better: false,
        by_the_client: false,
    },
    Figure {
        name: "requests a second",
        unit: "",
        of: Report::rate,
        more_is_better: true,
        by_the_client: true,
    },
    Figure {
        name: "p50",
        unit: "µs",
        of: |report| report.latency_at(0.5).as_secs_f64() * 1e6,
        more_is_better: false,
        by_the_client: true,
    },
    Figure {
        name: "p99",
        unit: "µs",
        of: |report| report.latency_at(0.99).as_secs_f64() * 1e6,
        more_is_better: false,
        by_the_client: true,
    },
];

/// The three of a round: A, A again, B.
type Reports = [Vec<Report>; 3];

/// `ringfort compare`: the text, and the code to end with.
pub(super) fn run(bench: &Bench) -> Result<(String, u8), Error> {
    let split = Split::of_machine();
    // Before the first server, so that all inherit the same.
    process::raise_nofile().map_err(|failed| failed.error("RLIMIT_NOFILE"))?;
    let mut watcher = Watcher::new(bench.quiet)?;
    let measured = measure(bench, &split, &mut watcher);
    watcher.end();
    let (reports, stopped) = measured?;
    let rows = rows(&reports);
    let reasons = reasons(&reports);
    let is_worse = |row: &Row| row.says() == Says::Worse;
    let code = match (stopped, reasons.is_empty()) {
        (true, _) => Report::EXIT_INTERRUPTED,
        (false, false) => Report::EXIT_INVALID,
        (false, true) if rows.iter().any(is_worse) => Report::EXIT_GATE,
        (false, true) => Report::EXIT_OK,
    };
    let text = match bench.format {
        Format::Json => in_json(bench, &rows, &reasons),
        Format::Text | Format::Markdown | Format::Csv | Format::Html => {
            in_text(bench, &rows, &reasons)
        }
    };
    Ok((text, code))
}

fn measure(bench: &Bench, split: &Split, watcher: &mut Watcher) -> Result<(Reports, bool), Error> {
    let [a, b] = bench.sides.as_slice() else { return Err(failed("two sides")) };
    let mut reports = Reports::default();
    for round in 0..bench.rounds.unwrap_or(ROUNDS) as usize {
        for turn in 0..3 {
            // Nobody is always first, and nobody always follows the same.
            let turn = if round % 2 == 0 { turn } else { 2 - turn };
            let at = (turn + round / 2) % 3;
            let side = if at == 2 { b } else { a };
            let report = once(bench, split, side, watcher)
                .map_err(|error| Error::new(error.kind(), format!("{side:?}: {}", error.what())))?;
            match report {
                Some(report) if !report.interrupted => reports[at].push(report),
                Some(_) | None => return Ok((reports, true)),
            }
        }
    }
    Ok((reports, false))
}

const ROUNDS: u32 = 25;

/// `None`: interrupted before there was anything to measure.
fn once(
    bench: &Bench,
    split: &Split,
    side: &str,
    watcher: &mut Watcher,
) -> Result<Option<Report>, Error> {
    let is_url = side.starts_with("http://") || side.starts_with("unix:");
    let (_server, mut plan) = if is_url {
        (None, plan(bench, side)?)
    } else {
        if !side.contains("{port}") {
            let what = "no URL, and no command with {port} where the port belongs";
            return Err(Error::new(ErrorKind::Config, what));
        }
        let words: Vec<String> = side.split_whitespace().map(String::from).collect();
        let mut go = Go::On;
        let mut watch = || {
            go = watcher.interrupted();
            go
        };
        let server = Server::command(&words, 0, &split.server, &mut watch);
        if go == Go::Stop {
            return Ok(None);
        }
        let server = server?;
        let plan = plan(bench, &server.url())?.server_pid(server.pid());
        (Some(server), plan)
    };
    if bench.cpus.is_empty() {
        plan = plan.cpus(&split.client);
    }
    plan.run_watched(&mut |live| watcher.look(live)).map(Some)
}

fn is_of_the_client(reason: &Reason) -> bool {
    matches!(reason, Reason::ClientBound(_) | Reason::Lagging(_))
}

/// Why there can be no verdict at all.
fn reasons(reports: &Reports) -> Vec<String> {
    let mut reasons = Vec::new();
    for (side, reports) in ["A", "A again", "B"].into_iter().zip(reports) {
        let failed: u64 = reports.iter().map(Report::failed).sum();
        if failed > 0 {
            reasons.push(format!("{side}: {failed} requests failed"));
        }
        let others = reports.iter().flat_map(|report| &report.reasons);
        let mut others: Vec<String> = others
            .filter(|reason| !is_of_the_client(reason))
            .map(|reason| format!("{side}: {}", reason.code()))
            .collect();
        others.dedup();
        reasons.append(&mut others);
    }
    reasons
}

/// One figure, judged.
struct Row {
    figure: &'static Figure,
    medians: [f64; 3],
    rounds: Vec<Round>,
    difference: Option<Difference>,
    /// The client was the limit too often.
    client_was_limit: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Worse,
    Better,
    Nothing,
}

fn rows(reports: &Reports) -> Vec<Row> {
    let all = || reports.iter().flatten();
    let limited = all().filter(|report| report.reasons.iter().any(is_of_the_client)).count();
    let too_often = limited * 10 > all().count();
    let row = |figure: &'static Figure| {
        let [a, again, b] = reports.each_ref().map(|side| side.iter().map(figure.of));
        let rounds: Vec<Round> =
            a.zip(again).zip(b).map(|((a, again), b)| Round { a, again, b }).collect();
        let median = |of: fn(&Round) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            middle(&values)
        };
        let medians =
            [median(|round| round.a), median(|round| round.again), median(|round| round.b)];
        let client_was_limit = figure.by_the_client && too_often;
        let difference = judge(&rounds).filter(|_| !client_was_limit);
        Row { figure, medians, rounds, difference, client_was_limit }
    };
    // Without a pid there is no CPU time.
    FIGURES.iter().map(row).filter(|row| row.medians[0] > 0.0).collect()
}

impl Row {
    fn says(&self) -> Says {
        match self.difference.map_or(Verdict::None, |difference| difference.verdict) {
            Verdict::None => Says::Nothing,
            Verdict::Higher if self.figure.more_is_better => Says::Better,
            Verdict::Lower if !self.figure.more_is_better => Says::Better,
            Verdict::Higher | Verdict::Lower => Says::Worse,
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.difference, self.client_was_limit, self.says()) {
            (_, true, _) => "the client was the limit",
            (None, _, _) => "too few rounds",
            (_, _, Says::Worse) => "B is worse",
            (_, _, Says::Better) => "B is better",
            (_, _, Says::Nothing) => "no verdict",
        }
    }
}

fn in_json(bench: &Bench, rows: &[Row], reasons: &[String]) -> String {
    let figure = |row: &Row| {
        let values = |of: fn(&Round) -> f64| row.rounds.iter().map(of).collect::<Vec<f64>>();
        json!({
            "name": row.figure.name,
            "unit": row.figure.unit,
            "a": values(|round| round.a),
            "a_again": values(|round| round.again),
            "b": values(|round| round.b),
            "change": row.difference.map(|difference| difference.change),
            "between": row.difference.map(|difference| [difference.between.0, difference.between.1]),
            "noise_floor": row.difference.map(|difference| difference.floor),
            "rounds_higher": row.difference.map(|difference| difference.higher),
            "verdict": row.verdict(),
        })
    };
    let figures: Vec<Value> = rows.iter().map(figure).collect();
    let value = json!({
        "schema": "ringfort-compare/1",
        "a": bench.sides.first(),
        "b": bench.sides.last(),
        "rounds_min": ROUNDS_MIN,
        "figures": figures,
        "reasons": reasons,
    });
    format!("{value:#}\n")
}

fn in_text(bench: &Bench, rows: &[Row], reasons: &[String]) -> String {
    let [a, b] = [bench.sides.first(), bench.sides.last()].map(|side| side.map_or("", |s| s));
    let mut text = format!(
        "A: {a}\nB: {b}\n\n\
         | median of the rounds | A | A again | B | change | between | noise floor | higher | |\n\
         |---|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let Row { figure, medians: [a, again, b], .. } = row;
        let name = format!("{} {}", figure.name, figure.unit);
        text += &format!("| {} | {a:.2} | {again:.2} | {b:.2} | ", name.trim_end());
        text += &match row.difference {
            Some(Difference { change, between: (low, high), floor, higher, rounds, .. }) => {
                let [change, low, high, floor] =
                    [change, low, high, floor].map(|part| 100.0 * part);
                format!(
                    "{change:+.1} % | {low:+.1} to {high:+.1} % | ±{floor:.1} % | \
                     {higher} of {rounds} | "
                )
            }
            None => "– | – | – | – | ".to_owned(),
        };
        text += &format!("{} |\n", row.verdict());
    }
    for reason in reasons {
        text += &format!("invalid: {reason}\n");
    }
    text
}
