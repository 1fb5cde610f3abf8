//! Workers that have served long enough are replaced, each cause once.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::load::under_load;
use crate::pool::Pool;
use crate::reload::go_on;
use crate::server::eventually;

pub(crate) const CASES: &[Case] = &[
    ("recycle::requests", requests),
    ("recycle::age", age),
    ("recycle::rss", || memory("recycle_rss")),
    ("recycle::pss", || memory("recycle_pss")),
    ("recycle::at_most_so_many_at_a_time", at_most),
    ("recycle::a_successor_that_fails_changes_nothing", failing),
];

/// How often a worker was replaced for this cause.
fn count(pool: &Pool, cause: &str) -> usize {
    let log = pool.log();
    log.lines().filter(|l| l.starts_with("worker is replaced") && l.ends_with(cause)).count()
}

fn requests() {
    let pool = Pool::start("mode shared\nrecycle_requests 300", 2);
    let before = pool.workers();
    let ((), tally) = under_load(pool.address(), 4, |answers| {
        eventually("three replaced", 3 * PATIENCE, || {
            (count(&pool, "recycle_requests") >= 3).then_some(())
        });
        go_on(answers, 100);
    });
    tally.check();
    assert!(pool.workers().iter().all(|worker| !before.contains(worker)));
    assert_eq!(pool.server.stop().0, Some(0));
}

fn age() {
    let pool = Pool::start("mode centralized\nrecycle_age 1s", 2);
    let before = pool.workers();
    let ((), tally) = under_load(pool.address(), 4, |_| {
        eventually("two replaced", 3 * PATIENCE, || {
            let workers = pool.workers();
            workers.iter().all(|worker| !before.contains(worker)).then_some(())
        });
    });
    tally.check();
    assert!(count(&pool, "recycle_age") >= 2);
    assert_eq!(pool.server.stop().0, Some(0));
}

/// One that has eaten is replaced, and no other.
fn memory(option: &str) {
    let pool = Pool::start(&format!("mode shared\n{option} 60m"), 2);
    let before = pool.workers();
    let mut client = pool.connect();
    let fat = client.get("/who").expect("an answer").pid();
    for _ in 0..2 {
        assert_eq!(client.get("/eat").expect("an answer").text(), "eaten");
    }
    pool.await_log(&format!("pid={fat}: {option}"));
    eventually("its end", 3 * PATIENCE, || (!pool.workers().contains(&fat)).then_some(()));
    let workers = pool.await_workers(2);
    let kept = before.iter().filter(|worker| workers.contains(worker)).count();
    assert_eq!((kept, count(&pool, option)), (1, 1));
    assert_eq!(pool.server.stop().0, Some(0));
}

fn at_most() {
    let pool = Pool::start("mode shared\nrecycle_age 1s\nmax_unavailable 2", 4);
    let before = pool.workers();
    let mut most = 0;
    eventually("four replaced", 3 * PATIENCE, || {
        let workers = pool.workers();
        most = most.max(workers.len());
        workers.iter().all(|worker| !before.contains(worker)).then_some(())
    });
    assert!(most <= 6, "{most} at a time");
    assert_eq!(pool.server.stop().0, Some(0));
}

fn failing() {
    let mut pool = Pool::start("mode shared\nrecycle_age 500ms", 2);
    let before = pool.workers();
    pool.set_manners("fail");
    assert!(pool.await_end("recycle").contains("failed: slot 0: no database for slot 0"));
    assert_eq!(pool.await_workers(2), before);
    assert_eq!(pool.who().status, 200);
    assert_eq!(pool.server.stop().0, Some(0));
}
