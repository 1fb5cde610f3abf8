//! The built command: what it prints, what it refuses, and its exit codes.

use crate::support::{Server, connect_when_it_listens};
use ringfort::Config;
use std::io::{Read, Write};
use std::net::TcpListener;
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

/// The program replaces itself: same process, same port, new workers, and the answer says so.
#[test]
fn it_is_upgraded_as_it_was_built() {
    let path = std::env::temp_dir().join(format!("ringfort-upgraded-{}", std::process::id()));
    let socket = path.to_str().unwrap();
    let server = Server::start(&format!("--workers 2 --control {socket}"));
    let before = server.await_workers(2);
    for _ in 0..2 {
        let (stdout, stderr, code) = run(&mut ringfort(&["ctl", socket, "upgrade"]));
        assert_eq!((stderr.as_str(), code), ("", 0), "{stdout}");
        assert_eq!(server.get("/").status, 200);
    }
    let (stdout, _, code) = run(&mut ringfort(&["ctl", socket, "status"]));
    assert!(code == 0 && stdout.contains("\"epoch\":2"), "{stdout}");
    let after = server.await_workers(2);
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
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
    let choices = [
        ("addr", "127.0.0.1:1"),
        ("mode", "shared"),
        ("balancer", "round-robin"),
        ("probe_path", "/up"),
        ("weights", "3,1"),
        ("trusted_proxies", "10.0.0.0/8,::1,unix"),
        ("access_log", "/dev/null"),
        ("access_log_format", "json"),
        ("control", "/tmp/x.sock"),
        ("admin_address", "127.0.0.1:2"),
        ("pid_file", "/tmp/x.pid"),
        ("user", "nobody"),
        ("group", "nogroup"),
        ("umask", "027"),
    ];
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

#[test]
fn a_taken_port_is_an_error_with_a_hint() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for mode in ["shared", "centralized"] {
        let (stdout, stderr, code) =
            run(&mut ringfort(&["serve", "--mode", mode, "--addr", &address]));
        assert_eq!((stdout.as_str(), code), ("", 1), "{stderr}");
        assert!(stderr.starts_with("ringfort: ") && stderr.contains(&address), "{stderr}");
        assert!(stderr.contains("[address_in_use]\nhint: "), "{stderr}");
    }
}

#[test]
fn a_second_server_does_not_join_the_first_silently() {
    let first = Server::start("--mode shared");
    let address = first.address.to_string();
    let (_, stderr, code) = run(&mut ringfort(&["serve", "--mode", "shared", "--addr", &address]));
    assert!(stderr.contains("[address_in_use]"), "{stderr}");
    assert_eq!(code, 1);
}

#[test]
fn the_demo_listens_on_8080_or_says_who_to_ask() {
    // Somebody else may have the port; both ends are right, each for its own case.
    match TcpListener::bind("127.0.0.1:8080") {
        Ok(free) => {
            drop(free);
            let server = Server::spawn(&mut ringfort(&[]));
            assert_eq!(server.address.port(), 8080);
            let page = server.get("/");
            assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
            assert!(page.body.contains("href=\"/workers\""), "{}", page.body);
            let (_, stderr, code) = run(&mut ringfort(&[]));
            assert!(stderr.contains("[address_in_use]\nhint: "), "{stderr}");
            assert_eq!(code, 1);
            assert_eq!(server.stop().0, Some(0));
        }
        Err(_) => assert_eq!(run(&mut ringfort(&[])).2, 1),
    }
}

#[test]
fn too_few_descriptors_are_this_machines_fault() {
    let mut shell = Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_ringfort");
    let line =
        format!("ulimit -n 200; exec {binary} serve --addr 127.0.0.1:0 --connections-max 999");
    let (stdout, stderr, code) = run(shell.args(["-c", &line]).env_remove("RINGFORT_ADDR"));
    assert_eq!((stdout.as_str(), code), ("", 4), "{stderr}");
    assert!(stderr.contains("[too_few_descriptors]\nhint: raise RLIMIT_NOFILE"), "{stderr}");
}

#[test]
fn the_banner_says_what_matters() {
    let server = Server::start("--workers 2 --mode centralized");
    let line = |name: &str| {
        let line = server.banner.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name}: {}", server.banner))
    };
    assert!(line("url ").contains(&format!("http://{}/", server.address)));
    assert!(line("mode ").contains("centralized"));
    assert!(line("workers ").contains("2: "));
    assert!(line("engine ").contains("io_uring, Linux "));
    assert!(line("limits ").contains("connections"));
    assert!(line("pid ").contains(&server.pid().to_string()));
    assert!(line("stop ").contains("Ctrl-C"));
    assert_eq!(server.banner.matches(" curl ").count(), 3);
}

#[test]
fn a_full_disk_under_the_log_and_the_banner_stops_nothing() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let mut command = ringfort(&["serve", "--addr", &address.to_string()]);
    let mut child = command.stdout(full()).stderr(full()).spawn().unwrap();
    let mut client = connect_when_it_listens(address);
    assert_eq!(client.get("/").status, 200);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_stuck_pipe_under_the_log_stops_nothing_and_the_loss_is_said() {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // As much as a pipe holds (pipe(7)).
    writer.write_all(&[b'.'; 65_536]).unwrap();
    let server = Server::spawn_with_log(
        ringfort(&["serve", "--addr", "127.0.0.1:0", "--workers", "1"]),
        writer,
    );
    assert_eq!(server.get("/").status, 200);
    reader.read_exact(&mut [0; 65_536]).unwrap();
    assert_eq!(server.stop().0, Some(0));
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    assert!(log.lines().next().unwrap().contains(" warn  log lines dropped: "), "{log}");
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
