//! Whole connections: what the client reads, and why they end.

use crate::fuzzing::script::Script;
use crate::http::{Handler, InvalidHeader, Owed, Pull, Request, Response, Stream, Upload};
use crate::protocol::Close;
use crate::stats::{CloseReason, Counter};
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Answers in every way there is.
#[derive(Debug, Default)]
struct App {
    /// Objects of the application that are alive, to see that all are dropped.
    alive: Rc<Cell<i32>>,
    /// What is owed is there.
    ready: Rc<Cell<bool>>,
}

impl Handler for App {
    fn handle(&mut self, request: &Request<'_>, response: &mut Response) {
        let alive = Guard::new(&self.alive);
        let pieces = |count| Pieces { left: count, pause: None, _alive: Guard::new(&self.alive) };
        match request.path() {
            "/" => response.text("hello"),
            "/echo" => response.bytes("application/octet-stream", request.body().to_vec()),
            "/big" => response.text("x".repeat(5000)),
            "/empty" => {}
            "/204" => response.status(204).text("not sent"),
            "/close" => response.close().text("bye"),
            "/stream" => response.stream(pieces(3)),
            "/sized" => response.stream(Sized(pieces(3), 15)),
            "/short" => response.stream(Sized(pieces(3), 16)),
            "/long" => response.stream(Sized(pieces(3), 14)),
            "/failing" => response.stream(pieces(-1)),
            "/panicking" => response.stream(pieces(-2)),
            "/204-stream" => response.status(204).stream(pieces(3)),
            "/205-stream" => response.status(205).stream(pieces(3)),
            "/waiting" => response.stream(Waiting { asked: 0, _alive: alive }),
            "/slow" => {
                let pause = Some(Duration::from_millis(20));
                response.stream(Pieces { pause, ..pieces(3) });
            }
            "/later" => response.after(Duration::from_millis(50), move |response| {
                let _alive = alive;
                response.text("later");
            }),
            "/polled" => response.after(Duration::ZERO, |response| {
                response.after(Duration::ZERO, |response| response.text("polled"));
            }),
            "/never" => response.after(Duration::from_secs(3600), move |_| drop(alive)),
            "/owed" | "/future" => {
                let ends = request.path() == "/future";
                let ready = Rc::clone(&self.ready);
                response.owe(Box::new(Debt { ends, ready, _alive: alive }));
            }
            "/produced" => {
                let ready = Rc::clone(&self.ready);
                response.stream(Produced { ready, _alive: alive });
            }
            "/later-panic" => response.after(Duration::from_millis(1), |_| panic!("planned")),
            "/panic" => panic!("planned"),
            _ => response.status(404).text("?"),
        }
    }

    fn upload(&mut self, head: &Request<'_>) -> Option<Box<dyn Upload>> {
        let counter = || Count { bytes: 0, panics: false, _alive: Guard::new(&self.alive) };
        match head.path() {
            "/upload" => Some(Box::new(counter())),
            "/upload-panic" => Some(Box::new(Count { panics: true, ..counter() })),
            "/no-upload" => panic!("planned"),
            _ => None,
        }
    }
}

/// Counts itself while it lives.
struct Guard(Rc<Cell<i32>>);

impl Guard {
    fn new(alive: &Rc<Cell<i32>>) -> Self {
        alive.set(alive.get() + 1);
        Self(Rc::clone(alive))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

struct Count {
    bytes: usize,
    panics: bool,
    _alive: Guard,
}

impl Upload for Count {
    fn write(&mut self, bytes: &[u8]) {
        assert!(!self.panics, "planned");
        assert!(!bytes.is_empty());
        self.bytes += bytes.len();
    }

    fn finish(self: Box<Self>, response: &mut Response) {
        response.text(self.bytes.to_string());
    }
}

/// So many pieces of five bytes; `-1`: fails after one, `-2`: panics after one.
struct Pieces {
    left: i32,
    pause: Option<Duration>,
    _alive: Guard,
}

impl Stream for Pieces {
    fn next(&mut self, out: &mut Vec<u8>) -> Pull {
        if self.left == -3 {
            panic!("planned");
        } else if self.left == -4 {
            return Pull::Failed;
        }
        out.extend_from_slice(b"piece");
        self.left = match self.left {
            -1 => -4,
            -2 => -3,
            left => left - 1,
        };
        match self.pause {
            _ if self.left == 0 => Pull::Done,
            Some(pause) => Pull::Later(pause),
            None => Pull::More,
        }
    }
}

/// Owed by a future, which ends at the client's end, or by a loop.
struct Debt {
    ends: bool,
    ready: Rc<Cell<bool>>,
    _alive: Guard,
}

impl Owed for Debt {
    fn poll(&mut self, response: &mut Response) -> Poll<()> {
        if !self.ready.get() {
            return Poll::Pending;
        }
        response.text("owed");
        Poll::Ready(())
    }

    fn ends_at_eof(&self) -> bool {
        self.ends
    }
}

/// The body that a future makes.
struct Produced {
    ready: Rc<Cell<bool>>,
    _alive: Guard,
}

impl Stream for Produced {
    fn next(&mut self, out: &mut Vec<u8>) -> Pull {
        if !self.ready.get() {
            return Pull::Wait;
        }
        out.extend_from_slice(b"made");
        Pull::Done
    }
}

/// Has nothing the first two times it is asked.
struct Waiting {
    asked: u32,
    _alive: Guard,
}

impl Stream for Waiting {
    fn next(&mut self, out: &mut Vec<u8>) -> Pull {
        self.asked += 1;
        if self.asked < 3 {
            return Pull::More;
        }
        out.extend_from_slice(b"now");
        Pull::Done
    }
}

/// A stream with a length that may be a lie.
struct Sized(Pieces, u64);

impl Stream for Sized {
    fn next(&mut self, out: &mut Vec<u8>) -> Pull {
        self.0.next(out)
    }

    fn length(&self) -> Option<u64> {
        Some(self.1)
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn get10(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.0\r\n{fields}\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn post_chunked(path: &str, chunks: &[&str]) -> String {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in chunks {
        request.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    request + "0\r\n\r\n"
}

/// What the client reads when it sends this, and why the connection closes, if it does.
#[track_caller]
fn check(input: impl AsRef<[u8]>, want: &str, close: Option<CloseReason>) {
    check_with(&[], input, want, close);
}

#[track_caller]
fn check_with(
    options: &[(&str, &str)],
    input: impl AsRef<[u8]>,
    want: &str,
    close: Option<CloseReason>,
) {
    let mut script = Script::new(App::default(), options);
    script.send(input);
    assert_eq!((script.text().as_str(), script.close().map(|close| close.reason)), (want, close));
}

const HELLO: &str = "200 OK|D|T|Content-Length: 5||hello";

#[test]
fn a_request_is_answered_and_the_connection_stays() {
    check(get("/"), HELLO, None);
    check(get("/empty"), "200 OK|D|Content-Length: 0||", None);
    check(get("/204"), "204 No Content|D||", None);
    check(get("/nowhere"), "404 Not Found|D|T|Content-Length: 1||?", None);
    check(get("/").repeat(3), &HELLO.repeat(3), None);
    check(format!("\r\n{}", get("/")), HELLO, None);
    let big = format!("200 OK|D|T|Content-Length: 5000||{}", "x".repeat(5000));
    check(get("/big").repeat(2), &big.repeat(2), None);
    let options = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    check(options.to_owned() + &get("/"), &format!("204 No Content|D||{HELLO}"), None);
}

#[test]
fn a_head_request_gets_no_body() {
    let head = |path: &str| get(path).replace("GET", "HEAD");
    check(head("/") + &get("/"), &format!("200 OK|D|T|Content-Length: 5||{HELLO}"), None);
    check(
        head("/stream") + &get("/"),
        &format!("200 OK|D|O|Transfer-Encoding: chunked||{HELLO}"),
        None,
    );
    check(head("/sized") + &get("/"), &format!("200 OK|D|O|Content-Length: 15||{HELLO}"), None);
}

#[test]
fn bodies_are_read_whole_or_passed_on() {
    let echo = |body: &str| format!("200 OK|D|O|Content-Length: {}||{body}", body.len());
    check(post("/echo", "abc") + &get("/"), &(echo("abc") + HELLO), None);
    check(post("/echo", ""), &echo(""), None);
    check(post_chunked("/echo", &["a", "bc"]) + &get("/"), &(echo("abc") + HELLO), None);
    check(post_chunked("/echo", &[]), &echo(""), None);
    let count = "200 OK|D|T|Content-Length: 1||3";
    check(post("/upload", "abc") + &get("/"), &(count.to_owned() + HELLO), None);
    check(post_chunked("/upload", &["a", "bc"]) + &get("/"), &(count.to_owned() + HELLO), None);
    // A body that the handler does not look at is no request.
    check(post("/", &get("/echo")), HELLO, None);
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    let closing = "200 OK|D|T|Content-Length: 5|Connection: close||hello";
    let staying = "200 OK|D|T|Content-Length: 5|Connection: keep-alive||hello";
    let asked = Some(CloseReason::ClientAsked);
    check(get10("/", ""), closing, asked);
    check(get10("/", "") + &get("/"), closing, asked);
    let keep = get10("/", "Connection: keep-alive\r\n");
    check(keep.repeat(2), &staying.repeat(2), None);
    // It knows no chunks: the end of the body is that of the connection.
    let stream = get10("/stream", "Connection: keep-alive\r\n");
    check(stream, "200 OK|D|O|Connection: close||piecepiecepiece", asked);
}

#[test]
fn the_last_answer_says_so() {
    let last = "200 OK|D|T|Content-Length: 5|Connection: close||hello";
    let close = get("/").replace("Host: a", "Host: a\r\nConnection: x, CLOSE");
    check(close + &get("/"), last, Some(CloseReason::ClientAsked));
    check_with(&[("keep_alive", "false")], get("/"), last, Some(CloseReason::KeepAliveOff));
    let both = HELLO.to_owned() + last;
    check_with(&[("requests_max", "2")], get("/").repeat(3), &both, Some(CloseReason::RequestsMax));
    check(
        get("/close") + &get("/"),
        "200 OK|D|T|Content-Length: 3|Connection: close||bye",
        Some(CloseReason::HandlerAsked),
    );
}

/// Who asked for the close sends no more; anybody else may be about to.
#[test]
fn a_close_lingers_unless_the_client_asked_for_it() {
    for (request, linger) in [
        (get("/close"), true),
        (get10("/", ""), false),
        ("nonsense\r\n\r\n".to_owned(), true),
        (get("/panic"), true),
        (get("/failing"), false),
    ] {
        let mut script = Script::new(App::default(), &[]);
        let close = script.send(&request).close().unwrap();
        assert_eq!((close.linger, close.now), (linger, false), "{request}");
    }
}

#[track_caller]
fn refused(options: &[(&str, &str)], input: impl AsRef<[u8]>, status: u16, reason: CloseReason) {
    let mut script = Script::new(App::default(), options);
    script.send(input).send(get("/"));
    let answer = script.text();
    assert!(answer.starts_with(&status.to_string()), "{answer}");
    assert!(answer.contains("|Connection: close||"), "{answer}");
    assert_eq!(answer.matches("D|").count(), 1, "one answer and nothing after it: {answer}");
    assert_eq!(script.close(), Some(Close { reason, linger: true, now: false }));
    let counter = if status < 500 { Counter::ClientErrors } else { Counter::ServerErrors };
    assert_eq!((script.line.get(Counter::Responses), script.line.get(counter)), (1, 1));
}

#[test]
fn what_will_not_be_served_gets_one_answer() {
    let with = |field: &str| get("/").replace("Host: a", &format!("Host: a\r\n{field}"));
    let long = "x".repeat(9000);
    refused(&[], "GET\r\n\r\n", 400, CloseReason::BadRequest);
    refused(&[], b"\x16\x03\x01", 400, CloseReason::BadRequest);
    refused(&[], with("Content-Length: 1x"), 400, CloseReason::BadRequest);
    refused(&[], with("Transfer-Encoding: gzip, chunked"), 501, CloseReason::NotImplemented);
    refused(&[], "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501, CloseReason::NotImplemented);
    refused(&[], get("/").replace("1.1", "2.0"), 505, CloseReason::VersionUnsupported);
    refused(&[], with("Expect: something"), 417, CloseReason::ExpectationFailed);
    refused(&[], with("Content-Length: 10485761"), 413, CloseReason::BodyTooLarge);
    refused(&[], get(&format!("/{long}")), 414, CloseReason::UriTooLong);
    refused(&[], with(&format!("A: {long}\r\nB: {long}")), 431, CloseReason::HeadTooLarge);
    refused(&[("headers_max", "1")], with("B: c"), 431, CloseReason::HeadTooLarge);
    let body_max = [("body_max", "2")];
    refused(&body_max, post("/", "abc"), 413, CloseReason::BodyTooLarge);
    refused(&body_max, post_chunked("/echo", &["ab", "c"]), 413, CloseReason::BodyTooLarge);
    refused(&body_max, post_chunked("/upload", &["ab", "c"]), 413, CloseReason::BodyTooLarge);
    let bad_chunk = post_chunked("/echo", &["a"]).replace("1\r\na", "1\r\nab");
    refused(&[], bad_chunk, 400, CloseReason::BadRequest);
    let line_max = [("chunk_line_max", "16")];
    let extension = |bytes| {
        post_chunked("/echo", &["a"]).replace("1\r\n", &format!("1;{}\r\n", "x".repeat(bytes)))
    };
    refused(&line_max, extension(20), 400, CloseReason::BadRequest);
    let overhead_max = [("chunk_overhead_max", "64")];
    refused(&overhead_max, extension(70), 400, CloseReason::BadRequest);
}

/// RFC 9110 §9.3.2: whatever the answer is.
#[test]
fn a_refused_head_request_gets_no_body() {
    let answer = |status: &str| {
        format!("{status}|D|T|Content-Length: {}|Connection: close||", status.len() - 4)
    };
    let late = answer("408 Request Timeout");
    let bad = Some(CloseReason::BadRequest);
    check("\r\nHEAD / HTTP/1.1\r\n\r\n", &answer("400 Bad Request"), bad);
    let mut script = Script::new(App::default(), &[]);
    script.send("HEAD /").wait_ms(10_000);
    assert_eq!(script.text(), late);
    let head = post("/echo", "abc").replace("POST", "HEAD");
    let mut script = Script::new(App::default(), &[]);
    script.send(&head[..head.len() - 1]).wait_ms(30_000);
    assert_eq!(script.text(), late);
    let large = post_chunked("/echo", &["abc"]).replace("POST", "HEAD");
    let too_large = answer("413 Content Too Large");
    check_with(&[("body_max", "2")], large, &too_large, Some(CloseReason::BodyTooLarge));
}

#[test]
fn answers_before_a_refusal_are_sent() {
    let mut script = Script::new(App::default(), &[]);
    script.send(get("/") + "nonsense\r\n\r\n");
    let want = "400 Bad Request|D|T|Content-Length: 11|Connection: close||Bad Request";
    assert_eq!(script.text(), HELLO.to_owned() + want);
}

#[test]
fn a_client_that_waits_is_told_to_continue() {
    let request = post("/echo", "abc").replace("Host: a", "Host: a\r\nExpect: 100-continue");
    let (head, body) = request.split_at(request.len() - 3);
    let answer = "200 OK|D|O|Content-Length: 3||abc";
    let mut script = Script::new(App::default(), &[]);
    script.send(head);
    assert_eq!(script.text(), "100 Continue||");
    script.send(body);
    assert_eq!(script.text(), format!("100 Continue||{answer}"));
    // Not when the body has begun to come, or is not wanted.
    check(&request, answer, None);
    check(&request[..request.len() - 1], "", None);
    let too_large = request.replace("Content-Length: 3", "Content-Length: 10485761");
    refused(&[], &too_large[..too_large.len() - 3], 413, CloseReason::BodyTooLarge);
}

#[test]
fn a_stream_is_sent_as_its_framing_wants() {
    let chunked = "200 OK|D|O|Transfer-Encoding: chunked||5|piece|5|piece|5|piece|0||";
    check(get("/stream") + &get("/"), &(chunked.to_owned() + HELLO), None);
    let sized = "200 OK|D|O|Content-Length: 15||piecepiecepiece";
    check(get("/sized") + &get("/"), &(sized.to_owned() + HELLO), None);
    let failed = Some(CloseReason::StreamFailed);
    check(get("/short") + &get("/"), "200 OK|D|O|Content-Length: 16||piecepiecepiece", failed);
    check(get("/long") + &get("/"), "200 OK|D|O|Content-Length: 14||piecepiece", failed);
    let cut = "200 OK|D|O|Transfer-Encoding: chunked||5|piece|";
    check(get("/failing") + &get("/"), cut, failed);
    check(get("/204-stream") + &get("/"), &format!("204 No Content|D||{HELLO}"), None);
    let reset = "205 Reset Content|D|Content-Length: 0||";
    check(get("/205-stream") + &get("/"), &(reset.to_owned() + HELLO), None);
    check(get("/panicking") + &get("/"), cut, Some(CloseReason::HandlerPanic));
}

/// An HTTP/1.0 client would take the end of the connection for that of the body.
#[test]
fn a_failed_stream_without_an_end_of_its_own_is_broken_off() {
    let mut script = Script::new(App::default(), &[]);
    script.send(get10("/failing", ""));
    let reason = CloseReason::StreamFailed;
    assert_eq!(script.close(), Some(Close { reason, linger: false, now: true }));
}

#[test]
fn a_stream_that_asks_for_time_gets_it() {
    let mut script = Script::new(App::default(), &[]);
    script.send(get("/slow")).send(get("/"));
    let begin = "200 OK|D|O|Transfer-Encoding: chunked||5|piece|";
    assert_eq!(script.text(), begin);
    assert_eq!((script.deadline_ms(), script.next.exact), (Some(20), true));
    script.wait_ms(19);
    assert_eq!(script.text(), begin);
    script.wait_ms(1);
    assert_eq!(script.text(), format!("{begin}5|piece|"));
    script.wait_ms(20);
    assert_eq!(script.text(), format!("{begin}5|piece|5|piece|0||{HELLO}"));
}

#[test]
fn a_stream_that_has_nothing_is_not_asked_without_pause() {
    let mut script = Script::new(App::default(), &[]);
    script.send(get("/waiting"));
    for _ in 0..2 {
        assert_eq!((script.deadline_ms(), script.next.again), (Some(1), false));
        script.wait_ms(1);
    }
    assert!(script.text().ends_with("|3|now|0||"), "{}", script.text());
}

#[test]
fn a_ticket_is_answered_in_time_and_in_order() {
    let mut script = Script::new(App::default(), &[]);
    script.send(get("/") + &get("/later")).send(get("/"));
    assert_eq!(script.text(), HELLO);
    assert_eq!((script.deadline_ms(), script.next.exact), (Some(50), true));
    script.wait_ms(50);
    let later = "200 OK|D|T|Content-Length: 5||later";
    assert_eq!(script.text(), format!("{HELLO}{later}{HELLO}"));
    assert_eq!(script.line.get(Counter::Responses), 3);
}

#[test]
fn a_ticket_without_a_delay_lets_others_go_on() {
    let mut script = Script::new(App::default(), &[]);
    script.send(get("/polled"));
    assert_eq!((script.text().as_str(), script.deadline_ms()), ("", Some(1)));
    script.wait_ms(1);
    assert_eq!((script.text().as_str(), script.deadline_ms()), ("", Some(1)));
    script.wait_ms(1);
    assert_eq!(script.text(), "200 OK|D|T|Content-Length: 6||polled");
}

#[test]
fn a_request_has_a_limit_in_all() {
    let limit = [("request_timeout", "200ms")];
    let mut script = Script::new(App::default(), &limit);
    script.send(get("/never")).wait_ms(199);
    assert_eq!((script.text().as_str(), script.next.exact), ("", false));
    script.wait_ms(1);
    let body = "Service Unavailable";
    let want = format!("503 {body}|D|T|Content-Length: {}||{body}", body.len());
    assert_eq!((script.text(), script.close()), (want, None));
    assert_eq!(script.line.get(Counter::ServerErrors), 1);
    assert_eq!(script.send(get("/later")).wait_ms(60).line.get(Counter::Responses), 2);

    let mut script = Script::new(App::default(), &limit);
    script.wait_ms(1000).send("GET").wait_ms(200);
    assert_eq!(script.close().unwrap().reason, CloseReason::HeadTimeout);
    let mut script = Script::new(App::default(), &limit);
    let post = post("/echo", "abc");
    script.send(&post[..10]).wait_ms(100).send(&post[10..post.len() - 1]).wait_ms(100);
    assert_eq!(script.close().unwrap().reason, CloseReason::BodyTimeout);
}

#[track_caller]
fn check_timeout(script: &mut Script<App>, deadline_ms: u128, want: &str, reason: CloseReason) {
    let before = script.text();
    assert_eq!(script.deadline_ms(), Some(deadline_ms));
    assert!(!script.next.exact);
    script.wait_ms(u64::try_from(deadline_ms).unwrap() - 1);
    assert_eq!(script.close(), None);
    script.wait_ms(1);
    assert_eq!(script.close().map(|close| close.reason), Some(reason));
    assert_eq!(script.text()[before.len()..].split('|').next(), Some(want));
}

#[test]
fn a_head_has_its_time_in_all() {
    let new = || Script::new(App::default(), &[]);
    check_timeout(&mut new(), 10_000, "", CloseReason::HeadTimeout);
    let late = "408 Request Timeout";
    check_timeout(new().send("G"), 10_000, late, CloseReason::HeadTimeout);
    check_timeout(
        new().wait_ms(4_000).send("G").wait_ms(4_000).send("E"),
        2_000,
        late,
        CloseReason::HeadTimeout,
    );
    // Of the next request from its first byte on; an empty line is none.
    let mut script = new();
    script.send(get("/")).wait_ms(60_000).send("\r\n").wait_ms(10_000);
    check_timeout(&mut script, 5_000, "", CloseReason::IdleTimeout);
    let mut script = new();
    script.send(get("/") + "G").wait_ms(9_000).send("E");
    check_timeout(&mut script, 1_000, late, CloseReason::HeadTimeout);
    let mut script = new();
    script.send(get("/")).wait_ms(60_000).send("G").wait_ms(9_000).send("E");
    check_timeout(&mut script, 1_000, late, CloseReason::HeadTimeout);
    check_timeout(new().send(get("/")), 75_000, "", CloseReason::IdleTimeout);
}

#[test]
fn a_body_may_neither_stop_nor_crawl() {
    for path in ["/echo", "/upload"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
        let mut script = Script::new(App::default(), &[]);
        script.send(&head).wait_ms(29_000).send("x");
        check_timeout(&mut script, 30_000, "408 Request Timeout", CloseReason::BodyTimeout);

        let mut script = Script::new(App::default(), &[]);
        script.send(&head);
        for _ in 0..59 {
            script.wait_ms(1_000).send("x".repeat(255));
            assert_eq!(script.close(), None);
        }
        script.wait_ms(1_000).send("x".repeat(255));
        assert_eq!(script.close().map(|close| close.reason), Some(CloseReason::BodyTooSlow));
        assert!(script.text().starts_with("408 "));

        let mut script = Script::new(App::default(), &[]);
        script.send(&head);
        for _ in 0..200 {
            script.wait_ms(1_000).send("x".repeat(256));
        }
        assert_eq!(script.close(), None);
        let mut script = Script::new(App::default(), &[("body_rate_min", "0")]);
        script.send(&head);
        for _ in 0..200 {
            script.wait_ms(1_000).send("x");
        }
        assert_eq!(script.close(), None);
    }
}

#[test]
fn the_clients_end_of_file() {
    let end = |input: &str| {
        let mut script = Script::new(App::default(), &[]);
        script.send(input).eof();
        (script.text(), script.close().map(|close| close.reason))
    };
    let answer = |text: &str| text.to_owned();
    assert_eq!(end(""), (answer(""), Some(CloseReason::ClientClosed)));
    assert_eq!(end("\r\n"), (answer(""), Some(CloseReason::ClientClosed)));
    assert_eq!(end(&get("/")), (answer(HELLO), Some(CloseReason::ClientClosed)));
    assert_eq!(end("GET"), (answer(""), Some(CloseReason::ClientAborted)));
    assert_eq!(end(&(get("/") + "GET")), (answer(HELLO), Some(CloseReason::ClientAborted)));
    let post = post("/echo", "abc");
    assert_eq!(end(&post[..post.len() - 1]), (answer(""), Some(CloseReason::ClientAborted)));
}

/// Whoever only ends its own side still gets its answers.
#[test]
fn a_half_closed_client_is_answered() {
    let mut script = Script::new(App::default(), &[]);
    script.send(get("/later") + &get("/")).eof();
    assert_eq!(script.close(), None);
    script.wait_ms(50);
    let later = "200 OK|D|T|Content-Length: 5||later";
    assert_eq!(script.text(), format!("{later}{HELLO}"));
    assert_eq!(script.close().map(|close| close.reason), Some(CloseReason::ClientClosed));
}

/// The same for what somebody else owes; a future is dropped unless `half_close` is set.
#[test]
fn a_half_closed_client_is_answered_by_who_owes_it() {
    let after_eof = |path: &str, options: &[(&str, &str)]| {
        let app = App::default();
        let (alive, ready) = (Rc::clone(&app.alive), Rc::clone(&app.ready));
        let mut script = Script::new(app, options);
        script.send(get(path) + &get("/")).eof();
        let lives = alive.get() == 1;
        assert_eq!(lives, script.close().is_none(), "{path}");
        ready.set(true);
        if lives {
            script.resume();
        }
        assert_eq!(alive.get(), 0, "{path}");
        (script.text(), script.close().map(|close| close.reason))
    };
    let owed = format!("200 OK|D|T|Content-Length: 4||owed{HELLO}");
    let whole = |text: &str| (text.to_owned(), Some(CloseReason::ClientClosed));
    let head = "200 OK|D|O|Transfer-Encoding: chunked||";
    assert_eq!(after_eof("/owed", &[]), whole(&owed));
    let gone = Some(CloseReason::ClientAborted);
    assert_eq!(after_eof("/future", &[]), (String::new(), gone));
    assert_eq!(after_eof("/produced", &[]), (head.to_owned(), gone));
    let on = [("half_close", "true")];
    assert_eq!(after_eof("/owed", &on), whole(&owed));
    assert_eq!(after_eof("/future", &on), whole(&owed));
    let made = format!("{head}4|made|0||{HELLO}");
    assert_eq!(after_eof("/produced", &on), whole(&made));
}

#[test]
fn a_drain_ends_what_idles_and_finishes_what_runs() {
    let drained = Some(CloseReason::Drain);
    let last = "200 OK|D|T|Content-Length: 5|Connection: close||hello";
    let reason = |script: &Script<App>| script.close().map(|close| close.reason);
    let mut script = Script::new(App::default(), &[]);
    assert_eq!(reason(script.drain().wait_ms(499)), None);
    assert_eq!(reason(script.wait_ms(1)), drained);
    let mut script = Script::new(App::default(), &[]);
    assert_eq!(reason(script.send(get("/")).wait_ms(9000).drain().wait_ms(500)), drained);
    // A request that was on its way when the drain began does not meet a closed door.
    for before in ["", &get("/")] {
        let mut script = Script::new(App::default(), &[]);
        script.send(before).drain().wait_ms(400).send(get("/"));
        assert!(script.text().ends_with(last), "{}", script.text());
        assert_eq!(reason(&script), drained);
    }
    // In a head, in a body, before and in an answer.
    let mut script = Script::new(App::default(), &[]);
    let request = get("/");
    script.send(&request[..5]).drain();
    assert_eq!(reason(&script), None);
    script.send(request[5..].to_owned() + &request);
    assert_eq!((script.text().as_str(), reason(&script)), (last, drained));
    let mut script = Script::new(App::default(), &[]);
    let request = post("/", "abc");
    script.send(&request[..request.len() - 1]).drain().send("c");
    assert_eq!((script.text().as_str(), reason(&script)), (last, drained));
    let mut script = Script::new(App::default(), &[]);
    script.send(get("/later")).drain().wait_ms(50);
    assert_eq!(script.text(), last.replace("hello", "later"));
    assert_eq!(reason(&script), drained);
    let mut script = Script::new(App::default(), &[]);
    script.send(get("/slow")).drain().wait_ms(40);
    assert!(script.text().ends_with("0||"), "{}", script.text());
    assert_eq!(reason(&script), drained);
}

#[test]
fn the_closes_of_a_drain_are_spread() {
    let mut times: Vec<Duration> =
        (7..23).map(|number| super::spread(&crate::io::Fd::new(number))).collect();
    times.sort_unstable();
    assert!(
        times.windows(2).all(|pair| pair[1] - pair[0] == super::DRAIN_SPREAD / super::DRAIN_STEPS)
    );
    assert!(times.len() == 16 && times[15] < super::DRAIN_SPREAD);
}

/// Requests that had come when the drain began are owed their answers, later ones are not.
#[test]
fn a_drain_answers_the_requests_that_had_come() {
    let mut script = Script::new(App::default(), &[]);
    script.reads = false;
    script.send(get("/big") + &get("/") + &get("/")).drain().send(get("/"));
    assert_eq!(script.close(), None);
    script.reads = true;
    script.run();
    assert_eq!(script.close().map(|close| close.reason), Some(CloseReason::Drain));
    let answers = script.text();
    assert_eq!(answers.matches("hello").count(), 2, "{answers}");
    assert!(answers.ends_with("|Connection: close||hello"), "{answers}");
    assert_eq!(answers.matches("Connection").count(), 1, "{answers}");
}

#[test]
fn a_panic_costs_its_connection_and_nothing_else() {
    let body = "Internal Server Error";
    let answer = format!("500 {body}|D|T|Content-Length: {}|Connection: close||{body}", body.len());
    let empty = answer.trim_end_matches(body);
    let panicked = Some(CloseReason::HandlerPanic);
    check(get("/panic") + &get("/"), &answer, panicked);
    check(get("/panic").replace("GET", "HEAD"), empty, panicked);
    check(post("/upload-panic", "abc") + &get("/"), &answer, panicked);
    check(post("/no-upload", "abc") + &get("/"), &answer, panicked);
    let mut script = Script::new(App::default(), &[]);
    script.send(get("/later-panic") + &get("/")).wait_ms(1);
    assert_eq!(script.text(), answer);
    assert_eq!(script.line.get(Counter::HandlerPanics), 1);
    assert_eq!(script.line.get(Counter::ServerErrors), 1);
}

#[test]
fn a_closure_is_a_handler() {
    fn serve<F, R>(handler: F) -> String
    where
        F: FnMut(&Request<'_>, &mut Response) -> R,
        R: crate::http::Outcome,
    {
        let mut script = Script::new(handler, &[]);
        script.send(get("/?a=b%20c"));
        script.text()
    }

    assert_eq!(serve(|_, res| res.text("hello")), HELLO);
    assert_eq!(
        serve(|req, res| res.text(req.method().to_owned())),
        HELLO.replace("hello", "GET").replace('5', "3")
    );
    let query = |req: &Request<'_>, res: &mut Response| -> Result<(), InvalidHeader> {
        res.header("X", &req.query_value("a").unwrap_or_default())?.text("hello");
        Ok(())
    };
    assert_eq!(serve(query), "200 OK|D|T|Content-Length: 5|X: b c||hello");
    let failing = |_: &Request<'_>, res: &mut Response| {
        res.close().header("X", "not sent").unwrap();
        res.header("a b", "").map(|_| ())
    };
    let body = "Internal Server Error";
    assert_eq!(serve(failing), format!("500 {body}|D|T|Content-Length: {}||{body}", body.len()));
    let mut count = 0;
    serve(|_, _| count += 1);
    assert_eq!(count, 1);
}

#[test]
fn nobody_is_served_for_ever_in_one_turn() {
    let mut script = Script::new(App::default(), &[]);
    script.receive(get("/").repeat(200));
    assert_eq!(script.line.get(Counter::Responses), 64);
    assert!(script.next.again);
    assert_eq!(script.run().text(), HELLO.repeat(200));
    assert_eq!(script.line.get(Counter::FairnessYields), 3);
    assert_eq!(script.line.get(Counter::Requests), 200);
}

#[test]
fn all_buffers_of_a_pass_share_one_turn() {
    let mut script = Script::new(App::default(), &[]);
    for _ in 0..10 {
        script.receive(get("/").repeat(100));
        assert!(script.next.again);
    }
    assert_eq!(script.line.get(Counter::Responses), 64);
    assert_eq!(script.run().text(), HELLO.repeat(1000));
    assert_eq!(script.line.get(Counter::FairnessYields), 15);
    script.send(get("/"));
    assert_eq!(script.line.get(Counter::Responses), 1001, "the next pass is another turn");
}

#[test]
fn nothing_is_answered_while_the_output_is_full() {
    let mut script = Script::new(App::default(), &[]);
    (script.room, script.reads) = (150, false);
    script.send(get("/").repeat(5));
    assert_eq!(script.line.get(Counter::Responses), 2);
    assert!(script.next.flushed && !script.next.again && !script.next.pause);
    assert_eq!(script.next.deadline, None, "the worker watches who does not read");
    script.reads = true;
    assert_eq!(script.run().text(), HELLO.repeat(5));
    // A large body is not copied, and fills the output by itself.
    script.reads = false;
    script.receive(get("/big").repeat(2));
    assert_eq!(script.line.get(Counter::Responses), 6);
}

#[test]
fn reading_pauses_while_requests_pile_up() {
    let mut script = Script::new(App::default(), &[]);
    script.reads = false;
    script.send(get("/big"));
    let mut sent = 0;
    while !script.next.pause {
        script.send(get("/"));
        sent += 1;
        assert!(sent < 3000);
    }
    assert_eq!(sent, (64 << 10) / get("/").len() + 1);
    script.send(get("/"));
    assert_eq!(script.line.get(Counter::ReadPauses), 1);
    script.reads = true;
    script.run();
    assert!(!script.next.pause);
    assert_eq!(script.line.get(Counter::Responses), sent as u64 + 2);
    // While a ticket is owed, too.
    script.send(get("/later") + &get("/").repeat(3000));
    assert!(script.next.pause);
    assert!(!script.wait_ms(50).next.pause);
    assert_eq!(script.line.get(Counter::ReadPauses), 2);
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    let mut script = Script::new(App::default(), &[]);
    let request = get("/");
    for (input, held) in [
        (&request[..10], true),
        (&request[10..], false),
        (&*request.repeat(3), false),
        (&*post_chunked("/echo", &["abc"]), false),
    ] {
        script.send(input);
        assert_eq!(script.connection().carry.capacity() > 0, held, "{input}");
    }
}

#[test]
fn the_rest_of_a_long_pipeline_holds_no_more_than_it_needs() {
    let mut script = Script::new(App::default(), &[]);
    script.send(get("/later") + &get("/").repeat(500)).send("\r\n");
    assert!(script.connection().carry.capacity() > 10_000);
    script.wait_ms(50);
    assert_eq!(script.connection().carry, b"\r\n");
    assert!(script.connection().carry.capacity() < 64);
}

#[test]
fn whatever_the_application_gave_is_dropped() {
    let half = |request: String| request[..request.len() - 8].to_owned();
    for request in [
        get("/never"),
        get("/slow"),
        get("/failing"),
        get("/panicking"),
        get("/stream").replace("GET", "HEAD"),
        half(post_chunked("/upload", &["abc", "def"])),
        post_chunked("/upload", &["abc"]).replace("abc", "abcd"),
        post("/upload-panic", "abc"),
    ] {
        let app = App::default();
        let alive = Rc::clone(&app.alive);
        let mut script = Script::new(app, &[("body_max", "10")]);
        script.send(&request);
        script.hang_up();
        assert_eq!(alive.get(), 0, "{request}");
    }
}

/// Every state with everything that can happen to it: how many answers that makes, and the end.
#[test]
fn states_and_events() {
    let body = post("/echo", "abc");
    let half = body[..body.len() - 1].to_owned();
    let states: [(&str, String); 7] = [
        ("fresh", String::new()),
        ("idle", get("/")),
        ("head", "GET".to_owned()),
        ("body", half),
        ("ticket", get("/later")),
        ("stream", get("/slow")),
        ("full", get("/big") + &get("/")),
    ];
    type Event = fn(&mut Script<App>);
    let events: [(&str, Event); 5] = [
        ("request", |s| _ = s.send(get("/"))),
        ("nonsense", |s| _ = s.send("\0")),
        ("eof", |s| _ = s.eof()),
        ("drain", |s| _ = s.drain()),
        ("timeout", |s| _ = s.tell_timeout()),
    ];
    let mut table = format!("{:8}", "");
    for (event, _) in events {
        table += &format!("{event:19}");
    }
    for (state, input) in states {
        table += &format!("\n{state:8}");
        for (_, event) in events {
            let mut script = Script::new(App::default(), &[]);
            script.reads = state != "full";
            script.send(&input);
            let before = script.line.get(Counter::Responses);
            event(&mut script);
            let answers = script.line.get(Counter::Responses) - before;
            let end = script.close().map_or("-", |close| close.reason.name());
            table += &format!("{:19}", format!("{answers} {end}"));
        }
    }
    let table: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    assert_eq!(table, TABLE, "\n{table}");
}

const TABLE: &str = "        \
        request            nonsense           eof                drain              timeout
fresh   1 -                1 bad_request      0 client_closed    0 -                0 head_timeout
idle    1 -                1 bad_request      0 client_closed    0 -                0 idle_timeout
head    1 -                1 bad_request      0 client_aborted   0 -                1 head_timeout
body    2 -                1 -                0 client_aborted   0 -                1 body_timeout
ticket  0 -                0 -                0 -                0 -                1 -
stream  0 -                0 -                0 -                0 -                0 -
full    0 -                0 -                0 -                0 -                0 -
";

/// One request, or something that is none.
fn arbitrary_request() -> impl Strategy<Value = String> {
    let path = prop::sample::select(vec![
        "/", "/echo", "/big", "/empty", "/204", "/stream", "/sized", "/nowhere", "/upload",
    ]);
    let body = "[a-z\r\n]{0,40}";
    let rare = prop::sample::select(vec![
        get("/close"),
        get("/panic"),
        get("/failing"),
        get("/short"),
        get10("/stream", ""),
        get10("/", "Connection: keep-alive\r\n"),
        post("/upload-panic", "abc"),
        "\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost:".to_owned(),
        "GET / HTTP/1.1\nHost: a\n\n".to_owned(),
        "nonsense".to_owned(),
        post_chunked("/echo", &["abc"]).replace("3\r\n", "3;x=\"y\"\r\n"),
        post_chunked("/echo", &["abc"]).replace("3\r\n", "x\r\n"),
        post("/echo", "abc").replace(": 3", ": 99999999"),
    ]);
    prop_oneof![
        4 => path.clone().prop_map(get),
        1 => path.clone().prop_map(|path| get(path).replace("GET", "HEAD")),
        2 => (path.clone(), body).prop_map(|(path, body)| post(path, &body)),
        2 => (path, prop::collection::vec("[a-z]{1,20}", 0..4)).prop_map(|(path, chunks)| {
            let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
            post_chunked(path, &chunks)
        }),
        1 => rare,
    ]
}

fn arbitrary_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

proptest! {
    /// Where the bytes are cut, and how soon answers leave, changes nothing for the client.
    #[test]
    fn cuts_do_not_matter(
        requests in prop::collection::vec(arbitrary_request(), 1..8),
        mut cuts in prop::collection::vec(0..1000_usize, 0..12),
        room in 1..2000_usize,
        slow in prop::bool::ANY,
    ) {
        cuts.sort_unstable();
        let input = requests.concat();
        let end = |script: &mut Script<App>| {
            script.reads = true;
            script.run().eof();
            let close = script.close().unwrap();
            script.hang_up();
            (script.text(), close.reason, script.line.get(Counter::Responses))
        };
        let mut whole = Script::new(App::default(), &[("body_max", "1000")]);
        let whole = end(whole.send(&input));
        let mut cut = Script::new(App::default(), &[("body_max", "1000")]);
        (cut.room, cut.reads) = (room, !slow);
        let cut = end(cut.send_cut(input.as_bytes(), &cuts));
        prop_assert_eq!(&cut, &whole);
        let mut single = Script::new(App::default(), &[("body_max", "1000")]);
        let all: Vec<usize> = (0..input.len()).collect();
        prop_assert_eq!(&end(single.send_cut(input.as_bytes(), &all)), &whole);
    }

    #[test]
    fn no_bytes_at_any_time_do_harm(
        pieces in prop::collection::vec((arbitrary_bytes(), 0..40_000_u64), 0..6),
    ) {
        let mut script = Script::new(App::default(), &[]);
        for (bytes, pause) in &pieces {
            script.send(bytes).wait_ms(*pause);
        }
        script.drain().eof().wait_ms(80_000);
        prop_assert!(script.close().is_some());
    }
}
