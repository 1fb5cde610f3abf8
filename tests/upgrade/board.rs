//! An upgrade between builds that do not count the same: the workers of each go on with the board
//! they have, and the books are one.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::load::under_load;
use crate::pool::Pool;
use crate::server::eventually;

pub(crate) const CASES: &[Case] = &[
    ("board::shared::other_counters_under_load", || under("shared")),
    ("board::centralized::other_counters_under_load", || under("centralized")),
    ("board::three_builds_serve_at_once", three),
    ("board::one_without_what_the_books_need_takes_a_restart", poor),
];

/// Ours, another, the same, ours again; clients ask all the time.
fn under(mode: &str) {
    let mut pool = Pool::start(&format!("mode {mode}"), 2);
    let ((), tally) = under_load(pool.address(), 8, |_| {
        for (build, unknown) in
            [("other", ""), ("other", ""), ("", "; only it counts as_it_wished, of_the_other")]
        {
            pool.set_build(build);
            let version = pool.install();
            pool.upgrade();
            let line = format!("took over: workers=2 of the program before{unknown}");
            pool.await_log(&line);
            assert!(pool.ctl("ledger").ok, "the books balance, with both kinds of workers");
            // The last old worker may have begun to drain only now.
            pool.await_workers(2);
            assert_eq!(pool.version(), version);
        }
    });
    tally.check();
    assert_eq!(tally.closed, 0, "each client ends on the connection it began with");
    let books = eventually("all of them closed", PATIENCE, || {
        let books = pool.ctl("ledger");
        assert!(books.ok, "{}", books.line);
        books.line.contains("\"open\":0").then_some(books)
    });
    println!("{}", books.line);
    assert!(books.line.contains("\"unknown_reason\""), "{}", books.line);
    // Each answer of any program is counted, and the probes of three upgrades.
    let requests = pool.ctl("status").json["total_requests"].as_u64().expect("a number");
    assert_eq!(requests, tally.answered + 3 + 3 * 2, "one of ours after each upgrade");
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

/// Requests that began two programs ago are in the books.
fn three() {
    let mut pool = Pool::start("mode centralized", 1);
    let open = pool.workers();
    let mut first = pool.connect();
    first.ask("/slow").expect("it is open");
    eventually("one that is served", PATIENCE, || {
        pool.ctl("ledger").line.contains("\"open\":1").then_some(())
    });
    for build in ["other", "", "other"] {
        pool.set_build(build);
        pool.install();
        pool.upgrade();
        assert!(pool.ctl("ledger").ok, "the books balance");
    }
    assert!(pool.workers().contains(&open[0]), "it serves on");
    assert_eq!(first.reply().expect("it was under way").text(), "slow");
    drop(first);
    pool.await_workers(1);
    eventually("an end of it", PATIENCE, || {
        let books = pool.ctl("ledger");
        assert!(books.ok, "{}", books.line);
        books.line.contains("\"open\":0").then_some(())
    });
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

fn poor() {
    let mut pool = Pool::start("mode shared", 1);
    let workers = pool.workers();
    let mut client = pool.client();
    pool.set_build("poor");
    pool.install();
    pool.upgrade();
    let epoch = pool.await_workers(1);
    assert_ne!(epoch, workers, "what it reads is ours");
    pool.set_build("");
    pool.install();
    let reply = pool.ctl("upgrade");
    let why = "its board has no counter responses: that takes a restart; nothing has changed";
    assert!(!reply.ok && reply.text.ends_with(why), "{}", reply.line);
    assert_eq!(pool.await_workers(1), epoch, "untouched");
    assert_eq!(client.get("/").expect("the same connection").status, 200);
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}
