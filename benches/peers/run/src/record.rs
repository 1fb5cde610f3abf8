//! The record: tables of medians with their spread, where a peer is better, and the raw figures.

use crate::peers::{FLOOR, OURS};
use crate::scenario::{Sample, Scenario};

/// All rounds of one server in one scenario; `Err`: why there are none.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) samples: Result<Vec<Sample>, String>,
}

/// What is shown of a server; of all but the rate, less is better.
const COLUMNS: [(&str, fn(&Sample) -> f64, bool); 5] = [
    ("CPU µs/request", |sample| sample.cpu, false),
    ("requests/s", |sample| sample.rate, true),
    ("p50 µs", |sample| sample.p50, false),
    ("p99 µs", |sample| sample.p99, false),
    ("memory MiB", |sample| sample.memory as f64 / f64::from(1 << 20), false),
];

/// Median, least and most.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (last, at) = (values.len() - 1, (values.len() - 1) / 2);
    (f64::midpoint(values[at], values[values.len() / 2]), values[0], values[last])
}

pub(crate) fn table(scenario: &Scenario, rows: &[Row]) -> String {
    let mut text = format!("## {}\n\n{}.\n\n", scenario.name, scenario.about);
    text += "| server | CPU µs/request | min–max | × floor | requests/s | min–max | p50 µs | p99 µs \
             | memory MiB | client CPU µs | |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
    let cpu = |row: &Row| row.samples.as_ref().ok().map(|all| spread(all.iter().map(|s| s.cpu)).0);
    let floor = rows.iter().find(|row| row.name == FLOOR).and_then(cpu);
    for row in rows {
        let samples = match &row.samples {
            Ok(samples) => samples,
            Err(why) => {
                let why = why.lines().next().unwrap_or_default();
                text += &format!("| {} | – | – | – | – | – | – | – | – | – | {why} |\n", row.name);
                continue;
            }
        };
        let of = |column: fn(&Sample) -> f64| spread(samples.iter().map(column));
        let (cpu, least, most) = of(|sample| sample.cpu);
        let (rate, slowest, fastest) = of(|sample| sample.rate);
        let ratio = floor.map_or("–".to_owned(), |floor| format!("{:.2}", cpu / floor));
        let mut reasons: Vec<&str> = samples.iter().flat_map(|s| s.reasons.clone()).collect();
        let count = reasons.len();
        reasons.sort_unstable();
        reasons.dedup();
        let note =
            if count == 0 { String::new() } else { format!("{} ({count})", reasons.join(" ")) };
        text += &format!(
            "| {} | {cpu:.2} | {least:.2}–{most:.2} | {ratio} | {rate:.0} | {slowest:.0}–{fastest:.0} \
             | {:.0} | {:.0} | {:.1} | {:.2} | {note} |\n",
            row.name,
            of(COLUMNS[2].1).0,
            of(COLUMNS[3].1).0,
            of(COLUMNS[4].1).0,
            of(|sample| sample.client_cpu).0,
        );
    }
    text + "\n"
}

/// Where a peer's median is better than ours by more than both spreads.
pub(crate) fn better(scenario: &Scenario, rows: &[Row]) -> String {
    let samples =
        |row: &Row| row.samples.as_ref().ok().filter(|samples| !samples.is_empty()).is_some();
    let Some(ours) = rows.iter().find(|row| row.name == OURS && samples(row)) else {
        return String::new();
    };
    let mut text = String::new();
    for row in rows.iter().filter(|row| row.name != FLOOR && !row.name.starts_with(OURS)) {
        let (Ok(own), Ok(theirs)) = (&ours.samples, &row.samples) else { continue };
        for (name, column, more_is_better) in COLUMNS {
            let (own, least, most) = spread(own.iter().map(column));
            let (median, low, high) = spread(theirs.iter().map(column));
            if if more_is_better { low > most } else { high < least } {
                let part = 100.0 * (median / own - 1.0);
                text += &format!("- {}: {} {name} {part:+.0} %\n", scenario.name, row.name);
            }
        }
    }
    text
}

pub(crate) fn raw(scenario: &Scenario, rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        match &row.samples {
            Err(why) => text += &format!("{}, {}: {why}\n", scenario.name, row.name),
            Ok(samples) => {
                for (name, column, _) in COLUMNS {
                    let values: Vec<String> =
                        samples.iter().map(|sample| format!("{:.2}", column(sample))).collect();
                    text +=
                        &format!("{}, {}, {name}: {}\n", scenario.name, row.name, values.join(" "));
                }
            }
        }
    }
    text
}
