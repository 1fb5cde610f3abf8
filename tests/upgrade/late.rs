//! A program that was good on trial, and whose workers then fail in the pool: the master is the new
//! program, the old workers serve on, and the caller is told.

use crate::harness::Case;
use crate::load::under_load;
use crate::pool::Pool;

pub(crate) const CASES: &[Case] = &[
    ("late::shared::the_old_workers_serve_on", || under("shared")),
    ("late::centralized::the_old_workers_serve_on", || under("centralized")),
    ("late::what_has_taken_over_stays", half),
];

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

/// Every way to fail, one after the other, and a good end.
fn under(mode: &str) {
    let limits = "boot_timeout 1500ms\nprobe_timeout 700ms";
    let mut pool = Pool::start(&format!("mode {mode}\n{limits}"), 2);
    let (version, workers) = (pool.version(), sorted(pool.workers()));
    let ((), tally) = under_load(pool.address(), 4, |_| {
        for (manners, why) in [
            ("fail", "no database for slot 0"),
            ("abort", "signal 6"),
            ("stuck", "not ready within boot_timeout"),
            ("500", "answered the probe with 500"),
            ("silent", "no answer to the probe in time"),
        ] {
            pool.set_manners(&format!("real {manners}"));
            pool.install();
            let reply = pool.ctl("upgrade");
            println!("{manners}: {}", reply.line);
            assert!(!reply.ok && reply.code == 1, "{manners}: {}", reply.line);
            assert!(reply.text.contains(why), "{manners}: {}", reply.line);
            let so = "the master is the new program, the old workers serve on";
            assert!(reply.text.ends_with(so), "{}", reply.line);
            assert_eq!(sorted(pool.await_workers(2)), workers, "{manners}");
            assert_eq!(pool.version(), version, "{manners}");
            assert!(pool.ctl("ledger").ok, "{manners}: the books balance");
        }
        // The new program is there already: its workers come with a reload.
        pool.set_manners("");
        let reply = pool.ctl("reload");
        assert!(reply.ok, "{}", reply.line);
        let new = pool.await_workers(2);
        assert!(new.iter().all(|pid| !workers.contains(pid)));
        assert_ne!(pool.version(), version);
        let version = pool.install();
        pool.upgrade();
        pool.await_workers(2);
        assert_eq!(pool.version(), version);
    });
    tally.check();
    assert_eq!(tally.closed, 0, "each client ends on the connection it began with");
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

/// The first slot has a new worker when the second one's fails.
fn half() {
    let mut pool = Pool::start("mode shared\nsurge 1", 2);
    let workers = pool.workers();
    pool.set_manners("real last fail");
    pool.install();
    let (reply, tally) = under_load(pool.address(), 4, |_| pool.ctl("upgrade"));
    tally.check();
    assert_eq!(tally.closed, 0, "each client ends on the connection it began with");
    assert!(!reply.ok && reply.text.contains("no database for slot 1"), "{}", reply.line);
    let now = pool.await_workers(2);
    assert_eq!(now.iter().filter(|pid| workers.contains(pid)).count(), 1, "of slot 1");
    pool.set_manners("");
    assert!(pool.ctl("reload").ok);
    assert!(pool.await_workers(2).iter().all(|pid| !now.contains(pid)));
    assert!(pool.ctl("ledger").ok, "the books balance");
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}
