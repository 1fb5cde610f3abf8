//! Whoever comes to the control socket costs nothing and nobody.

use crate::client::PATIENCE;
use crate::control::Pool;
use crate::harness::Case;
use crate::server::{SERVER, eventually};
use ringfort::admin::client::ask;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

pub(crate) const CASES: &[Case] = &[
    ("garbage_is_answered_and_closed", garbage),
    ("half_a_line_is_nothing", half_a_line),
    ("a_line_in_pieces_is_a_line", in_pieces),
    ("a_client_that_never_reads_is_cut", never_reads),
    ("a_client_that_never_stops_is_cut", never_stops),
    ("a_thousand_idle_visitors_keep_nobody_out", a_thousand),
    ("a_stranger_cannot_connect", stranger_outside),
    ("a_stranger_at_an_abstract_socket_is_turned_away", stranger_inside),
];

fn connect(pool: &Pool) -> UnixStream {
    let stream = UnixStream::connect(&pool.control).expect("it listens");
    stream.set_read_timeout(Some(2 * PATIENCE)).expect("not zero");
    stream.set_write_timeout(Some(2 * PATIENCE)).expect("not zero");
    stream
}

/// All that the master says until it closes.
fn rest(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("not closed: {error}"),
        Ok(_) | Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// The pool serves, and its master answers.
#[track_caller]
fn is_well(pool: &Pool) {
    assert_eq!(pool.server.connect().get("/").expect("an answer").status, 200);
    assert!(pool.ask("status").ok);
    // What visitors had open is closed: listeners, ring, channels … and nothing more.
    assert!(pool.ask("ledger").ok);
}

fn descriptors(pool: &Pool) -> usize {
    fs::read_dir(format!("/proc/{}/fd", pool.server.pid())).expect("it runs").count()
}

fn garbage() {
    let pool = Pool::start(1, "");
    let before = descriptors(&pool);
    for (bytes, want) in [
        (&b"\n"[..], "\"code\":2"),
        (b"shutdown please\n", "\"code\":2"),
        (b"\xff\xfe\0\x01\n", "\"code\":2"),
        (b"status\0\n", "no such command"),
        (&[b'x'; 300], "the line is too long"),
        (b"GET nonsense\r\n\r\n", "HTTP/1.1 400 "),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 "),
        (b"status\nstop\n", "\"what\":\"status\""),
    ] {
        let mut stream = connect(&pool);
        stream.write_all(bytes).expect("sent");
        let answer = rest(&mut stream);
        assert!(answer.contains(want), "{bytes:?}: {answer}");
        assert!(!answer.contains("\"stop\""), "one line is one command: {answer}");
    }
    is_well(&pool);
    eventually("all closed", PATIENCE, || (descriptors(&pool) <= before).then_some(()));
}

fn half_a_line() {
    let pool = Pool::start(1, "");
    let before = descriptors(&pool);
    // Gone without an end, half closed without an end, and one that stays silent.
    drop(connect(&pool));
    let mut half = connect(&pool);
    half.write_all(b"sto").expect("sent");
    half.shutdown(std::net::Shutdown::Write).expect("open");
    assert_eq!(rest(&mut half), "");
    let mut silent = connect(&pool);
    silent.write_all(b"sto").expect("sent");
    is_well(&pool);
    assert_eq!(rest(&mut silent), "", "closed when its time is over");
    is_well(&pool);
    eventually("all closed", PATIENCE, || (descriptors(&pool) <= before).then_some(()));
}

fn in_pieces() {
    let pool = Pool::start(1, "");
    let mut stream = connect(&pool);
    for byte in b"status\r\n" {
        stream.write_all(&[*byte]).expect("sent");
        assert!(pool.ask("ledger").ok, "others get their turn");
    }
    // Who asks may end its side before it reads.
    stream.shutdown(std::net::Shutdown::Write).expect("open");
    assert!(rest(&mut stream).contains("\"what\":\"status\""));
}

fn never_reads() {
    let pool = Pool::start(1, "");
    let before = descriptors(&pool);
    let lazy: Vec<UnixStream> = (0..40)
        .map(|_| {
            let mut stream = connect(&pool);
            // Some were cut before they could ask: there are more than the master keeps.
            let _ = stream.write_all(b"dump\n");
            stream
        })
        .collect();
    is_well(&pool);
    eventually("all cut", 3 * PATIENCE, || (descriptors(&pool) <= before).then_some(()));
    drop(lazy);
    is_well(&pool);
}

fn never_stops() {
    let pool = Pool::start(1, "");
    let mut stream = connect(&pool);
    let flood = [b'x'; 4096];
    // Until the master closes; far below what would fill its memory.
    let sent = (0..10_000).take_while(|_| stream.write_all(&flood).is_ok()).count();
    assert!(sent < 1000, "cut after {sent} pieces");
    is_well(&pool);
}

fn a_thousand() {
    let pool = Pool::start(1, "--admin-address 127.0.0.1:0");
    let mut idle: Vec<UnixStream> = Vec::new();
    for _ in 0..1000 {
        idle.push(connect(&pool));
        if idle.len().is_multiple_of(100) {
            is_well(&pool);
            let open = descriptors(&pool);
            assert!(open < 150, "bounded, but {open} descriptors are open");
        }
    }
    let turned_away = pool.ask("metrics").json["strangers"].as_u64();
    assert!(turned_away > Some(900), "{turned_away:?}");
}

/// `ringfort ctl` as a user that is nobody's: exit code and what it said.
fn as_nobody(control: &str) -> (Option<i32>, String) {
    // A copy where nobody may run it from: the build's folder need not be open to all.
    let copy = std::env::temp_dir().join(format!("ringfort-{}", std::process::id()));
    fs::copy(SERVER, &copy).expect("room");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("ours");
    let mut command = Command::new(&copy);
    command.args(["ctl", control, "status"]).current_dir("/").uid(65_534).gid(65_534).env_clear();
    let output = command.output().expect("root may become nobody");
    fs::remove_file(copy).expect("ours");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn stranger_outside() {
    let pool = Pool::start(1, "");
    // Even where the path can be reached.
    let path = std::env::temp_dir().join(format!("ringfort-{}.control", std::process::id()));
    fs::rename(&pool.control, &path).expect("one file system, or the case is set up wrong");
    let (code, said) = as_nobody(path.to_str().expect("text"));
    assert_eq!(code, Some(1));
    assert!(said.contains("ermission denied"), "{said}");
    assert!(ask(path.to_str().expect("text"), "status", PATIENCE).expect("we may").ok);
    fs::remove_file(path).expect("ours");
}

fn stranger_inside() {
    let name = format!("@ringfort-test-{}", std::process::id());
    let pool = Pool::start(1, &format!("--control {name}"));
    let (code, said) = as_nobody(&name);
    assert_eq!(code, Some(1));
    assert!(said.contains("it turned us away"), "{said}");
    let metrics = ask(&name, "metrics", PATIENCE).expect("we may");
    assert_eq!(metrics.json["strangers"], 1);
    assert_eq!(pool.server.connect().get("/").expect("an answer").status, 200);
}
