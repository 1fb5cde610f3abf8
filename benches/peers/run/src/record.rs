//! The record: tables of medians with their spread, where a peer is better, and the raw figures.

use crate::peers::{FLOOR, OURS};
use crate::scenario::{Sample, Scenario};

/// All rounds of one server in one scenario.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) samples: Vec<Sample>,
    /// Why it is not asked.
    pub(crate) refused: Option<&'static str>,
    /// Rounds that gave no figures.
    pub(crate) failures: Vec<String>,
}

impl Row {
    /// What there is against its figures, or instead of them.
    fn note(&self) -> String {
        let mut reasons: Vec<&str> = self.samples.iter().flat_map(|s| s.reasons.clone()).collect();
        let count = reasons.len();
        reasons.sort_unstable();
        reasons.dedup();
        let mut parts: Vec<String> = self.refused.map(str::to_owned).into_iter().collect();
        parts.extend((count > 0).then(|| format!("{} ({count})", reasons.join(" "))));
        let first_line = |why: &String| format!("failed in {}", why.lines().next().unwrap_or(""));
        parts.extend(self.failures.iter().map(first_line));
        parts.join("; ")
    }

    /// In at least one round the client was the limit, or late.
    fn client_was_limit(&self) -> bool {
        self.samples.iter().any(|sample| !sample.reasons.is_empty())
    }
}

/// What is shown of a server.
struct Column {
    name: &'static str,
    of: fn(&Sample) -> f64,
    more_is_better: bool,
    /// It says nothing of a server when the client was the limit.
    by_the_client: bool,
}

const fn column(name: &'static str, by_the_client: bool, of: fn(&Sample) -> f64) -> Column {
    Column { name, of, more_is_better: false, by_the_client }
}

const COLUMNS: [Column; 5] = [
    column("CPU µs/request", false, |sample| sample.cpu),
    Column { more_is_better: true, ..column("requests/s", true, |sample| sample.rate) },
    column("p50 µs", true, |sample| sample.p50),
    column("p99 µs", true, |sample| sample.p99),
    column("memory MiB", false, |sample| sample.memory as f64 / f64::from(1 << 20)),
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
    let cpu = |row: &Row| {
        (!row.samples.is_empty()).then(|| spread(row.samples.iter().map(|sample| sample.cpu)).0)
    };
    let floor = rows.iter().find(|row| row.name == FLOOR).and_then(cpu);
    for row in rows {
        let note = row.note();
        if row.samples.is_empty() {
            text += &format!("| {} | – | – | – | – | – | – | – | – | – | {note} |\n", row.name);
            continue;
        }
        let of = |column: fn(&Sample) -> f64| spread(row.samples.iter().map(column));
        let (cpu, least, most) = of(|sample| sample.cpu);
        let (rate, slowest, fastest) = of(|sample| sample.rate);
        let ratio = floor.map_or("–".to_owned(), |floor| format!("{:.2}", cpu / floor));
        text += &format!(
            "| {} | {cpu:.2} | {least:.2}–{most:.2} | {ratio} | {rate:.0} | {slowest:.0}–{fastest:.0} \
             | {:.0} | {:.0} | {:.1} | {:.2} | {note} |\n",
            row.name,
            of(COLUMNS[2].of).0,
            of(COLUMNS[3].of).0,
            of(COLUMNS[4].of).0,
            of(|sample| sample.client_cpu).0,
        );
    }
    text + "\n"
}

/// Where a peer's median is better than ours by more than both spreads. Where the client was the
/// limit of either, its figures are not held against each other.
pub(crate) fn better(scenario: &Scenario, rows: &[Row]) -> String {
    let has_figures = |row: &&Row| !row.samples.is_empty();
    let Some(ours) = rows.iter().filter(has_figures).find(|row| row.name == OURS) else {
        return String::new();
    };
    let mut text = String::new();
    let others = rows.iter().filter(|row| row.name != FLOOR && !row.name.starts_with(OURS));
    for row in others.filter(has_figures) {
        let limited = ours.client_was_limit() || row.client_was_limit();
        let mut words = Vec::new();
        for Column { name, of, more_is_better, by_the_client } in COLUMNS {
            if by_the_client && limited {
                continue;
            }
            let (own, least, most) = spread(ours.samples.iter().map(of));
            let (median, low, high) = spread(row.samples.iter().map(of));
            if if more_is_better { low > most } else { high < least } {
                let part = 100.0 * (median / own - 1.0);
                words.push(format!("{name} {part:+.0} %"));
            }
        }
        if !words.is_empty() {
            text += &format!("- {}: {}: {}\n", scenario.name, row.name, words.join(", "));
        }
    }
    text
}

pub(crate) fn raw(scenario: &Scenario, rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let head = format!("{}, {}", scenario.name, row.name);
        let why = row.refused.into_iter().chain(row.failures.iter().map(String::as_str));
        why.for_each(|why| text += &format!("{head}: {why}\n"));
        for Column { name, of, .. } in COLUMNS.iter().filter(|_| !row.samples.is_empty()) {
            let values: Vec<String> =
                row.samples.iter().map(|sample| format!("{:.2}", of(sample))).collect();
            text += &format!("{head}, {name}: {}\n", values.join(" "));
        }
    }
    text
}
