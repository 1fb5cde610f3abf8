//! The catalogue of attacks on framing and syntax, and what must be true after each of them.
//!
//! Every row is sent alone, which must be enough for its answer, and then with a request and
//! 512 KiB behind it: one answer, readable, and nothing behind it served.

use crate::app::MARKER;
use crate::client::{Answer, Client, get};
use crate::harness::Case;
use crate::server::Server;
use crate::{framing, syntax};
use ringfort::stats::{Class, CloseReason, Counter};

pub(crate) const CASES: &[Case] = &[
    ("catalogue::length_and_coding_together", || attack(framing::length_and_coding)),
    ("catalogue::codings_that_hide", || attack(framing::hidden_codings)),
    ("catalogue::lengths_that_are_none", || attack(framing::lengths)),
    ("catalogue::chunks_that_are_none", || attack(framing::chunks)),
    ("catalogue::bodies_where_none_is_expected", || attack(framing::unexpected_bodies)),
    ("catalogue::chunks_within_the_limits", || attack(framing::served_chunks)),
    ("catalogue::line_ends", || attack(syntax::line_ends)),
    ("catalogue::bytes_of_fields", || attack(syntax::field_bytes)),
    ("catalogue::hosts", || attack(syntax::hosts)),
    ("catalogue::request_lines", || attack(syntax::request_lines)),
    ("catalogue::over_long", || attack(syntax::over_long)),
    ("catalogue::other_protocols", || attack(syntax::other_protocols)),
    ("catalogue::splitting_of_answers", || attack(syntax::splitting)),
    ("catalogue::nothing_after_a_close", || attack(framing::after_a_close)),
    ("catalogue::cut_at_every_byte", || attack(cut_at_every_byte)),
    ("catalogue::all_of_it_in_a_row", all_of_it),
];

/// A server that is attacked.
pub(crate) struct Target {
    server: Server,
    /// Connections that were to be refused.
    refused: u64,
    workers: Vec<u32>,
    holds: (usize, u64),
}

fn attack(table: fn(&mut Target)) {
    let mut target = Target::new(&[("mode", "centralized")]);
    table(&mut target);
    target.finish();
}

fn all_of_it() {
    let mut target = Target::new(&[("mode", "shared"), ("workers", "2")]);
    for table in [
        framing::length_and_coding,
        framing::hidden_codings,
        framing::lengths,
        framing::chunks,
        framing::unexpected_bodies,
        framing::served_chunks,
        framing::after_a_close,
        syntax::line_ends,
        syntax::field_bytes,
        syntax::hosts,
        syntax::request_lines,
        syntax::over_long,
        syntax::other_protocols,
        syntax::splitting,
    ] {
        table(&mut target);
    }
    target.finish();
}

impl Target {
    fn new(settings: &[(&str, &str)]) -> Self {
        let mut server = Server::start(settings);
        let (workers, holds) = (server.workers(), server.rest());
        Self { server, refused: 0, workers, holds }
    }

    pub(crate) fn connect(&self) -> Client {
        self.server.connect()
    }

    /// An attack, and the status of its only answer.
    #[track_caller]
    pub(crate) fn check(&mut self, bytes: impl AsRef<[u8]>, status: u16) {
        let bytes = bytes.as_ref();
        let shown = bytes[..bytes.len().min(300)].escape_ascii().to_string();
        self.refused += 2;
        let mut client = self.connect();
        client.send(bytes);
        is_last(&client.last_answers(), status, &shown);

        let mut client = self.connect();
        client.send([bytes, &get("/marker"), &vec![b'x'; 512 << 10]].concat());
        is_last(&client.last_answers(), status, &shown);
    }

    /// Requests of which all are served: the statuses and bodies of the answers, in order.
    #[track_caller]
    pub(crate) fn check_served(&mut self, bytes: impl AsRef<[u8]>, want: &[&str]) {
        let mut client = self.connect();
        client.send(bytes);
        client.finish();
        let answers = client.last_answers();
        let texts: Vec<String> = answers.iter().map(Answer::text).collect();
        assert_eq!(texts, want);
    }

    /// An attack in two pieces, cut at every byte.
    #[track_caller]
    fn check_cut(&mut self, bytes: &[u8], status: u16) {
        for cut in 1..bytes.len() {
            let before = self.server.count(Counter::BytesIn);
            let mut client = self.connect();
            client.send(&bytes[..cut]);
            self.server.eventually("received", |server| {
                server.count(Counter::BytesIn) >= before + cut as u64
            });
            client.send(&bytes[cut..]);
            let shown = format!("{} cut at {cut}", bytes.escape_ascii());
            is_last(&client.last_answers(), status, &shown);
            self.refused += u64::from(status != 200);
        }
    }

    /// Nobody crashed, nothing was left behind, and all refusals were counted as such.
    #[track_caller]
    fn finish(mut self) {
        let before = self.holds;
        self.server
            .eventually("quiet", |server| server.open() == 0 && server.holds().0 == before.0);
        let after = self.server.holds();
        assert!(after.1 < before.1 + (4 << 20), "{} bytes became {}", before.1, after.1);
        assert_eq!(self.server.workers(), self.workers);
        assert_eq!(self.server.count(Counter::HandlerPanics), 0);
        let refused = CloseReason::ALL.iter().filter(|reason| reason.class() == Class::Refused);
        let refused: u64 = refused.map(|&reason| self.server.closed(reason)).sum();
        assert_eq!(refused, self.refused, "{}", self.server.counters());
        self.server.serves();
        let books = self.server.stop();
        assert_eq!((books.get("refused"), books.get("cut")), (self.refused, 0), "{books:?}");
    }
}

/// One answer, which says that it is the last.
#[track_caller]
fn is_last(answers: &[Answer], status: u16, shown: &str) {
    let [answer] = answers else { panic!("{} answers: {answers:?}\n{shown}", answers.len()) };
    assert_eq!(answer.status, status, "{shown}");
    assert_eq!(answer.field("connection"), Some("close"), "{shown}");
    assert!(!answer.text().contains(MARKER), "{shown}");
}

fn cut_at_every_byte(target: &mut Target) {
    let post = |lines: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}").into_bytes()
    };
    let close = "Connection: close\r\n";
    for (bytes, status) in [
        (post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", ""), 400),
        (post("Content-Length: 1\r\nContent-Length: 1\r\n", ""), 400),
        (post("Transfer-Encoding: chunked\r\n", "3;a=\"b\\c\"\r\nabc\r\n0\r\nX\n"), 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\nb: c\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/2.0\r\n\r\n".to_vec(), 505),
        (post("Transfer-Encoding: gzip, chunked\r\n", ""), 501),
        (post(&format!("{close}Content-Length: 5\r\n"), "hello"), 200),
        (
            post(
                &format!("{close}Transfer-Encoding: chunked\r\n"),
                "5;a\r\nhello\r\n0\r\nX: y\r\n\r\n",
            ),
            200,
        ),
    ] {
        target.check_cut(&bytes, status);
    }
}
