//! File descriptors: which process holds which, what becomes of them, and what happens without any.

use crate::client::{Client, PATIENCE};
use crate::harness::Case;
use crate::raw;
use crate::server::{SERVER, Server, Stopwatch, bad_command, eventually, folder, limited, pause};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("descriptors::shared::a_worker_holds_only_its_own", || own_only("shared")),
    ("descriptors::centralized::a_worker_holds_only_its_own", || own_only("centralized")),
    ("descriptors::the_applications_survive_in_the_workers", inherited),
    ("descriptors::shared::no_connection_leaks_one", || no_leak("shared")),
    ("descriptors::centralized::no_connection_leaks_one", || no_leak("centralized")),
    ("descriptors::a_master_without_any_answers_on", master_without),
    ("descriptors::shared::a_worker_without_any_answers_on", worker_without),
    ("descriptors::centralized::a_worker_without_any_answers_on", alone_without),
    ("descriptors::centralized::a_batch_that_does_not_fit_is_served_by_others", batch_without),
];

/// What a descriptor refers to, by number: `socket:[1234]`, `anon_inode:[io_uring]`, a path.
fn held(pid: u32) -> Vec<(u32, String)> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
    let mut held: Vec<(u32, String)> = folder
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            // One that was closed in the meantime is not held.
            Some((number, fs::read_link(path).ok()?.to_str()?.to_owned()))
        })
        .collect();
    held.sort();
    held
}

fn is_close_on_exec(pid: u32, number: u32) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).expect("it is open");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("proc(5)");
    let flags = i32::from_str_radix(flags.trim(), 8).expect("octal");
    flags & libc::O_CLOEXEC != 0
}

fn sockets(held: &[(u32, String)]) -> BTreeSet<String> {
    let sockets = held.iter().filter(|(_, what)| what.starts_with("socket:"));
    sockets.map(|(_, what)| what.clone()).collect()
}

fn own_only(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 3 --addr [::1]:0"));
    server.await_ready(3);
    let workers = server.workers();
    let of_master = held(server.pid());
    let of_workers: Vec<_> = workers.iter().map(|pid| held(*pid)).collect();
    let mut seen = BTreeSet::new();
    for (pid, held) in workers.iter().zip(&of_workers) {
        // A channel, and in shared mode a listener for each address.
        let own = sockets(held);
        let listeners = if mode == "shared" { 2 } else { 0 };
        assert_eq!(own.len(), 1 + listeners, "{pid}: {held:?}");
        assert_eq!(own.intersection(&sockets(&of_master)).count(), listeners, "{pid}: {held:?}");
        assert!(own.is_disjoint(&seen), "{pid} holds a sibling's: {held:?}");
        let count = |what: &str| held.iter().filter(|(_, held)| held.contains(what)).count();
        assert!(count("io_uring") <= 1 && count("signalfd") == 1, "{pid}: {held:?}");
        assert_eq!(count("pidfd"), 0, "{pid}: {held:?}");
        assert!(held.len() <= 3 + own.len() + 3, "{pid}: {held:?}");
        seen.extend(own);
    }
    for (pid, held) in workers.iter().zip(&of_workers).chain([(&server.pid(), &of_master)]) {
        for (number, what) in held.iter().filter(|(number, _)| *number > 2) {
            assert!(is_close_on_exec(*pid, *number), "{pid}: {number} is {what}");
        }
    }
}

fn inherited() {
    let path = folder().join("opened");
    fs::write(&path, "before the pool").unwrap();
    let options = format!("--addr 127.0.0.1:0 --workers 2 --open {}", path.display());
    let server = Server::launch(&mut bad_command(&options));
    server.await_ready(2);
    for pid in server.workers() {
        let held = held(pid);
        let mut same = held.iter().filter(|(_, what)| *what == path.display().to_string());
        assert!(same.next().is_some(), "{pid}: {held:?}");
    }
}

/// Clients that come and go in every way.
fn no_leak(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    let count = || {
        let processes = server.workers().into_iter().chain([server.pid()]);
        processes.map(|pid| held(pid).len()).collect::<Vec<_>>()
    };
    // Whatever is made at the first connection is made now.
    (0..8).for_each(|_| drop(server.connect().get("/plaintext")));
    let settled = |before: &[usize]| {
        eventually("the descriptors of before", PATIENCE, || (count() == before).then_some(()));
    };
    let before = eventually("a number that stays", PATIENCE, || {
        let first = count();
        std::thread::park_timeout(Duration::from_millis(50));
        (first == count()).then_some(first)
    });
    for round in 0..200 {
        let mut client = server.connect();
        match round % 5 {
            0 => {}
            1 => client.send("GET / HTTP/1.1\r\nHo").unwrap(),
            2 => assert_eq!(client.get("/plaintext").unwrap().status, 200),
            // Closed with an unread answer: a reset.
            3 => {
                client.ask("/plaintext").unwrap();
                assert!(!client.is_silent_for(PATIENCE));
            }
            _ => client.ask("/slow?ms=20").unwrap(),
        }
    }
    settled(&before);
}

/// The processor time of a process in clock ticks, of which there are 100 a second (proc(5)).
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let after = stat.rsplit(") ").next().expect("a name in parentheses");
    // utime and stime are fields 14 and 15; the state after the name is field 3.
    after.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// Nobody asks anything for a second: what the pool does then, it does for nothing.
fn check_no_spin(server: &Server) {
    let pids: Vec<u32> = server.workers().into_iter().chain([server.pid()]).collect();
    let total = || pids.iter().map(|pid| ticks(*pid)).sum::<u64>();
    let (began, before) = (Stopwatch::start(), total());
    std::thread::park_timeout(Duration::from_secs(1));
    let (used, time) = (total() - before, began.elapsed());
    println!("idle without descriptors: {used} ticks in {time:?}");
    // A loop that spins uses a hundred; what little there is takes longer on a busy machine.
    assert!(used as f64 <= 15.0 * time.as_secs_f64(), "{used} ticks in {time:?}: it spins");
}

/// More connections than the master may hold: it tells some 503 and leaves the rest to the kernel.
fn master_without() {
    let options = "--mode centralized --workers 1 --connections-max 8 --pending-timeout 60s";
    let options = format!("--addr 127.0.0.1:0 {options}");
    let server = Server::launch(&mut limited(80, &format!("{SERVER} serve {options}")));
    server.await_ready(1);
    let mut known: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut known {
        assert_eq!(client.get("/plaintext").unwrap().status, 200);
    }
    let mut hogs: Vec<Client> = (0..120).map(|_| server.connect()).collect();
    server.await_log("out of file descriptors");
    check_no_spin(&server);
    for client in &mut known {
        assert_eq!(client.get("/plaintext").unwrap().status, 200);
    }
    // Who still waits is served when there is room; who was told 503 can read it.
    drop(known);
    let mut answers = [0, 0];
    for mut hog in hogs.drain(..) {
        let reply = hog.get("/plaintext").and_then(|_| hog.get("/plaintext"));
        match reply {
            Ok(reply) if reply.status == 200 => answers[0] += 1,
            _ => answers[1] += 1,
        }
    }
    println!("{} hogs were served, {} were told 503", answers[0], answers[1]);
    assert!(answers[0] >= 60, "{answers:?}");
    assert_eq!(server.connect().get("/plaintext").unwrap().status, 200);
}

/// The application in slot 0 has taken nearly all that its worker may have.
fn leaking(mode: &str, workers: u32) -> Server {
    let program = std::env::current_exe().expect("our path");
    let options = format!("--mode {mode} --workers {workers} --connections-max 20 --leak 64");
    let options = format!("{options} --pending-timeout 60s");
    let options = format!("{} --addr 127.0.0.1:0 {options}", crate::app::FLAG);
    let server = Server::launch(&mut limited(84, &format!("{} {options}", program.display())));
    server.await_ready(workers as usize);
    server
}

/// The kernel's queue keeps what the worker cannot take, until one of its connections ends.
fn worker_without() {
    let server = leaking("shared", 1);
    let clients: Vec<Client> = (0..40).map(|_| server.connect()).collect();
    check_no_spin(&server);
    // The room that one leaves is another's.
    for mut client in clients {
        assert_eq!(client.get("/plaintext").expect("an answer").status, 200);
    }
}

/// What a worker has no descriptors for is served by others, and costs nobody's life.
fn batch_without() {
    let server = leaking("centralized", 2);
    let workers = server.workers();
    pause(workers[0]);
    let mut clients: Vec<Client> = (0..32).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.ask("/workers").unwrap();
    }
    raw::signal(workers[0], libc::SIGCONT);
    let mut of_first = 0;
    for client in &mut clients {
        let reply = client.reply().expect("an answer");
        assert_eq!(reply.status, 200);
        of_first += u32::from(reply.pid() == workers[0]);
    }
    println!("{of_first} of 32 by the one that has few");
    assert!(of_first < 16, "it had no room for its share");
    let line = server.await_log("worker out of file descriptors");
    assert!(line.contains(&format!("pid={}", workers[0])), "{line}");
    let (code, log) = server.stop();
    assert_eq!((code, log.contains("died")), (Some(0), false), "{log}");
}

/// With nobody else, they wait until there is room.
fn alone_without() {
    let server = leaking("centralized", 1);
    let worker = server.workers();
    let clients: Vec<Client> = (0..40).map(|_| server.connect()).collect();
    server.await_log("worker out of file descriptors");
    check_no_spin(&server);
    for mut client in clients {
        assert_eq!(client.get("/plaintext").expect("an answer").status, 200);
    }
    assert_eq!(server.workers(), worker, "it serves on");
    let (code, log) = server.stop();
    assert_eq!((code, log.contains("died")), (Some(0), false), "{log}");
}
