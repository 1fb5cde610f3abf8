//! Answers of the control socket: one JSON line each. Pure.

use super::View;
use super::process::ProcessState;
use crate::master::Report;
use crate::master::answer::{Answer, Field};
use crate::stats::Counter;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The line for the end of a command, its end included.
#[must_use]
pub fn answer(answer: &Answer) -> String {
    let mut object = head(answer.ok, answer.code, answer.what, &answer.text);
    for (name, field) in &answer.fields {
        let value = match field {
            Field::Number(number) => (*number).into(),
            Field::Text(text) => text.as_str().into(),
            Field::List(list) => list.as_slice().into(),
        };
        object.insert((*name).to_owned(), value);
    }
    line(object)
}

/// The line for `status`.
#[must_use]
pub fn status(view: &View) -> String {
    let mut object = head(true, 0, "status", view.phase);
    object.extend(metrics_of(view));
    object.insert("addresses".to_owned(), view.addresses.as_slice().into());
    let workers = view.workers.iter().map(super::ProcessInfo::to_json).collect();
    object.insert("workers".to_owned(), Value::Array(workers));
    let slots = view.restarts.iter().map(super::SlotInfo::to_json).collect();
    object.insert("restarts".to_owned(), Value::Array(slots));
    line(object)
}

/// The line for `metrics`.
#[must_use]
pub fn metrics(view: &View) -> String {
    let mut object = head(true, 0, "metrics", view.phase);
    object.extend(metrics_of(view));
    line(object)
}

/// The line for `ledger`.
#[must_use]
pub fn ledger(report: &Report) -> String {
    let text = if report.balances() { "the books balance" } else { "the books do not balance" };
    let mut object = head(report.balances(), u8::from(!report.balances()), "ledger", text);
    object.insert("ledger".to_owned(), report_of(report));
    line(object)
}

/// The original's keys for both modes, and ours.
fn metrics_of(view: &View) -> Map<String, Value> {
    let workers = |state| (ProcessState::name(state).to_owned(), view.in_state(state).into());
    let states: Map<String, Value> = ProcessState::ALL.map(workers).into_iter().collect();
    let counters: Map<String, Value> = Counter::ALL
        .iter()
        .map(|counter| (counter.name().to_owned(), view.counter(*counter).into()))
        .collect();
    let metrics = json!({
        "architecture": view.architecture(),
        "balancer": view.balancer,
        "total_workers": view.slots,
        "active_workers": view.serving(),
        "alive_workers": view.alive(),
        "total_connections": view.report.accepted,
        "total_requests": view.counter(Counter::Requests),
        "queue_size": view.pending,
        "is_running": view.phase == "running",
        "is_ready": view.ready,
        "pid": view.pid,
        "epoch": view.epoch,
        "uptime": view.uptime.as_secs_f64(),
        "open_connections": view.report.open,
        "descriptors": { "before": view.descriptors.0, "limit": view.descriptors.1 },
        "strangers": view.strangers,
        "worker_states": states,
        "worker_ends": view.ends,
        "restart_storm": view.restart_storm,
        "counters": counters,
        "ledger": report_of(&view.report),
    });
    let Value::Object(object) = metrics else { return Map::new() };
    object
}

fn report_of(report: &Report) -> Value {
    let sum = |counts: &BTreeMap<&str, u64>| counts.values().sum::<u64>();
    json!({
        "accepted": report.accepted,
        "served": report.served,
        "refused": sum(&report.refused),
        "cut": sum(&report.cut),
        "open": report.open,
        "balances": report.balances(),
        "refused_by_reason": report.refused,
        "cut_by_reason": report.cut,
        "redispatched": report.redispatched,
        "rescued": report.rescued,
        "deaths": report.deaths,
        "killed": report.killed,
    })
}

fn head(ok: bool, code: u8, what: &str, text: &str) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("ok".to_owned(), ok.into());
    object.insert("code".to_owned(), code.into());
    object.insert("what".to_owned(), what.into());
    object.insert("text".to_owned(), text.into());
    object
}

fn line(object: Map<String, Value>) -> String {
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line_whatever_it_says() {
        let said = Answer::failed("reload", "a\nb\"\u{1b}")
            .with("pids", Field::List(vec!["1".to_owned(), "2".to_owned()]))
            .with("epoch", Field::Number(7))
            .with("why", Field::Text("x".to_owned()));
        let line = answer(&said);
        let want = "{\"code\":1,\"epoch\":7,\"ok\":false,\"pids\":[\"1\",\"2\"],\
                    \"text\":\"a\\nb\\\"\\u001b\",\"what\":\"reload\",\"why\":\"x\"}\n";
        assert_eq!(line, want);
    }

    #[test]
    fn metrics_have_every_key_of_the_original_in_both_modes() {
        let mut view = View::example();
        for (mode, name) in [
            (crate::config::Mode::Shared, "shared_socket"),
            (crate::config::Mode::Centralized, "centralized"),
        ] {
            view.mode = mode;
            let metrics: Value = serde_json::from_str(&metrics(&view)).unwrap();
            assert_eq!(metrics["architecture"], name);
            for (key, want) in [
                ("total_workers", 2),
                ("active_workers", 1),
                ("alive_workers", 2),
                ("total_connections", 9),
                ("total_requests", 10),
                ("queue_size", 0),
            ] {
                assert_eq!(metrics[key], want, "{key}");
            }
            assert_eq!(metrics["is_running"], true);
        }
    }

    #[test]
    fn status_has_every_worker_and_a_ledger_that_does_not_balance_fails() {
        let view = View::example();
        let status: Value = serde_json::from_str(&status(&view)).unwrap();
        assert_eq!(status["workers"].as_array().map(Vec::len), Some(2));
        assert_eq!(status["workers"][0]["state"], "busy");
        let good: Value = serde_json::from_str(&ledger(&view.report)).unwrap();
        assert_eq!((&good["code"], &good["ledger"]["refused"]), (&json!(0), &json!(1)));
        let bad = Report { accepted: 1, ..Report::default() };
        let bad: Value = serde_json::from_str(&ledger(&bad)).unwrap();
        assert_eq!((&bad["code"], &bad["ok"]), (&json!(1), &json!(false)));
    }
}
