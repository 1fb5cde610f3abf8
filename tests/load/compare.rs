//! `ringfort compare` on real processes: A against A, a planted slowdown, and what is no server.

use crate::server::{Server, serve};
use serde_json::Value;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};

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

/// A program that is a script of a shell; it holds a pipe open, whose end tells of its own.
struct Script {
    folder: std::path::PathBuf,
}

impl Script {
    fn new(name: &str, lines: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ringfort-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let pipe = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let text = format!("exec 3>{}\n{lines}\n", pipe.display());
        std::fs::write(folder.join("script"), text).unwrap();
        Self { folder }
    }

    fn command(&self) -> String {
        format!("/bin/sh {} {{port}}", self.folder.join("script").display())
    }

    /// Waits until it runs.
    fn pipe(&self) -> std::fs::File {
        std::fs::File::open(self.folder.join("pipe")).unwrap()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Until all that held it have ended.
fn await_end(mut pipe: std::fs::File) {
    assert_eq!(pipe.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_a_command_started_does_not_outlive_it() {
    let script = Script::new("starts-and-ends", "sleep 600 &");
    let child = start(&script.command());
    await_end(script.pipe());
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1), "{shown}");
    assert!(shown.contains("ended before it listened"), "{shown}");
}

#[test]
fn ctrl_c_ends_it_while_a_command_boots() {
    let script = Script::new("boots-forever", "exec sleep 600");
    let child = start(&script.command());
    let pipe = script.pipe();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    await_end(pipe);
    let shown = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{shown}");
}

fn start(a: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ringfort"))
        .args(["compare", a, "http://127.0.0.1:1/", "--rounds", "12"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
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
    assert_eq!(run(&["no such name"]), [false, false]);
    let output = Command::new(example("bench")).args(["--bench", "--rounds"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && shown.contains("--rounds: no option"), "{shown}");
}
