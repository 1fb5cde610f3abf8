//! `ringfort compare` on real processes: A against A, a planted slowdown, and what is no server.

use crate::server::{Server, serve};
use serde_json::Value;
use std::process::{Command, Output};

fn compare(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringfort")).arg("compare").args(args).output().unwrap()
}

/// An example of this build, which `cargo test` has made too.
fn example(name: &str) -> std::path::PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name)
}

/// The one that computes so much for each answer.
fn burn(steps: u32) -> String {
    format!("{} 127.0.0.1:{{port}} {steps}", example("burn").display())
}

const SHORT: [&str; 9] =
    ["-c2", "-d100ms", "--warmup", "10ms", "--rounds", "18", "--timeout", "30s", "--format=json"];

fn compared(a: &str, b: &str) -> (Option<i32>, Value) {
    let output = compare(&[&[a, b][..], &SHORT].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{stderr}"));
    (output.status.code(), value)
}

fn verdicts(value: &Value) -> Vec<(&str, &str)> {
    let figures = value["figures"].as_array().unwrap();
    figures
        .iter()
        .map(|figure| (figure["name"].as_str().unwrap(), figure["verdict"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_against_a_gets_no_verdict() {
    let (code, value) = compared(&burn(10_000), &burn(10_000));
    assert_eq!(value["schema"], "ringfort-compare/1");
    let said = verdicts(&value);
    assert_eq!(said.len(), 4, "{value:#}");
    let none =
        |(_, verdict): &(&str, &str)| ["no verdict", "the client was the limit"].contains(verdict);
    assert!(said.iter().all(none), "{value:#}");
    assert_eq!(said[0], ("server CPU a request", "no verdict"));
    assert_eq!(code, Some(0), "{value:#}");
}

#[test]
fn a_planted_slowdown_is_found() {
    let (code, value) = compared(&burn(10_000), &burn(100_000));
    assert_eq!(verdicts(&value)[0], ("server CPU a request", "B is worse"), "{value:#}");
    let change = value["figures"][0]["change"].as_f64().unwrap();
    assert!((0.5..20.0).contains(&change), "{change}");
    assert_eq!(code, Some(3), "{value:#}");
}

#[test]
fn servers_that_run_are_compared_too() {
    let server = Server::start(|_, stream| serve(stream));
    let url = server.url();
    let output = compare(&[&url, &url, "-c2", "-d20ms", "--warmup=0", "--rounds", "12"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let shown = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}{shown}");
    // Whose processes are not known has no CPU time.
    assert!(text.contains("| requests a second | ") && !text.contains("server CPU"), "{text}");
}

#[test]
fn what_is_no_server_is_said() {
    let said = |a: &str| {
        let output = compare(&[a, "http://127.0.0.1:1/", "--rounds", "12"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), stderr.lines().next().unwrap_or("").to_owned())
    };
    let (code, line) = said("/bin/true");
    let want = "ringfort: \"/bin/true\": no URL, and no command with {port} where the port belongs";
    assert!(code == Some(2) && line.starts_with(want), "{code:?} {line}");
    let (code, line) = said("/bin/true {port}");
    assert!(code == Some(1) && line.contains("ended before it listened"), "{code:?} {line}");
    let (code, line) = said("/no/such/program {port}");
    assert!(code == Some(1) && line.contains("No such file"), "{code:?} {line}");
}

#[test]
fn a_bench_of_ones_own_understands_filters_and_a_quick_round() {
    let run = |args: &[&str]| {
        let output = Command::new(example("bench")).args(args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        ["closed loop", "500 a second"].map(|name| text.contains(&format!("\n{name}\n")))
    };
    assert_eq!(run(&["--bench", "--test"]), [true, true]);
    assert_eq!(run(&["--bench", "--test", "closed"]), [true, false]);
    assert_eq!(run(&["a second"]), [false, true], "as `cargo test --benches` runs it");
}
