//! A server that misbehaves in one way is reported as exactly that.

use crate::server::{Server, answer, read_request, serve};
use ringfort::load::{Connections, Expect, ExpectBody, Failure, Of, Pace, Plan, Report};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn plan(server: &Server) -> Plan {
    Plan::new(&server.url())
        .unwrap()
        .connections(4)
        .warm_up(Duration::ZERO)
        .duration(Duration::from_millis(300))
        .timeout(Duration::from_secs(5))
}

/// Which kinds of failure occurred.
fn failures(report: &Report) -> Vec<Failure> {
    let occurred = |failure: &Failure| report.tally.failures.get(*failure) > 0;
    Failure::ALL.iter().copied().filter(occurred).collect()
}

/// Every request that was due is in exactly one count.
#[track_caller]
fn balanced(report: &Report) {
    let failed = report.tally.failures.total(Of::Request);
    assert_eq!(report.tally.requests, report.tally.answered + failed, "{}", report.text());
    assert!(report.tally.requests > 0, "{}", report.text());
}

/// Each connection is served five times as it should be, then treated like this. Only these kinds
/// of failure occur, and they show in the text with this example.
#[track_caller]
fn check(manner: fn(TcpStream), want: Failure, example: &str) {
    let server = Server::start(move |_, mut stream| {
        let served = (0..5).all(|_| read_request(&mut stream) && answer(&mut stream, "Hello"));
        if served {
            manner(stream);
        }
    });
    let expect = Expect { status: Some(200), body: ExpectBody::Exactly(b"Hello"[..].into()) };
    let report = plan(&server).expect(expect).run().unwrap();
    balanced(&report);
    assert_eq!(failures(&report), [want], "{}", report.text());
    assert!(report.tally.answered > 0, "{}", report.text());
    let count = report.tally.failures.get(want);
    let line = format!("{} {count} ({example})", want.name());
    assert!(report.text().contains(&line), "{line:?} in {}", report.text());
    assert!(report.error_rate() > 0.0);
}

#[test]
fn a_server_that_resets() {
    // To close with bytes unread sends a reset.
    let manner = |mut stream: TcpStream| drop(stream.read(&mut [0]));
    check(manner, Failure::Reset, "the peer is gone");
}

#[test]
fn a_server_that_answers_short() {
    let manner = |mut stream: TcpStream| {
        if read_request(&mut stream) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHel");
        }
    };
    check(manner, Failure::Short, "in the middle of the reply");
}

#[test]
fn a_server_that_answers_wrong_bytes() {
    let manner = |mut stream: TcpStream| {
        for body in ["HellO", "Hello"].into_iter().cycle() {
            if !(read_request(&mut stream) && answer(&mut stream, body)) {
                return;
            }
        }
    };
    check(manner, Failure::Body, "5 bytes that differ from the expected ones");
}

#[test]
fn a_server_that_answers_another_status() {
    let manner = |mut stream: TcpStream| {
        for status in [500, 200].into_iter().cycle() {
            let reply = format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\nHello");
            if !(read_request(&mut stream) && stream.write_all(reply.as_bytes()).is_ok()) {
                return;
            }
        }
    };
    check(manner, Failure::Status, "status 500");
}

#[test]
fn a_server_that_does_not_speak_http() {
    let manner = |mut stream: TcpStream| {
        if read_request(&mut stream) {
            let _ = stream.write_all(b"220 ready\r\n\r\n");
        }
    };
    check(manner, Failure::Malformed, "not the head of an HTTP/1.x reply");
}

#[test]
fn a_server_that_closes_early() {
    let manner = |mut stream: TcpStream| {
        read_request(&mut stream);
    };
    check(manner, Failure::Closed, "before any of the reply");
}

/// One request in five is not answered: its connection is closed after 300 ms. Nobody waited less
/// for that, so it is a latency too: or a server looks fast that makes people wait in vain.
#[test]
fn what_fails_late_is_a_latency() {
    let late = Duration::from_millis(300);
    let server = Server::start(move |_, mut stream| {
        let served = (0..4).all(|_| read_request(&mut stream) && answer(&mut stream, "Hello"));
        if served && read_request(&mut stream) {
            crate::paced::pause(300);
        }
    });
    let rate = 200.0;
    let pace = Pace::Open { arrivals: ringfort::load::Arrivals::Constant, from: rate, to: rate };
    let plan = plan(&server).connections(32).duration(Duration::from_secs(1));
    let report = plan.pace(pace).run().unwrap();
    balanced(&report);
    assert_eq!(failures(&report), [Failure::Closed], "{}", report.text());
    assert_eq!(report.tally.response.len(), report.tally.requests);
    assert!(report.latency_at(1.0) >= late, "{}", report.text());
    let failed = report.tally.failures.get(Failure::Closed);
    assert_eq!(report.tally.in_vain.len(), failed);
    let slow =
        |latency: &ringfort::load::Latency| latency.len() - latency.count_between(0, 299_000_000);
    assert!(slow(&report.tally.response) >= failed, "{}", report.text());
    assert!(slow(&report.tally.service) >= failed, "{}", report.text());
    assert!(report.text().contains("\nin vain "), "{}", report.text());
}

#[test]
fn a_server_that_sends_what_nobody_asked_for() {
    let server = Server::start(|_, mut stream| {
        if read_request(&mut stream) {
            // Longer than it says.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello!");
        }
        // The client hangs up.
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    });
    let pace = Pace::Open { arrivals: ringfort::load::Arrivals::Constant, from: 50.0, to: 50.0 };
    let report = plan(&server).pace(pace).run().unwrap();
    balanced(&report);
    assert_eq!(failures(&report), [Failure::Unasked], "{}", report.text());
    let count = report.tally.failures.get(Failure::Unasked);
    let line = format!("unasked {count} (no request was on its way)");
    assert!(report.text().contains(&line), "{line:?} in {}", report.text());
    assert!(!report.is_valid(), "connections break: {}", report.text());
}

/// As an SMTP server does. Whichever comes first, the greeting or the request, it is no reply.
#[test]
fn a_server_that_speaks_first() {
    let server = Server::start(|_, mut stream| {
        let _ = stream.write_all(b"220 ready\r\n");
        let _ = stream.read(&mut [0]);
    });
    match plan(&server).timeout(Duration::from_millis(300)).run() {
        Ok(report) => {
            let named = [Failure::Malformed, Failure::Unasked];
            let mut seen = failures(&report).into_iter();
            assert!(seen.all(|failure| named.contains(&failure)), "{}", report.text());
            assert_eq!(report.tally.answered, 0, "{}", report.text());
        }
        Err(error) => assert!(error.to_string().contains("300ms: unasked"), "{error}"),
    }
}

#[test]
fn a_server_that_closes_politely_is_followed() {
    let server = Server::start(|_, mut stream| {
        if read_request(&mut stream) {
            let reply = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(reply);
        }
    });
    let report = plan(&server).run().unwrap();
    balanced(&report);
    assert_eq!(failures(&report), []);
    assert!(report.tally.connections.reopened > 4, "{}", report.text());
    assert_eq!(report.tally.connections.alive_min, 4, "none of that is a fault");
}

#[test]
fn a_server_that_stalls() {
    // A connection is answered five times, then read and never answered.
    let server = Server::start(|_, mut stream| {
        let served = (0..5).all(|_| read_request(&mut stream) && answer(&mut stream, "Hello"));
        while served && read_request(&mut stream) {}
    });
    let timeout = Duration::from_millis(300);
    let report = plan(&server).timeout(timeout).duration(timeout * 2).run().unwrap();
    balanced(&report);
    assert_eq!(failures(&report), [Failure::Timeout], "{}", report.text());
    assert!(report.latency_at(1.0) >= timeout, "what timed out is a latency too");
}

#[test]
fn a_server_that_stops_for_good() {
    // All is well until the tenth request of each connection; then silence.
    let server = Server::start(|_, mut stream| {
        for _ in 0..10 {
            if !(read_request(&mut stream) && answer(&mut stream, "Hello")) {
                return;
            }
        }
        while read_request(&mut stream) {}
    });
    let pace =
        Pace::Open { arrivals: ringfort::load::Arrivals::Constant, from: 1000.0, to: 1000.0 };
    let report = plan(&server).timeout(Duration::from_secs(60)).pace(pace);
    let report = report.duration(Duration::from_millis(200)).timeout(Duration::from_millis(800));
    let report = report.run().unwrap();
    balanced(&report);
    // Four connections hold a request each; nothing else could be sent.
    assert_eq!(report.tally.requests, 200);
    assert_eq!(failures(&report), [Failure::Timeout, Failure::Unsent], "{}", report.text());
    assert!(report.latency_at(0.99) >= Duration::from_millis(500), "{}", report.text());
}

#[test]
fn a_server_that_accepts_only_half_of_the_connections() {
    let server = Server::start_with(2, |_, stream| serve(stream));
    let report = plan(&server).timeout(Duration::from_secs(1)).run().unwrap();
    balanced(&report);
    let codes: Vec<&str> = report.reasons.iter().map(ringfort::load::Reason::code).collect();
    assert!(codes.contains(&"connections_missing"), "{}", report.text());
    // The kernel opens what nobody accepts; only answers tell.
    let Connections { requested, opened, answered, .. } = report.tally.connections;
    assert_eq!((requested, opened, answered), (4, 4, 2));
    assert_eq!(report.exit_code(), Report::EXIT_INVALID);
    assert!(report.text().contains("4 requested, 4 opened, 2 answered"), "{}", report.text());
}

#[test]
fn nobody_listens() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plan = Plan::new(&format!("http://{address}/")).unwrap();
    let error = plan.timeout(Duration::from_millis(100)).run().unwrap_err();
    let want = format!("no connection to http://{address}/ within 100ms: refused [system]");
    assert_eq!(error.to_string(), want);
}

#[test]
fn replies_must_all_equal_the_first() {
    // One of two connections gets other bytes; with two threads, one of two threads.
    equal_the_first(1);
    equal_the_first(2);
}

fn equal_the_first(threads: u32) {
    let server = Server::start(|index, mut stream| {
        let body = if index == 0 { "Hello" } else { "World" };
        while read_request(&mut stream) && answer(&mut stream, body) {}
    });
    let expect = Expect { status: None, body: ExpectBody::SameAsFirst };
    let plan = plan(&server).threads(threads).connections(2);
    let report = plan.expect(expect).run().unwrap();
    balanced(&report);
    assert_eq!(failures(&report), [Failure::Body], "{}", report.text());
    assert!(report.tally.answered > 0, "{}", report.text());
}
