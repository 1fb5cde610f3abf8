//! A line protocol as a pure machine: limits, a deadline, state of each connection, a good-bye.
//!
//! `cargo run --example line`, then `nc 127.0.0.1 8080`: `add 5`, `total`, `quit`

use ringfort::Pool;
use ringfort::io::Instant;
use ringfort::protocol::{Carried, Close, Cx, Next, Protocol};
use ringfort::stats::CloseReason;
use std::time::Duration;

/// Bytes of one line; a longer one ends the connection.
const LINE_MAX: usize = 256;
/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What all connections of a worker share.
struct Lines;

/// One connection.
#[derive(Default)]
struct Client {
    /// The beginning of a line whose end has not come.
    tail: Vec<u8>,
    total: i64,
}

impl Client {
    /// One line; why the connection is over, if so.
    fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> Option<CloseReason> {
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_ascii_whitespace();
        let answer = match (words.next(), words.next().map(str::parse::<i64>)) {
            (Some("add"), Some(Ok(number))) => match self.total.checked_add(number) {
                Some(total) => {
                    self.total = total;
                    "ok".to_owned()
                }
                None => "error: too large".to_owned(),
            },
            (Some("total"), None) => self.total.to_string(),
            (Some("quit"), None) => {
                out.extend_from_slice(b"bye\n");
                return Some(CloseReason::ClientAsked);
            }
            _ => "error: add NUMBER, total or quit".to_owned(),
        };
        out.extend_from_slice(answer.as_bytes());
        out.push(b'\n');
        None
    }

    /// All whole lines that are there, as far as the output has room.
    fn advance(&mut self, cx: &mut Cx<'_>) -> Next {
        let mut input = std::mem::take(&mut self.tail);
        let mut used = 0;
        while let Some(length) = input[used..].iter().position(|byte| *byte == b'\n') {
            if cx.out.is_full() {
                // The rest of the input waits until all output has left.
                self.tail = input.split_off(used);
                return Next { pause: true, flushed: true, ..Next::default() };
            }
            let line = &input[used..used + length];
            used += length + 1;
            if let Some(reason) = self.command(line, cx.out.buffer()) {
                return end(reason);
            }
        }
        self.tail = input.split_off(used);
        if self.tail.len() > LINE_MAX {
            cx.out.buffer().extend_from_slice(b"error: too long a line\n");
            return end(CloseReason::BadRequest);
        }
        Next { deadline: Some(cx.now.after(SILENCE_MAX)), ..Next::default() }
    }
}

/// Once all that was written has left. What the peer still sends is read and dropped for a while,
/// so that it gets our last words.
fn end(reason: CloseReason) -> Next {
    Next { close: Some(Close { reason, linger: true, now: false }), ..Next::default() }
}

impl Protocol for Lines {
    type Connection = Client;

    fn open(&mut self, now: Instant, _carried: Option<Carried>) -> (Client, Next) {
        let deadline = Some(now.after(SILENCE_MAX));
        (Client::default(), Next { deadline, ..Next::default() })
    }

    fn receive(&mut self, client: &mut Client, bytes: &[u8], cx: &mut Cx<'_>) -> Next {
        client.tail.extend_from_slice(bytes);
        client.advance(cx)
    }

    fn resume(&mut self, client: &mut Client, cx: &mut Cx<'_>) -> Next {
        client.advance(cx)
    }

    fn eof(&mut self, _client: &mut Client, _cx: &mut Cx<'_>) -> Next {
        end(CloseReason::ClientClosed)
    }

    fn timeout(&mut self, _client: &mut Client, cx: &mut Cx<'_>) -> Next {
        cx.out.buffer().extend_from_slice(b"bye: too long silent\n");
        end(CloseReason::IdleTimeout)
    }

    fn drain(&mut self, _client: &mut Client, cx: &mut Cx<'_>) -> Next {
        cx.out.buffer().extend_from_slice(b"bye: the server ends\n");
        end(CloseReason::Drain)
    }
}

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .workers(2)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve_protocol(|_worker| Lines)
}
