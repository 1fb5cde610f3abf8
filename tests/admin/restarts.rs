//! A pool whose workers all fail, again and again: what clients and operators see of it, what it
//! costs, and that it ends by itself.

use crate::client::{Client, PATIENCE};
use crate::control::Pool;
use crate::harness::Case;
use crate::raw;
use crate::server::{Stopwatch, eventually};
use ringfort::admin::client::Reply;
use std::fs;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("restarts::shared::a_crash_loop_of_all_is_seen_answered_and_ends", || crash_loop("shared")),
    ("restarts::centralized::a_crash_loop_of_all_is_seen_answered_and_ends", || {
        crash_loop("centralized");
    }),
    ("restarts::a_death_is_told_with_its_reason", reasons),
    ("restarts::the_last_lines_of_a_worker_are_kept", last_lines),
];

/// What `status` says of a slot.
fn of_slot(reply: &Reply, slot: usize, name: &str) -> String {
    reply.json["restarts"][slot][name].to_string()
}

/// utime and stime in clock ticks, of which there are 100 a second (proc(5)).
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let after = stat.rsplit(") ").next().expect("a name in parentheses");
    // They are fields 14 and 15; the state after the name is field 3.
    after.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

fn crash_loop(mode: &str) {
    let pool = Pool::start(2, &format!("--mode {mode} --pending-timeout 200ms"));
    let address = pool.server.address();
    fs::write(&pool.manners, "fail").expect("its folder is there");
    for worker in pool.server.workers() {
        raw::signal(worker, libc::SIGKILL);
    }
    // The back-off is seen: in the log, in the status, and as a number.
    let seen = pool.await_status("a back-off of both slots", |status| {
        let failed = |slot| {
            let in_a_row = status.json["restarts"][slot]["in_a_row"].as_u64().unwrap_or(0);
            in_a_row >= 7
        };
        failed(0) && failed(1) && status.json["restart_storm"] == true
    });
    assert_eq!(of_slot(&seen, 0, "last_end"), "\"no database for slot 0\"");
    assert_eq!(of_slot(&seen, 1, "crashes"), "1", "the boots are counted apart: {seen:?}");
    assert_eq!(seen.json["is_ready"], false);
    assert_eq!(seen.json["worker_states"]["ready"], 0);
    pool.server.await_log("worker keeps dying: slot=0: next one in");
    pool.server.await_log("workers end too often: more than 3 in 10 s");
    eventually("a slot that waits", PATIENCE, || {
        let back_off = pool.ask("status").json["restarts"][0]["back_off"].as_f64();
        back_off.filter(|left| *left > 0.1 && *left <= 1.0)
    });
    let mut waits = Client::new(std::net::TcpStream::connect(address).expect("the port lives"));
    let reply = waits.get("/").expect("an answer of the master");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{reply:?}");
    // It costs next to nothing while nobody asks.
    let (began, before) = (Stopwatch::start(), ticks(pool.server.pid()));
    let log = pool.server.log().len();
    while began.elapsed() < Duration::from_secs(5) {
        std::thread::park_timeout(Duration::from_secs(5));
    }
    let (used, time) = (ticks(pool.server.pid()) - before, began.elapsed());
    let tries = pool.server.log()[log..].matches("worker spawned").count();
    println!("{used} ticks of the master in {time:?}, {tries} forks");
    assert!((used as f64) < time.as_secs_f64(), "{used} ticks in {time:?}: 1 % is one a second");
    assert!((6..=24).contains(&tries), "at 0.5 to 1 s a slot: {tries}");
    // All is well again: it is back by itself.
    fs::write(&pool.manners, "").expect("its folder is there");
    let began = Stopwatch::start();
    eventually("service", PATIENCE, || {
        let stream = std::net::TcpStream::connect(address).expect("the port lives");
        (Client::new(stream).get("/").ok()?.status == 200).then_some(())
    });
    println!("served again after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    pool.await_status("all well", |status| status.json["is_ready"] == true);
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("no_worker=") || log.contains("pending_timeout="), "{log}");
}

/// What it wrote is passed on as it comes, and kept for its end, also of one that aborts.
fn last_lines() {
    let pool = Pool::start(1, "--mode centralized --capture-stderr true");
    let ask = |path| {
        let address = pool.server.address();
        let stream = std::net::TcpStream::connect(address).expect("the port lives");
        let _ = Client::new(stream).get(path);
    };
    let last = |says: &str| {
        let status = pool.await_status(says, |status| {
            of_slot(status, 0, "last_end").contains(says) && status.json["is_ready"] == true
        });
        status.json["restarts"][0]["last_lines"].clone()
    };
    ask("/last-words");
    let lines = last("exit code 3");
    assert_eq!(
        lines,
        serde_json::json!(["last words: one", "last words: two", "last words: three"])
    );
    let log = pool.server.await_log("its last lines: slot=0 pid=");
    assert!(log.ends_with("last words: one\\nlast words: two\\nlast words: three"), "{log}");
    assert!(pool.server.log().contains("\nlast words: two\n"), "passed on");
    // The next one writes nothing of its own; an abort says nothing either.
    ask("/crash");
    assert_eq!(last("SIGABRT"), serde_json::json!([]));
    assert_eq!(pool.server.stop().0, Some(0));
}

/// By a signal from outside, by its own hand, by the master's.
fn reasons() {
    let pool = Pool::start(2, "--mode centralized --boot-timeout 400ms");
    let workers = pool.server.workers();
    raw::signal(workers[0], libc::SIGFPE);
    let line = pool.server.await_log(&format!("worker died: slot=0 pid={}", workers[0]));
    assert!(line.contains("signal 8 (SIGFPE)"), "{line}");
    let last = |slot, says: &str| {
        pool.await_status(says, |status| of_slot(status, slot, "last_end").contains(says));
    };
    last(0, "signal 8 (SIGFPE)");
    fs::write(&pool.manners, "hang").expect("its folder is there");
    raw::signal(workers[1], libc::SIGKILL);
    pool.server.await_log("signal 9 (SIGKILL)");
    let line = pool.server.await_log("killed by the master: not ready within boot_timeout");
    assert!(line.contains("worker died: slot=1"), "{line}");
    last(1, "not ready within boot_timeout");
    fs::write(&pool.manners, "panic").expect("its folder is there");
    raw::signal(pool.server.workers()[0], libc::SIGKILL);
    let line = pool.server.await_log("its last panic");
    assert!(line.contains("no disk for slot"), "{line}");
    pool.await_status("the panic", |status| {
        let panic = |slot| of_slot(status, slot, "last_panic").contains("no disk for slot");
        panic(0) || panic(1)
    });
    let ends = pool.ask("metrics").json["worker_ends"].clone();
    assert!(ends["signal"].as_u64() >= Some(2) && ends["killed"].as_u64() >= Some(1), "{ends}");
    fs::write(&pool.manners, "").expect("its folder is there");
    pool.await_status("both serve", |status| status.json["active_workers"] == 2);
    assert_eq!(pool.server.stop().0, Some(0));
}
