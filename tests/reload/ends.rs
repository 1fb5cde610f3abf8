//! The end of a pool: its order, its deadline, and what happens when it meets a reload.

use crate::arrivals::term_amid_arrivals;
use crate::client::PATIENCE;
use crate::harness::Case;
use crate::pool::Pool;
use crate::raw;
use crate::server::{Stopwatch, eventually, gone, pause};
use std::thread;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("ends::shared::fifty_slow_requests_are_answered_whole", || fifty("shared")),
    ("ends::centralized::fifty_slow_requests_are_answered_whole", || fifty("centralized")),
    ("ends::beyond_the_deadline_is_cut_and_counted", beyond),
    ("ends::a_lame_duck_still_accepts", lame_duck),
    ("ends::term_during_a_reload_ends_the_pool", term_during_reload),
    ("ends::shared::arrivals_during_a_reload", || arrivals("shared", "", reload)),
    ("ends::centralized::arrivals_during_a_reload", || arrivals("centralized", "", reload)),
    ("ends::shared::arrivals_while_a_candidate_boots", || arrivals("shared", "", candidate)),
    ("ends::centralized::arrivals_while_a_candidate_boots", || {
        arrivals("centralized", "", candidate);
    }),
    ("ends::shared::arrivals_while_workers_are_recycled", || {
        arrivals("shared", "recycle_requests 60", recycle);
    }),
    ("ends::centralized::arrivals_while_workers_are_recycled", || {
        arrivals("centralized", "recycle_requests 60", recycle);
    }),
    ("ends::shared::arrivals_while_a_worker_dies", || dying("shared")),
    ("ends::centralized::arrivals_while_a_worker_dies", || dying("centralized")),
    ("ends::shared::arrivals_at_a_worker_that_is_stopped", stopped),
    ("ends::hup_during_a_drain_is_ignored", hup_during_drain),
    ("ends::shared::who_hangs_while_it_drains_is_killed", || hangs("shared", libc::SIGHUP)),
    ("ends::centralized::who_hangs_while_it_drains_is_killed", || {
        hangs("centralized", libc::SIGHUP);
    }),
    ("ends::who_hangs_when_it_is_scaled_away_is_killed", || hangs("shared", libc::SIGTTOU)),
    ("ends::as_soon_as_it_is_empty", empty),
];

fn fifty(mode: &str) {
    let mut pool = Pool::start(&format!("mode {mode}"), 4);
    let mut clients: Vec<_> = (0..50).map(|_| pool.client()).collect();
    for client in &mut clients {
        client.ask("/slow").expect("it is open");
    }
    // What is in the kernel's buffers when the drain begins is answered too.
    pool.signal(libc::SIGTERM);
    for mut client in clients {
        let reply = client.reply().expect("it was under way");
        assert_eq!((reply.status, reply.text().as_str()), (200, "slow"));
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(client.is_closed());
    }
    assert_eq!(pool.server.exit_code(PATIENCE), Some(0), "{}", pool.log());
    let books = pool.books();
    books.check();
    assert_eq!((books.get("accepted"), books.get("served"), books.get("cut")), (50, 50, 0));
}

fn beyond() {
    let mut pool = Pool::start("mode shared\ndrain_timeout 1s", 2);
    let mut slow = pool.client();
    slow.ask("/slow").expect("it is open");
    let mut never = pool.client();
    never.ask("/never").expect("it is open");
    // Both have been read: the worker answers something else on another connection afterwards.
    for _ in 0..20 {
        pool.who();
    }
    pool.signal(libc::SIGTERM);
    assert_eq!(slow.reply().expect("in time").text(), "slow");
    assert!(never.is_closed(), "cut");
    assert_eq!(pool.server.exit_code(2 * PATIENCE), Some(1), "{}", pool.log());
    let books = pool.books();
    books.check();
    assert_eq!((books.get("drain_deadline"), books.get("drained_cut")), (1, 1));
}

fn lame_duck() {
    let mut pool = Pool::start("mode shared\nlame_duck 1s", 2);
    let began = Stopwatch::start();
    pool.signal(libc::SIGTERM);
    pool.await_log("draining");
    let mut kept = pool.connect();
    assert_eq!(kept.get("/").expect("still welcome").header("connection"), None);
    assert_eq!(pool.server.exit_code(2 * PATIENCE), Some(0), "{}", pool.log());
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

fn term_during_reload() {
    let mut pool = Pool::start("boot_timeout 60s", 2);
    pool.set_manners("hang");
    let mut client = pool.client();
    client.ask("/slow").expect("it is open");
    pool.signal(libc::SIGHUP);
    let all = eventually("a successor", PATIENCE, || {
        let workers = pool.workers();
        let spawned = pool.log().matches("worker spawned").count() == 3;
        (workers.len() == 3 && spawned).then_some(workers)
    });
    pool.signal(libc::SIGTERM);
    assert!(pool.await_end("reload").contains("failed: the pool drains"));
    assert_eq!(client.reply().expect("it was under way").text(), "slow");
    assert_eq!(pool.server.exit_code(2 * PATIENCE), Some(0), "{}", pool.log());
    gone(&all, Duration::ZERO);
}

fn hup_during_drain() {
    let mut pool = Pool::start("mode shared", 2);
    let mut client = pool.client();
    client.ask("/slow").expect("it is open");
    pool.signal(libc::SIGTERM);
    pool.await_log("draining");
    for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGTTIN, libc::SIGTTOU, libc::SIGWINCH] {
        raw::signal(pool.pid(), signal);
    }
    pool.await_log("signal 1 ignored: the pool drains");
    assert_eq!(client.reply().expect("it was under way").text(), "slow");
    assert_eq!(pool.server.exit_code(2 * PATIENCE), Some(0), "{}", pool.log());
    assert!(!pool.log().contains("begins: epoch"), "{}", pool.log());
}

/// The deadline is long; nobody is waited for.
fn empty() {
    let mut pool = Pool::start("drain_timeout 300s", 2);
    pool.who();
    pool.signal(libc::SIGTERM);
    assert_eq!(pool.server.exit_code(PATIENCE), Some(0), "{}", pool.log());
}

/// TERM while clients arrive and the pool is at something, at several moments of it: who came into
/// a queue of ours is answered, or told 503.
fn arrivals(mode: &str, options: &str, disturb: fn(&Pool, u64)) {
    for moment in 0..6 {
        let mut pool = Pool::start(&format!("mode {mode}\nboot_timeout 60s\n{options}"), 2);
        let came = term_amid_arrivals(pool.address(), pool.pid(), || disturb(&pool, moment));
        assert_eq!(pool.server.exit_code(2 * PATIENCE), Some(0), "{}", pool.log());
        println!("{moment}: {} answered, {} refused", came.answered, came.refused);
        assert!(came.broken.is_empty(), "{:?}\n{}", came.broken, pool.log());
        pool.books().check();
    }
}

/// At this moment, in parts of 2 ms.
fn pass(moment: u64) {
    thread::park_timeout(Duration::from_millis(2 * moment));
}

fn reload(pool: &Pool, moment: u64) {
    pool.signal(libc::SIGHUP);
    pass(moment);
}

fn candidate(pool: &Pool, moment: u64) {
    pool.set_manners("hang");
    pool.signal(libc::SIGHUP);
    eventually("a successor", PATIENCE, || {
        (pool.log().matches("worker spawned").count() == 3).then_some(())
    });
    pass(moment);
}

fn recycle(pool: &Pool, moment: u64) {
    pool.await_log("recycle begins");
    pass(moment);
}

/// Only what it had taken is lost with it, and that is counted.
fn dying(mode: &str) {
    for moment in 0..6 {
        let mut pool = Pool::start(&format!("mode {mode}"), 2);
        let victim = pool.workers()[0];
        let came = term_amid_arrivals(pool.address(), pool.pid(), || {
            raw::signal(victim, libc::SIGKILL);
            pass(moment / 2);
        });
        pool.server.exit_code(2 * PATIENCE);
        let pid = format!("pid={victim} ");
        let death = eventually("its end", PATIENCE, || {
            let log = pool.log();
            log.lines().find(|l| l.contains(&pid) && l.contains("open=")).map(str::to_owned)
        });
        let open = death.rsplit("open=").next().and_then(|open| open.trim().parse::<u64>().ok());
        // One more may be taken and not counted yet.
        let cut = open.expect("it says so") + 1;
        println!("{moment}: {} answered, {cut} cut, {:?}", came.answered, came.broken);
        assert!(came.broken.len() as u64 <= cut, "{:?}\n{}", came.broken, pool.log());
        pool.books().check();
    }
}

/// Its queue is served by the others.
fn stopped() {
    let mut pool = Pool::start("mode shared\ndrain_timeout 1s\nwatchdog_timeout 0s", 2);
    let victim = pool.workers()[0];
    pause(victim);
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let mut client = pool.connect();
            client.ask("/").expect("it is connected");
            client
        })
        .collect();
    pool.signal(libc::SIGTERM);
    for mut client in clients {
        assert!(matches!(client.reply().expect("an answer").status, 200 | 503));
    }
    pool.server.exit_code(2 * PATIENCE);
    pool.books().check();
}

/// A worker that was stopped, and then is to leave: its clients are not held until the deadline of
/// the drain.
fn hangs(mode: &str, signal: i32) {
    let mut pool = Pool::start(&format!("mode {mode}\nwatchdog_timeout 2s\ndrain_timeout 300s"), 2);
    let victim = pool.workers()[1];
    let mut its = eventually("a client of it", PATIENCE, || {
        let mut client = pool.connect();
        (client.get("/who").expect("an answer").pid() == victim).then_some(client)
    });
    pause(victim);
    let began = Stopwatch::start();
    pool.signal(signal);
    its.ask("/").expect("it is open");
    let end = its.reply();
    println!("{end:?} after {:?}", began.elapsed());
    assert!(end.is_err() && began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    pool.await_log("it hung for watchdog_timeout");
    assert_eq!(pool.who().status, 200);
    pool.signal(libc::SIGTERM);
    pool.server.exit_code(2 * PATIENCE);
    pool.books().check();
}
