//! Known defects of duyler/worker-pool, P1 to P20, and two of its server, on real processes: that
//! we have none of them. Each function begins with the number; `ringfort::coming_from` has the
//! list.

use crate::client::{Client, PATIENCE};
use crate::harness::Case;
use crate::raw::signal;
use crate::server::{Server, Stopwatch, bad_command, command, eventually, gone, pause, state};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("original::p2_options_act", p2_options_that_were_ignored_act),
    ("original::p4_clients_wait_for_a_worker", p4_clients_wait_while_no_worker_is_ready),
    ("original::p5_an_idle_pool_sleeps", p5_an_idle_pool_uses_no_cpu),
    ("original::p6_a_stuck_worker_is_killed", p6_a_shutdown_has_a_deadline_and_escalates),
    ("original::p7_term_to_one_is_for_one", p7_a_worker_inherits_no_handling_of_signals),
    ("original::p8_deaths_have_reasons", p8_how_a_worker_ended_is_told),
    ("original::p9_a_crash_loop_backs_off", p9_a_slot_that_keeps_dying_waits_and_others_serve),
    ("original::p10_no_siblings_descriptors", p10_a_worker_holds_no_descriptor_of_its_siblings),
    ("original::p11_no_orphans", p11_a_dead_master_ends_its_workers),
    ("original::p14_every_family", p14_ipv4_ipv6_and_unix_sockets_side_by_side),
    ("original::p16_one_rate_limit", p16_a_rate_limit_counts_over_all_workers),
    ("original::p18_ends_are_told_apart", p18_a_crash_a_drain_and_a_failed_boot_are_told_apart),
    ("original::p19_who_cannot_serve_ends", p19_a_pool_that_cannot_come_up_ends_with_the_reason),
    ("original::a_thousand_requests_take_no_second", a_thousand_requests),
    ("original::ten_thousand_requests_cost_no_memory", ten_thousand_requests),
    ("original::h8_slow_readers", h8_a_large_answer_reaches_a_slow_reader_whole),
    ("original::h11_too_many", h11_a_client_too_many_is_told_503),
];

fn status(client: &mut Client, path: &str) -> u16 {
    client.get(path).expect("an answer").status
}

/// Which worker answers.
fn pid(client: &mut Client) -> u32 {
    client.get("/workers").expect("an answer").pid()
}

/// The balancer, the backlog and the limit of messages were options that no code read. The limit of
/// messages acts in `messages`, the backlog in the options of the command.
fn p2_options_that_were_ignored_act() {
    let picks = |balancer: &str| {
        let server = Server::bad(&format!("--workers 2 --balancer {balancer}"));
        server.await_ready(2);
        let mut held = server.connect();
        let busy = pid(&mut held);
        // One after the other: each is gone before the next one comes.
        let others: Vec<u32> = (0..6)
            .map(|_| {
                let mut client = server.connect();
                let other = pid(&mut client);
                client
                    .send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    .expect("sent");
                let _ = client.reply();
                assert!(client.is_closed());
                other
            })
            .collect();
        others.iter().filter(|other| **other == busy).count()
    };
    assert_eq!(picks("round-robin"), 3);
    assert!(picks("least-connections") <= 1, "the busy one is left alone");
}

fn p4_clients_wait_while_no_worker_is_ready() {
    let server = Server::start("--workers 1 --mode centralized");
    server.await_ready(1);
    for life in 1..4 {
        let victim = server.workers()[0];
        signal(victim, libc::SIGKILL);
        eventually("its death", PATIENCE, || state(victim).is_none().then_some(()));
        let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.ask("/plaintext").expect("it listens");
        }
        for client in &mut clients {
            assert_eq!(client.reply().expect("nobody had begun it").status, 200);
        }
        server.await_ready(life + 1);
        assert_eq!(status(&mut server.connect(), "/plaintext"), 200);
    }
}

/// How often a process went to sleep and was woken.
fn switches(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    text.lines().filter(|line| line.contains("ctxt_switches")).collect()
}

fn p5_an_idle_pool_uses_no_cpu() {
    for mode in ["shared", "centralized"] {
        let server = Server::start(&format!("--workers 2 --mode {mode}"));
        server.await_ready(2);
        assert_eq!(status(&mut server.connect(), "/plaintext"), 200);
        let all = || -> Vec<String> {
            server.workers().into_iter().chain([server.pid()]).map(switches).collect()
        };
        // What the connection left behind is over when nothing changes for a second.
        let second = || std::thread::park_timeout(Duration::from_secs(1));
        eventually("a second without a wake-up", PATIENCE, || {
            let before = all();
            second();
            (all() == before).then_some(())
        });
        let before = all();
        second();
        second();
        assert_eq!(all(), before, "{mode}: nobody wakes up");
    }
}

fn p6_a_shutdown_has_a_deadline_and_escalates() {
    let mut server = Server::start("--workers 2 --drain-timeout 300ms");
    server.await_ready(2);
    let workers = server.workers();
    pause(workers[0]);
    signal(server.pid(), libc::SIGTERM);
    assert_eq!(server.exit_code(PATIENCE), Some(1), "it was no clean end");
    assert!(server.log().contains("not drained within drain_timeout"), "{}", server.log());
    gone(&workers, PATIENCE);
}

fn p7_a_worker_inherits_no_handling_of_signals() {
    let server = Server::start("--workers 3");
    server.await_ready(3);
    let workers = server.workers();
    // The first life, then its successor: neither tells its siblings.
    for round in 1..3 {
        let victim = *server.workers().last().expect("there are three");
        signal(victim, libc::SIGTERM);
        server.await_ready(3 + round);
        eventually("its end", PATIENCE, || state(victim).is_none().then_some(()));
    }
    let now: BTreeSet<u32> = server.workers().into_iter().collect();
    assert!(workers[..2].iter().all(|pid| now.contains(pid)), "{workers:?} became {now:?}");
    assert_eq!(server.stop().0, Some(0));
}

fn p8_how_a_worker_ended_is_told() {
    let server = Server::bad("--workers 2");
    server.await_ready(2);
    signal(server.workers()[0], libc::SIGKILL);
    server.await_log("signal 9");
    assert!(server.connect().get("/exit").is_err());
    server.await_log("exit code 7");
    assert!(server.connect().get("/abort").is_err());
    server.await_log("signal 6");
    server.await_ready(5);
    assert_eq!(server.stop().0, Some(0));
}

fn p9_a_slot_that_keeps_dying_waits_and_others_serve() {
    let server = Server::bad("--workers 2 --boot once");
    server.await_ready(2);
    signal(server.workers()[0], libc::SIGKILL);
    server.await_log("worker keeps dying");
    eventually("three failed boots", PATIENCE, || {
        assert_eq!(status(&mut server.connect(), "/"), 200);
        (server.log().matches("did not come up").count() >= 3).then_some(())
    });
    assert!(server.log().matches("worker spawned").count() <= 12, "{}", server.log());
}

fn p10_a_worker_holds_no_descriptor_of_its_siblings() {
    let sockets = |pid: u32| -> BTreeSet<String> {
        let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
        let links = folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let names = links.map(|link| link.display().to_string());
        names.filter(|name| name.starts_with("socket:")).collect()
    };
    for (mode, listeners) in [("shared", 1), ("centralized", 0)] {
        let server = Server::start(&format!("--workers 3 --mode {mode}"));
        server.await_ready(3);
        let held: Vec<BTreeSet<String>> = server.workers().into_iter().map(sockets).collect();
        let all: BTreeSet<&String> = held.iter().flatten().collect();
        // Its channel, and its slot's listener.
        assert!(held.iter().all(|own| own.len() == 1 + listeners), "{held:?}");
        assert_eq!(all.len(), 3 * (1 + listeners), "none is held twice: {held:?}");
    }
}

fn p11_a_dead_master_ends_its_workers() {
    let mut server = Server::start("--workers 3");
    server.await_ready(3);
    let workers = server.workers();
    signal(server.pid(), libc::SIGKILL);
    assert_eq!(server.exit_code(PATIENCE), None);
    gone(&workers, PATIENCE);
}

fn p14_ipv4_ipv6_and_unix_sockets_side_by_side() {
    let path = crate::server::folder().join("p14.sock");
    let options = format!("--addr 127.0.0.1:0 --addr [::1]:0 --addr unix:{}", path.display());
    let server = Server::launch(&mut command(&options));
    assert_eq!(server.urls().len(), 3);
    for url in server.urls() {
        let mut client = match crate::server::socket_of(url) {
            Some(address) => {
                Client::new(std::net::TcpStream::connect(address).expect("it listens"))
            }
            None => crate::server::connect_unix(&path),
        };
        assert_eq!(status(&mut client, "/plaintext"), 200, "{url}");
    }
}

fn p16_a_rate_limit_counts_over_all_workers() {
    let server = Server::start("--workers 2 --balancer round-robin --rate-limit 5");
    server.await_ready(2);
    let (mut one, mut two) = (server.connect(), server.connect());
    let statuses: Vec<u16> = (0..5)
        .flat_map(|_| [status(&mut one, "/plaintext"), status(&mut two, "/plaintext")])
        .collect();
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(served, 5, "{statuses:?}");
    assert!(statuses[5..].iter().all(|status| *status == 429), "{statuses:?}");
}

fn p18_a_crash_a_drain_and_a_failed_boot_are_told_apart() {
    let server = Server::bad("--workers 2");
    server.await_ready(2);
    let drained = server.workers()[0];
    signal(drained, libc::SIGTERM);
    let line = server.await_log("worker ended");
    assert!(line.contains(&format!("pid={drained} exit code 0")), "{line}");
    server.await_ready(3);
    assert!(server.connect().get("/exit").is_err());
    assert!(server.await_log("worker died").contains("exit code 7"));
    drop(server);
    let server = Server::bad("--workers 2 --boot once");
    server.await_ready(2);
    signal(server.workers()[0], libc::SIGKILL);
    let line = server.await_log("worker did not come up");
    assert!(line.contains("once is enough"), "{line}");
}

fn p19_a_pool_that_cannot_come_up_ends_with_the_reason() {
    let mut server = Server::begin(&mut bad_command("--addr 127.0.0.1:0 --boot fail"));
    assert_eq!(server.exit_code(PATIENCE), Some(1));
    assert!(server.log().contains("no database for slot 0"), "{}", server.log());
    // An address is bound by the master before anybody is forked.
    let taken = Server::start("--workers 1");
    let mut second = Server::begin(&mut command(&format!("--addr {}", taken.address())));
    assert_eq!(second.exit_code(PATIENCE), Some(1));
    let log = second.log();
    assert!(log.contains("address_in_use") && !log.contains("worker spawned"), "{log}");
}

/// Theirs must do 1,000 requests a second on one connection, and 10 a second in centralized mode.
/// Of three rounds the best counts: the machine may have something else to do.
fn a_thousand_requests() {
    for mode in ["shared", "centralized"] {
        let server = Server::start(&format!("--workers 2 --mode {mode}"));
        server.await_ready(2);
        let mut client = server.connect();
        let mut round = || {
            let began = Stopwatch::start();
            assert!((0..1000).all(|_| status(&mut client, "/plaintext") == 200));
            began.elapsed()
        };
        let best = [(); 3].map(|()| round()).into_iter().min().expect("three rounds");
        println!("{mode}: 1,000 requests in {best:?}");
        assert!(best < Duration::from_secs(1), "{mode}: {best:?}");
    }
}

/// Bytes of memory that a process holds.
fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("proc(5)");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn ten_thousand_requests() {
    let server = Server::start("--workers 1");
    server.await_ready(1);
    let worker = server.workers()[0];
    let mut client = server.connect();
    let mut ask = |count| (0..count).all(|_| status(&mut client, "/plaintext") == 200);
    assert!(ask(1000));
    let before = resident(worker);
    assert!(ask(10_000));
    let growth = resident(worker).saturating_sub(before);
    println!("{growth} bytes more");
    assert!(growth < 1 << 20, "{growth} bytes");
}

fn h8_a_large_answer_reaches_a_slow_reader_whole() {
    let server = Server::start("--workers 1");
    let mut client = server.connect();
    // More than the sockets of both sides hold: the kernel cuts the sends.
    for _ in 0..400 {
        client.ask("/big").expect("it reads");
    }
    let first = client.reply().expect("an answer").body;
    assert_eq!(first.len(), 102_400);
    for _ in 1..400 {
        assert_eq!(client.reply().expect("an answer").body, first);
    }
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
}

fn h11_a_client_too_many_is_told_503() {
    for mode in ["shared", "centralized"] {
        let options = "--workers 1 --connections-max 1 --pending-timeout 100ms";
        let server = Server::start(&format!("{options} --mode {mode}"));
        let mut first = server.connect();
        assert_eq!(status(&mut first, "/plaintext"), 200);
        let reply = server.connect().get("/plaintext").expect("an answer, not a reset");
        assert_eq!(reply.status, 503, "{mode}");
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        assert_eq!(status(&mut first, "/plaintext"), 200);
    }
}
