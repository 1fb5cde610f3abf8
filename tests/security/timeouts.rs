//! Limits on how long one connection may take, with answer and counter. None of them is early.

use crate::client::{get, post};
use crate::harness::Case;
use crate::server::{SOON, Server, now, since};
use ringfort::io::Instant;
use ringfort::stats::{CloseReason, Counter};
use std::io::Write;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("timeouts::a_silent_client", silent),
    ("timeouts::a_head_that_does_not_end", head),
    ("timeouts::a_second_head_that_does_not_end", second_head),
    ("timeouts::a_dripping_head_wins_no_time", dripping_head),
    ("timeouts::a_body_that_stands_still", body),
    ("timeouts::a_chunk_that_stands_still", chunk),
    ("timeouts::a_body_below_the_minimum_rate", body_rate),
    ("timeouts::a_body_above_the_minimum_rate_is_served", body_rate_met),
    ("timeouts::a_connection_between_requests", idle),
    ("timeouts::an_answer_that_nobody_reads", write),
    ("timeouts::an_answer_that_is_owed", request),
    ("timeouts::a_refused_client_that_does_not_close", linger),
];

const LIMIT: Duration = Duration::from_millis(400);

/// The limit has passed, and not much more than it.
#[track_caller]
fn check_time(start: Instant, limit: Duration) {
    let took = since(start);
    assert!(took >= limit, "{took:?} is early for {limit:?}");
    assert!(took < limit + SOON / 2, "{took:?} is late for {limit:?}");
}

/// The client says this, then nothing; it is answered, or closed on without a word.
#[track_caller]
fn check(setting: &str, bytes: impl AsRef<[u8]>, want: &str, reason: CloseReason) {
    let mut server = Server::start(&[(setting, "400ms")]);
    let start = now();
    let mut client = server.connect();
    client.send(bytes);
    let answers = client.last_answers();
    check_time(start, LIMIT);
    let statuses: Vec<String> = answers.iter().map(|answer| answer.status.to_string()).collect();
    assert_eq!(statuses.join(" "), want);
    if want.ends_with("408") {
        assert_eq!(answers.last().unwrap().field("connection"), Some("close"));
    }
    drop(client);
    server.expect_closed(reason, 1);
    let books = server.stop();
    assert_eq!(books.get("accepted"), 1);
}

fn silent() {
    check("head_timeout", "", "", CloseReason::HeadTimeout);
    check("head_timeout", "\r\n", "", CloseReason::HeadTimeout);
}

fn head() {
    check("head_timeout", "G", "408", CloseReason::HeadTimeout);
    check("head_timeout", "GET / HTTP/1.1\r\nHost: x\r\n", "408", CloseReason::HeadTimeout);
}

fn second_head() {
    let bytes = [get("/"), b"GET /".to_vec()].concat();
    check("head_timeout", bytes, "200 408", CloseReason::HeadTimeout);
}

fn body() {
    let bytes = post("Content-Length: 10\r\n", "12345");
    check("body_timeout", bytes, "408", CloseReason::BodyTimeout);
    let bytes = "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";
    check("body_timeout", bytes, "408", CloseReason::BodyTimeout);
}

fn chunk() {
    for body in ["", "5", "5\r\nabc", "5\r\nabcde\r\n", "0\r\n"] {
        let bytes = post("Transfer-Encoding: chunked\r\n", body);
        check("body_timeout", bytes, "408", CloseReason::BodyTimeout);
    }
}

fn idle() {
    check("idle_timeout", get("/"), "200", CloseReason::IdleTimeout);
    // Empty lines are not a request.
    let bytes = [get("/"), b"\r\n".to_vec()].concat();
    check("idle_timeout", bytes, "200", CloseReason::IdleTimeout);
}

/// A client that drips: a byte whenever it may, until it is told something.
fn drip(settings: &[(&str, &str)], begin: &[u8], pace: Duration) -> (Server, Duration, u16) {
    let server = Server::start(settings);
    let mut client = server.connect();
    let start = now();
    client.send(begin);
    client.stream.set_read_timeout(Some(pace)).unwrap();
    let mut bytes = 0;
    while client.read().is_err() {
        // The server may have closed by now; then the next read says so.
        bytes += client.stream.write(b"x").unwrap_or(0);
        assert!(since(start) < SOON, "{bytes} bytes were dripped");
    }
    let took = since(start);
    client.stream.set_read_timeout(Some(SOON)).unwrap();
    let status = client.answer().status;
    assert!(client.last_answers().is_empty());
    (server, took, status)
}

fn dripping_head() {
    let first = b"GET / HTTP/1.1\r\nHost: x\r\nX: ";
    let settings = [("head_timeout", "400ms")];
    let (mut server, took, status) = drip(&settings, first, Duration::from_millis(20));
    assert_eq!(status, 408);
    assert!(took >= LIMIT && took < SOON / 2, "{took:?}");
    server.expect_closed(CloseReason::HeadTimeout, 1);
    server.stop();
}

const RATE: [(&str, &str); 2] = [("body_timeout", "500ms"), ("body_rate_min", "1000")];

/// Twice the body's timeout.
const RATE_FROM: Duration = Duration::from_secs(1);

fn body_rate() {
    for begin in [
        post("Content-Length: 100000\r\n", ""),
        post("Transfer-Encoding: chunked\r\n", "fffff\r\n"),
    ] {
        let (mut server, took, status) = drip(&RATE, &begin, Duration::from_millis(20));
        assert_eq!(status, 408);
        assert!(took >= RATE_FROM && took < SOON / 2, "{took:?}");
        server.expect_closed(CloseReason::BodyTooSlow, 1);
        server.stop();
    }
}

fn body_rate_met() {
    let mut server = Server::start(&RATE);
    let mut client = server.connect();
    let start = now();
    let mut sent = 0;
    client.send(post("Content-Length: 10000000\r\n", ""));
    // Longer than a slower one would be given.
    client.stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    while since(start) < RATE_FROM * 3 / 2 {
        client.send([b'x'; 1000]);
        sent += 1000;
        assert!(client.read().is_err(), "it was answered");
    }
    client.stream.set_read_timeout(Some(SOON)).unwrap();
    client.send(vec![b'x'; 10_000_000 - sent]);
    assert_eq!(client.answer().text(), "200 10000000");
    drop(client);
    server.expect_closed(CloseReason::ClientClosed, 1);
    server.stop();
}

fn write() {
    let mut server = Server::start(&[("write_timeout", "400ms")]);
    let mut client = server.connect();
    let start = now();
    client.get("/huge?bytes=50000000");
    server.expect_closed(CloseReason::WriteTimeout, 1);
    check_time(start, LIMIT);
    assert!(server.count(Counter::ShortSends) > 0);
    assert_eq!(server.stop().get(CloseReason::WriteTimeout.name()), 1);
}

fn request() {
    let mut server = Server::start(&[("request_timeout", "400ms")]);
    let start = now();
    let mut client = server.connect();
    client.get("/slow?ms=60000");
    assert_eq!(client.answer().status, 503);
    check_time(start, LIMIT);
    let start = now();
    client.send(post("Content-Length: 5\r\n", "123"));
    assert_eq!(client.last_answer().status, 408);
    check_time(start, LIMIT);
    drop(client);
    server.expect_closed(CloseReason::BodyTimeout, 1);
    server.stop();
}

fn linger() {
    let mut server = Server::start(&[("linger_timeout", "400ms")]);
    let mut client = server.connect();
    let start = now();
    client.send("bad\r\n\r\n");
    assert_eq!(client.last_answer().status, 400);
    // It has its answer and its end-of-file, but keeps its own half open.
    assert_eq!(server.open(), 1);
    server.expect_closed(CloseReason::BadRequest, 1);
    check_time(start, LIMIT);
    // Nor does sending on win more time.
    let mut client = server.connect();
    let start = now();
    client.send("bad\r\n\r\n");
    server.eventually("closed", |server| {
        // Refused once the server has closed.
        let _ = client.stream.write(b"x");
        server.closed(CloseReason::BadRequest) == 2
    });
    check_time(start, LIMIT);
    server.stop();
}
