//! A test harness of one thread: starts this program again for each case, and watches it.
#![expect(clippy::print_stdout, reason = "a harness prints what cargo test shows")]

use crate::groups;
use ringfort::sys::process;
use std::env;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Its name, and what it does; it fails by a panic.
pub(crate) type Case = (&'static str, fn());

/// How long a case may stay silent.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Runs the cases that the command line asks for, and prints what libtest would print.
pub(crate) fn run(cases: &[Case]) -> ExitCode {
    let wanted = Wanted::from(env::args().skip(1));
    if let Some(name) = &wanted.case {
        // Whatever started us may have left descriptors open; a case begins with the usual three.
        process::close_all_but(&[0, 1, 2], &[]).expect("no filter yet");
        let case = cases.iter().find(|case| case.0 == name);
        case.unwrap_or_else(|| panic!("no case {name}")).1();
        return ExitCode::SUCCESS;
    }
    let cases: Vec<&Case> = cases.iter().filter(|case| wanted.matches(case.0)).collect();
    if wanted.list {
        cases.iter().for_each(|case| println!("{}: test", case.0));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", cases.len());
    let mut failures = Vec::new();
    for (name, _) in &cases {
        let failure = run_alone(name, wanted.show_output);
        println!("test {name} ... {}", if failure.is_none() { "ok" } else { "FAILED" });
        failures.extend(failure.map(|why| (*name, why)));
    }
    for (name, why) in &failures {
        println!("\n---- {name} ----\n{why}");
    }
    let (failed, passed) = (failures.len(), cases.len() - failures.len());
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed\n");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the command line asks for, as far as it concerns us; what else libtest knows is ignored.
#[derive(Default)]
struct Wanted {
    case: Option<String>,
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    list: bool,
    show_output: bool,
}

impl Wanted {
    fn from(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut wanted = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--case" => wanted.case = arguments.next(),
                "--skip" => wanted.skip.extend(arguments.next()),
                "--exact" => wanted.exact = true,
                "--list" => wanted.list = true,
                "--nocapture" | "--no-capture" | "--show-output" => wanted.show_output = true,
                "--test-threads" | "--format" | "--color" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                _ => wanted.filters.push(argument),
            }
        }
        wanted
    }

    fn matches(&self, name: &str) -> bool {
        let hit = |word: &String| if self.exact { word == name } else { name.contains(word) };
        (self.filters.is_empty() || self.filters.iter().any(hit)) && !self.skip.iter().any(hit)
    }
}

/// Runs one case in a process group of its own, which must be empty when it has ended. Answers why
/// it failed, if it did.
fn run_alone(name: &str, show_output: bool) -> Option<String> {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    ours.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let stdio = || Stdio::from(OwnedFd::from(theirs.try_clone().expect("a descriptor")));
    let mut child = Command::new(env::current_exe().expect("our path"))
        .args(["--case", name])
        .stdin(Stdio::null())
        .stdout(stdio())
        .stderr(stdio())
        .process_group(0)
        .spawn()
        .expect("this program can be started");
    drop(theirs);
    let (output, ended) = read_to_end(ours);
    let group = child.id();
    if !ended {
        groups::kill_group(group);
    }
    let status = child.wait().expect("it is our child");
    // The kernel hands numbers out in turn, so the group's is not a stranger's this soon.
    let left_over = groups::kill_group(group);
    // Files of its own; most cases have none.
    let _ = fs::remove_dir_all(Path::new(env!("CARGO_TARGET_TMPDIR")).join(group.to_string()));
    let output = String::from_utf8_lossy(&output);
    if show_output {
        print!("{output}");
    }
    if !ended {
        Some(format!("{output}silent for {TIMEOUT:?}: killed"))
    } else if !status.success() {
        Some(format!("{output}{status}"))
    } else if left_over {
        Some(format!("{output}it left a process behind"))
    } else {
        None
    }
}

/// All that the case and its children print, and whether they came to an end.
fn read_to_end(mut stream: UnixStream) -> (Vec<u8>, bool) {
    let mut output = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return (output, true),
            Ok(count) => output.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return (output, false),
        }
    }
}
