//! An upgrade to a program that is good.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::load::under_load;
use crate::pool::Pool;
use crate::raw;
use crate::server::eventually;
use ringfort::admin::client::ask;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

pub(crate) const CASES: &[Case] = &[
    ("good::shared::under_load_nothing_fails", || under("shared")),
    ("good::centralized::under_load_nothing_fails", || under("centralized")),
    ("good::what_waits_in_the_master_goes_along", pending),
    ("good::what_is_in_transit_to_a_stopped_worker_goes_along", in_transit),
    ("good::slow_requests_end_where_they_began", slow),
    ("good::books_messages_and_files_carry_over", carried),
    ("good::usr2_upgrades_if_so_configured", usr2),
    ("good::what_was_changed_live_stays", live),
    ("good::what_is_asked_meanwhile_waits_its_turn", meanwhile),
];

/// The sockets that a process listens on, by their number in the kernel.
fn listeners(pid: u32) -> Vec<PathBuf> {
    let tcp = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("it lives");
    // The fourth column is the state, 0A is LISTEN; the tenth is the inode.
    let listening = tcp.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = listening.filter(|row| row.get(3) == Some(&"0A"));
    let inodes: Vec<String> = listening.map(|row| format!("socket:[{}]", row[9])).collect();
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
    let links = fds.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut own: Vec<PathBuf> = links
        .filter(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
        .collect();
    own.sort_unstable();
    own
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count()
}

/// Three in a row while clients ask: same process, same listeners, same connections.
fn under(mode: &str) {
    let mut pool = Pool::start(&format!("mode {mode}"), 2);
    let (listening, open) = (listeners(pool.pid()), descriptors(pool.pid()));
    assert!(!listening.is_empty());
    let (accepted, tally) = under_load(pool.address(), 8, |_| {
        let mut version = pool.version();
        for upgrade in 1..=3 {
            let next = pool.install();
            assert_ne!(next, version);
            version = next;
            let reply = pool.upgrade();
            assert_eq!(reply.json["epoch"], upgrade, "{}", reply.line);
            // The last old worker may have begun to drain only now.
            pool.await_workers(2);
            assert_eq!(pool.version(), version, "{}", reply.line);
            println!("{}", reply.line);
        }
        ledger(&pool, "accepted")
    });
    tally.check();
    assert_eq!(tally.closed, 0, "each client ends on the connection it began with");
    assert!(accepted > 0);
    assert_eq!(listeners(pool.pid()), listening);
    eventually("as many descriptors as at first", PATIENCE, || {
        // And the program before the last, to go back to.
        (descriptors(pool.pid()) == open + 1).then_some(())
    });
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
    let line = log.lines().find(|line| line.starts_with("drained: ")).expect("the books");
    println!("{line}");
}

/// A number of the ledger.
fn ledger(pool: &Pool, name: &str) -> u64 {
    let reply = pool.ctl("ledger");
    assert!(reply.ok, "{}", reply.line);
    let after = reply.line.split(&format!("\"{name}\":")).nth(1).expect("it has a row");
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// A connection that waits in the master for a worker with room is answered by the next program.
fn pending() {
    let mut pool = Pool::start("mode centralized\nconnections_max 1\npending_timeout 20s", 1);
    let mut first = pool.connect();
    first.ask("/slow").expect("it is open");
    eventually("one that is served", PATIENCE, || (ledger(&pool, "open") == 1).then_some(()));
    let mut second = pool.connect();
    second.ask("/who").expect("it is open");
    eventually("one that waits", PATIENCE, || (ledger(&pool, "open") == 2).then_some(()));
    let version = pool.install();
    pool.upgrade();
    assert!(second.reply().expect("it waited").text().contains(&version.to_string()));
    assert_eq!(first.reply().expect("it was under way").text(), "slow");
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

/// What a worker that is stopped was given, and never took, is answered after its end.
fn in_transit() {
    let mut pool = Pool::start("mode centralized\ndrain_timeout 1s\nwatchdog_timeout 0s", 1);
    let old = pool.workers()[0];
    let mut kept = pool.client();
    crate::server::pause(old);
    let mut lost: Vec<_> = (0..5).map(|_| pool.connect()).collect();
    lost.iter_mut().for_each(|client| client.ask("/who").expect("it is open"));
    eventually("five in transit", PATIENCE, || (ledger(&pool, "open") == 6).then_some(()));
    let version = pool.install();
    pool.upgrade();
    for client in &mut lost {
        assert!(client.reply().expect("an answer").text().contains(&version.to_string()));
    }
    assert!(kept.is_closed(), "its worker was killed");
    assert_eq!(ledger(&pool, "redispatched"), 5);
    assert!(pool.ctl("ledger").ok, "the books balance");
}

fn slow() {
    let mut pool = Pool::start("mode shared", 2);
    let mut clients: Vec<_> = (0..20).map(|_| pool.client()).collect();
    for client in &mut clients {
        client.ask("/slow").expect("it is open");
    }
    pool.install();
    pool.upgrade();
    for mut client in clients {
        let reply = client.reply().expect("it was under way");
        assert_eq!((reply.status, reply.text().as_str()), (200, "slow"));
        // And then it goes on with the next program.
        assert_eq!(client.get("/").expect("the same connection").text(), "Hello, World!");
    }
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

fn carried() {
    let mut pool = Pool::start("mode shared", 2);
    let pid = pool.pid().to_string();
    let mut client = pool.client();
    for _ in 0..9 {
        client.get("/").expect("an answer");
    }
    raw::signal(pool.workers()[0], libc::SIGKILL);
    pool.await_ready(3);
    eventually("that death in the books", PATIENCE, || {
        (ledger(&pool, "deaths") == 1).then_some(())
    });
    let accepted = ledger(&pool, "accepted");
    assert_eq!(accepted, 1);
    pool.install();
    pool.upgrade();
    pool.await_workers(2);
    eventually("that death, and both of the program before", PATIENCE, || {
        (ledger(&pool, "deaths") == 3).then_some(())
    });
    assert_eq!(ledger(&pool, "accepted"), accepted + 2, "and a probe of each new worker");
    assert!(pool.ctl("ledger").ok, "the books balance");
    assert_eq!(fs::read_to_string(pool.path("pid")).expect("it is there").trim(), pid);
    // Messages between the next program's master and its workers.
    assert_eq!(pool.connect().get("/say").expect("an answer").text(), "true");
    eventually("a message that all hear", PATIENCE, || {
        (pool.connect().get("/heard").expect("an answer").text() == "1").then_some(())
    });
    // Its environment says nothing of where it comes from.
    let workers = pool.workers();
    for process in workers.iter().chain([&pool.pid()]) {
        assert!(fs::read_link(format!("/proc/{process}/exe")).is_ok_and(|p| p == pool.path("app")));
    }
    let (control, file) = (pool.path("control"), pool.path("pid"));
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!control.exists() && !file.exists(), "removed by who ended");
}

fn usr2() {
    let mut pool = Pool::start("mode shared\nusr2_upgrade true", 1);
    let version = pool.install();
    raw::signal(pool.pid(), libc::SIGUSR2);
    pool.await_log("upgrade done");
    eventually("the new version", PATIENCE, || (pool.version() == version).then_some(()));
    pool.set_options("workers 1\nmode shared\naddr 127.0.0.1:0");
    pool.install();
    pool.upgrade();
    raw::signal(pool.pid(), libc::SIGUSR2);
    pool.await_log("signal 12 ignored: it is the application's");
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

/// Mode and number of workers, unless what is configured has changed.
fn live() {
    let mut pool = Pool::start("mode shared", 2);
    assert!(pool.ctl("mode centralized").ok);
    assert!(pool.ctl("scale 3").ok);
    pool.install();
    pool.upgrade();
    pool.await_workers(3);
    assert_eq!(pool.ctl("status").json["architecture"], "centralized");
    pool.set_options("addr 127.0.0.1:0\nworkers 1\nmode shared");
    pool.install();
    pool.upgrade();
    pool.await_workers(1);
    assert!(pool.ctl("reload").ok);
    pool.await_workers(1);
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

/// Signals and commands that come while the next program is tried: each is done, and answered.
fn meanwhile() {
    let pool = Pool::start("workers_max 8", 2);
    let asks = |line: &'static str| {
        let control = pool.control();
        move || ask(&control, line, 6 * PATIENCE)
    };
    let (over, status) = (Arc::new(AtomicBool::new(false)), asks("status"));
    let ended = Arc::clone(&over);
    // At every moment somebody asks.
    let curious = spawn(move || {
        let mut count = 0;
        while !ended.load(Ordering::Relaxed) {
            assert!(status().expect("an answer at any moment").ok);
            count += 1;
        }
        count
    });
    for round in 1..=3 {
        let upgrade = spawn(asks("upgrade"));
        eventually("the trial", 3 * PATIENCE, || {
            (pool.log().matches("upgrade begins").count() >= 2 * round - 1).then_some(())
        });
        let scale = (round < 3).then(|| spawn(asks("scale +1")));
        raw::signal(pool.pid(), if round < 3 { libc::SIGTTIN } else { libc::SIGWINCH });
        let upgraded = upgrade.join().expect("no panic").expect("an answer");
        assert!(upgraded.ok, "{}", upgraded.line);
        if let Some(scale) = scale {
            let scaled = scale.join().expect("no panic").expect("an answer");
            assert!(scaled.ok, "{}", scaled.line);
        }
        pool.await_workers([4, 6, 0][round - 1]);
    }
    over.store(true, Ordering::Relaxed);
    println!("{} answers meanwhile", curious.join().expect("each was answered"));
    assert!(!pool.log().contains("ask again"), "{}", pool.log());
    raw::signal(pool.pid(), libc::SIGHUP);
    pool.await_workers(6);
    assert_eq!(pool.server.stop().0, Some(0));
}

fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().spawn(run).expect("a thread")
}
