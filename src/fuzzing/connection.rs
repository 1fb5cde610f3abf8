//! A whole connection for the fuzzer: requests in pieces in, answers and end out. Pure.

use crate::config::Config;
use crate::http::{Connection, Http, Request, Response};
use crate::io::{Bytes, Fd, Instant};
use crate::ipc::board::Line;
use crate::protocol::{Cx, Next, Out, Protocol};
use crate::stats::CloseReason;
use std::sync::LazyLock;

type Echo = fn(&Request<'_>, &mut Response);

/// What the client got, and why the connection ended: it sends the pieces, then ends its side.
/// Its answers leave whenever `room` bytes of them are held.
pub(super) fn serve<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    room: usize,
) -> (Vec<u8>, CloseReason) {
    let mut http = Http::new(echo as Echo, &CONFIG);
    http.tick(0);
    let (connection, next) = http.open(Instant::from_nanos(0));
    let mut client = Client { http, connection, next, room, output: Vec::new(), fd: Fd::new(-1) };
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        client.tell(|http, connection, cx| http.receive(connection, piece, cx));
    }
    client.tell(Http::eof);
    let close = client.next.close.expect("a connection ends when its client has ended it");
    assert!(client.http.close(client.connection).is_none(), "no file was sent");
    (client.output, close.reason)
}

/// Answers with what was asked.
fn echo(request: &Request<'_>, response: &mut Response) {
    let mut text = format!("{} {}\n", request.method(), request.target()).into_bytes();
    text.extend_from_slice(request.body());
    response.bytes("application/octet-stream", text);
}

struct Client {
    http: Http<Echo>,
    connection: Connection,
    next: Next,
    room: usize,
    output: Vec<u8>,
    fd: Fd,
}

impl Client {
    /// One call into the machine, and all that it wants to do after it.
    fn tell(&mut self, event: impl Fn(&mut Http<Echo>, &mut Connection, &mut Cx<'_>) -> Next) {
        self.call(event);
        let mut calls = 0;
        while self.next.close.is_none() && (self.next.flushed || self.next.again) {
            self.call(Http::resume);
            calls += 1;
            assert!(calls < 100_000, "it wants to go on for ever");
        }
    }

    fn call(&mut self, event: impl Fn(&mut Http<Echo>, &mut Connection, &mut Cx<'_>) -> Next) {
        if self.next.close.is_some() {
            return;
        }
        let mut body: Option<Bytes> = None;
        let mut buffer = Vec::new();
        let mut cx = Cx {
            now: Instant::from_nanos(0),
            out: Out::new(&mut buffer, &mut body, 0, self.room),
            stats: &LINE,
            fd: &self.fd,
            lookup: |_| None,
        };
        self.next = event(&mut self.http, &mut self.connection, &mut cx);
        self.output.append(&mut buffer);
        self.output.extend_from_slice(&body.unwrap_or_default());
    }
}

static LINE: LazyLock<Line> = LazyLock::new(Line::detached);

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let mut config = Config::default();
    config.set("body_max", "1000").expect("within its range");
    config
});
