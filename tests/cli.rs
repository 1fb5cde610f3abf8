//! The built command: what it prints, what it refuses, and its exit codes.

use ringfort::Config;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

fn ringfort(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfort"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// What it printed, what it complained about, and its exit code.
fn run(command: &mut Command) -> (String, String, i32) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(stdout), text(stderr), status.code().expect("ended by itself"))
}

#[test]
fn help_and_version() {
    for args in [["--help"].as_slice(), &["-h"], &["serve", "--help"], &["serve", "-h"]] {
        let (stdout, stderr, code) = run(&mut ringfort(args));
        assert!(stdout.contains("ringfort serve"), "{stdout}");
        assert_eq!((stderr.as_str(), code), ("", 0));
    }
    let (stdout, stderr, code) = run(&mut ringfort(&["--version"]));
    assert_eq!(stdout, format!("ringfort {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!((stderr.as_str(), code), ("", 0));
}

#[test]
fn check_says_where_every_value_came_from() {
    let file = TempFile::new("workers = 1\nbacklog = 7\nidle_timeout = '1m'\n");
    let mut command = ringfort(&["serve", "--check", "--workers", "3", "--config", &file.0]);
    let (stdout, stderr, code) = run(command.env("RINGFORT_BACKLOG", "8"));
    assert_eq!((stderr.as_str(), code), ("", 0));
    let line = |name: &str| {
        let line = stdout.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("workers"), "workers = 3 # --workers");
    assert_eq!(line("backlog"), "backlog = 8 # RINGFORT_BACKLOG");
    let idle = format!("idle_timeout = \"60s\" # \"{}\" line 3, idle_timeout", file.0);
    assert_eq!(line("idle_timeout"), idle);
    assert_eq!(line("head_max"), "head_max = 16384 # default");
}

#[test]
fn every_option_is_taken_as_a_flag_a_variable_and_a_key() {
    let mut args = vec!["serve".to_owned(), "--check".to_owned()];
    let mut variables = Vec::new();
    let mut file = String::new();
    let choices = [("addr", "127.0.0.1:1"), ("mode", "shared"), ("balancer", "round-robin")];
    let choices = choices.map(|(name, value)| (name, value.to_owned()));
    let rows = Config::ROWS.iter().map(|row| (row.name, Config::default().get(row.name).unwrap()));
    for (name, value) in choices.into_iter().chain(rows).chain([("root", "/".to_owned())]) {
        args.push(format!("--{}", name.replace('_', "-")));
        args.push(value.clone());
        variables.push((format!("RINGFORT_{}", name.to_uppercase()), value.clone()));
        file += &format!("{name} = '{value}'\n");
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let file = TempFile::new(&file);
    let said = |command: &mut Command| {
        let (stdout, stderr, code) = run(command);
        assert_eq!((stderr.as_str(), code), ("", 0));
        assert!(!stdout.contains("# default"), "{stdout}");
    };
    said(&mut ringfort(&args));
    said(ringfort(&["serve", "--check"]).envs(variables));
    said(&mut ringfort(&["serve", "--check", "--config", &file.0]));
}

/// A usage error: exit code 2, what is wrong, and a hint.
#[track_caller]
fn refused(args: &[&str], want: &str) {
    let (stdout, stderr, code) = run(&mut ringfort(args));
    assert_eq!((stdout.as_str(), code), ("", 2), "{stderr}");
    assert!(stderr.starts_with(&format!("ringfort: {want}")), "{stderr}");
    assert!(stderr.contains("[usage]\nhint: `ringfort serve --help`"), "{stderr}");
}

#[test]
fn usage_errors() {
    refused(&["sevre"], "no such command: \"sevre\"");
    refused(&["--colour"], "invalid option '--colour'");
    refused(&["serve", "--workers", "many"], "--workers: \"many\": expected a number");
    refused(&["serve", "--workers"], "missing argument for option '--workers'");
    refused(&["serve", "--addr", "127.0.0.1"], "--addr: \"127.0.0.1\": expected HOST:PORT");
    refused(&["serve", "--config", "/nonexistent/x"], "cannot read \"/nonexistent/x\": No such");
    refused(&["serve", "--config", "/dev/zero"], "cannot read \"/dev/zero\": larger than 1 MiB");
    refused(&["serve", "--root", "/nonexistent/x"], "--root: \"/nonexistent/x\": ");
    let file = TempFile::new("\nworker = 3\n");
    let want = format!("\"{}\" line 2, worker: no such option", file.0);
    refused(&["serve", "--config", &file.0], &want);
    let file = TempFile::new("\u{0}");
    refused(&["serve", "--config", &file.0], &format!("\"{}\" line 1: ", file.0));
}

#[test]
fn a_full_disk_is_said_and_a_reader_that_had_enough_is_not_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (_, stderr, code) = run(ringfort(&["--help"]).stdout(full));
    assert!(stderr.contains("cannot write to stdout: No space left"), "{stderr}");
    assert_eq!(code, 1);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (_, stderr, code) = run(ringfort(&["serve", "--help"]).stdout(writer));
    assert_eq!((stderr.as_str(), code), ("", 0));
}

#[test]
fn a_closed_stderr_does_not_change_the_exit_code() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut child = ringfort(&["sevre"]).stderr(writer).spawn().unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("ringfort: no such command"), "{text}");
    assert_eq!(child.wait().unwrap().code(), Some(2));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(ringfort(&["sevre"]).stderr(writer).status().unwrap().code(), Some(2));
}

/// A file of this test alone, gone with the value.
struct TempFile(String);

impl TempFile {
    fn new(text: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringfort-cli-{}-{count}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        Self(path.to_str().unwrap().to_owned())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
