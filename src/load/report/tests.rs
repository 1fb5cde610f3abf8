//! Reports of a made-up run, in every form.

use super::*;
use crate::load::tally::{Connections, Failure, micros, nanos};
use crate::load::{Arrivals, Gates, Slo};
use serde_json::Value;

/// 1,000 requests in two seconds: one timed out, two had another status.
fn report(change: impl FnOnce(&mut Tally)) -> Report {
    let slo = Slo { quantile: 0.99, max: Duration::from_millis(5) };
    let pace = Pace::Open { arrivals: Arrivals::Constant, from: 500.0, to: 500.0 };
    let plan = Plan::new("http://h/<a>")
        .unwrap()
        .connections(4)
        .pace(pace)
        .gates(Gates { slo: vec![slo], error_rate_max: Some(0.01) })
        .check()
        .unwrap();
    let mut tally = Tally { requests: 1000, answered: 997, replies: 997, ..Tally::default() };
    for at in 0..1000 {
        let time = Duration::from_micros(100 + at);
        tally.service.saturating_record(nanos(time));
        tally.response.saturating_record(nanos(time * 2));
        tally.lag.saturating_record(nanos(time / 10));
        let second = tally.second(at / 500);
        second.replies += 1;
        second.latency.saturating_record(micros(time));
    }
    (0..998).for_each(|_| tally.count_status(200));
    (0..2).for_each(|_| tally.count_status(503));
    tally.fail(Failure::Timeout, String::new);
    (0..2).for_each(|_| tally.fail(Failure::Status, || "status 503".to_owned()));
    (tally.bytes_in, tally.bytes_out) = (150_000, 40_000);
    tally.connections =
        Connections { requested: 4, opened: 4, answered: 4, alive_min: 4, reopened: 1 };
    change(&mut tally);
    let used = |millis| Usage {
        cpu: Duration::from_millis(millis),
        switches_voluntary: 7,
        memory_bytes: 3 << 20,
        processes: 2,
        ..Usage::default()
    };
    let sample =
        |at| Sample { at: Duration::from_secs(at), client_cores: 0.1, server_cores: Some(0.2) };
    let watched = Watched {
        server: Some(used(400)),
        samples: vec![sample(1), sample(2)],
        started_unix: 784_111_777,
        ..Watched::default()
    };
    Report::new(&plan, tally, Duration::from_secs(2), 0.1, used(200), watched)
}

#[test]
fn as_text() {
    let want = "\
http://h/<a>
open loop, 500 requests/s, Constant, 4 connections, 1 thread
measured for 2.00 s after 1s

rate        498.5 requests/s of 500.0 offered
                  p50      p75      p90      p95      p99    p99.9   p99.99      max
response       1.20ms   1.70ms   2.00ms   2.10ms   2.18ms   2.20ms   2.20ms   2.20ms
service         599µs    849µs    999µs   1.05ms   1.09ms   1.10ms   1.10ms   1.10ms
lag            59.9µs   84.9µs   99.9µs    105µs    109µs    110µs    110µs    110µs
requests    1000: 997 answered, 3 failed
            timeout 1
            status 2 (status 503)
status      200: 998, 503: 2
bytes       146.5 KiB in, 39.1 KiB out
connections 4 requested, 4 opened, 4 answered, 4 alive at least, 1 reopened
client      0.10 CPUs, 200.60µs a request, 7 + 0 context switches, 3.0 MiB, 10 % busy
server      0.20 CPUs, 401.20µs a request, 7 + 0 context switches, 3.0 MiB, 2 processes
gate        p99=5ms: 2.18ms held
gate        error rate 0.01: 0.003000 held
verdict     valid
";
    assert_eq!(report(|_| {}).text(), want);
}

#[test]
fn as_json() {
    let value: Value = serde_json::from_str(&report(|_| {}).json()).unwrap();
    let names: Vec<&String> = value.as_object().unwrap().keys().collect();
    // A script relies on these: one that goes or changes its meaning makes a new schema.
    let want = "answered bytes client config connections error_rate errors gates host latency_us \
                measured_s rate replies requests schema series server started_unix status tool \
                unfinished validity";
    assert_eq!(names, want.split_whitespace().collect::<Vec<_>>());
    let check = |pointer: &str, want: Value| {
        assert_eq!(value.pointer(pointer), Some(&want), "{pointer}");
    };
    check("/schema", "ringfort-bench/1".into());
    check("/requests", 1000.into());
    check("/rate/offered", 500.0.into());
    check("/rate/achieved", 498.5.into());
    check("/errors/timeout", 1.into());
    check("/errors/short", 0.into());
    check("/status/503", 2.into());
    check("/validity/ok", true.into());
    check("/connections/alive_min", 4.into());
    check("/config/loop", "open".into());
    check("/config/arrivals", "constant".into());
    check("/latency_us/service/count", 1000.into());
    check("/series/1/replies", 500.into());
    check("/gates/0/held", true.into());
    check("/server/processes", 2.into());
}

#[test]
fn as_csv_and_markdown() {
    let report = report(|_| {});
    let csv = report.csv();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
    assert!(lines[1].starts_with("\"http://h/<a>\",true,4,1,500,498.5,1000,3,0,"), "{csv}");
    let markdown = report.markdown();
    assert!(markdown.lines().all(|line| line.starts_with("| ") || line == "|---|---|"));
    assert!(markdown.contains("| rate | 498.5 requests/s |"), "{markdown}");
}

#[test]
fn as_html_with_pictures_and_nothing_from_elsewhere() {
    let html = report(|_| {}).html();
    assert_eq!(html.matches("<svg ").count(), 4);
    assert!(html.contains("http://h/&lt;a&gt;") && !html.contains("<a>"), "names are escaped");
    for from_elsewhere in ["<script", "<link", " src=", "url(", "@import"] {
        assert!(!html.contains(from_elsewhere), "{from_elsewhere}");
    }
}

#[test]
fn a_run_too_short_for_pictures_has_a_page_too() {
    let mut report = report(|_| {});
    report.tally = Tally::default();
    report.samples.clear();
    assert_eq!(report.html().matches("too short a run").count(), 4);
}

#[test]
fn what_it_ends_with() {
    let code = |change: fn(&mut Tally)| report(change).exit_code();
    assert_eq!(code(|_| {}), Report::EXIT_OK);
    assert_eq!(code(|tally| tally.answered = 900), Report::EXIT_GATE);
    let slow = |tally: &mut Tally| tally.response.saturating_record_n(6_000_000, 1000);
    assert_eq!(code(slow), Report::EXIT_GATE);
    // Gates mean nothing where the result does not.
    assert_eq!(code(|tally| tally.connections.opened = 3), Report::EXIT_INVALID);
}

/// Stopped after this time, with this much on its way.
fn interrupted(measured: Duration, unfinished: u64) -> Report {
    let whole =
        report(|tally| (tally.requests, tally.unfinished) = (1000 + unfinished, unfinished));
    let watched = Watched { stopped: true, ..Watched::default() };
    Report::new(&whole.plan, whole.tally, measured, 0.1, whole.client, watched)
}

#[test]
fn an_interrupted_run_is_not_valid_and_says_so() {
    let report = interrupted(Duration::from_secs(1), 7);
    assert_eq!(report.exit_code(), Report::EXIT_INTERRUPTED);
    let text = report.text();
    assert!(text.contains("verdict     interrupted: this is what there was so far\n"), "{text}");
    assert!(text.contains("requests    1007: 997 answered, 3 failed, 7 unfinished\n"), "{text}");
    assert!((report.error_rate() - 0.003).abs() < 1e-9, "the unfinished have not failed");
    let value: Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(value["validity"]["ok"], false);
    assert_eq!(value["validity"]["reasons"][0]["code"], "interrupted");
    assert_eq!(value["unfinished"], 7);
    assert!(report.csv().contains(",false,4,1,500,997.0,1007,3,7,"), "{}", report.csv());
    assert!(report.csv().ends_with(",true\n"));
    assert!(report.html().contains("<p class=\"invalid\">interrupted: "));
    // What else there is against it is said too.
    let mut whole = interrupted(Duration::from_secs(1), 7);
    whole.tally.connections.opened = 3;
    let watched = Watched { stopped: true, ..Watched::default() };
    let report = Report::new(&whole.plan, whole.tally, whole.measured, 0.1, whole.client, watched);
    assert!(report.verdict().contains("so far; connections missing: 4 requested, 3 opened"));
}

#[test]
fn a_run_that_was_interrupted_before_the_clock_has_no_figures() {
    let mut report = interrupted(Duration::ZERO, 0);
    report.tally = Tally::default();
    (report.tally.connections.requested, report.tally.connections.opened) = (4, 1);
    report.tally.fail(Failure::Refused, || "refused".to_owned());
    let want = "\
http://h/<a>
open loop, 500 requests/s, Constant, 4 connections, 1 thread
connections 4 requested, 1 opened
            refused 1 (refused)
verdict     interrupted before the clock started: nothing was measured
";
    assert_eq!(report.text(), want);
    let value: Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(value["validity"]["reasons"].as_array().unwrap().len(), 1);
    for pointer in
        ["/rate/achieved", "/rate/ratio", "/error_rate", "/latency_us/response", "/client"]
    {
        assert_eq!(value.pointer(pointer), Some(&Value::Null), "{pointer}");
    }
    let want = "\"http://h/<a>\",false,4,1,500,,0,0,0,,,,,,,,,,,true\n";
    assert_eq!(report.csv().lines().nth(1).unwrap(), want.trim_end());
    assert!(!report.markdown().contains("| rate |"), "{}", report.markdown());
}
