//! A kill at any moment of an upgrade: a pool that serves, or a clean end; never a dead port.

use crate::arrivals::term_amid_arrivals;
use crate::client::PATIENCE;
use crate::harness::Case;
use crate::load::under_load;
use crate::pool::Pool;
use crate::raw;
use crate::server::{eventually, gone, port_is_free};
use ringfort::sys::process;
use std::fs;
use std::thread;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("kill::shared::the_master_at_every_moment", || moments("shared")),
    ("kill::centralized::the_master_at_every_moment", || moments("centralized")),
    ("kill::the_master_while_it_tries", tries),
    ("kill::the_master_just_after_the_exec", after),
    ("kill::the_program_on_trial", trial),
    ("kill::a_worker_while_a_program_is_tried", worker),
    ("kill::term_while_a_program_is_tried", term),
    ("kill::shared::arrivals_when_term_comes_amid_an_upgrade", || arrivals("shared")),
    ("kill::centralized::arrivals_when_term_comes_amid_an_upgrade", || arrivals("centralized")),
];

/// All processes that descend from this one.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while next < all.len() {
        let path = format!("/proc/{0}/task/{0}/children", all[next]);
        let children = fs::read_to_string(path).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        next += 1;
    }
    all.remove(0);
    all
}

/// Whoever descended from this process is gone soon, and reaped: by us, when its parent is.
fn all_gone() {
    eventually("the end of all processes", PATIENCE, || {
        while process::reap_stranger(|_| false) {}
        family(std::process::id()).is_empty().then_some(())
    });
}

/// The master is killed: whoever was its own is gone soon, and the port is free.
fn end(mut pool: Pool) -> String {
    let address = pool.address();
    raw::signal(pool.pid(), libc::SIGKILL);
    pool.server.exit_code(PATIENCE);
    port_is_free(address, PATIENCE);
    pool.log()
}

fn moments(mode: &str) {
    let mut seen = [0; 4];
    for moment in 0..20_u64 {
        let mut pool = Pool::start(&format!("mode {mode}"), 2);
        pool.install();
        let control = pool.control();
        let asks = thread::Builder::new()
            .spawn(move || ringfort::admin::client::ask(&control, "upgrade", PATIENCE))
            .expect("a thread");
        thread::park_timeout(Duration::from_millis(4 * moment));
        let log = end(pool);
        all_gone();
        let stages = ["upgrade begins: epoch=0", "becoming", "took over", "upgrade done"];
        let stage = stages.iter().filter(|stage| log.contains(**stage)).count();
        seen[stage.min(3)] += 1;
        println!("{moment}: {stage}");
        let _ = asks.join().expect("it does not panic");
    }
    println!("by stage: {seen:?}");
}

fn tries() {
    let mut pool = Pool::start("mode shared\nboot_timeout 60s", 2);
    pool.install();
    pool.set_manners("stuck");
    let control = pool.control();
    let asks = thread::Builder::new()
        .spawn(move || ringfort::admin::client::ask(&control, "upgrade", PATIENCE))
        .expect("a thread");
    // Two workers, the program on trial and its worker.
    eventually("a worker of the trial", PATIENCE, || (family(pool.pid()).len() == 4).then_some(()));
    end(pool);
    all_gone();
    assert!(asks.join().expect("it does not panic").is_err());
}

fn after() {
    for mode in ["shared", "centralized"] {
        let mut pool = Pool::start(&format!("mode {mode}"), 2);
        pool.install();
        let control = pool.control();
        let asks = thread::Builder::new()
            .spawn(move || ringfort::admin::client::ask(&control, "upgrade", PATIENCE))
            .expect("a thread");
        let program = format!("/proc/{}/exe", pool.pid());
        let app = pool.path("app");
        eventually("the next program", PATIENCE, || {
            fs::read_link(&program).is_ok_and(|path| path == app).then_some(())
        });
        let log = end(pool);
        all_gone();
        println!("{mode}: {}", log.contains("took over"));
        let _ = asks.join().expect("it does not panic");
    }
}

fn trial() {
    let mut pool = Pool::start("mode shared\nboot_timeout 60s", 2);
    pool.install();
    pool.set_manners("stuck");
    let workers = pool.workers();
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| pool.ctl("upgrade"));
        let all = eventually("a worker of the trial", PATIENCE, || {
            let all = family(pool.pid());
            (all.len() == 4).then_some(all)
        });
        let trial = pool.workers().into_iter().find(|pid| !workers.contains(pid));
        raw::signal(trial.expect("it is a child of the master"), libc::SIGKILL);
        let reply = upgrade.join().expect("it does not panic");
        assert!(!reply.ok && reply.text.contains("signal 9"), "{}", reply.line);
        let others: Vec<u32> = all.into_iter().filter(|pid| !workers.contains(pid)).collect();
        gone(&others, PATIENCE);
    });
    assert_eq!(pool.await_workers(2), workers);
    pool.set_manners("");
    pool.upgrade();
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

fn worker() {
    let mut pool = Pool::start("mode centralized", 2);
    let version = pool.install();
    let (reply, tally) = under_load(pool.address(), 4, |_| {
        thread::scope(|scope| {
            let upgrade = scope.spawn(|| pool.ctl("upgrade"));
            pool.await_log("upgrade begins");
            raw::signal(pool.workers()[0], libc::SIGKILL);
            upgrade.join().expect("it does not panic")
        })
    });
    println!("{} answers, {:?}", tally.answered, tally.failures);
    assert!(reply.ok, "{}", reply.line);
    eventually("the new version alone", PATIENCE, || (pool.version() == version).then_some(()));
    pool.await_workers(2);
    assert!(pool.ctl("ledger").ok, "the books balance");
}

fn term() {
    let mut pool = Pool::start("mode shared\nboot_timeout 60s", 2);
    pool.install();
    pool.set_manners("stuck");
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| pool.ctl("upgrade"));
        let all = eventually("a worker of the trial", PATIENCE, || {
            let all = family(pool.pid());
            (all.len() == 4).then_some(all)
        });
        raw::signal(pool.pid(), libc::SIGTERM);
        let reply = upgrade.join().expect("it does not panic");
        assert!(!reply.ok && reply.text.contains("the pool drains"), "{}", reply.line);
        gone(&all, PATIENCE);
    });
    assert_eq!(pool.server.exit_code(PATIENCE), Some(0), "{}", pool.log());
}

/// Who came into a queue of ours is answered, or told 503, whoever has copies of the listeners.
fn arrivals(mode: &str) {
    for moment in 0..8 {
        let mut pool = Pool::start(&format!("mode {mode}"), 2);
        pool.install();
        let (address, pid, control) = (pool.address(), pool.pid(), pool.control());
        let asks = thread::Builder::new().spawn(move || {
            // It may find nobody, or hear no end.
            let _ = ringfort::admin::client::ask(&control, "upgrade", 3 * PATIENCE);
        });
        let asks = asks.expect("a thread");
        let came = term_amid_arrivals(address, pid, || {
            pool.await_log("upgrade begins");
            thread::park_timeout(Duration::from_millis(3 * moment));
        });
        assert_eq!(pool.server.exit_code(2 * PATIENCE), Some(0), "{}", pool.log());
        asks.join().expect("it does not panic");
        println!("{moment}: {} answered, {} refused", came.answered, came.refused);
        assert!(came.broken.is_empty(), "{:?}\n{}", came.broken, pool.log());
        all_gone();
    }
}
