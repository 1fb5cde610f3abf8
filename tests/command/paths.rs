//! What `ringfort serve` answers on each of its paths.

use crate::support::{Client, Server, Stopwatch};
use std::time::Duration;

/// A request (fields by `|`), and the status, the type and the body of its answer.
#[track_caller]
fn check(client: &mut Client, request: &str, want: (u16, &str, &str)) {
    let (head, body) = request.split_once("||").unwrap_or((request, ""));
    let (line, fields) = head.split_once('|').unwrap_or((head, ""));
    let fields =
        if fields.is_empty() { String::new() } else { fields.replace('|', "\r\n") + "\r\n" };
    client.send(format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}"));
    let reply = client.reply();
    let kind = reply.header("content-type").unwrap_or("");
    assert_eq!((reply.status, kind, reply.body.as_str()), want, "{request}");
}

const TEXT: &str = "text/plain";
const BYTES: &str = "application/octet-stream";

#[test]
fn every_path_over_one_connection_in_both_modes() {
    for mode in ["shared", "centralized"] {
        let server = Server::start(&format!("--mode {mode} --workers 2"));
        let client = &mut server.connect();
        check(client, "GET /", (200, TEXT, "Hello, World!"));
        check(client, "GET /plaintext", (200, TEXT, "Hello, World!"));
        check(client, "GET /json", (200, "application/json", r#"{"message":"Hello, World!"}"#));
        check(client, "GET /pipeline", (200, TEXT, "ok"));
        check(client, "GET /slow?ms=1", (200, TEXT, "1 ms later\n"));
        check(client, "GET /baseline11?a=-2&b=44", (200, TEXT, "42"));
        check(client, "POST /baseline11?a=1&b=2|Content-Length: 2||39", (200, TEXT, "42"));
        let chunked =
            "POST /baseline11?a=1&b=2|Transfer-Encoding: chunked||1\r\n3\r\n1\r\n9\r\n0\r\n\r\n";
        check(client, chunked, (200, TEXT, "42"));
        check(client, "POST /upload|Content-Length: 5||12345", (200, TEXT, "5"));
        let chunked = "POST /upload|Transfer-Encoding: chunked||3\r\nabc\r\n0\r\n\r\n";
        check(client, chunked, (200, TEXT, "3"));
        check(client, "POST /upload", (200, TEXT, "0"));
        check(client, "POST /echo|Content-Length: 2||hi", (200, BYTES, "hi"));
        check(client, "BREW /echo|Content-Type: a/b|Content-Length: 1||x", (200, "a/b", "x"));
        let big = client.get("/big").body;
        assert_eq!((big.len(), &big[..11], &big[102_396..]), (102_400, "0123456789a", "YZ-\n"));
    }
}

#[test]
fn what_is_not_served_is_said() {
    let server = Server::start("");
    let client = &mut server.connect();
    assert_eq!(client.get("/nowhere").status, 404);
    assert_eq!(client.get("/slow?ms=600001").status, 400);
    assert_eq!(client.get("/slow?ms=-1").status, 400);
    assert_eq!(client.get("/slow?ms=soon").status, 400);
    assert_eq!(client.get("/baseline11?a=1.5").status, 400);
    assert_eq!(client.get("/baseline11?a=9999999999999999999").status, 400);
    client.send("DELETE /json HTTP/1.1\r\nHost: x\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a_stream_comes_line_by_line() {
    let server = Server::start("");
    let mut client = server.connect();
    let began = Stopwatch::start();
    client.send("GET /stream HTTP/1.0\r\n\r\n");
    let answer = String::from_utf8(client.rest()).unwrap();
    let lines = "line 1 of 5\nline 2 of 5\nline 3 of 5\nline 4 of 5\nline 5 of 5\n";
    assert_eq!(answer.split("\r\n\r\n").nth(1), Some(lines));
    assert!(began.elapsed() >= Duration::from_millis(800), "four pauses");
}

#[test]
fn a_slow_answer_holds_nobody_up() {
    let server = Server::start("--workers 1");
    let mut slow = server.connect();
    slow.send("GET /slow?ms=1000 HTTP/1.1\r\nHost: x\r\n\r\n");
    // Only the timer of its own worker can answer it.
    assert!(slow.is_silent_for(Duration::from_millis(100)));
    assert_eq!(server.get("/").body, "Hello, World!");
    assert!(slow.is_silent_for(Duration::from_millis(100)));
    assert_eq!(slow.reply().body, "1000 ms later\n");
}

#[test]
fn an_upload_of_any_size_is_counted_and_not_kept() {
    let server = Server::start("--workers 1 --body-max 1g");
    let before = resident(&server);
    let (pieces, piece) = (64, vec![b'x'; 1 << 20]);
    let mut client = server.connect();
    client
        .send(format!("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 64 << 20));
    for _ in 0..pieces {
        client.send(&piece);
    }
    assert_eq!(client.reply().body, (64 << 20).to_string());
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB more");
}

/// Memory of the first worker, in KiB.
fn resident(server: &Server) -> u64 {
    assert_eq!(server.get("/").status, 200);
    let status = format!("/proc/{}/status", server.worker_pids()[0]);
    let status = std::fs::read_to_string(status).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    peak.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn workers_say_who_they_are() {
    let server = Server::start("--workers 2");
    let reply = server.get("/workers");
    let said: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let pid = said["pid"].as_u64().unwrap();
    assert!(server.worker_pids().iter().any(|known| u64::from(*known) == pid), "{said}");
    let mut workers = said["workers"].as_array().unwrap().iter();
    let own = workers.find(|worker| worker["slot"] == said["served_by"]).unwrap();
    assert_eq!(own["state"], "ready");
    assert_eq!(own["counters"]["requests"], 1);
    assert_eq!(own["connections"], 1);
}
