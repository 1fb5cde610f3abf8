//! Known defects of duyler/http-server, H1 to H15, and that we have none of them. Each test begins
//! with the number of its defect; `ringfort::coming_from` has the list. Those of the pool, P1 to
//! P20, are tested where the processes are.

use ringfort::http::{Pull, Request, Response, Stream};
use ringfort::stats::{CloseReason, Counter};
use ringfort::testing::{Connection, Reply};
use ringfort::{Config, Files};
use std::time::Duration;

type App = fn(&Request<'_>, &mut Response);

/// Answers with what it understood: method, path and body.
fn echo(request: &Request<'_>, response: &mut Response) {
    let body = String::from_utf8_lossy(request.body()).into_owned();
    response.text(format!("{} {} [{body}]", request.method(), request.path()));
}

fn client() -> Connection<App> {
    Connection::new(echo)
}

/// One request on a connection of its own: its status, and whether the connection ends with it.
#[track_caller]
fn check(bytes: &str, want: u16) {
    let mut client = client();
    let reply = client.send(bytes);
    assert_eq!(reply.status, want, "{bytes:?}");
    assert_eq!(client.is_closed(), want >= 400, "{bytes:?}");
}

const GET: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn h1_a_chunked_body_is_decoded_and_the_next_request_is_the_next_one() {
    let mut client = client();
    let head = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.push(format!("{head}5\r\nGET /\r\n6\r\nevil X\r\n0\r\n\r\n{GET}"));
    assert_eq!(client.next_reply().text(), "POST /a [GET /evil X]");
    assert_eq!(client.next_reply().text(), "GET /next []");
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check(&format!("POST / HTTP/1.1\r\nHost: a\r\n{both}{GET}"), 400);
}

#[test]
fn h2_a_length_is_digits_and_there_is_one() {
    for lengths in [
        "Content-Length: 5abc",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 99999999999999999999999",
    ] {
        check(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\nhello"), 400);
    }
    check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 200);
}

#[test]
fn h3_no_line_of_a_head_is_dropped_or_swallowed() {
    check("GET / HTTP/1.1\r\nHost: a\r\nno colon here\r\n\r\n", 400);
    check("GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400);
    let mut client = client();
    let reply =
        client.send("POST /a HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(reply.text(), "POST /a [hello]", "an empty value takes no other line");
}

#[test]
fn h4_folded_lines_strange_versions_and_missing_hosts_are_refused() {
    check("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", 400);
    check("GET / HTTP/2.7\r\nHost: a\r\n\r\n", 505);
    check("GET / HTTP/1.9\r\nHost: a\r\n\r\n", 505);
    check("GET / HTTP/1.1\r\n\r\n", 400);
}

#[test]
fn h5_a_head_and_a_body_have_limits_of_their_own_checked_before_they_are_there() {
    check(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(16 << 10)), 431);
    // Not one byte of it has come.
    let mut client = client();
    let reply = client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10485761\r\n\r\n");
    assert_eq!(reply.status, 413);
    assert_eq!(client.close_reason(), Some(CloseReason::BodyTooLarge));
}

/// Says something every 50 seconds, ten times.
struct Slow(u32);

impl Stream for Slow {
    fn next(&mut self, out: &mut Vec<u8>) -> Pull {
        out.push(b'.');
        self.0 -= 1;
        if self.0 == 0 { Pull::Done } else { Pull::Later(Duration::from_secs(50)) }
    }
}

#[test]
fn h6_timeouts_start_with_the_first_byte_need_no_new_data_and_cut_nothing_that_moves() {
    let mut client = client();
    assert_eq!(client.push("GET / HTTP/1.1\r\n"), 0);
    client.wait(Duration::from_millis(9_900));
    assert!(!client.is_closed());
    client.wait(Duration::from_millis(200));
    assert_eq!(client.next_reply().status, 408, "the head did not end in 10 s");
    let mut client = self::client();
    client.get("/a");
    client.wait(Duration::from_millis(75_100));
    assert_eq!(client.close_reason(), Some(CloseReason::IdleTimeout), "announced and enforced");
    let mut client = Connection::new(|_: &Request<'_>, response: &mut Response| {
        response.stream(Slow(10));
    });
    client.push(GET);
    client.wait(Duration::from_secs(460));
    assert_eq!(client.next_reply().text(), "..........", "a connection has no age limit");
}

#[test]
fn h7_http_1_0_closes_and_pipelined_requests_are_answered_in_order_without_more_input() {
    let mut client = client();
    let reply = client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((reply.status, client.is_closed()), (200, true));
    let mut client = Connection::new(|request: &Request<'_>, response: &mut Response| {
        let path = request.path().to_owned();
        let delay = if path == "/1" { 500 } else { 1 };
        response.after(Duration::from_millis(delay), move |response| response.text(path));
    });
    let ask = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.push(["/1", "/2", "/3"].map(ask).concat());
    client.wait(Duration::from_secs(1));
    let replies = [(); 3].map(|()| client.next_reply().text());
    assert_eq!(replies, ["/1", "/2", "/3"]);
}

#[test]
fn h9_head_and_204_have_no_body_every_answer_a_date_and_100_is_said() {
    let mut client =
        Connection::new(|request: &Request<'_>, response: &mut Response| match request.path() {
            "/none" => drop(response.status(204)),
            _ => response.text("hello"),
        });
    let head = client.request("HEAD", "/", &[], b"");
    assert_eq!((head.header("content-length"), head.text().as_str()), (Some("5"), ""));
    let none = client.get("/none");
    assert_eq!((none.status, none.header("content-length")), (204, None));
    assert!(none.header("date").is_some() && head.header("date").is_some());
    assert_eq!(client.get("/").text(), "hello", "nothing was left over");
    let expect = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let said = client.push(expect);
    assert_eq!(said, "HTTP/1.1 100 Continue\r\n\r\n".len());
    assert_eq!(client.send("ok").status, 200);
}

#[test]
fn h10_answers_stream_and_http_2_is_refused_in_words_that_http_1_knows() {
    let mut client = Connection::new(|_: &Request<'_>, response: &mut Response| {
        response.stream(Slow(3));
    });
    client.push(GET);
    let first = client.push("");
    client.wait(Duration::from_secs(50));
    assert!(client.push("") > first, "piece by piece, not whole in memory");
    client.wait(Duration::from_secs(50));
    assert_eq!(client.next_reply().text(), "...");
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
}

#[test]
fn h12_every_request_is_counted() {
    let mut client = client();
    for _ in 0..3 {
        client.get("/a");
    }
    client.send("GET / HTTP/1.1\r\n\r\n");
    let count = |counter| client.counter(counter);
    assert_eq!((count(Counter::Requests), count(Counter::Responses)), (3, 4));
    assert_eq!((count(Counter::ClientErrors), count(Counter::ServerErrors)), (1, 0));
}

#[test]
fn h13_an_upgrade_is_not_taken_and_the_next_request_is_read_right() {
    let mut client = client();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.push(format!("GET /chat HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n{GET}"));
    let reply = client.next_reply();
    assert_eq!((reply.status, reply.text().as_str()), (200, "GET /chat []"));
    assert_eq!(reply.header("upgrade"), None);
    assert_eq!(client.next_reply().text(), "GET /next []");
    // What would have been a frame is no request.
    assert_eq!(client.send([0x81, 0x85, 1, 2, 3, 4, 5, 6, 7, 8]).status, 400);
}

#[test]
fn h14_paths_are_decoded_and_a_neighbour_with_the_same_beginning_is_outside() {
    let folder = std::env::temp_dir().join(format!("ringfort-h14-{}", std::process::id()));
    let (root, neighbour) = (folder.join("pub"), folder.join("public"));
    for made in [&root, &neighbour] {
        std::fs::create_dir_all(made).unwrap();
    }
    std::fs::write(root.join("a b.txt"), "found").unwrap();
    std::fs::write(neighbour.join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(&neighbour, root.join("link")).unwrap();
    let files = Files::open(&root).unwrap();
    let mut client = Connection::new(move |request: &Request<'_>, response: &mut Response| {
        files.respond(request, response);
    });
    let found = client.get("/a%20b.txt");
    let outside = [
        "/../public/secret",
        "/%2e%2e/public/secret",
        "/..%2fpublic/secret",
        "/link/secret",
        "//../public/secret",
    ];
    let outside = outside.map(|target| client.get(target));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!((found.status, found.text().as_str()), (200, "found"));
    for reply in outside {
        assert!([400, 404].contains(&reply.status) && !reply.text().contains("secret"));
    }
}

#[test]
fn h15_what_went_wrong_inside_is_not_told_outside() {
    let secret = "password=hunter2";
    let mut client = Connection::new(move |request: &Request<'_>, _: &mut Response| {
        assert_ne!(request.path(), "/panic", "{secret}");
        Err::<(), _>(secret)
    });
    for path in ["/error", "/panic"] {
        let reply: Reply = client.get(path);
        assert_eq!(reply.status, 500);
        assert!(!format!("{reply:?}").contains("hunter2"), "{reply:?}");
    }
}

/// P13: the original's pools took the options of TLS and served in the clear.
#[test]
fn p13_nobody_is_led_to_believe_in_tls() {
    let mut config = Config::default();
    for name in ["ssl", "tls", "tls_cert", "tls_key"] {
        assert!(config.set(name, "true").is_err(), "{name} would be ignored");
    }
    for address in ["https://127.0.0.1:0", "tls:127.0.0.1:0"] {
        assert!(config.add_address(address).is_err(), "{address}");
    }
    // A TLS hello on a plain port gets an answer and an end, not silence.
    let mut client = client();
    assert_eq!(client.send([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).status, 400);
    assert!(client.is_closed());
}
