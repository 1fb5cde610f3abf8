//! A rollback after an upgrade: the program before comes back, though its file was replaced.

use crate::harness::Case;
use crate::load::under_load;
use crate::pool::Pool;

pub(crate) const CASES: &[Case] = &[
    ("back::shared::the_program_before_comes_back_under_load", || under("shared")),
    ("back::centralized::the_program_before_comes_back_under_load", || under("centralized")),
    ("back::a_program_before_that_is_no_good_any_more", no_good),
];

#[track_caller]
fn roll_back(pool: &Pool) {
    let reply = pool.ctl("rollback");
    assert!(reply.ok && reply.code == 0, "{}\n{}", reply.line, pool.log());
    pool.await_workers(2);
}

/// Old, new, old, new; then a reload is what is undone first.
fn under(mode: &str) {
    let mut pool = Pool::start(&format!("mode {mode}"), 2);
    let old = pool.version();
    let ((), tally) = under_load(pool.address(), 8, |_| {
        let reply = pool.ctl("rollback");
        assert!(!reply.ok && reply.text.contains("no earlier configuration"), "{}", reply.line);
        let new = pool.install();
        pool.upgrade();
        pool.await_workers(2);
        assert_eq!(pool.version(), new);
        roll_back(&pool);
        assert_eq!(pool.version(), old, "its file is gone, the program is not");
        roll_back(&pool);
        assert_eq!(pool.version(), new);
        assert!(pool.ctl("reload").ok);
        pool.await_workers(2);
        roll_back(&pool);
        assert_eq!(pool.version(), new, "that was the reload");
        let newest = pool.install();
        pool.upgrade();
        pool.await_workers(2);
        assert_eq!(pool.version(), newest);
        roll_back(&pool);
        assert_eq!(pool.version(), new);
        assert!(pool.ctl("ledger").ok, "the books balance");
    });
    tally.check();
    assert_eq!(tally.closed, 0, "each client ends on the connection it began with");
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

/// It is tried like any other.
fn no_good() {
    let mut pool = Pool::start("mode shared", 2);
    let new = pool.install();
    pool.upgrade();
    pool.await_workers(2);
    pool.set_manners("fail");
    let reply = pool.ctl("rollback");
    assert!(!reply.ok && reply.text.contains("no database for slot 0"), "{}", reply.line);
    assert!(reply.text.ends_with("nothing has changed"), "{}", reply.line);
    assert_eq!(pool.version(), new);
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}
