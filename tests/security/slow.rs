//! Slow, many, large: what costs an attacker little must not cost the others their answers.

use crate::client::{Client, get, post};
use crate::harness::Case;
use crate::server::{SOON, Server, WARM_UP, now, since};
use ringfort::stats::{CloseReason, Counter};
use std::io::{ErrorKind, Write};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("slow::two_hundred_dripping_heads", slowloris),
    ("slow::two_hundred_dripping_bodies", rudy),
    ("slow::clients_that_never_read", never_reading),
    ("slow::a_huge_announcement_costs_nothing", huge_announcements),
    ("slow::a_flood_of_connections", flood),
    ("slow::a_flood_of_pipelined_requests", pipelined),
    ("slow::clients_that_reset", resets),
];

const CROWD: usize = 200;

/// Answers of a healthy client that come on time.
#[derive(Default)]
struct Healthy {
    took: Vec<Duration>,
}

impl Healthy {
    fn ask(&mut self, client: &mut Client) {
        let start = now();
        client.get("/");
        assert_eq!(client.answer().status, 200);
        self.took.push(since(start));
    }

    #[track_caller]
    fn check(mut self) {
        self.took.sort_unstable();
        let median = self.took[self.took.len() / 2];
        let worst = self.took[self.took.len() - 1];
        // On an idle machine some 0.1 ms and 2 ms; the machine may have other things to do.
        assert!(median < Duration::from_millis(50), "median {median:?}, worst {worst:?}");
        assert!(worst < SOON / 2, "median {median:?}, worst {worst:?}");
    }
}

/// A crowd drips a byte each in turn, while a healthy client is served. All of the crowd is told
/// 408 and closed when its time is over.
fn drip(server: &mut Server, begin: &[u8], reasons: &[CloseReason]) {
    let mut healthy = Healthy::default();
    let mut client = server.connect();
    let start = now();
    let mut crowd: Vec<Client> = (0..CROWD)
        .map(|number| {
            let mut client = server.connect();
            if number % 2 == 1 {
                client.get("/");
                assert_eq!(client.answer().status, 200);
            }
            client.send(begin);
            client.stream.set_nonblocking(true).unwrap();
            client
        })
        .collect();
    let mut dripped = 0;
    while !crowd.is_empty() {
        healthy.ask(&mut client);
        crowd.retain_mut(|client| match client.read() {
            Ok(_) => {
                client.stream.set_nonblocking(false).unwrap();
                let answer = client.last_answer();
                assert_eq!((answer.status, answer.field("connection")), (408, Some("close")));
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                // Slow enough that nobody sends a whole head before its time is over.
                if dripped < 4000 {
                    let _ = client.stream.write(b"x");
                }
                true
            }
        });
        dripped += 1;
        assert!(since(start) < SOON, "{} drip on", crowd.len());
    }
    healthy.check();
    drop(crowd);
    server.eventually("counted", |server| {
        reasons.iter().map(|&reason| server.closed(reason)).sum::<u64>() == CROWD as u64
    });
}

fn slowloris() {
    for mode in ["shared", "centralized"] {
        let mut server = Server::start(&[("mode", mode), ("head_timeout", "1s")]);
        let begin = b"GET / HTTP/1.1\r\nHost: x\r\nX: ";
        drip(&mut server, begin, &[CloseReason::HeadTimeout]);
        server.stop();
    }
}

fn rudy() {
    let settings = [("body_timeout", "500ms"), ("body_rate_min", "100000")];
    let mut server = Server::start(&settings);
    let begin = post("Content-Length: 1000000\r\n", "");
    // On a busy machine a crowd may come to stand still.
    drip(&mut server, &begin, &[CloseReason::BodyTooSlow, CloseReason::BodyTimeout]);
    assert!(server.closed(CloseReason::BodyTooSlow) > 0, "{}", server.counters());
    server.stop();
}

fn never_reading() {
    const READERS: u64 = 20;
    let settings = [("output_max", "256k"), ("write_timeout", "1s")];
    let mut server = Server::start(&settings);
    let (fds, before) = server.rest();
    let mut healthy = Healthy::default();
    let mut client = server.connect();
    let requests = get("/big?bytes=65536").repeat(1000);
    let crowd: Vec<Client> = (0..READERS)
        .map(|_| {
            let mut client = server.connect();
            client.stream.set_nonblocking(true).unwrap();
            // As many as there is room for.
            let _ = client.stream.write(&requests);
            healthy.ask(&mut server.connect());
            client
        })
        .collect();
    let start = now();
    let mut most = 0;
    while server.closed(CloseReason::WriteTimeout) < READERS {
        healthy.ask(&mut client);
        most = most.max(server.holds().1);
        assert!(since(start) < SOON, "{}", server.counters());
    }
    healthy.check();
    // Each may hold what it may hold, and what was received of it.
    let bound = before + READERS * (512 << 10) + (4 << 20);
    assert!(most < bound, "{before} bytes became {most}");
    drop((crowd, client));
    server.eventually("quiet", |server| server.open() == 0 && server.holds().0 == fds);
    let (_, after) = server.holds();
    assert!(after < before + (8 << 20), "{before} bytes became {after}");
    server.stop();
}

fn huge_announcements() {
    let mut server = Server::start(&[("body_max", "1g")]);
    let (_, before) = server.rest();
    let half = "Transfer-Encoding: chunked\r\n";
    for begin in [
        post("Content-Length: 1073741824\r\n", "x"),
        post(half, "40000000\r\nx"),
        // Also where all bodies are too large.
        post("Content-Length: 1073741825\r\n", "x"),
        post(half, "ffffffffffffffff\r\nx"),
    ] {
        let requests = server.count(Counter::Requests);
        let refused = server.closed(CloseReason::BodyTooLarge);
        let crowd: Vec<Client> = (0..50)
            .map(|_| {
                let mut client = server.connect();
                client.send(&begin);
                client
            })
            .collect();
        server.eventually("read", |server| {
            let read = server.count(Counter::Requests) - requests;
            // A length that is refused is not counted as a request that was read.
            server.count(Counter::ClientErrors) >= refused && read + refused_now(server) >= 50
        });
        let (_, held) = server.holds();
        assert!(held < before + (2 << 20), "{before} bytes became {held}");
        drop(crowd);
        server.eventually("quiet", |server| server.open() == 0);
    }
    server.serves();
    server.stop();
}

fn refused_now(server: &Server) -> u64 {
    server.count(Counter::ClientErrors)
}

/// Connections that come and go say nothing, and are forgotten.
fn flood() {
    for mode in ["shared", "centralized"] {
        let mut server = Server::start(&[("mode", mode)]);
        let (fds, before) = server.rest();
        let mut healthy = Healthy::default();
        let mut client = server.connect();
        for _ in 0..20 {
            let crowd: Vec<Client> = (0..CROWD).map(|_| server.connect()).collect();
            healthy.ask(&mut client);
            drop(crowd);
        }
        healthy.check();
        drop(client);
        let adopted = 20 * CROWD as u64 + 1 + WARM_UP;
        server.eventually("adopted", |server| server.count(Counter::Adopted) == adopted);
        server.eventually("quiet", |server| server.open() == 0 && server.holds().0 == fds);
        let (_, after) = server.holds();
        assert!(after < before + (4 << 20), "{before} bytes became {after}");
        let books = server.stop();
        assert_eq!((books.get("accepted"), books.get("served")), (adopted, adopted));
    }
}

/// One client asks for as much as it can; the others have their turn.
fn pipelined() {
    const REQUESTS: usize = 20_000;
    let mut server = Server::start(&[]);
    let mut greedy = server.connect();
    let requests = get("/").repeat(REQUESTS);
    greedy.stream.set_nonblocking(true).unwrap();
    let mut healthy = Healthy::default();
    let mut client = server.connect();
    let mut sent = 0;
    while server.count(Counter::Requests) < (REQUESTS + healthy.took.len()) as u64 {
        sent += greedy.stream.write(&requests[sent..]).unwrap_or(0);
        healthy.ask(&mut client);
        let _ = greedy.read();
    }
    assert!(server.count(Counter::FairnessYields) > 0, "{}", server.counters());
    healthy.check();
    greedy.stream.set_nonblocking(false).unwrap();
    for _ in 0..REQUESTS {
        assert_eq!(greedy.answer().status, 200);
    }
    drop((greedy, client));
    server.expect_closed(CloseReason::ClientClosed, 2);
    server.stop();
}

/// Clients that go away in the middle of an answer leave nothing behind.
fn resets() {
    let mut server = Server::start(&[]);
    let (fds, before) = server.rest();
    for number in 0..500 {
        let mut client = server.connect();
        client.send(match number % 4 {
            0 => get("/huge?bytes=10000000"),
            1 => post("Content-Length: 100000\r\n", "x"),
            // Who has closed its half may still wait for an answer: it is owed until then.
            2 => get("/slow?ms=300"),
            _ => b"GET / HTT".to_vec(),
        });
        // Unread bytes make this a reset.
        if number % 4 == 0 {
            let _ = client.read();
        }
    }
    server.eventually("adopted", |server| server.count(Counter::Adopted) == 500 + WARM_UP);
    server.eventually("quiet", |server| server.open() == 0 && server.holds().0 == fds);
    let (_, after) = server.holds();
    assert!(after < before + (12 << 20), "{before} bytes became {after}");
    server.serves();
    let books = server.stop();
    assert_eq!(books.get("deaths"), 1);
}
