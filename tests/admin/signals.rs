//! What an application does on signals: in the master, and in workers.

use crate::client::PATIENCE;
use crate::control::Pool;
use crate::harness::Case;
use crate::raw;
use crate::server::eventually;

pub(crate) const CASES: &[Case] = &[
    ("usr2_in_the_master_is_the_applications", in_master),
    ("usr1_and_usr2_in_a_worker_reach_all_its_handlers", in_worker),
    ("p7_signals_of_the_master_do_nothing_in_a_worker", workers_ignore),
    ("shutdown_and_reload_are_told_once_and_set_flags", flags),
];

fn in_master() {
    let pool = Pool::start(1, "");
    raw::signal(pool.server.pid(), libc::SIGUSR2);
    pool.server.await_log("master got 12");
    raw::signal(pool.server.pid(), libc::SIGUSR2);
    eventually("a second time", PATIENCE, || {
        (pool.server.log().matches("master got 12").count() == 2).then_some(())
    });
    let log = pool.server.log();
    assert!(!log.contains("never"), "it was unregistered: {log}");
    assert_eq!(pool.server.connect().get("/").expect("an answer").status, 200);
}

fn in_worker() {
    let pool = Pool::start(2, "");
    let workers = pool.server.workers();
    raw::signal(workers[0], libc::SIGUSR1);
    pool.server.await_log(&format!("first in {} got 10", workers[0]));
    pool.server.await_log(&format!("second in {} got 10", workers[0]));
    raw::signal(workers[1], libc::SIGUSR2);
    pool.server.await_log(&format!("worker {} got 12", workers[1]));
    let log = pool.server.log();
    assert!(!log.contains(&format!("in {} got", workers[1])), "only who got it: {log}");
    assert_eq!(pool.server.workers(), workers, "nobody died of it");
    assert_eq!(pool.server.connect().get("/").expect("an answer").status, 200);
}

fn workers_ignore() {
    let pool = Pool::start(1, "");
    let worker = pool.server.workers()[0];
    for signal in
        [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTTIN, libc::SIGTTOU, libc::SIGWINCH]
    {
        raw::signal(worker, signal);
    }
    // One after the others, and it is told of this one.
    raw::signal(worker, libc::SIGUSR1);
    pool.server.await_log(&format!("first in {worker} got 10"));
    assert_eq!(pool.server.workers(), [worker]);
    // TERM drains it, and nobody but it; the master goes on with another.
    raw::signal(worker, libc::SIGTERM);
    pool.server.await_log(&format!("shutdown in {worker} flag true"));
    pool.server.await_ready(2);
    let log = pool.server.log();
    let master = format!("shutdown in {} ", pool.server.pid());
    assert!(!log.contains(&master), "{log}");
    assert_eq!(pool.server.connect().get("/").expect("an answer").status, 200);
}

fn flags() {
    let pool = Pool::start(1, "");
    assert!(pool.ask("reload").ok);
    pool.server.await_log("reload flag true");
    raw::signal(pool.server.pid(), libc::SIGHUP);
    eventually("a second reload", PATIENCE, || {
        (pool.server.log().matches("reload flag true").count() == 2).then_some(())
    });
    let master = pool.server.pid();
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0));
    let told = format!("shutdown in {master} flag true");
    assert_eq!(log.matches(&told).count(), 1, "{log}");
}
