//! Reload as a transaction.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::load::under_load;
use crate::pool::Pool;
use crate::raw;
use crate::server::{Stopwatch, eventually, pause, state};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("reload::shared::a_hundred_in_a_row_under_load", || a_hundred("shared")),
    ("reload::centralized::a_hundred_in_a_row_under_load", || a_hundred("centralized")),
    ("reload::shared::what_fails_leaves_the_old_workers", || failures("shared")),
    ("reload::centralized::what_fails_leaves_the_old_workers", || failures("centralized")),
    ("reload::a_later_failure_brings_the_old_settings_back", later_failure),
    ("reload::options_reach_new_workers_and_the_rest_is_named", options),
    ("reload::another_mode_while_clients_ask", another_mode),
    ("reload::another_number_of_workers", another_number),
    ("reload::many_at_once_are_few", coalesced),
    ("reload::a_worker_that_dies_meanwhile_is_replaced", deaths),
    ("reload::surge_boots_several_at_a_time", surge),
    ("reload::a_trial_with_errors_ends_it", bad_trial),
    ("reload::a_good_trial_is_followed_by_the_others", good_trial),
    ("reload::a_trial_whose_handler_blocks_longer_ends_it", || {
        slow_trial("later-blocks", "canary_slowdown 3", "canary_slowdown allows 3 times as much");
    }),
    ("reload::a_trial_whose_answers_come_late_ends_it", || {
        slow_trial("later-waits", "canary_p99 40ms\ncanary_slowdown 0", "canary_p99 allows 40ms");
    }),
    ("reload::at_most_two_old_epochs_live", old_epochs),
    ("reload::a_client_that_never_idles_goes_to_the_new_worker", never_idle),
    ("reload::a_client_that_idles_late_goes_to_the_new_worker", idles_late),
];

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count()
}

/// KiB of anonymous memory: what the program itself holds.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("proc(5)");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// A hundred reloads while clients ask, after some that make what is kept for the next ones.
fn a_hundred(mode: &str) {
    let mut pool = Pool::start(&format!("mode {mode}"), 2);
    let idle = descriptors(pool.pid());
    let mut kept = Vec::new();
    for reloads in [30, 100] {
        let ((), tally) = under_load(pool.address(), 8, |_| {
            for reload in 0..reloads {
                pool.reload();
                println!("{reload}");
            }
        });
        tally.check();
        assert_eq!(tally.closed, 0, "each client ends on the connection it began with");
        pool.await_workers(2);
        eventually("as many descriptors as at first", PATIENCE, || {
            (descriptors(pool.pid()) == idle).then_some(())
        });
        kept.push(memory(pool.pid()));
    }
    println!("KiB: {kept:?}");
    assert!(kept[1] <= kept[0] + 512, "{kept:?}");
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("epoch 130 serves"), "{log}");
}

/// Why a reload fails, what it says, and that nothing has changed.
fn failures(mode: &str) {
    let options = format!("workers 2\nmode {mode}\nboot_timeout 2s\nprobe_timeout 1s");
    let mut pool = Pool::start(&options, 2);
    let mut workers = pool.workers();
    workers.sort_unstable();
    let mut client = pool.client();
    let cases = [
        ("workers many", "", "workers"),
        ("head_max 1", "", "head_max"),
        ("panic in-the-config", "", "exit code 101"),
        ("", "fail", "no database for slot 0"),
        ("", "abort", "signal 6"),
        ("", "hang", "not ready within boot_timeout"),
        ("", "500", "answered the probe with 500"),
        ("", "silent", "no answer to the probe in time"),
    ];
    for (wrong, manners, why) in cases {
        pool.set_options(&format!("{options}\n{wrong}"));
        pool.set_manners(manners);
        let line = pool.command(libc::SIGHUP, "reload");
        assert!(line.contains("failed") && line.contains(why), "{why}: {line}");
        assert!(line.contains("the old workers serve on"), "{line}");
        let mut now = pool.await_workers(2);
        now.sort_unstable();
        assert_eq!(now, workers, "{why}");
        assert_eq!(client.get("/").expect("the same connection").text(), "Hello, World!");
        assert!(pool.who().text().contains("\"epoch\":0"), "{why}");
    }
    pool.set_options(&options);
    pool.set_manners("");
    pool.reload();
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

fn later_failure() {
    let mut pool = Pool::start("head_max 8192", 3);
    pool.set_options("workers 3\nhead_max 512");
    pool.set_manners("2 fail");
    let (line, tally) = under_load(pool.address(), 4, |_| pool.command(libc::SIGHUP, "reload"));
    tally.check();
    assert!(line.contains("failed: slot 2: no database for slot 2"), "{line}");
    pool.await_workers(3);
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(1000));
    for _ in 0..20 {
        let mut client = pool.connect();
        client.send(&long).expect("it is open");
        assert_eq!(client.reply().expect("an answer").status, 200, "the old limit holds");
    }
    assert_eq!(pool.server.stop().0, Some(0));
}

fn options() {
    let mut pool = Pool::start("head_max 8192", 1);
    pool.set_options("workers 1\nhead_max 512\nbacklog 100\nbalancer round-robin");
    let line = pool.reload();
    assert!(line.contains("a restart is needed for backlog"), "{line}");
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(1000));
    let mut client = pool.connect();
    client.send(&long).expect("it is open");
    assert_eq!(client.reply().expect("an answer").status, 431);
    assert!(pool.who().text().contains("\"epoch\":1"));
    assert_eq!(pool.server.stop().0, Some(0));
}

fn another_mode() {
    let mut pool = Pool::start("mode shared", 3);
    for (round, mode) in ["centralized", "shared", "centralized", "shared"].iter().enumerate() {
        pool.set_options(&format!("workers 3\nmode {mode}"));
        let ((), tally) = under_load(pool.address(), 6, |answers| {
            pool.reload();
            go_on(answers, 200);
        });
        tally.check();
        pool.await_workers(3);
        let log = pool.log();
        assert!(log.contains(&format!("epoch {} serves", round + 1)), "{log}");
    }
    assert_eq!(pool.server.stop().0, Some(0));
    // The other way round: a pool that began with one listener gets one a worker.
    let mut pool = Pool::start("mode centralized", 2);
    pool.set_options("workers 2\nmode shared");
    let ((), tally) = under_load(pool.address(), 6, |answers| {
        pool.reload();
        go_on(answers, 200);
    });
    tally.check();
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("no listener"), "{log}");
}

/// Waits for so many more answers.
pub(crate) fn go_on(answers: &AtomicU64, count: u64) {
    let before = answers.load(Ordering::Relaxed);
    eventually("answers", 3 * PATIENCE, || {
        (answers.load(Ordering::Relaxed) >= before + count).then_some(())
    });
}

fn another_number() {
    let mut pool = Pool::start("mode shared", 2);
    for count in [4, 1, 3] {
        pool.set_options(&format!("mode shared\nworkers {count}"));
        pool.reload();
        pool.await_end("scale");
        pool.await_workers(count);
    }
    assert_eq!(pool.server.stop().0, Some(0));
}

fn coalesced() {
    let mut pool = Pool::start("boot_timeout 2s", 1);
    pool.set_manners("hang");
    pool.signal(libc::SIGHUP);
    pool.await_log("reload begins: epoch=1");
    for _ in 0..20 {
        pool.signal(libc::SIGUSR1);
    }
    // The successor, not the child that reads the options.
    eventually("a successor", PATIENCE, || {
        (pool.log().matches("worker spawned").count() == 2).then_some(())
    });
    eventually("it has begun", PATIENCE, || (pool.workers().len() == 2).then_some(()));
    assert!(pool.await_end("reload").contains("not ready within boot_timeout"));
    assert!(pool.await_end("reload").contains("not ready within boot_timeout"), "one for twenty");
    pool.set_manners("");
    assert!(pool.reload().contains("epoch 3 serves"));
    assert_eq!(pool.server.stop().0, Some(0));
}

/// Old and new workers are killed at whatever moment of ten reloads.
fn deaths() {
    let mut pool = Pool::start("mode shared", 2);
    for round in 0..10_usize {
        pool.signal(libc::SIGHUP);
        pool.await_log(&format!("reload begins: epoch={}", round + 1));
        let victim = eventually("somebody", PATIENCE, || {
            let workers = pool.workers();
            workers.get(round % workers.len().max(1)).copied()
        });
        if state(victim).is_some() {
            // It may end between the look and the signal.
            let _ = std::process::Command::new("kill").args(["-9", &victim.to_string()]).status();
        }
        let line = pool.await_end("reload");
        println!("{line}");
        assert_eq!(pool.who().status, 200);
    }
    pool.await_workers(2);
    pool.reload();
    let workers = pool.await_workers(2);
    assert_eq!(workers.len(), 2);
    assert!(pool.who().status == 200);
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

fn surge() {
    let mut pool = Pool::start("surge 3\nboot_timeout 2s", 3);
    pool.set_manners("hang");
    pool.signal(libc::SIGHUP);
    eventually("three beside the three", PATIENCE, || (pool.workers().len() == 6).then_some(()));
    assert!(pool.await_end("reload").contains("not ready within boot_timeout"));
    pool.await_workers(3);
    assert_eq!(pool.server.stop().0, Some(0));
}

const TRIAL: &str = "mode shared\ncanary_workers 1\ncanary_time 700ms";

fn bad_trial() {
    let mut pool = Pool::start(TRIAL, 2);
    pool.set_manners("later500");
    let (line, tally) = under_load(pool.address(), 8, |_| pool.command(libc::SIGHUP, "reload"));
    assert!(line.contains("failed: on trial"), "{line}");
    assert!(tally.failures.iter().all(|why| why.contains(" 500 ")), "{tally:?}");
    assert!(!tally.failures.is_empty());
    pool.await_workers(2);
    for _ in 0..20 {
        assert!(pool.who().text().contains("\"epoch\":0"));
    }
    assert_eq!(pool.server.stop().0, Some(0));
}

fn good_trial() {
    // Whoever else is on this machine makes some answers slow.
    let mut pool = Pool::start(&format!("{TRIAL}\ncanary_slowdown 100"), 2);
    let ((), tally) = under_load(pool.address(), 8, |_| {
        let began = Stopwatch::start();
        pool.reload();
        assert!(began.elapsed() >= Duration::from_millis(700));
    });
    tally.check();
    pool.await_workers(2);
    assert!(pool.who().text().contains("\"epoch\":1"));
    assert_eq!(pool.server.stop().0, Some(0));
}

/// Answers that come later than the old workers', by a handler that blocks or by one that waits.
fn slow_trial(manners: &str, limits: &str, why: &str) {
    let options = format!("mode shared\ncanary_workers 1\ncanary_time 3s\n{limits}");
    let mut pool = Pool::start(&options, 2);
    pool.set_manners(manners);
    let (line, tally) = under_load(pool.address(), 8, |_| pool.command(libc::SIGHUP, "reload"));
    assert!(line.contains("failed: on trial p99 was ") && line.contains(why), "{line}");
    tally.check();
    pool.await_workers(2);
    for _ in 0..20 {
        assert!(pool.who().text().contains("\"epoch\":0"));
    }
    assert_eq!(pool.server.stop().0, Some(0));
}

/// Its next request is always sent before its answer is read.
fn never_idle() {
    let mut pool = Pool::start("drain_timeout 600s", 1);
    let over = AtomicBool::new(false);
    let mut client = pool.client();
    thread::scope(|scope| {
        let asks = scope.spawn(|| {
            client.ask("/").expect("it is open");
            while !over.load(Ordering::Relaxed) {
                client.ask("/").expect("it is open");
                assert_eq!(client.reply().expect("an answer").text(), "Hello, World!");
            }
            client.reply().expect("the last answer")
        });
        for _ in 0..20 {
            pool.reload();
            pool.await_workers(1);
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(asks.join().expect("the same connection").text(), "Hello, World!");
    });
    assert_eq!(pool.server.stop().0, Some(0));
}

/// What runs is answered by the old worker, which then has nothing left.
fn idles_late() {
    let mut pool = Pool::start("drain_timeout 600s", 1);
    let mut client = pool.client();
    client.ask("/slow").expect("it is open");
    pool.reload();
    assert_eq!(client.reply().expect("an answer").text(), "slow");
    pool.await_workers(1);
    assert!(client.get("/who").expect("the same connection").text().contains("\"epoch\":1"));
    assert_eq!(pool.server.stop().0, Some(0));
}

/// Workers that do not end: the third reload ends those of the first epoch.
fn old_epochs() {
    let mut pool = Pool::start("drain_timeout 60s", 1);
    let mut stopped = Vec::new();
    for _ in 0..3 {
        let worker = pool.workers()[stopped.len()];
        let mut client = pool.connect();
        client.ask("/never").expect("it is open");
        // It finishes what runs; stopped, it does not even read that it should.
        pause(worker);
        stopped.push((worker, client));
        pool.reload();
    }
    let killed = stopped[0].0;
    let line = pool.await_log(&format!("pid={killed}: too many old epochs are alive"));
    assert!(line.contains("worker killed"), "{line}");
    let workers = pool.await_workers(3);
    assert!(!workers.contains(&killed));
    for (worker, _) in &stopped[1..] {
        assert!(workers.contains(worker));
        raw::signal(*worker, libc::SIGCONT);
    }
}
