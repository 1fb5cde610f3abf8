//! Futures: timers, wakers from anywhere, cancellation, bodies in both directions.

use crate::client::{Client, PATIENCE};
use crate::harness::Case;
use crate::loops::{in_both_modes, start, unread};
use crate::server::{Server, Stopwatch, eventually};
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("tasks::sleepers_do_not_hold_each_other_up", sleepers_do_not_hold_each_other_up),
    ("tasks::wakers_work_from_threads_and_other_futures", wakers),
    ("tasks::a_future_is_dropped_when_its_client_leaves", cancelled),
    ("tasks::a_half_closed_client_is_answered_if_it_is_asked_for", half_closed),
    ("tasks::a_future_that_never_answers_is_given_up", given_up),
    ("tasks::a_body_is_a_stream", a_body_is_a_stream),
    ("tasks::a_body_that_is_not_read_makes_its_client_wait", back_pressure),
    ("tasks::an_answer_is_a_stream", an_answer_is_a_stream),
    ("tasks::pipelined_futures_answer_in_order", pipelined),
    ("tasks::h15_what_went_wrong_inside_is_not_told_outside", h15),
    ("tasks::a_worker_that_leaves_ends_with_its_last_answer", a_worker_that_leaves),
    ("tasks::who_gives_way_lets_others_have_their_turn", who_gives_way),
    ("tasks::a_panic_anywhere_costs_one_connection", a_panic_anywhere),
    ("tasks::a_drain_waits_for_futures", a_drain_waits_for_futures),
];

fn sleepers_do_not_hold_each_other_up() {
    in_both_modes("async", "", |server| {
        let began = Stopwatch::start();
        let mut clients: Vec<Client> = (0..100).map(|_| server.connect()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.ask(&format!("/sleep?ms=200&name={number}")).unwrap();
        }
        // To each its own.
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.reply().unwrap().text(), format!("slept{number}"));
        }
        // One after the other it would be twenty seconds.
        let took = began.elapsed();
        assert!((200..10_000).contains(&took.as_millis()), "{took:?}");
    });
}

fn wakers() {
    in_both_modes("async", "", |server| {
        let mut waits = server.connect();
        waits.ask("/wait").unwrap();
        let mut client = server.connect();
        for _ in 0..50 {
            assert_eq!(client.get("/thread").unwrap().text(), "woken by a thread");
        }
        assert!(waits.is_silent_for(Duration::from_millis(1)));
        assert_eq!(client.get("/open").unwrap().text(), "open");
        assert_eq!(waits.reply().unwrap().text(), "let through");
        assert_eq!(client.get("/peer").unwrap().text(), "Some(127.0.0.1)");
    });
}

fn await_cancelled(server: &Server, count: u32) {
    let mut client = server.connect();
    eventually("a future that was dropped", PATIENCE, || {
        (client.get("/cancelled").unwrap().text() == count.to_string()).then_some(())
    });
}

fn cancelled() {
    in_both_modes("async", "", |server| {
        let mut leaves = server.connect();
        leaves.ask("/never").unwrap();
        assert!(leaves.is_silent_for(Duration::from_millis(20)));
        assert_eq!(server.connect().get("/cancelled").unwrap().text(), "0");
        drop(leaves);
        await_cancelled(server, 1);
        // One whose answer has begun.
        let mut leaves = server.connect();
        leaves.ask("/endless").unwrap();
        assert_eq!(leaves.head().unwrap().status, 200);
        drop(leaves);
        await_cancelled(server, 2);
    });
}

/// Without the option it is taken for gone, as one that closes is. With it, it gets all that it had
/// asked for, and only a reset drops a future.
fn half_closed() {
    in_both_modes("async", "", |server| {
        let mut client = server.connect();
        client.ask("/never").unwrap();
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest().unwrap(), b"");
        await_cancelled(server, 1);
    });
    in_both_modes("async", "--half-close true", |server| {
        let mut client = server.connect();
        for path in ["/sleep?ms=100", "/wait", "/stream"] {
            client.ask(path).unwrap();
        }
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.reply().unwrap().text(), "slept");
        assert_eq!(server.connect().get("/open").unwrap().text(), "open");
        assert_eq!(client.reply().unwrap().text(), "let through");
        assert_eq!(client.reply().unwrap().status, 200);
        assert!(client.is_closed());
        let mut leaves = unread(server);
        leaves.ask("/never").unwrap();
        drop(leaves);
        await_cancelled(server, 1);
    });
}

fn given_up() {
    in_both_modes("async", "--request-timeout 300ms", |server| {
        assert_eq!(server.connect().get("/never").unwrap().status, 503);
        await_cancelled(server, 1);
    });
}

fn a_body_is_a_stream() {
    in_both_modes("async", "", |server| {
        let mut client = server.connect();
        client.send("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello").unwrap();
        assert!(client.is_silent_for(Duration::from_millis(5)));
        client.send("world").unwrap();
        assert_eq!(client.reply().unwrap().text(), "helloworld");
        client
            .send("POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        client.send("3\r\nabc\r\n").unwrap();
        client.send("0\r\n\r\n").unwrap();
        assert_eq!(client.reply().unwrap().text(), "abc");
        assert_eq!(client.get("/body").unwrap().text(), "");
        // Unread, and the connection goes on.
        let body = "x".repeat(300_000);
        let head = "POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n";
        client.send(format!("{head}{body}")).unwrap();
        assert_eq!(client.reply().unwrap().text(), "without a look at it");
        assert_eq!(client.get("/").unwrap().text(), "async /");
    });
}

fn back_pressure() {
    const BYTES: usize = 64 << 20;
    in_both_modes("async", "--body-max 100m", |server| {
        let mut client = server.connect();
        let head = "POST /slow-body HTTP/1.1\r\nHost: x\r\n";
        client.send(format!("{head}Content-Length: {BYTES}\r\n\r\n")).unwrap();
        let sent = client.send_until_blocked(BYTES);
        assert!(sent < BYTES, "all {sent} bytes went into a body that nobody reads");
        let mut other = server.connect();
        assert_eq!(other.get("/read").unwrap().text(), "0");
        assert_eq!(other.get("/open").unwrap().status, 200);
        client.send(vec![0; BYTES - sent]).unwrap();
        assert_eq!(client.reply().unwrap().text(), BYTES.to_string());
    });
}

fn an_answer_is_a_stream() {
    in_both_modes("async", "", |server| {
        let mut client = server.connect();
        let reply = client.get("/stream").unwrap();
        assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
        assert_eq!(reply.text(), "line 0\nline 1\nline 2\n");
        let text = client.get("/large").unwrap().text();
        assert_eq!(text.lines().count(), 40_000);
        assert!(text.ends_with("line 39999\n"));
        client.ask("/broken").unwrap();
        assert_eq!(client.head().unwrap().status, 200);
        let rest = client.rest().unwrap_or_default();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "a broken body looks whole");
        assert!(!String::from_utf8_lossy(&rest).contains("hunter2"));
    });
}

fn pipelined() {
    in_both_modes("async", "", |server| {
        let mut client = server.connect();
        for path in ["/sleep?ms=30", "/a", "/sleep?ms=1", "/stream", "/b"] {
            client.ask(path).unwrap();
        }
        for want in ["slept", "async /a", "slept", "line 0\nline 1\nline 2\n", "async /b"] {
            assert_eq!(client.reply().unwrap().text(), want);
        }
    });
}

/// Theirs: the 500 carried the exception's text.
fn h15() {
    in_both_modes("async", "", |server| {
        for path in ["/error", "/panic", "/panic-later"] {
            let reply = server.connect().get(path).unwrap();
            assert_eq!((reply.status, reply.text().as_str()), (500, "Internal Server Error"));
            assert!(!reply.head.contains("hunter2"));
        }
        assert_eq!(server.connect().get("/").unwrap().status, 200);
    });
}

fn who_gives_way() {
    in_both_modes("async", "", |server| {
        let mut yields: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        for client in &mut yields {
            client.ask("/yield").unwrap();
        }
        assert!(yields[0].is_silent_for(Duration::from_millis(50)));
        assert_eq!(server.connect().get("/sleep?ms=5").unwrap().text(), "slept");
        assert_eq!(server.connect().get("/open").unwrap().text(), "open");
        for client in &mut yields {
            assert_eq!(client.reply().unwrap().text(), "gave way");
        }
    });
}

/// Its client stays, and must not keep it.
fn a_worker_that_leaves() {
    in_both_modes("async", "--drain-timeout 600s", |server| {
        let before = server.workers()[0];
        let mut client = server.connect();
        client.ask("/sleep?ms=500").unwrap();
        assert!(client.is_silent_for(Duration::from_millis(100)));
        crate::raw::signal(before, libc::SIGTERM);
        assert_eq!(client.reply().unwrap().text(), "slept");
        crate::loops::moves_on(server, &mut client, before);
    });
}

/// In a body that is sent, and in what a future drops when its client leaves.
fn a_panic_anywhere() {
    in_both_modes("async", "", |server| {
        let before = server.workers();
        let mut client = server.connect();
        client.ask("/stream-panic").unwrap();
        assert_eq!(client.head().unwrap().status, 200);
        let rest = client.rest().unwrap_or_default();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "a broken body looks whole");
        let mut leaves = server.connect();
        leaves.ask("/bad-drop").unwrap();
        assert!(leaves.is_silent_for(Duration::from_millis(20)));
        drop(leaves);
        server.await_log("as asked");
        assert_eq!(server.connect().get("/panic-twice").unwrap().status, 500);
        assert_eq!(server.connect().get("/").unwrap().status, 200);
        assert_eq!(server.workers(), before, "nobody died of it");
    });
}

fn a_drain_waits_for_futures() {
    for mode in ["shared", "centralized"] {
        let mut server = start("async", mode, "");
        let mut client = server.connect();
        client.ask("/sleep?ms=300").unwrap();
        // It has begun: the same worker answers a later one.
        assert_eq!(server.connect().get("/").unwrap().status, 200);
        crate::raw::signal(server.pid(), libc::SIGTERM);
        assert_eq!(client.reply().unwrap().text(), "slept");
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
        server.books().check();
    }
}

impl Client {
    /// Sends zeroes until the peer takes no more for a while, or all are out. How many went.
    fn send_until_blocked(&mut self, most: usize) -> usize {
        let piece = vec![0; 64 << 10];
        let mut sent = 0;
        self.stream().set_write_timeout(Some(Duration::from_millis(500))).expect("not zero");
        while sent < most {
            let length = piece.len().min(most - sent);
            match self.stream().write(&piece[..length]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.stream().set_write_timeout(Some(PATIENCE)).expect("not zero");
        sent
    }
}
