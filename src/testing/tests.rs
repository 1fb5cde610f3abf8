//! The help for tests, tested: it must behave as a real worker does.

use super::*;
use crate::http::{Request, Response, Stream};

/// Counts down, one line a piece.
struct Countdown(u32);

impl Stream for Countdown {
    fn next(&mut self, out: &mut Vec<u8>) -> crate::http::Pull {
        out.extend_from_slice(format!("{}\n", self.0).as_bytes());
        self.0 -= 1;
        if self.0 == 0 { crate::http::Pull::Done } else { crate::http::Pull::More }
    }
}

fn app(request: &Request<'_>, response: &mut Response) -> Result<(), String> {
    match (request.method(), request.path()) {
        (_, "/echo") => response.bytes("text/plain", request.body().to_vec()),
        (_, "/later") => response.after(Duration::from_secs(3), |response| response.text("now")),
        (_, "/stream") => response.stream(Countdown(3)),
        (_, "/nothing") => {
            response.status(204);
        }
        (_, "/fail") => return Err("secret".to_owned()),
        (_, "/panic") => panic!("as asked"),
        (_, "/peer") => response.text(format!("{:?}", request.peer())),
        (method, path) => response.text(format!("{method} {path}")),
    }
    Ok(())
}

#[test]
fn requests_go_through_the_real_parser() {
    let mut client = Connection::new(app);
    let reply = client.get("/a?b");
    assert_eq!((reply.status, reply.text().as_str()), (200, "GET /a"));
    assert_eq!(reply.header("content-length"), Some("6"));
    let body = vec![b'x'; 100_000];
    assert_eq!(client.request("POST", "/echo", &[("X-A", "1")], &body).body, body);
    let head = client.request("HEAD", "/a", &[], b"");
    assert_eq!((head.header("Content-Length"), head.text().as_str()), (Some("7"), ""));
    assert_eq!(client.get("/nothing").status, 204);
    assert_eq!(client.get("/stream").text(), "3\n2\n1\n");
    let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(client.send(format!("{chunked}3\r\nabc\r\n0\r\n\r\n")).text(), "abc");
    let two = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2);
    assert_eq!(client.send(&two[..5 + two.len() / 2]).text(), "GET /1");
    assert_eq!(client.push(&two[5 + two.len() / 2..two.len() - 1]), 0, "not whole yet");
    assert_eq!(client.send("\n").text(), "GET /1");
    assert_eq!(client.counter(Counter::Requests), 8);
}

#[test]
fn an_answer_that_takes_time_takes_none_in_the_test() {
    let mut client = Connection::new(app);
    assert_eq!(client.get("/later").text(), "now");
    client.push("GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wait(Duration::from_millis(2999));
    assert_eq!(client.push(""), 0);
    client.wait(Duration::from_millis(1));
    assert_eq!(client.next_reply().text(), "now");
}

#[test]
fn failures_limits_and_timeouts_are_the_real_ones() {
    let mut client = Connection::with(app, &[("body_max", "10"), ("head_timeout", "5s")]);
    let failed = client.get("/fail");
    assert_eq!(failed.status, 500);
    assert!(!failed.text().contains("secret"));
    let panicked = client.get("/panic");
    assert_eq!((panicked.status, client.is_closed()), (500, true));
    assert_eq!(client.request("POST", "/echo", &[], &[b'x'; 11]).status, 413);
    assert_eq!(client.close_reason(), Some(CloseReason::BodyTooLarge));
    assert_eq!(client.get("/a").status, 200, "on a new connection");
    assert_eq!(client.send("GET / HTTP/1.1\r\n").status, 408, "nothing else comes before that");
    let mut client = Connection::new(app);
    assert_eq!(client.send("GET  / HTTP/1.1\r\n\r\n").status, 400);
    let mut client = Connection::new(app);
    client.get("/a");
    client.drain();
    client.wait(Duration::from_secs(1));
    assert_eq!(client.close_reason(), Some(CloseReason::Drain));
    let mut client = Connection::new(app);
    client.close();
    assert_eq!(client.close_reason(), Some(CloseReason::ClientClosed));
}

#[test]
#[should_panic(expected = "no answer")]
fn a_missing_answer_fails_the_test_instead_of_hanging_it() {
    let mut client = Connection::new(app);
    client.get("/a");
    let _ = client.next_reply();
}

#[cfg(feature = "sim")]
mod simulated {
    use super::*;
    use crate::balancer::RoundRobin;
    use std::collections::BTreeSet;

    fn pool(seed: u64, options: &[(&str, &str)]) -> SimulatedPool {
        let mut config = crate::Config::default();
        for (name, value) in options {
            config.set(name, value).unwrap();
        }
        SimulatedPool::with(seed, 3, &config, RoundRobin::default(), |worker| {
            let worker = worker.clone();
            move |request: &Request<'_>, response: &mut Response| match request.path() {
                "/slot" => response.text(worker.slot.to_string()),
                "/peer" => response.text(format!("{:?}", request.peer())),
                "/later" => {
                    let (clock, start) = (worker.clock.clone(), worker.clock.now());
                    response.after(Duration::from_secs(1), move |response| {
                        response.text((clock.now() - start).as_secs().to_string());
                    });
                }
                "/missing" => response.plain(404),
                _ => response.bytes("text/plain", request.body().to_vec()),
            }
        })
    }

    #[test]
    fn everybody_is_answered_what_the_application_says() {
        for mode in ["centralized", "shared"] {
            let mut pool = pool(1, &[("mode", mode)]);
            let from = "192.0.2.7:99".parse().ok();
            pool.ask_at(Duration::ZERO, "/", b"a body", from);
            pool.ask_at(Duration::from_millis(5), "/peer", b"", from);
            pool.ask("/missing");
            pool.ask("/later");
            let answers = pool.run().unwrap();
            let said: Vec<(u16, String)> = answers
                .iter()
                .map(|answer| (answer.status, String::from_utf8(answer.body.clone()).unwrap()))
                .collect();
            assert_eq!(said[0], (200, "a body".to_owned()));
            assert_eq!(said[1], (200, "Some(192.0.2.7:99)".to_owned()));
            assert_eq!(said[2].0, 404);
            assert_eq!(said[3], (200, "1".to_owned()));
            assert!(answers[3].took >= Duration::from_secs(1), "{:?}", answers[3]);
            assert!(answers[0].took < Duration::from_millis(100), "{:?}", answers[0]);
        }
    }

    #[test]
    fn the_balancer_that_was_given_picks() {
        let mut pool = pool(2, &[]);
        for number in 0..30 {
            pool.ask_at(Duration::from_millis(10 * number), "/slot", b"", None);
        }
        let answers = pool.run().unwrap();
        let slots: BTreeSet<Vec<u8>> = answers.iter().map(|answer| answer.body.clone()).collect();
        assert_eq!(slots.len(), 3);
    }

    #[test]
    fn killed_workers_cost_time_and_no_answer() {
        let mut cut = 0;
        for seed in 0..20 {
            let mut pool = pool(seed, &[]);
            pool.kill_workers();
            for number in 0..40 {
                pool.ask_at(Duration::from_millis(number), "/later", b"x", None);
            }
            let answers = pool.run().unwrap();
            assert!(answers.iter().all(|answer| answer.status == 200));
            cut += answers.iter().map(|answer| answer.cut).sum::<u64>();
        }
        assert!(cut > 0, "the kills did hit somebody");
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let run = || {
            let mut pool = pool(3, &[]);
            pool.kill_workers();
            (0..30).for_each(|_| pool.ask("/slot"));
            pool.run().unwrap()
        };
        assert_eq!(run(), run());
    }
}
