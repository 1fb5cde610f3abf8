//! `ringfort bench` as it is typed: exit codes, formats, a server of our own, Ctrl-C.

use crate::server::{Server, serve};
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfort"));
    command.arg("bench").args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    bench(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    let shown = || format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown()))
}

/// A run may be invalid on a busy machine; that is what it says then, and nothing else is wrong.
#[track_caller]
fn ended_well(output: &Output) {
    let code = output.status.code();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(code == Some(0) || code == Some(5), "{code:?}\n{out}\n{err}");
}

const SHORT: [&str; 6] = ["-c4", "-d200ms", "--warmup", "50ms", "--format", "json"];

#[test]
fn a_url_is_measured_and_the_report_is_json() {
    let server = Server::start(|_, stream| serve(stream));
    let url = server.url();
    let output = run(&[&SHORT[..], &[&url, "--expect-body", "Hello", "--format=x"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let pid = std::process::id().to_string();
    let more = [url.as_str(), "--expect-body", "Hello", "--server-pid", &pid];
    let output = run(&[&SHORT[..], &more].concat());
    ended_well(&output);
    let value = json(&output);
    assert_eq!(value["schema"], "ringfort-bench/1");
    assert!(value["requests"].as_u64().unwrap() > 0);
    assert_eq!(value["error_rate"], 0.0);
    assert_eq!(value["connections"]["opened"], 4);
    assert!(value["server"]["cpus"].as_f64().unwrap() > 0.0);
    assert!(value["client"]["cpu_us_per_reply"].as_f64().unwrap() > 0.0);
}

#[test]
fn every_format_is_written_to_a_file() {
    let server = Server::start(|_, stream| serve(stream));
    let url = server.url();
    let path = std::env::temp_dir().join(format!("ringfort-bench-{}", std::process::id()));
    for (format, start) in [
        ("text", "http://"),
        ("json", "{"),
        ("csv", "url,valid,"),
        ("md", "| http://"),
        ("html", "<!doctype html>"),
    ] {
        let file = path.to_str().unwrap();
        let output = run(&["-c2", "-d50ms", "--warmup=0", "--format", format, "-o", file, &url]);
        ended_well(&output);
        assert_eq!(text(&output.stdout), "");
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(start), "{format}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn exit_codes() {
    let server = Server::start(|_, stream| serve(stream));
    let url = server.url();
    let code = |args: &[&str]| {
        let output = run(args);
        (output.status.code(), text(&output.stderr).lines().next().unwrap_or("").to_owned())
    };
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{refused}/");
    let why = format!("ringfort: no connection to {nobody} within 100ms: refused [system]");
    assert_eq!(code(&[&nobody, "--timeout", "100ms"]), (Some(1), why));
    let why = "ringfort: --connections: \"x\": expected a number, such as 64 or 10k [usage]";
    assert_eq!(code(&[&url, "-c", "x"]), (Some(2), why.to_owned()));
    let why = "ringfort: connections: 0: expected 1 to 1000000 [config]";
    assert_eq!(code(&[&url, "-c", "0"]), (Some(2), why.to_owned()));
    // Nothing is answered in a nanosecond. A paced trickle cannot make a client busy; if the
    // machine makes it late all the same, the result is invalid.
    let (gate, _) = code(&[&url, "-c1", "-d1s", "-R20", "--warmup=0", "--slo", "p50=0.001us"]);
    assert!(gate == Some(3) || gate == Some(5), "{gate:?}");
    let (invalid, _) = code(&[&url, "-c2", "-d50ms", "--warmup=0", "--expect-status", "201"]);
    assert_eq!(invalid, Some(5), "no right answer at all");
}

#[test]
fn a_server_of_our_own_is_forked_measured_and_ended() {
    let output = run(&["--self", "-d500ms", "--warmup", "100ms", "--format", "json"]);
    ended_well(&output);
    let value = json(&output);
    assert!(value["answered"].as_u64().unwrap() > 0);
    assert_eq!(value["error_rate"], 0.0);
    // A master and a worker at least.
    assert!(value["server"]["processes"].as_u64().unwrap() >= 2);
    let url = value["config"]["url"].as_str().unwrap();
    let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    assert!(std::net::TcpStream::connect(address).is_err(), "it has ended");
}

#[test]
fn two_modes_are_measured_in_turns() {
    let args = ["--compare", "mode=shared,centralized", "--rounds", "2", "-d100ms", "--warmup=0"];
    let output = run(&[&args[..], &["--format", "json"]].concat());
    ended_well(&output);
    let value = json(&output);
    let modes = value["mode"].as_array().unwrap();
    let names: Vec<&str> = modes.iter().map(|mode| mode["value"].as_str().unwrap()).collect();
    assert_eq!(names, ["shared", "centralized"]);
    for mode in modes {
        let rates = mode["rate"].as_array().unwrap();
        assert_eq!(rates.len(), 2);
        assert!(rates.iter().all(|rate| rate.as_f64().unwrap() > 0.0));
    }
    let output = run(&args);
    ended_well(&output);
    assert!(text(&output.stdout).starts_with("| mode | requests/s |"), "{output:?}");
    let output = run(&["--compare", "mode=shared,both"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn find_capacity_says_what_it_found() {
    // Two connections of which each answer takes 5 ms: about 400 a second.
    let server = Server::start(|_, mut stream| {
        while crate::server::read_request(&mut stream) {
            crate::paced::pause(5);
            if !crate::server::answer(&mut stream, "Hello") {
                return;
            }
        }
    });
    let url = server.url();
    let gate = ["--find-capacity", "--slo", "p50=60ms", "-R", "25", "--precision", "0.5"];
    let output = run(&[
        &[url.as_str(), "-c2", "-d300ms", "--warmup=0", "--format=json"],
        &gate[..],
    ]
    .concat());
    ended_well(&output);
    let capacity = &json(&output)["capacity"];
    let rate = capacity["rate"].as_f64().unwrap();
    assert!((25.0..=500.0).contains(&rate), "{capacity}");
    assert!(capacity["broke_at"].as_f64().unwrap() > rate, "{capacity}");
}

/// Answers with this; tells of each request.
fn telling(status: &'static str) -> (Server, Receiver<()>) {
    let (asked, seen) = std::sync::mpsc::channel();
    let server = Server::start(move |_, mut stream| {
        while crate::server::read_request(&mut stream) {
            let _ = asked.send(());
            let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nHello");
            if stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    });
    (server, seen)
}

/// Starts it, sends INT when something was seen, and waits for its end with 130: what it wrote.
#[track_caller]
fn interrupted(args: &[&str], seen: impl FnOnce()) -> String {
    let mut command = bench(args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It listens to signals before it connects.
    seen();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    text(&output.stdout).to_owned()
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn ctrl_c_ends_with_the_report_so_far() {
    let (server, seen) = telling("200 OK");
    let args = [&server.url(), "-c2", "-d600s", "--warmup=0", "--format", "json"];
    let out = interrupted(&args, || seen.recv_timeout(LONG).unwrap());
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["validity"]["interrupted"], true);
    assert_eq!(value["validity"]["ok"], false);
    assert_eq!(value["validity"]["reasons"][0]["code"], "interrupted");
    assert_eq!(value["error_rate"], 0.0, "what was on its way has not failed: {value:#}");
}

/// A server that never answers: Ctrl-C does not make its requests disappear.
#[test]
fn ctrl_c_counts_what_was_due() {
    let (asked, seen) = std::sync::mpsc::channel();
    let server = Server::start(move |_, mut stream| {
        while crate::server::read_request(&mut stream) {
            let _ = asked.send(());
        }
    });
    let args = [&server.url(), "-c2", "-d600s", "--warmup=0", "-R1000", "--format", "json"];
    let more = [&args[..], &["--timeout", "600s"]].concat();
    let out = interrupted(&more, || seen.recv_timeout(LONG).unwrap());
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let requests = value["requests"].as_u64().unwrap();
    assert!(requests >= 2, "{value:#}");
    assert_eq!(value["unfinished"], requests);
    assert_eq!(value["latency_us"]["response"]["count"], requests);
    assert_eq!(value["error_rate"], serde_json::Value::Null, "nothing ended: {value:#}");
}

/// More connections than a backlog holds, and nobody accepts: it does not get beyond connecting.
/// (Where it does, it is in a warm-up that does not end.)
#[test]
fn ctrl_c_before_the_clock_ends_with_a_short_report() {
    for format in ["text", "json", "csv", "md", "html"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let args = ["-c1000", "--warmup=600s", "--timeout=60s", "--format", format, &url];
        let mut first = None;
        let out = interrupted(&args, || first = Some(listener.accept().unwrap()));
        assert!(!out.contains("NaN") && !out.contains("inf"), "{out}");
        match format {
            "csv" => assert!(out.ends_with(",true\n"), "{out}"),
            _ => {
                let said = "interrupted before the clock started: nothing was measured";
                assert!(out.contains(said), "{out}");
                assert!(!out.contains("requests/s  ") && !out.contains("p99"), "{out}");
            }
        }
    }
}

#[test]
fn ctrl_c_in_a_search_for_the_capacity() {
    for (format, want) in [
        ("text", "capacity: none; 0 trials; interrupted: the search was not over\n\nhttp://"),
        ("csv", ",none,0,interrupted: the search was not over"),
        ("json", "\"note\": \"interrupted: the search was not over\""),
    ] {
        let (server, seen) = telling("200 OK");
        let want = want.replace(",none,0,", ",,,0,");
        let args = ["--find-capacity", "--slo=p99=1s", "-d600s", "--warmup=0", "--format", format];
        let url = server.url();
        let more = [&args[..], &[&url]].concat();
        let out = interrupted(&more, || seen.recv_timeout(LONG).unwrap());
        assert!(out.contains(&want), "{out}");
    }
}

/// No rate makes a wrong answer right: one trial is enough to know.
#[test]
fn a_search_for_the_capacity_where_nothing_is_answered_rightly() {
    for format in ["text", "json", "csv", "md", "html"] {
        let (server, _seen) = telling("404 Not Found");
        let args = ["--find-capacity", "--slo=p99=1s", "-d300ms", "--warmup=0", "-c2", "--format"];
        let output = run(&[&args[..], &[format, &server.url()]].concat());
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let out = text(&output.stdout);
        let note = "no rate held: nothing is answered as expected";
        match format {
            "json" => {
                let capacity = &json(&output)["capacity"];
                assert_eq!(capacity["rate"], serde_json::Value::Null);
                assert_eq!((&capacity["trials"], &capacity["note"]), (&1.into(), &note.into()));
            }
            "csv" => {
                let lines: Vec<&str> = out.lines().collect();
                assert!(lines[0].ends_with(",capacity,broke_at,trials,note"), "{out}");
                assert!(lines[1].ends_with(&format!(",,1000.0,1,{note}")), "{out}");
                assert_eq!(lines[0].matches(',').count(), lines[1].matches(',').count());
            }
            "html" => {
                let line =
                    format!("<p class=\"invalid\">capacity: none, 1000 broke; 1 trial; {note}");
                assert!(out.contains(&line), "{out}");
            }
            _ => {
                let line = format!("capacity: none, 1000 broke; 1 trial; {note}\n\n");
                assert!(out.starts_with(&line), "{out}");
            }
        }
    }
}

/// `script` (util-linux) gives it a terminal.
#[test]
fn a_terminal_shows_how_it_goes() {
    let server = Server::start(|_, stream| serve(stream));
    let url = server.url();
    let ringfort = env!("CARGO_BIN_EXE_ringfort");
    let line = format!("{ringfort} bench {url} -c2 -d2s --warmup=0 -o /dev/null");
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    ended_well(&output);
    let shown = text(&output.stdout);
    assert!(shown.contains("measuring ") && shown.contains(" requests/s  2 open  0 failed"));
    let output = bench(&[&url, "-c2", "-d200ms", "-o", "/dev/null"]).output().unwrap();
    assert_eq!(text(&output.stderr), "", "without a terminal it is silent");
}

#[test]
fn help_names_every_option_and_fits_a_terminal() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    assert!(help.lines().all(|line| line.chars().count() <= 100));
    for option in [
        "--connections",
        "--threads",
        "--duration",
        "--warmup",
        "--rate",
        "--arrivals",
        "--pipeline",
        "--requests-per-connection",
        "--no-keepalive",
        "--timeout",
        "--header",
        "--method",
        "--body",
        "--template",
        "--expect-status",
        "--expect-body",
        "--same-body",
        "--server-pid",
        "--cpus",
        "--self",
        "--set",
        "--compare",
        "--rounds",
        "--slo",
        "--max-error-rate",
        "--find-capacity",
        "--precision",
        "--format",
        "--output",
        "--quiet",
        "--seed",
    ] {
        assert!(help.contains(option), "{option}");
    }
}
