//! Every kind of worker in every mode: it serves, its successor serves, and a drain ends it.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::protocols::{connect, say};
use crate::raw::signal;
use crate::server::{Server, eventually};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

pub(crate) const CASES: &[Case] = &[
    ("kinds::p12_every_kind_serves_in_every_mode", p12_every_kind_serves_in_every_mode),
    ("kinds::the_default_answer_of_a_handler", the_default_answer_of_a_handler),
];

/// What each kind of worker is asked, and what it answers; `None`: HTTP.
const KINDS: [&str; 7] = ["handler", "loop", "poll", "polling", "async", "raw", "protocol"];

/// Asks on a connection of its own; whether there was the right answer.
#[track_caller]
fn ask(server: &Server, kind: &str) {
    match kind {
        "raw" => {
            let mut stream: BufReader<TcpStream> = BufReader::new(connect(server));
            stream.get_mut().write_all(b"who\n").expect("it is there");
            let mut line = String::new();
            stream.read_line(&mut line).expect("a line");
            assert!(line.starts_with("worker "), "{line}");
        }
        "protocol" => assert_eq!(say(&mut connect(server), "hello"), "HELLO"),
        _ => {
            let reply = server.connect().get("/x").expect("an answer");
            let want = match kind {
                "handler" => "Hello from Worker Pool!",
                "async" => "async /x",
                _ => "GET /x 0",
            };
            assert_eq!((reply.status, reply.text().as_str()), (200, want), "{kind}");
        }
    }
}

/// Theirs: shared mode with a polling worker never accepted, centralized mode with a watching one
/// never received, and its end-to-end tests skipped themselves.
fn p12_every_kind_serves_in_every_mode() {
    for kind in KINDS {
        for mode in ["shared", "centralized"] {
            println!("{kind}, {mode}");
            let mut server = Server::bad(&format!("--workers 2 --mode {mode} --kind {kind}"));
            server.await_ready(2);
            for _ in 0..10 {
                ask(&server, kind);
            }
            // One worker after the other dies, and so does neither the port nor the other.
            for (born, worker) in (3..).zip(server.workers()) {
                signal(worker, libc::SIGKILL);
                server.await_ready(born);
                ask(&server, kind);
            }
            signal(server.pid(), libc::SIGTERM);
            let code = eventually("an end", PATIENCE, || server.exit_code(PATIENCE));
            let books = server.books();
            books.check();
            assert_eq!(code, 0, "{kind}, {mode}: {}", server.log());
            // A kill may come before a worker has seen that its client is gone.
            assert!(books.get("accepted") == 12 && books.get("served") >= 10, "{books:?}");
        }
    }
}

/// Theirs: `processRequest`, to be overridden.
fn the_default_answer_of_a_handler() {
    let server = Server::bad("--workers 1 --kind handler");
    let reply = server.connect().get("/any?thing").expect("an answer");
    assert_eq!((reply.status, reply.text().as_str()), (200, "Hello from Worker Pool!"));
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(server.stop().0, Some(0));
}
