//! The examples of this part, asked as a client would.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::raw::signal;
use crate::server::{Server, eventually};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;

pub(crate) const CASES: &[Case] = &[
    ("examples::event_loop", || http("event_loop", "/a", "/a: request 1 of worker")),
    ("examples::event_epoll", || http("event_epoll", "/a", "/a through epoll\n")),
    ("examples::event_tokio", || http("event_tokio", "/a?ms=5", "/a after 5 ms\n")),
    ("examples::event_threads", || http("event_threads", "/slow", "/slow: worked out on ")),
    ("examples::event_threads_at_once", || http("event_threads", "/", "at once\n")),
    ("examples::async_handler", || http("async_handler", "/x?ms=5", "/x after 5 ms\n")),
    ("examples::async_handler_stream", || http("async_handler", "/count", "1\n2\n3\n")),
    ("examples::async_handler_body", async_body),
    ("examples::callback", || http("callback", "/", "hello 127.0.0.1, from worker ")),
    ("examples::echo", || lines("echo", &[("hello", "hello")])),
    ("examples::line", line),
];

/// An example of this build, which `cargo test` has made too.
fn start(name: &str) -> Server {
    let tests = std::env::current_exe().expect("our path");
    let folder = tests.parent().and_then(|deps| deps.parent()).expect("its folder");
    let mut command = Command::new(folder.join("examples").join(name));
    Server::launch(command.arg("127.0.0.1:0").env_clear())
}

fn end(mut server: Server) {
    signal(server.pid(), libc::SIGTERM);
    assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
}

fn http(name: &str, path: &str, want: &str) {
    let server = start(name);
    let reply = server.connect().get(path).expect("an answer");
    assert_eq!(reply.status, 200);
    assert!(reply.text().starts_with(want), "{}", reply.text());
    end(server);
}

fn async_body() {
    let server = start("async_handler");
    let mut client = server.connect();
    client.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    assert_eq!(client.reply().unwrap().text(), "5 bytes\n");
    end(server);
}

/// A line in, a line out, then the client's end.
fn lines(name: &str, pairs: &[(&str, &str)]) {
    let server = start(name);
    let mut stream = TcpStream::connect(server.address()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let (mut got, mut want) = (String::new(), String::new());
    for (line, answer) in pairs {
        stream.write_all(format!("{line}\n").as_bytes()).expect("it is there");
        want += &format!("{answer}\n");
    }
    let _ = stream.shutdown(Shutdown::Write);
    stream.read_to_string(&mut got).expect("text, and an end");
    assert_eq!(got, want);
    end(server);
}

fn line() {
    lines("line", &[("add 5", "ok"), ("add -2", "ok"), ("total", "3"), ("quit", "bye")]);
    let wrong = "error: add NUMBER, total or quit";
    lines("line", &[("", wrong), ("add x", wrong), ("add 9223372036854775807", "ok")]);
    // Too long a line, and a drain, each with its last words.
    let server = start("line");
    let mut long = TcpStream::connect(server.address()).expect("it listens");
    long.set_read_timeout(Some(PATIENCE)).expect("not zero");
    long.write_all(&[b'x'; 300]).expect("it is there");
    let mut got = String::new();
    long.read_to_string(&mut got).expect("text, and an end");
    assert_eq!(got, "error: too long a line\n");
    let mut open = TcpStream::connect(server.address()).expect("it listens");
    open.set_read_timeout(Some(PATIENCE)).expect("not zero");
    open.write_all(b"total\n").expect("it is there");
    let mut answer = [0; 2];
    open.read_exact(&mut answer).expect("an answer");
    end(server);
    let mut rest = String::new();
    eventually("the good-bye", PATIENCE, || open.read_to_string(&mut rest).ok());
    assert_eq!((&answer, rest.as_str()), (b"0\n", "bye: the server ends\n"));
}
