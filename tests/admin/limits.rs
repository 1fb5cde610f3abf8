//! Operators when something has run out: descriptors, seats at the control socket.

use crate::client::PATIENCE;
use crate::control::Pool;
use crate::harness::Case;
use crate::raw;
use crate::rlimit;
use crate::server::{SERVER, Server, eventually, folder, limited, pause};
use ringfort::admin::client::{Reply, ask};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("limits::shared::more_workers_than_descriptors_are_refused", || scale("shared")),
    ("limits::centralized::more_workers_than_descriptors_are_refused", || scale("centralized")),
    ("limits::shared::a_limit_that_falls_silences_nobody", || falls("shared")),
    ("limits::centralized::a_limit_that_falls_silences_nobody", || falls("centralized")),
    ("limits::a_boot_that_does_not_fit_is_refused", boot),
    ("limits::a_master_without_descriptors_hears_its_operators", without),
    ("limits::those_who_wait_leave_seats_for_others", seats),
    ("limits::commands_that_come_together_keep_their_order", order),
];

fn begin(descriptors: u32, options: &str) -> (Server, String) {
    let control = folder().join("control").display().to_string();
    let options = format!("--addr 127.0.0.1:0 --connections-max 10 --control {control} {options}");
    (Server::begin(&mut limited(descriptors, &format!("{SERVER} serve {options}"))), control)
}

fn start(descriptors: u32, options: &str) -> Pool {
    let control = folder().join("control").display().to_string();
    let options = format!("--addr 127.0.0.1:0 --connections-max 10 --control {control} {options}");
    let command = format!("{SERVER} serve {options}");
    let server = Server::launch(&mut limited(descriptors, &command));
    server.await_ready(2);
    Pool { server, control, manners: "/nowhere".into() }
}

fn descriptors(pool: &Pool) -> u64 {
    let count = fs::read_dir(format!("/proc/{}/fd", pool.server.pid())).expect("it runs").count();
    count as u64
}

#[track_caller]
fn all_are_served(pool: &Pool) {
    for _ in 0..60 {
        let reply = pool.server.connect().get("/").expect("an answer, and no silence");
        assert_eq!(reply.status, 200);
    }
}

/// The number that an answer names before this word.
fn number_before(reply: &Reply, word: &str) -> u64 {
    let words: Vec<&str> = reply.text.split_ascii_whitespace().collect();
    let at = words.iter().position(|found| found.starts_with(word)).expect(&reply.text);
    words[at - 1].parse().expect(&reply.text)
}

fn scale(mode: &str) {
    let pool = start(80, &format!("--mode {mode} --workers 2 --workers-max 60"));
    let before = descriptors(&pool);
    let refused = pool.ask("scale 40");
    assert_eq!((refused.ok, refused.code), (false, 1), "{}", refused.line);
    assert!(refused.text.contains("RLIMIT_NOFILE"), "{}", refused.text);
    assert!(refused.text.ends_with("not for 40; nothing has changed"), "{}", refused.text);
    assert_eq!(pool.server.workers().len(), 2);
    eventually("no more descriptors", PATIENCE, || (descriptors(&pool) <= before).then_some(()));
    // What it says fits does, and the operator is heard afterwards.
    let fits = number_before(&refused, "workers");
    assert!((10..40).contains(&fits), "{}", refused.text);
    let done = pool.ask(&format!("scale {fits}"));
    assert!(done.ok, "{}", done.line);
    assert!(!pool.ask("scale +1").ok);
    all_are_served(&pool);
    assert_eq!(pool.ask("status").workers().len() as u64, fits);
    assert!(pool.ask("recycle 0").ok, "there is room for a candidate");
    assert!(pool.ask("scale 2").ok);
    all_are_served(&pool);
    eventually("two workers", PATIENCE, || (pool.server.workers().len() == 2).then_some(()));
    assert!(pool.ask("ledger").ok);
    assert_eq!(pool.server.stop().0, Some(0));
}

/// Nothing new can be had from one moment on: what an operator wants is refused, and no queue
/// comes to be that nobody reads.
fn falls(mode: &str) {
    for more in 0..4 {
        let pool = start(200, &format!("--mode {mode} --workers 2"));
        rlimit::limit_descriptors(pool.server.pid(), descriptors(&pool) + more);
        let scaled = pool.ask("scale 5");
        assert!(!scaled.ok && scaled.text.contains("RLIMIT_NOFILE"), "{}", scaled.line);
        let reload = pool.ask("reload");
        assert!(!reload.ok, "{}", reload.line);
        if mode == "centralized" {
            let switched = pool.ask("mode shared");
            assert!(!switched.ok && switched.text.contains("RLIMIT_NOFILE"), "{}", switched.line);
        }
        // A worker's place can be filled with what it leaves.
        let before = pool.server.workers();
        raw::signal(before[0], libc::SIGKILL);
        pool.await_status("its successor", |status| {
            let ready = status.workers();
            let ready = ready.iter().filter(|worker| worker.state.name() == "ready");
            let pids: Vec<u32> = ready.map(|worker| worker.pid).collect();
            pids.len() == 2 && !pids.contains(&before[0])
        });
        if more > 0 || mode == "shared" {
            all_are_served(&pool);
        }
        rlimit::limit_descriptors(pool.server.pid(), 200);
        assert!(pool.ask("scale 5").ok, "it recovers");
        all_are_served(&pool);
        assert!(pool.ask("ledger").ok);
        assert_eq!(pool.server.stop().0, Some(0));
    }
}

fn boot() {
    let (mut server, control) = begin(80, "--mode shared --workers 60");
    assert_eq!(server.exit_code(PATIENCE), Some(4));
    let log = server.log();
    assert!(log.contains("they suffice for") && log.contains("not for 60"), "{log}");
    assert!(log.contains("lower connections_max or workers"), "{log}");
    assert!(!fs::exists(control).expect("our folder"), "nothing was opened");
}

/// Clients have taken all that the master may have.
fn without() {
    let options = "--mode centralized --workers 2 --pending-timeout 60s";
    let pool = start(80, options);
    let mut hogs: Vec<_> = (0..160).map(|_| pool.server.connect()).collect();
    for hog in &mut hogs {
        hog.ask("/").expect("sent");
    }
    // They stay: the pool is full.
    pool.server.await_log("out of file descriptors");
    for _ in 0..5 {
        assert!(pool.ask("status").ok);
    }
    let scaled = pool.ask("scale 4");
    assert!(!scaled.ok && scaled.text.contains("RLIMIT_NOFILE"), "{}", scaled.line);
    drop(hogs);
    assert!(eventually("room", PATIENCE, || Some(pool.ask("scale 2")).filter(|a| a.ok)).ok);
    all_are_served(&pool);
    assert_eq!(pool.server.stop().0, Some(0));
}

/// Everybody who may wait does: for a reload whose check hangs.
fn seats() {
    let pool = Pool::start(1, "");
    fs::write(&pool.manners, "hang").expect("our folder");
    let visit = |line: &str| {
        let mut stream = UnixStream::connect(&pool.control).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("not zero");
        stream.write_all(line.as_bytes()).expect("sent");
        stream
    };
    let said = |stream: &mut UnixStream| {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    };
    let mut waiting: Vec<UnixStream> = (0..40).map(|_| visit("reload\n")).collect();
    pool.await_status("an answer", |_| true);
    let answers: Vec<String> = waiting.iter_mut().map(said).collect();
    let waits = answers.iter().filter(|text| text.is_empty()).count();
    assert_eq!(waits, 24, "{answers:?}");
    for text in answers.iter().filter(|text| !text.is_empty()) {
        assert!(text.contains("\"ok\":false") && text.contains("busy: "), "{text}");
    }
    // The short commands and health have their seats.
    assert!(pool.ask("ledger").ok);
    assert!(said(&mut visit("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")).contains("200 OK"));
    let refused = ask(&pool.control, "reload", PATIENCE).expect("an answer");
    assert!(!refused.ok && refused.text.starts_with("busy: "), "{}", refused.line);
    // Who has left keeps no seat.
    drop(waiting);
    let mut last = visit("reload\n");
    assert_eq!(said(&mut last), "", "it waits with the others");
    assert!(pool.ask("drain").ok);
    let text = eventually("its answer", PATIENCE, || {
        Some(said(&mut last)).filter(|text| !text.is_empty())
    });
    assert!(text.contains("the pool drains"), "{text}");
    let mut server = pool.server;
    assert_eq!(server.exit_code(PATIENCE), Some(0));
}

/// Two commands are there when the master looks: the first first.
fn order() {
    let pool = Pool::start(2, "");
    pause(pool.server.pid());
    let mut streams = ["scale 4\n", "scale 3\n", "scale 1\n"].map(|line| {
        let mut stream = UnixStream::connect(&pool.control).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.write_all(line.as_bytes()).expect("sent");
        stream
    });
    raw::signal(pool.server.pid(), libc::SIGCONT);
    for stream in &mut streams {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        assert!(text.contains("\"text\":\"1 workers\""), "{text}");
    }
    eventually("one worker", PATIENCE, || (pool.server.workers().len() == 1).then_some(()));
}
