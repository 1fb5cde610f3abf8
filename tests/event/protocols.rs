//! A protocol that is not HTTP on the worker's transport: an application of it, and what a client
//! sees of slots, back-pressure, deadlines, drain and books.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::loops::{in_both_modes, start};
use crate::raw::signal;
use crate::server::{Server, eventually};
use ringfort::io::Instant;
use ringfort::protocol::{Carried, Close, Cx, Next, Protocol};
use ringfort::stats::CloseReason;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("protocols::what_is_sent_comes_back", what_is_sent_comes_back),
    ("protocols::who_does_not_read_is_not_read_from", who_does_not_read_is_not_read_from),
    ("protocols::a_deadline_is_called", a_deadline_is_called),
    ("protocols::a_drain_lets_it_say_good_bye", a_drain_lets_it_say_good_bye),
    ("protocols::a_panic_ends_its_worker_and_no_other", a_panic_ends_its_worker_and_no_other),
];

/// Sends back what comes, in upper case.
pub(crate) struct Shout;

/// How long a connection of it may be silent.
const SILENCE_MAX: Duration = Duration::from_millis(700);

fn go_on(cx: &Cx<'_>) -> Next {
    let full = cx.out.is_full();
    // Who cannot send because we do not read is not silent.
    let deadline = (!full).then(|| cx.now.after(SILENCE_MAX));
    Next { deadline, pause: full, flushed: full, ..Next::default() }
}

fn end(words: &str, reason: CloseReason, cx: &mut Cx<'_>) -> Next {
    cx.out.buffer().extend_from_slice(words.as_bytes());
    Next { close: Some(Close { reason, linger: true, now: false }), ..Next::default() }
}

impl Protocol for Shout {
    type Connection = ();

    fn open(&mut self, now: Instant, _: Option<Carried>) -> ((), Next) {
        ((), Next { deadline: Some(now.after(SILENCE_MAX)), ..Next::default() })
    }

    fn receive(&mut self, (): &mut (), bytes: &[u8], cx: &mut Cx<'_>) -> Next {
        assert!(!bytes.starts_with(b"panic"), "as asked");
        cx.out.buffer().extend(bytes.iter().map(u8::to_ascii_uppercase));
        go_on(cx)
    }

    fn resume(&mut self, (): &mut (), cx: &mut Cx<'_>) -> Next {
        go_on(cx)
    }

    fn eof(&mut self, (): &mut (), cx: &mut Cx<'_>) -> Next {
        end("END\n", CloseReason::ClientClosed, cx)
    }

    fn timeout(&mut self, (): &mut (), cx: &mut Cx<'_>) -> Next {
        end("SILENCE\n", CloseReason::IdleTimeout, cx)
    }

    fn drain(&mut self, (): &mut (), cx: &mut Cx<'_>) -> Next {
        end("BYE\n", CloseReason::Drain, cx)
    }
}

pub(crate) fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

pub(crate) fn say(stream: &mut TcpStream, words: &str) -> String {
    stream.write_all(words.as_bytes()).expect("it is there");
    let mut answer = vec![0; words.len()];
    stream.read_exact(&mut answer).expect("it comes back");
    String::from_utf8(answer).expect("text")
}

fn rest(mut stream: TcpStream) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("text, and an end");
    rest
}

fn what_is_sent_comes_back() {
    in_both_modes("protocol", "", |server| {
        let mut all: Vec<TcpStream> = (0..20).map(|_| connect(server)).collect();
        for (number, stream) in all.iter_mut().enumerate() {
            assert_eq!(say(stream, &format!("hello {number}\n")), format!("HELLO {number}\n"));
        }
        for mut stream in all {
            stream.write_all(b"the last").expect("it is there");
            stream.shutdown(Shutdown::Write).expect("open");
            assert_eq!(rest(stream), "THE LASTEND\n", "a half-closed client gets all");
        }
    });
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn who_does_not_read_is_not_read_from() {
    /// More than the kernel's buffers of both directions hold.
    const MOST: usize = 256 << 20;
    in_both_modes("protocol", "--output-max 64k", |server| {
        let before = resident(server.workers()[0]);
        let mut lazy = connect(server);
        lazy.set_write_timeout(Some(Duration::from_millis(300))).expect("not zero");
        let mut sent = 0;
        while sent < MOST {
            match lazy.write(&[b'x'; 1 << 14]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(sent < MOST, "{sent} bytes went to somebody who reads nothing");
        let grown = resident(server.workers()[0]).saturating_sub(before);
        assert!(grown < 8 << 10, "{grown} KiB are held for it");
        // Meanwhile others are served, and what was sent is lost nowhere.
        assert_eq!(say(&mut connect(server), "other"), "OTHER");
        lazy.shutdown(Shutdown::Write).expect("open");
        let all = rest(lazy);
        assert_eq!(all.len(), sent + 4);
        assert!(all.ends_with("XEND\n"));
    });
}

fn a_deadline_is_called() {
    in_both_modes("protocol", "", |server| {
        let mut stream = connect(server);
        assert_eq!(say(&mut stream, "a"), "A");
        assert_eq!(rest(stream), "SILENCE\n");
        assert_eq!(rest(connect(server)), "SILENCE\n", "one that never said anything");
    });
}

fn a_drain_lets_it_say_good_bye() {
    for mode in ["shared", "centralized"] {
        let mut server = start("protocol", mode, "");
        let mut stream = connect(&server);
        assert_eq!(say(&mut stream, "a"), "A");
        signal(server.pid(), libc::SIGTERM);
        assert_eq!(rest(stream), "BYE\n");
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
        let books = server.books();
        books.check();
        assert_eq!((books.get("accepted"), books.get("served")), (1, 1), "{books:?}");
    }
}

fn a_panic_ends_its_worker_and_no_other() {
    for mode in ["shared", "centralized"] {
        let mut server = Server::bad(&format!("--workers 2 --mode {mode} --kind protocol"));
        server.await_ready(2);
        let mut stream = connect(&server);
        stream.write_all(b"panic").expect("it is there");
        let mut nothing = Vec::new();
        let end = stream.read_to_end(&mut nothing);
        assert!(nothing.is_empty() && !matches!(end, Err(e) if e.kind() == ErrorKind::WouldBlock));
        server.await_log("worker died");
        eventually("a successor", PATIENCE, || (server.workers().len() == 2).then_some(()));
        for _ in 0..10 {
            assert_eq!(say(&mut connect(&server), "on"), "ON");
        }
        signal(server.pid(), libc::SIGTERM);
        assert_eq!(server.exit_code(PATIENCE), Some(0), "the drain itself cut nobody");
        let books = server.books();
        books.check();
        assert_eq!((books.get("served"), books.get("cut")), (10, 1), "{books:?}");
    }
}
