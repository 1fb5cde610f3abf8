//! `/metrics`: the text format of Prometheus, version 0.0.4. Pure.

use super::View;
use super::process::ProcessState;
use crate::stats::Counter;
use std::fmt::{Display, Write};

/// Everything that [`View`] knows.
#[must_use]
pub(super) fn text(view: &View) -> String {
    let mut out = String::new();
    let report = &view.report;
    gauge(&mut out, "up", "The master answers.", &[("", 1)]);
    gauge(&mut out, "ready", "Whether the pool serves.", &[("", u64::from(view.ready))]);
    let uptime = view.uptime.as_secs_f64();
    family(&mut out, "uptime_seconds", "gauge", "Since the master began.", &[("", uptime)]);
    gauge(&mut out, "epoch", "Which reload the pool is at.", &[("", u64::from(view.epoch))]);
    gauge(&mut out, "slots", "Slots that are to be filled.", &[("", u64::from(view.slots))]);
    let states =
        ProcessState::ALL.map(|state| (label("state", state.name()), view.in_state(state)));
    gauge(&mut out, "workers", "Workers by state.", &states);
    gauge(&mut out, "pending_connections", "Waiting for a worker.", &[("", view.pending)]);
    gauge(&mut out, "open_connections", "Waiting, in transit or open.", &[("", report.open)]);
    let limit = [("", view.descriptors.1)];
    gauge(&mut out, "descriptors_limit", "RLIMIT_NOFILE, as far as it was raised.", &limit);
    counter(&mut out, "connections_accepted", "Connections accepted.", &[("", report.accepted)]);
    counter(&mut out, "connections_served", "Ended as they should.", &[("", report.served)]);
    let by = |counts: &std::collections::BTreeMap<&str, u64>| -> Vec<(String, u64)> {
        counts.iter().map(|(reason, count)| (label("reason", reason), *count)).collect()
    };
    counter(&mut out, "connections_refused", "Told that we would not.", &by(&report.refused));
    counter(&mut out, "connections_cut", "Ended in the middle.", &by(&report.cut));
    let moved = [("", report.redispatched)];
    counter(&mut out, "connections_redispatched", "A dead worker's, given to others.", &moved);
    let saved = [("", report.rescued)];
    counter(&mut out, "connections_rescued", "A hung worker's, given to others.", &saved);
    counter(&mut out, "worker_deaths", "Workers that ended.", &[("", report.deaths)]);
    counter(&mut out, "worker_ends", "Workers that ended, by reason.", &by(&view.ends));
    restarts(&mut out, view);
    counter(&mut out, "worker_kills", "Workers that the master killed.", &[("", report.killed)]);
    counter(&mut out, "strangers", "Control visits turned away.", &[("", view.strangers)]);
    for one in Counter::ALL {
        counter(&mut out, one.name(), one.meaning(), &[("", view.counter(*one))]);
    }
    per_worker(&mut out, view);
    out
}

/// What slots have been through.
fn restarts(out: &mut String, view: &View) {
    let slots = &view.restarts;
    let boots: u64 = slots.iter().map(|slot| slot.boot_failures).sum();
    let crashes: u64 = slots.iter().map(|slot| slot.crashes).sum();
    let rows = [("{after=\"fork\"}", boots), ("{after=\"ready\"}", crashes)];
    counter(out, "worker_failures", "Workers that ended by themselves.", &rows);
    let storm = [("", u64::from(view.restart_storm))];
    gauge(out, "restart_storm", "Whether workers end too often.", &storm);
    let left = |slot: &super::SlotInfo| slot.back_off.map_or(0.0, |left| left.as_secs_f64());
    let rows: Vec<_> = slots.iter().map(|slot| (label("slot", slot.slot), left(slot))).collect();
    let help = "How long a slot stays empty yet, because its workers fail.";
    family(out, "worker_back_off_seconds", "gauge", help, &rows);
}

/// Successive lives of a slot share its series; while it has two at a time, they add up.
fn per_worker(out: &mut String, view: &View) {
    let mut slots: Vec<(u32, [u64; 3])> = Vec::new();
    for worker in &view.workers {
        let values = [worker.connections, worker.total_requests, worker.memory_usage];
        match slots.iter_mut().find(|(slot, _)| *slot == worker.worker_id) {
            Some((_, sums)) => sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
            None => slots.push((worker.worker_id, values)),
        }
    }
    for (index, (name, help)) in [
        ("worker_connections", "Connections open in a slot's workers."),
        ("worker_requests", "Requests read by a slot's workers that live."),
        ("worker_memory_bytes", "Bytes resident in a slot's workers."),
    ]
    .into_iter()
    .enumerate()
    {
        let rows: Vec<_> =
            slots.iter().map(|(slot, values)| (label("slot", slot), values[index])).collect();
        gauge(out, name, help, &rows);
    }
}

/// All label values are words of ours and numbers: nothing is to be escaped.
fn label(name: &str, value: impl Display) -> String {
    format!("{{{name}=\"{value}\"}}")
}

fn gauge<L: AsRef<str>>(out: &mut String, name: &str, help: &str, rows: &[(L, u64)]) {
    family(out, name, "gauge", help, rows);
}

fn counter<L: AsRef<str>>(out: &mut String, name: &str, help: &str, rows: &[(L, u64)]) {
    family(out, &format!("{name}_total"), "counter", help, rows);
}

fn family<L: AsRef<str>, V: Display>(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    rows: &[(L, V)],
) {
    // Writing to a text cannot fail.
    let _ = writeln!(out, "# HELP ringfort_{name} {help}\n# TYPE ringfort_{name} {kind}");
    for (labels, value) in rows {
        let _ = writeln!(out, "ringfort_{name}{} {value}", labels.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_text_is_what_a_scraper_reads() {
        let text = text(&View::example());
        let mut families = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(families.insert(name.to_owned()), "{name} twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                assert!(families.contains(name), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        for line in [
            "ringfort_ready 1",
            "ringfort_uptime_seconds 3.5",
            "ringfort_workers{state=\"busy\"} 1",
            "ringfort_connections_refused_total{reason=\"pending_max\"} 1",
            "ringfort_worker_ends_total{reason=\"exit_code\"} 3",
            "ringfort_worker_failures_total{after=\"fork\"} 2",
            "ringfort_worker_failures_total{after=\"ready\"} 1",
            "ringfort_restart_storm 1",
            "ringfort_worker_back_off_seconds{slot=\"1\"} 0.25",
            "ringfort_requests_total 10",
            "ringfort_worker_connections{slot=\"0\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert_eq!(
            Counter::ALL.iter().filter(|c| text.contains(c.name())).count(),
            Counter::ALL.len()
        );
    }
}
