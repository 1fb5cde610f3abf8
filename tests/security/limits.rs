//! Limits on what one request may be: each at its value and one above, with answer and counter.

use crate::client::{Client, get, post};
use crate::harness::Case;
use crate::server::{Server, WARM_UP};
use ringfort::stats::{CloseReason, Counter};

pub(crate) const CASES: &[Case] = &[
    ("limits::a_head_of_16_kib", head_max),
    ("limits::a_request_line_of_8_kib", request_line_max),
    ("limits::a_head_of_100_fields", headers_max),
    ("limits::a_body_of_10_mib_is_refused_before_it_is_read", body_max),
    ("limits::a_client_that_goes_on_sending_reads_why", body_max_unread),
    ("limits::a_chunked_body_of_10_mib", body_max_chunked),
    ("limits::a_chunk_line", chunk_line_max),
    ("limits::all_chunk_lines_and_trailers", chunk_overhead_max),
    ("limits::an_unknown_version", version),
    ("limits::an_unknown_coding", coding),
    ("limits::an_unknown_expectation", expectation),
    ("limits::requests_of_a_connection", requests_max),
    ("limits::no_keep_alive", keep_alive),
    ("limits::output_that_nobody_reads_pauses_reading", output_max),
];

/// Sends the bytes at once and nothing more.
#[track_caller]
fn ask(server: &Server, bytes: impl AsRef<[u8]>) -> Client {
    let mut client = server.connect();
    client.send(bytes);
    client
}

/// `within` is served, and `above` refused and counted.
#[track_caller]
fn check(
    settings: &[(&str, &str)],
    within: impl AsRef<[u8]>,
    above: impl AsRef<[u8]>,
    status: u16,
    reason: CloseReason,
) {
    let mut server = Server::start(settings);
    assert_eq!(ask(&server, within).answer().status, 200);
    let mut client = ask(&server, above);
    let answer = client.last_answer();
    assert_eq!(answer.status, status, "{}", answer.head);
    assert_eq!(answer.field("connection"), Some("close"));
    drop(client);
    server.expect_closed(reason, 1);
    assert_eq!(server.count(Counter::ClientErrors) + server.count(Counter::ServerErrors), 1);
    let books = server.stop();
    assert_eq!(books.get("refused"), 1);
    assert_eq!(books.get(reason.name()), 1);
}

/// A GET whose head has so many bytes.
fn head_of(bytes: usize) -> Vec<u8> {
    let before = "GET / HTTP/1.1\r\nHost: x\r\nX: ";
    let filler = "x".repeat(bytes - before.len() - 4);
    format!("{before}{filler}\r\n\r\n").into_bytes()
}

fn head_max() {
    let reason = CloseReason::HeadTooLarge;
    check(&[], head_of(16 << 10), head_of((16 << 10) + 1), 431, reason);
    check(&[("head_max", "256")], head_of(256), head_of(257), 431, reason);
    // Refused before its end comes.
    check(&[], head_of(16 << 10), &head_of(20 << 10)[..16 << 10], 431, reason);
}

fn request_line_max() {
    let line_of = |bytes: usize| get(&format!("/{}", "x".repeat(bytes - "GET / HTTP/1.1".len())));
    let reason = CloseReason::UriTooLong;
    check(&[], line_of(8 << 10), line_of((8 << 10) + 1), 414, reason);
    check(&[("request_line_max", "64")], line_of(64), line_of(65), 414, reason);
    check(&[], get("/"), &line_of(10 << 10)[..(8 << 10) + 2], 414, reason);
}

fn headers_max() {
    let fields_of = |count: usize| {
        // Host is one of them.
        let fields: String = (1..count).map(|number| format!("X-{number}: x\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
    };
    let reason = CloseReason::HeadTooLarge;
    check(&[], fields_of(100), fields_of(101), 431, reason);
    check(&[("headers_max", "3")], fields_of(3), fields_of(4), 431, reason);
    check(&[("headers_max", "200")], fields_of(200), fields_of(201), 431, reason);
}

const BODY_MAX: usize = 10 << 20;

fn body_max() {
    let reason = CloseReason::BodyTooLarge;
    let within = post(&format!("Content-Length: {BODY_MAX}\r\n"), &"x".repeat(BODY_MAX));
    let above = format!("Content-Length: {}\r\n", BODY_MAX + 1);
    check(&[], &within, post(&above, ""), 413, reason);
    let above = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", BODY_MAX + 1);
    check(&[], &within, post(&above, ""), 413, reason);
    let within = post("Content-Length: 9\r\n", "123456789");
    check(&[("body_max", "9")], within, post("Content-Length: 10\r\n", ""), 413, reason);
    let none = post("Content-Length: 0\r\n", "");
    check(&[("body_max", "0")], none, post("Content-Length: 1\r\n", ""), 413, reason);
}

fn body_max_unread() {
    let mut server = Server::start(&[("body_max", "1m")]);
    // The answer is on its way while all of this still comes.
    let body = "x".repeat(20 << 20);
    let mut client = ask(&server, post(&format!("Content-Length: {}\r\n", body.len()), &body));
    assert_eq!(client.last_answer().status, 413);
    drop(client);
    server.expect_closed(CloseReason::BodyTooLarge, 1);
    server.stop();
}

fn body_max_chunked() {
    let reason = CloseReason::BodyTooLarge;
    let lines = "Transfer-Encoding: chunked\r\n";
    let chunks_of = |bytes: usize| {
        let half = bytes / 2;
        let (first, second) = ("x".repeat(half), "x".repeat(bytes - half));
        let last = second.len();
        post(lines, &format!("{half:x}\r\n{first}\r\n{last:x}\r\n{second}\r\n0\r\n\r\n"))
    };
    check(&[], chunks_of(BODY_MAX), chunks_of(BODY_MAX + 1), 413, reason);
    // Refused by what a chunk announces.
    check(&[], chunks_of(BODY_MAX), post(lines, &format!("{:x}\r\n", BODY_MAX + 1)), 413, reason);
    check(&[], chunks_of(2), post(lines, "fffffffffffffff\r\n"), 413, reason);
}

/// A chunked POST whose body begins with these bytes.
fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn chunk_line_max() {
    let line_of =
        |bytes: usize| chunked(&format!("1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(bytes - "1;".len())));
    let trailer_of = |bytes: usize| {
        chunked(&format!("1\r\nx\r\n0\r\nX:{}\r\n\r\n", "x".repeat(bytes - "X:".len())))
    };
    let reason = CloseReason::BadRequest;
    check(&[], line_of(4 << 10), line_of((4 << 10) + 1), 400, reason);
    check(&[], trailer_of(4 << 10), trailer_of((4 << 10) + 1), 400, reason);
    check(&[("chunk_line_max", "16")], line_of(16), line_of(17), 400, reason);
}

fn chunk_overhead_max() {
    let reason = CloseReason::BadRequest;
    let extensions_of =
        |count: usize| chunked(&format!("{}0\r\n\r\n", "1;a\r\nx\r\n".repeat(count)));
    check(&[("chunk_overhead_max", "100")], extensions_of(50), extensions_of(51), 400, reason);
    check(&[], extensions_of(32 << 10), extensions_of((32 << 10) + 1), 400, reason);
    let trailers_of = |count: usize| chunked(&format!("0\r\n{}\r\n", "X: y\r\n".repeat(count)));
    check(&[("chunk_overhead_max", "100")], trailers_of(25), trailers_of(26), 400, reason);
    check(&[], trailers_of(16 << 10), trailers_of(20_000), 400, reason);
    // Many tiny chunks are no attack.
    let tiny = chunked(&format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(20_000)));
    check(&[], tiny, chunked("x"), 400, reason);
}

fn version() {
    let line = |version| format!("GET / {version}\r\nHost: x\r\n\r\n");
    for unknown in ["HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9"] {
        let reason = CloseReason::VersionUnsupported;
        check(&[], line("HTTP/1.1"), line(unknown), 505, reason);
    }
}

fn coding() {
    for unknown in ["gzip", "gzip, chunked", "x-y"] {
        let above = post(&format!("Transfer-Encoding: {unknown}\r\n"), "");
        check(&[], chunked("0\r\n\r\n"), above, 501, CloseReason::NotImplemented);
    }
}

fn expectation() {
    let above = post("Expect: 200-ok\r\nContent-Length: 3\r\n", "abc");
    check(&[], get("/"), above, 417, CloseReason::ExpectationFailed);
}

fn requests_max() {
    let mut server = Server::start(&[("requests_max", "3")]);
    let mut client = ask(&server, get("/").repeat(5));
    let answers = client.last_answers();
    let last = answers.iter().map(|answer| answer.field("connection") == Some("close"));
    assert_eq!(last.collect::<Vec<_>>(), [false, false, true]);
    drop(client);
    server.expect_closed(CloseReason::RequestsMax, 1);
    assert_eq!(server.count(Counter::Requests), 3);
    assert_eq!(server.stop().get("served"), 1);
}

fn keep_alive() {
    let mut server = Server::start(&[("keep_alive", "false")]);
    let mut client = ask(&server, get("/").repeat(2));
    assert_eq!(client.last_answer().field("connection"), Some("close"));
    drop(client);
    server.expect_closed(CloseReason::KeepAliveOff, 1);
    assert_eq!(server.stop().get("served"), 1);
}

fn output_max() {
    const REQUESTS: usize = 2_000;
    const BYTES: usize = 64 << 10;
    let mut server = Server::start(&[("output_max", "256k"), ("write_timeout", "1m")]);
    let (_, before) = server.rest();
    // 125 MiB of answers, of which nothing is read; then the requests are not read either.
    let mut client = server.connect();
    client.stream.set_nonblocking(true).unwrap();
    let request = get(&format!("/big?bytes={BYTES}"));
    let requests = request.repeat(REQUESTS);
    let mut sent = 0;
    server.eventually("paused", |server| {
        sent += std::io::Write::write(&mut client.stream, &requests[sent..]).unwrap_or(0);
        server.count(Counter::ReadPauses) > 0
    });
    let (_, held) = server.holds();
    let answered = server.count(Counter::Responses);
    assert!(answered < REQUESTS as u64, "the kernel took all answers");
    assert!(held < before + (4 << 20), "{before} bytes became {held}");
    server.serves();
    // All of them are answered, in order and whole, when the client reads at last.
    client.stream.set_nonblocking(false).unwrap();
    let mut other = client.stream.try_clone().unwrap();
    for number in 0..REQUESTS {
        let next = (sent + request.len()).min(requests.len());
        std::io::Write::write_all(&mut other, &requests[sent..next]).unwrap();
        sent = next;
        assert_eq!(client.answer().body.len(), BYTES, "answer {number}");
    }
    drop((client, other));
    let (_, after) = server.holds();
    assert!(after < before + (4 << 20), "{before} bytes became {after}");
    server.expect_closed(CloseReason::ClientClosed, 2 + WARM_UP);
    server.stop();
}
