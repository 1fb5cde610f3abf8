//! What every peer serves, and how it is started: `peer-NAME PORT THREADS`.

mod parse;

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

/// The answer to `GET /`.
pub const HELLO: &[u8] = b"Hello, World!";

/// The answer to `GET /big`: 100 KiB.
pub static BIG: [u8; 102_400] = [b'x'; 102_400];

/// Port and number of threads from the command line.
pub fn arguments() -> (u16, usize) {
    let mut arguments = std::env::args().skip(1);
    let mut number = |what: &str| -> u16 {
        let text = arguments.next().unwrap_or_else(|| panic!("{what} is missing"));
        text.parse().unwrap_or_else(|_| panic!("{what}: {text}"))
    };
    (number("PORT"), number("THREADS").into())
}

/// The least HTTP for runtimes that bring none: what a hand-written server on them would do. Input
/// in, answers out; a body by Content-Length is counted.
#[derive(Default)]
pub struct Bare {
    input: Vec<u8>,
    /// Bytes of an upload that are to come, and how many it had.
    body: Option<(usize, usize)>,
}

/// One parsed head: its length, whether it closes, its path, and the length of its body.
pub type Head = (usize, bool, Path, usize);

/// What is asked for.
#[derive(Clone, Copy)]
pub enum Path {
    Hello,
    Big,
    Upload,
    Other,
}

impl Bare {
    /// Answers everything in `bytes` into `out`; `true`: close after it.
    pub fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        self.input.extend_from_slice(bytes);
        let mut used = 0;
        let close = loop {
            let rest = &self.input[used..];
            if let Some((left, length)) = self.body {
                let taken = left.min(rest.len());
                used += taken;
                if taken < left {
                    self.body = Some((left - taken, length));
                    break false;
                }
                self.body = None;
                answer(out, length.to_string().as_bytes(), false);
                continue;
            }
            if rest.is_empty() {
                break false;
            }
            match parse::parse(rest) {
                Err(()) => break true,
                Ok(None) => break false,
                Ok(Some((length, close, path, body))) => {
                    used += length;
                    match path {
                        Path::Hello => answer(out, HELLO, close),
                        Path::Big => answer(out, &BIG, close),
                        Path::Upload => self.body = Some((body, body)),
                        Path::Other => out.extend_from_slice(
                            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
                        ),
                    }
                    if close {
                        break true;
                    }
                }
            }
        };
        self.input.drain(..used);
        close
    }
}

thread_local! {
    /// The date of this second, as every server keeps it.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

fn answer(out: &mut Vec<u8>, body: &[u8], close: bool) {
    let connection = if close { "Connection: close\r\n" } else { "" };
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: ");
    DATE.with_borrow_mut(|(second, text)| {
        let now = SystemTime::now();
        let this = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        if this != *second {
            (*second, *text) = (this, httpdate::fmt_http_date(now));
        }
        out.extend_from_slice(text.as_bytes());
    });
    out.extend_from_slice(b"\r\nContent-Type: text/plain\r\nContent-Length: ");
    out.extend_from_slice(body.len().to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(connection.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}
