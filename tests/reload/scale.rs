//! More workers, fewer, none: by signals.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::load::under_load;
use crate::pool::Pool;
use crate::raw;
use crate::reload::go_on;
use crate::server::{eventually, pause};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("scale::shared::eight_two_eight_under_load", || eight_two_eight("shared")),
    ("scale::centralized::eight_two_eight_under_load", || eight_two_eight("centralized")),
    ("scale::beyond_the_limits_is_refused", limits),
    ("scale::shared::more_than_at_first_have_listeners", beyond_the_first),
    ("scale::winch_drains_all_and_a_reload_brings_them_back", winch),
    ("scale::winch_and_hup_together_leave_a_pool_with_workers", winch_and_hup),
    ("scale::workers_ignore_what_is_for_the_master", ignored),
];

fn eight_two_eight(mode: &str) {
    let mut pool = Pool::start(&format!("mode {mode}"), 8);
    let ((), tally) = under_load(pool.address(), 8, |answers| {
        for _ in 0..6 {
            let line = pool.command(libc::SIGTTOU, "scale");
            println!("{line}");
            assert!(line.contains("done"), "{line}");
        }
        pool.await_workers(2);
        go_on(answers, 300);
        for _ in 0..6 {
            let line = pool.command(libc::SIGTTIN, "scale");
            println!("{line}");
            assert!(line.contains("done"), "{line}");
        }
        pool.await_workers(8);
        go_on(answers, 300);
    });
    tally.check();
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

fn limits() {
    let mut pool = Pool::start("workers_max 2", 1);
    assert!(pool.command(libc::SIGTTOU, "scale").contains("failed: one worker is the least"));
    assert!(pool.command(libc::SIGTTIN, "scale").contains("done: 2 workers"));
    let line = pool.command(libc::SIGTTIN, "scale");
    assert!(line.contains("failed: workers_max allows 2 workers"), "{line}");
    pool.await_workers(2);
    assert_eq!(pool.server.stop().0, Some(0));
}

/// Each of them gets connections from the kernel.
fn beyond_the_first() {
    let mut pool = Pool::start("mode shared", 1);
    for _ in 0..3 {
        assert!(pool.command(libc::SIGTTIN, "scale").contains("done"));
    }
    for worker in pool.await_workers(4) {
        eventually("an answer of each", 3 * PATIENCE, || {
            (pool.who().pid() == worker).then_some(())
        });
    }
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("no listener"), "{log}");
}

fn winch() {
    let mut pool = Pool::start("mode shared\npending_timeout 10s", 2);
    assert!(pool.command(libc::SIGWINCH, "scale").contains("done: 0 workers"));
    pool.await_workers(0);
    // The master keeps the listeners; who comes now waits for a worker.
    let mut early = pool.connect();
    early.ask("/").expect("the port lives");
    assert!(early.is_silent_for(Duration::from_millis(50)));
    let line = pool.reload();
    assert!(line.contains("serves with 2 workers"), "{line}");
    assert_eq!(early.reply().expect("it waited").status, 200);
    pool.await_workers(2);
    assert!(pool.command(libc::SIGWINCH, "scale").contains("done: 0 workers"));
    assert!(pool.command(libc::SIGTTIN, "scale").contains("done: 1 workers"));
    assert_eq!(pool.who().status, 200);
    assert_eq!(pool.server.stop().0, Some(0));
}

/// Signals that wait together come by number, HUP before WINCH: whatever their order was, the pool
/// has workers afterwards.
fn winch_and_hup() {
    let mut pool = Pool::start("mode shared", 2);
    pause(pool.pid());
    for signal in [libc::SIGWINCH, libc::SIGHUP, libc::SIGCONT] {
        pool.signal(signal);
    }
    assert!(pool.await_end("scale").contains("done: 0 workers"));
    let line = pool.await_end("reload");
    assert!(line.contains("serves with 2 workers"), "{line}");
    pool.await_workers(2);
    assert_eq!(pool.who().status, 200);
    assert_eq!(pool.server.stop().0, Some(0));
}

/// A terminal's signals reach the whole group, and so does who signals by name.
fn ignored() {
    let pool = Pool::start("mode shared", 2);
    let workers = pool.workers();
    let ignored =
        [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTTIN, libc::SIGTTOU, libc::SIGWINCH];
    let ((), tally) = under_load(pool.address(), 4, |answers| {
        for signal in ignored {
            for worker in &workers {
                raw::signal(*worker, signal);
            }
        }
        go_on(answers, 200);
    });
    tally.check();
    assert_eq!(tally.closed, 0);
    assert_eq!(pool.workers(), workers);
    assert_eq!(pool.server.stop().0, Some(0));
}
