//! The application's own loop: order, threads, double answers, leaving clients, deadlines, drain.

use crate::client::{Client, PATIENCE};
use crate::harness::Case;
use crate::raw::signal;
use crate::server::{Server, Stopwatch, eventually};
use std::collections::BTreeSet;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("loops::plain::answers_in_any_order_between_connections", || any_order("loop")),
    ("loops::poll::answers_in_any_order_between_connections", || any_order("poll")),
    ("loops::plain::in_order_within_one", || in_order("loop")),
    ("loops::poll::in_order_within_one", || in_order("poll")),
    ("loops::plain::tickets_are_answered_from_threads", || tickets("loop")),
    ("loops::poll::tickets_are_answered_from_threads", || tickets("poll")),
    ("loops::a_double_answer_is_refused", a_double_answer_is_refused),
    ("loops::plain::who_has_left_is_not_answered", || leaving("loop")),
    ("loops::poll::who_has_left_is_not_answered", || leaving("poll")),
    ("loops::plain::a_half_closed_client_is_answered", || half_closed("loop")),
    ("loops::poll::a_half_closed_client_is_answered", || half_closed("poll")),
    ("loops::poll::an_answer_after_the_last_look_leaves", late),
    ("loops::plain::deadlines_are_kept", || deadlines("loop")),
    ("loops::poll::deadlines_wake_the_descriptor", || deadlines("poll")),
    ("loops::plain::a_connection_from_elsewhere_is_served", || added("loop")),
    ("loops::poll::a_connection_from_elsewhere_is_served", || added("poll")),
    ("loops::plain::what_is_no_connection_does_no_harm", || bad_sockets("loop")),
    ("loops::poll::what_is_no_connection_does_no_harm", || bad_sockets("poll")),
    ("loops::bodies_and_panics", bodies_and_panics),
    ("loops::plain::a_drain_answers_what_is_owed", || drain("loop")),
    ("loops::poll::a_drain_answers_what_is_owed", || drain("poll")),
    ("loops::stop_ends_one_worker", stop_ends_one_worker),
    ("loops::a_loop_that_is_left_answers_503", a_loop_that_is_left_answers_503),
    ("loops::p1_connections_are_counted", p1_connections_are_counted),
    ("loops::p6_a_polling_loop_ends_on_term", p6_a_polling_loop_ends_on_term),
    ("loops::edge::every_edge_is_seen", || many("edge")),
    ("loops::one::what_is_left_stays_readable", || many("one")),
    ("loops::edge::deadlines_wake_the_descriptor", || deadlines("edge")),
    ("loops::one::deadlines_wake_the_descriptor", || deadlines("one")),
    ("loops::one::a_drain_answers_what_is_owed", || drain("one")),
    ("loops::plain::tickets_that_are_dropped_in_a_drain_answer_500", || dropped("loop")),
    ("loops::poll::tickets_that_are_dropped_in_a_drain_answer_500", || dropped("poll")),
    ("loops::a_ticket_outlives_the_loop", a_ticket_outlives_the_loop),
    ("loops::a_panic_with_a_ticket_costs_one_connection", a_panic_with_a_ticket),
    ("loops::a_loop_that_never_ends_is_killed_at_the_deadline", a_loop_that_never_ends),
    ("loops::each_worker_runs_once_with_its_own_id", each_worker_runs_once_with_its_own_id),
    ("loops::each_answer_leaves_while_others_wait", each_answer_leaves),
    ("loops::a_request_left_lying_wakes_nobody_and_keeps_no_drain", left_lying),
    ("loops::p12_every_loop_serves_in_every_mode", p12_every_loop_serves_in_every_mode),
];

/// Ten requests of 50 ms each: the first answer is there long before the last.
fn each_answer_leaves() {
    in_both_modes("slow", "", |server| {
        let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.ask("/").expect("it is open");
        }
        let read = |mut client: Client| {
            assert_eq!(client.reply().expect("an answer").text(), "slow");
            Stopwatch::start()
        };
        let answered: Vec<Stopwatch> = thread::scope(|scope| {
            let spawn = |client| scope.spawn(move || read(client));
            let threads: Vec<_> = clients.into_iter().map(spawn).collect();
            threads.into_iter().map(|thread| thread.join().expect("the right one")).collect()
        });
        let since: Vec<Duration> = answered.iter().map(|at| at.elapsed()).collect();
        let gap = *since.iter().max().expect("ten") - *since.iter().min().expect("ten");
        assert!(gap >= Duration::from_millis(250), "{gap:?}");
    });
}

fn left_lying() {
    for mode in ["shared", "centralized"] {
        let mut server = start("late", mode, "");
        let mut client = server.connect();
        client.ask("/").expect("it is open");
        signal(server.pid(), libc::SIGTERM);
        let waits: u64 = client.reply().expect("an answer").text().parse().expect("a number");
        assert!(waits < 500, "{waits}");
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
    }
}

/// One worker of this kind, in both modes.
pub(crate) fn in_both_modes(kind: &str, options: &str, check: impl Fn(&Server)) {
    for mode in ["shared", "centralized"] {
        let server = start(kind, mode, options);
        check(&server);
        let (code, log) = server.stop();
        assert_eq!(code, Some(0), "{mode}: {log}");
    }
}

pub(crate) fn start(kind: &str, mode: &str, options: &str) -> Server {
    let server = Server::bad(&format!("--workers 1 --mode {mode} --kind {kind} {options}"));
    server.await_ready(1);
    server
}

/// Waits until so many requests are held by the application.
fn await_held(server: &Server, count: usize) {
    let want = format!("true {count}");
    let mut client = server.connect();
    eventually("requests at the application", PATIENCE, || {
        (client.get("/pending").expect("an answer").text() == want).then_some(())
    });
}

fn any_order(kind: &str) {
    in_both_modes(kind, "", |server| {
        let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        for (held, client) in clients.iter_mut().enumerate() {
            client.ask("/hold").unwrap();
            await_held(server, held + 1);
        }
        assert_eq!(server.connect().get("/release").unwrap().text(), "released 3, gone 0");
        for (client, want) in clients.iter_mut().zip(["held 2", "held 1", "held 0"]) {
            assert_eq!(client.reply().unwrap().text(), want);
        }
    });
}

fn in_order(kind: &str) {
    in_both_modes(kind, "", |server| {
        let mut client = server.connect();
        for path in ["/hold", "/thread", "/a", "/thread", "/b?c"] {
            client.ask(path).unwrap();
        }
        await_held(server, 1);
        server.connect().get("/release").unwrap();
        for want in ["held 0", "from a thread", "GET /a 0", "from a thread", "GET /b?c 0"] {
            assert_eq!(client.reply().unwrap().text(), want);
        }
    });
}

fn tickets(kind: &str) {
    in_both_modes(kind, "", |server| {
        let mut client = server.connect();
        for _ in 0..50 {
            assert_eq!(client.get("/thread").unwrap().text(), "from a thread");
        }
        for path in ["/lost", "/dies"] {
            let reply = client.get(path).unwrap();
            assert_eq!((reply.status, reply.text().as_str()), (500, "Internal Server Error"));
        }
        // The connection goes on.
        assert_eq!(client.get("/thread").unwrap().status, 200);
    });
}

fn a_double_answer_is_refused() {
    in_both_modes("loop", "", |server| {
        let mut client = server.connect();
        assert_eq!(client.get("/twice").unwrap().text(), "first");
        assert_eq!(client.get("/both").unwrap().text(), "ticket");
        assert_eq!(client.get("/").unwrap().text(), "GET / 0");
    });
}

/// A client whose answer has come, and was not read: when it leaves, it resets the connection.
pub(crate) fn unread(server: &Server) -> Client {
    let mut client = server.connect();
    client.ask("/").unwrap();
    assert!(client.stream().peek(&mut [0]).unwrap() > 0);
    client
}

fn leaving(kind: &str) {
    in_both_modes(kind, "", |server| {
        let mut stays = server.connect();
        stays.ask("/hold").unwrap();
        await_held(server, 1);
        let mut held = 1;
        eventually("a client that is gone", PATIENCE, || {
            let mut leaves = unread(server);
            leaves.ask("/hold").expect("it is there");
            await_held(server, held + 1);
            held = 0;
            drop(leaves);
            // The answer may be sooner than the sight of it.
            let text = server.connect().get("/release").expect("an answer").text();
            text.ends_with("gone 1").then_some(())
        });
        assert!(stays.reply().unwrap().text().starts_with("held "));
    });
}

/// By the loop and by tickets, and all that it had asked.
fn half_closed(kind: &str) {
    in_both_modes(kind, "", |server| {
        let mut client = server.connect();
        for path in ["/hold", "/after", "/a"] {
            client.ask(path).unwrap();
        }
        client.stream().shutdown(Shutdown::Write).unwrap();
        await_held(server, 1);
        assert!(client.is_silent_for(Duration::from_millis(20)));
        assert_eq!(server.connect().get("/release").unwrap().text(), "released 1, gone 0");
        for want in ["held 0", "after", "GET /a 0"] {
            assert_eq!(client.reply().unwrap().text(), want);
        }
        assert!(client.is_closed());
    });
}

fn late() {
    in_both_modes("poll", "", |server| {
        let mut client = server.connect();
        for _ in 0..20 {
            assert_eq!(client.get("/late").unwrap().text(), "late");
        }
    });
}

fn deadlines(kind: &str) {
    in_both_modes(kind, "--head-timeout 300ms --request-timeout 400ms", |server| {
        let mut half = server.connect();
        half.send("GET / HTTP/1.1\r\nHo").unwrap();
        assert_eq!(half.reply().unwrap().status, 408);
        // One that the application does not answer.
        let mut held = server.connect();
        let reply = held.get("/hold").unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (503, "Service Unavailable"));
        assert_eq!(held.get("/").unwrap().status, 200);
    });
}

fn added(kind: &str) {
    in_both_modes(kind, "", |server| {
        assert_eq!(server.connect().get("/add").unwrap().text(), "GET /added 0");
    });
}

fn bad_sockets(kind: &str) {
    for mode in ["shared", "centralized"] {
        let mut server = start(kind, mode, "--head-timeout 300ms --idle-timeout 300ms");
        let before = server.workers();
        let mut client = server.connect();
        for _ in 0..3 {
            assert_eq!(client.get("/add-bad").unwrap().text(), "added");
        }
        // Its time begins when it is added.
        assert_eq!(client.get("/add-late").unwrap().text(), "GET /added 0");
        assert!(client.is_closed(), "idle");
        assert_eq!(server.workers(), before);
        signal(server.pid(), libc::SIGTERM);
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
        server.books().check();
    }
}

fn bodies_and_panics() {
    in_both_modes("loop", "", |server| {
        let mut client = server.connect();
        let body = "x".repeat(100_000);
        client
            .send(format!("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{body}"))
            .unwrap();
        assert_eq!(client.reply().unwrap().text(), "POST /p 100000");
        client.send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        client.send("5\r\nhello\r\n0\r\n\r\n").unwrap();
        assert_eq!(client.reply().unwrap().text(), "POST /c 5");
        assert_eq!(client.get("/peer").unwrap().text(), "Some(127.0.0.1)");
        let pid = client.get("/pid").unwrap().pid();
        assert_eq!(client.get("/panic").unwrap().status, 500);
        assert_eq!(server.connect().get("/pid").unwrap().pid(), pid, "the worker lives");
    });
}

fn drain(kind: &str) {
    for mode in ["shared", "centralized"] {
        let mut server = start(kind, mode, "");
        let mut held = server.connect();
        held.ask("/hold").unwrap();
        await_held(&server, 1);
        // On a connection that is there already: the drain lets no other in.
        let mut other = server.connect();
        assert_eq!(other.get("/").unwrap().status, 200);
        signal(server.pid(), libc::SIGTERM);
        server.await_log("drain");
        assert_eq!(other.get("/release").unwrap().text(), "released 1, gone 0");
        assert_eq!(held.reply().unwrap().text(), "held 0");
        assert!(held.is_closed());
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
        server.books().check();
    }
}

fn stop_ends_one_worker() {
    in_both_modes("loop", "", |server| {
        let before = server.connect().get("/pid").unwrap().pid();
        assert_eq!(server.connect().get("/stop").unwrap().text(), "stopping");
        eventually("another worker", PATIENCE, || {
            let reply = server.connect().get("/pid").ok()?;
            (reply.status == 200 && reply.pid() != before).then_some(())
        });
    });
}

fn a_loop_that_is_left_answers_503() {
    in_both_modes("short", "", |server| {
        let before = server.connect().get("/pid").unwrap().pid();
        let mut held = server.connect();
        held.ask("/hold").unwrap();
        await_held(server, 1);
        assert_eq!(server.connect().get("/leave").unwrap().status, 503);
        assert_eq!(held.reply().unwrap().status, 503);
        eventually("another worker", PATIENCE, || {
            let reply = server.connect().get("/pid").ok()?;
            (reply.status == 200 && reply.pid() != before).then_some(())
        });
    });
}

/// Theirs: connections and requests of event workers were never reported to the master.
fn p1_connections_are_counted() {
    for (kind, mode) in [("loop", "shared"), ("poll", "centralized")] {
        let mut server = start(kind, mode, "");
        for _ in 0..5 {
            assert_eq!(server.connect().get("/").unwrap().status, 200);
        }
        signal(server.pid(), libc::SIGTERM);
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
        let books = server.books();
        books.check();
        assert_eq!((books.get("accepted"), books.get("served")), (5, 5), "{books:?}");
    }
}

/// Theirs: the polling example of the README never left its loop on TERM.
fn p6_a_polling_loop_ends_on_term() {
    in_both_modes("polling", "", |server| {
        assert_eq!(server.connect().get("/x").unwrap().text(), "GET /x 0");
    });
}

/// Theirs: shared mode with a polling worker never accepted, centralized mode with a watching one
/// never received.
fn p12_every_loop_serves_in_every_mode() {
    for kind in ["loop", "poll", "polling"] {
        in_both_modes(kind, "--idle-timeout 300ms", |server| {
            let mut client = server.connect();
            assert_eq!(client.get("/x").unwrap().text(), "GET /x 0");
            // Timeouts too run everywhere.
            assert!(client.is_closed());
        });
    }
}

fn each_worker_runs_once_with_its_own_id() {
    for (kind, mode) in [("loop", "shared"), ("poll", "centralized")] {
        let server = Server::bad(&format!("--workers 3 --mode {mode} --kind {kind}"));
        server.await_ready(3);
        let mut seen = BTreeSet::new();
        // In shared mode the kernel picks: ask until all have been picked.
        eventually("an answer of each", PATIENCE, || {
            seen.insert(server.connect().get("/id").expect("an answer").text());
            (seen.len() == 3).then_some(())
        });
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["0 1", "1 1", "2 1"], "{kind}");
        assert_eq!(server.stop().0, Some(0));
    }
}

/// Many at once, so that requests come while others are worked on.
fn many(kind: &str) {
    in_both_modes(kind, "", |server| {
        let mut clients: Vec<Client> = (0..60).map(|_| server.connect()).collect();
        for round in 0..20 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.ask(&format!("/{round}/{number}")).unwrap();
            }
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.reply().unwrap().text(), format!("GET /{round}/{number} 0"));
            }
        }
        assert_eq!(clients[0].get("/thread").unwrap().text(), "from a thread");
    });
}

/// Waits until the application has taken so many tickets.
fn await_tickets(client: &mut Client, count: usize) {
    eventually("tickets", PATIENCE, || {
        (client.get("/tickets").expect("an answer").text() == count.to_string()).then_some(())
    });
}

fn dropped(kind: &str) {
    for mode in ["shared", "centralized"] {
        let mut server = start(kind, mode, "");
        let mut kept: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        for client in &mut kept {
            client.ask("/keep").unwrap();
        }
        let mut other = server.connect();
        await_tickets(&mut other, 3);
        signal(server.pid(), libc::SIGTERM);
        server.await_log("drain");
        assert_eq!(other.get("/drop").unwrap().text(), "dropped 3");
        for client in &mut kept {
            assert_eq!(client.reply().unwrap().status, 500);
            assert!(client.is_closed());
        }
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
        let books = server.books();
        books.check();
        assert_eq!((books.get("served"), books.get("cut")), (4, 0), "{books:?}");
    }
}

fn a_ticket_outlives_the_loop() {
    in_both_modes("short", "", |server| {
        let mut client = server.connect();
        client.ask("/after").unwrap();
        let before = server.workers()[0];
        await_tickets(&mut server.connect(), 1);
        assert_eq!(server.connect().get("/leave").unwrap().status, 503);
        assert_eq!(client.reply().unwrap().text(), "after");
        moves_on(server, &mut client, before);
    });
}

/// A worker that leaves ends as soon as it owes nothing, and whoever idles goes to its successor.
pub(crate) fn moves_on(server: &Server, client: &mut Client, before: u32) {
    // Long before the drain would tell an idle client to go.
    eventually("the end of the old worker", PATIENCE, || {
        (!server.workers().contains(&before)).then_some(())
    });
    assert_eq!(client.get("/").expect("by another worker").status, 200);
}

fn a_panic_with_a_ticket() {
    in_both_modes("loop", "", |server| {
        let mut client = server.connect();
        let pid = client.get("/pid").unwrap().pid();
        assert_eq!(client.get("/ticket-panic").unwrap().status, 500);
        assert!(client.is_closed());
        assert_eq!(server.connect().get("/pid").unwrap().pid(), pid, "the worker lives");
    });
}

/// Theirs: the loop of the README's example, which knows no end.
fn a_loop_that_never_ends() {
    for mode in ["shared", "centralized"] {
        let mut server = start("stubborn", mode, "--drain-timeout 1500ms");
        let mut client = server.connect();
        assert_eq!(client.get("/x").unwrap().text(), "GET /x 0");
        signal(server.pid(), libc::SIGTERM);
        assert!(client.is_closed());
        let code = eventually("an end", PATIENCE, || server.exit_code(PATIENCE));
        let books = server.books();
        books.check();
        assert_eq!((code, books.get("served"), books.get("killed")), (1, 1, 1), "{books:?}");
        server.await_log("not drained within drain_timeout");
    }
}
