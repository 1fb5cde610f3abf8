//! An upgrade to a program that is no good: nothing changes, and the caller is told why.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::load::under_load;
use crate::pool::Pool;
use crate::server::eventually;
use ringfort::sys::process;
use std::fs;

pub(crate) const CASES: &[Case] = &[
    ("bad::shared::nothing_changes_and_nothing_fails", || under("shared")),
    ("bad::centralized::nothing_changes_and_nothing_fails", || under("centralized")),
    ("bad::another_command_meanwhile_is_told", busy),
    ("bad::other_addresses_take_a_restart", addresses),
];

/// Every way to be no good, one after the other, while clients ask.
fn under(mode: &str) {
    let limits = "boot_timeout 1500ms\nprobe_timeout 700ms";
    let mut pool = Pool::start(&format!("mode {mode}\n{limits}"), 2);
    let (version, mut workers) = (pool.version(), pool.workers());
    workers.sort_unstable();
    let ((), tally) = under_load(pool.address(), 4, |_| {
        let check = |pool: &Pool, what: &str, why: &str| {
            let reply = pool.ctl("upgrade");
            println!("{what}: {}", reply.line);
            assert!(!reply.ok && reply.code == 1, "{what}: {}", reply.line);
            assert!(reply.text.contains(why), "{what}: {}\n{}", reply.line, pool.log());
            assert!(reply.text.ends_with("nothing has changed"), "{}", reply.line);
            let mut now = pool.await_workers(2);
            now.sort_unstable();
            assert_eq!(now, workers, "{what}");
            assert_eq!(pool.version(), version, "{what}");
            assert_eq!(pool.who().matches("\"epoch\":0,").count(), 1, "{what}");
        };
        let boot = "not ready within boot_timeout";
        for (script, why) in
            [("exit 3", "exit code 3"), ("kill -SEGV $$", "signal 11"), ("exec sleep 1000", boot)]
        {
            pool.install_script(script);
            check(&pool, script, why);
        }
        fs::write(pool.path("app"), "no program").expect("our own file");
        check(&pool, "no program", "execve");
        fs::remove_file(pool.path("app")).expect("our own file");
        check(&pool, "no file", "execve");
        pool.install();
        for (manners, why) in [
            ("exit", "exit code 9"),
            ("hang", boot),
            ("fail", "no database for slot 0"),
            ("abort", "signal 6"),
            ("stuck", boot),
            ("500", "answered the probe with 500"),
            ("silent", "no answer to the probe in time"),
        ] {
            pool.set_manners(manners);
            check(&pool, manners, why);
        }
    });
    tally.check();
    assert_eq!(tally.closed, 0, "each client ends on the connection it began with");
    pool.set_manners("");
    pool.upgrade();
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
    // The stuck worker of a trial that was killed: an orphan, and ours to reap.
    eventually("an orphan", PATIENCE, || process::reap_stranger(|_| false).then_some(()));
}

/// While a program is tried, what cannot wait is refused, and what can waits for its turn.
fn busy() {
    let pool = Pool::start("mode shared\nboot_timeout 2s", 2);
    pool.install_script("exec sleep 1000");
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| pool.ctl("upgrade"));
        pool.await_log("upgrade begins");
        let second = pool.ctl("upgrade");
        assert!(!second.ok && second.text.starts_with("busy: upgrade since"), "{}", second.line);
        let scaled = pool.ctl("scale 3");
        assert!(scaled.ok, "{}", scaled.line);
        let upgrade = upgrade.join().expect("it does not panic");
        assert!(upgrade.text.contains("not ready within boot_timeout"), "{}", upgrade.line);
    });
    pool.await_workers(3);
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}

fn addresses() {
    let mut pool = Pool::start("mode shared", 1);
    pool.install();
    pool.set_options("workers 1\naddr 127.0.0.1:0\naddr 127.0.0.1:0");
    let reply = pool.ctl("upgrade");
    assert!(!reply.ok && reply.text.contains("listens on other addresses"), "{}", reply.line);
    assert_eq!(pool.who().matches("\"epoch\":0,").count(), 1);
    let (code, log) = pool.server.stop();
    assert_eq!(code, Some(0), "{log}");
}
