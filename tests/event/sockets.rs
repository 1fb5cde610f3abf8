//! The callback worker: metadata, how many at a time, panics, drain.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::loops::{in_both_modes, start};
use crate::raw::signal;
use crate::server::{Server, eventually};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("sockets::a_callback_gets_the_socket_and_what_is_known_of_it", metadata),
    ("sockets::one_at_a_time", one_at_a_time),
    ("sockets::so_many_threads_so_many_at_a_time", several),
    ("sockets::a_panic_ends_one_connection", a_panic_ends_one_connection),
    ("sockets::a_drain_waits_for_callbacks", a_drain_waits_for_callbacks),
    ("sockets::a_callback_that_hangs_is_cut_at_the_deadline", hanging),
];

/// A client of lines.
struct Lines(BufReader<TcpStream>);

impl Lines {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        Self(BufReader::new(stream))
    }

    fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).expect("it is there");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn is_at_end(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }

    fn ask(server: &Server, line: &str) -> String {
        let mut lines = Self::connect(server);
        lines.say(line);
        lines.line()
    }
}

fn metadata() {
    in_both_modes("raw", "", |server| {
        let mut lines = Lines::connect(server);
        let port = lines.0.get_ref().local_addr().unwrap().port();
        lines.say("who");
        let local = server.address();
        let want = format!("worker 0 client Some(127.0.0.1) port {port} local Some(\"{local}\") ");
        let line = lines.line();
        assert!(line.starts_with(&want), "{line} instead of {want}");
        // The end comes at once, though the master may hold a copy.
        assert!(lines.is_at_end());
    });
}

fn one_at_a_time() {
    in_both_modes("raw", "--pending-timeout 60s", |server| {
        let mut first = Lines::connect(server);
        first.say("wait");
        assert_eq!(first.line(), "waiting");
        let mut second = Lines::connect(server);
        second.say("who");
        let short = Some(Duration::from_millis(100));
        second.0.get_ref().set_read_timeout(short).unwrap();
        assert!(second.0.fill_buf().is_err(), "the second is served beside the first");
        second.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        first.say("you");
        assert_eq!(first.line(), "waited for you");
        assert!(second.line().starts_with("worker 0"));
    });
}

fn several() {
    in_both_modes("raw", "--threads 3", |server| {
        let mut all: Vec<Lines> = (0..3).map(|_| Lines::connect(server)).collect();
        for lines in &mut all {
            lines.say("wait");
            assert_eq!(lines.line(), "waiting");
        }
        for lines in all.iter_mut().rev() {
            lines.say("now");
            assert_eq!(lines.line(), "waited for now");
        }
    });
}

fn a_panic_ends_one_connection() {
    in_both_modes("raw", "", |server| {
        let before = server.workers();
        // More often than there are threads, with what panics once more when it is dropped.
        for word in ["panic", "panic-twice", "panic-twice"] {
            let mut lines = Lines::connect(server);
            lines.say(word);
            assert!(lines.is_at_end());
        }
        assert!(Lines::ask(server, "who").starts_with("worker 0"));
        assert_eq!(server.workers(), before, "nobody died of it");
    });
}

fn a_drain_waits_for_callbacks() {
    for mode in ["shared", "centralized"] {
        let mut server = start("raw", mode, "");
        let mut lines = Lines::connect(&server);
        lines.say("wait");
        assert_eq!(lines.line(), "waiting");
        signal(server.pid(), libc::SIGTERM);
        server.await_log("drain");
        lines.say("the end");
        assert_eq!(lines.line(), "waited for the end");
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
        let books = server.books();
        books.check();
        assert_eq!((books.get("served"), books.get("cut")), (1, 0), "{books:?}");
    }
}

fn hanging() {
    for mode in ["shared", "centralized"] {
        let mut server = start("raw", mode, "--drain-timeout 300ms");
        let mut lines = Lines::connect(&server);
        lines.say("hang");
        assert_eq!(lines.line(), "hanging");
        signal(server.pid(), libc::SIGTERM);
        assert!(lines.is_at_end());
        let code = eventually("an end", PATIENCE, || server.exit_code(PATIENCE));
        let books = server.books();
        books.check();
        assert_eq!((code, books.get("cut")), (1, 1), "{books:?}");
    }
}
