//! What the command answers: one small handler for every path of demo and serve. Pure, but for the
//! files of `--root`.

use ringfort::http::{Handler, Pull, Request, Response, Stream, Upload};
use ringfort::io::Bytes;
use ringfort::stats::Counter;
use ringfort::{Error, Files, WorkerInfo, WorkerStatus};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// What `/` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// A page that lists the paths: for who looks.
    Page,
    /// `Hello, World!`: for who measures.
    Hello,
}

/// One worker's handler.
pub(super) struct App {
    front: Bytes,
    front_type: &'static str,
    info: WorkerInfo,
    files: Option<Files>,
}

impl App {
    /// For one worker, after the fork.
    pub(super) fn new(front: Front, info: &WorkerInfo, root: Option<&Path>) -> Result<Self, Error> {
        let (front, front_type) = match front {
            Front::Page => (page().into(), "text/html; charset=utf-8"),
            Front::Hello => (HELLO.into(), PLAIN),
        };
        let files = root.map(Files::open).transpose()?;
        Ok(Self { front, front_type, info: info.clone(), files })
    }

    fn workers(&self, response: &mut Response) {
        let workers: Vec<_> = self.info.workers().iter().map(worker).collect();
        response.json(&json!({
            "served_by": self.info.slot(),
            "pid": std::process::id(),
            "workers": workers,
        }));
    }
}

impl Handler for App {
    fn handle(&mut self, request: &Request<'_>, response: &mut Response) {
        let path = request.path();
        let Some(known) = PATHS.iter().find(|known| known.path == path) else {
            return match &self.files {
                Some(files) => files.respond(request, response),
                None => response.status(404).text("no such path\n"),
            };
        };
        if !known.takes(request.method()) {
            let allow = response.status(405).header("Allow", known.methods).map(drop);
            debug_assert!(allow.is_ok(), "the table holds words and commas");
            return response.text("not with this method\n");
        }
        match path {
            "/" => response.bytes(self.front_type, self.front.clone()),
            "/plaintext" => response.bytes(PLAIN, HELLO),
            "/json" => response.json(&json!({"message": HELLO})),
            "/echo" => echo(request, response),
            "/stream" => response.stream(Count(0)),
            "/slow" => slow(request, response),
            "/workers" => self.workers(response),
            "/big" => response.bytes("application/octet-stream", &BIG[..]),
            "/baseline11" => sum(request, response),
            "/pipeline" => response.bytes(PLAIN, "ok"),
            // A body makes it an upload; this is one without.
            "/upload" => response.bytes(PLAIN, "0"),
            other => unreachable!("{other} is in the table, but not here"),
        }
    }

    fn upload(&mut self, head: &Request<'_>) -> Option<Box<dyn Upload>> {
        (head.path() == "/upload" && head.method() != "GET").then(|| Box::new(Received(0)) as _)
    }
}

fn worker(status: &WorkerStatus) -> Value {
    let counters = Counter::ALL
        .iter()
        .map(|counter| (counter.name().to_owned(), status.counter(*counter).into()));
    json!({
        "slot": status.slot,
        "generation": status.generation,
        "state": if status.draining { "draining" } else { "ready" },
        "connections": status.connections,
        "counters": Value::Object(counters.collect()),
    })
}

/// The body back, with the type it came with.
fn echo(request: &Request<'_>, response: &mut Response) {
    response.bytes("application/octet-stream", request.body().to_vec());
    let kind = request.header("content-type").and_then(|kind| str::from_utf8(kind).ok());
    if let Some(kind) = kind {
        // A value that came in a head may go out in one; if not, the default type stands.
        let _ = response.header("Content-Type", kind);
    }
}

fn slow(request: &Request<'_>, response: &mut Response) {
    let wanted = request.query_value("ms");
    let wanted = wanted.as_deref().map_or(Some(100), |text| integer(text.as_bytes()));
    match wanted.map(u64::try_from) {
        Some(Ok(ms)) if ms <= SLOW_MAX => {
            response.after(Duration::from_millis(ms), move |later| {
                later.bytes(PLAIN, format!("{ms} ms later\n"));
            });
        }
        _ => response.status(400).text(format!("ms: a number up to {SLOW_MAX}\n")),
    }
}

/// HttpArena's baseline: a + b, and the body's number if there is one.
fn sum(request: &Request<'_>, response: &mut Response) {
    let value = |name| {
        let text = request.query_value(name);
        text.map_or(Some(0), |text| integer(text.as_bytes()))
    };
    let body = request.body().trim_ascii();
    let body = if body.is_empty() { Some(0) } else { integer(body) };
    match (value("a"), value("b"), body) {
        // Each has at most 18 digits, so three of them fit.
        (Some(a), Some(b), Some(body)) => response.bytes(PLAIN, (a + b + body).to_string()),
        _ => response.status(400).text("a, b and the body: whole numbers of up to 18 digits\n"),
    }
}

/// One to 18 decimal digits, with a minus or without, and nothing else.
fn integer(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let fits = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    fits.then(|| digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')) * sign)
}

/// Counts an upload without keeping it.
struct Received(u64);

impl Upload for Received {
    fn write(&mut self, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }

    fn finish(self: Box<Self>, response: &mut Response) {
        response.bytes(PLAIN, self.0.to_string());
    }
}

/// A few lines, one every [`STREAM_PAUSE`].
struct Count(u32);

impl Stream for Count {
    fn next(&mut self, out: &mut Vec<u8>) -> Pull {
        self.0 += 1;
        out.extend_from_slice(format!("line {} of {STREAM_LINES}\n", self.0).as_bytes());
        if self.0 < STREAM_LINES { Pull::Later(STREAM_PAUSE) } else { Pull::Done }
    }
}

/// A path of the command.
#[derive(Debug)]
struct Known {
    path: &'static str,
    /// As the Allow field has them; empty: any.
    methods: &'static str,
    about: &'static str,
}

impl Known {
    fn takes(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.split(", ").any(|known| known == method)
    }
}

const fn known(path: &'static str, methods: &'static str, about: &'static str) -> Known {
    Known { path, methods, about }
}

const READ: &str = "GET, HEAD";

const PATHS: [Known; 11] = [
    known("/", READ, "this page (with <code>ringfort serve</code>: Hello, World!)"),
    known("/plaintext", READ, "Hello, World! as text"),
    known("/json", READ, "Hello, World! as JSON"),
    known("/echo", "", "the body you send, back to you"),
    known("/stream", READ, "five lines, one every 200 ms"),
    known("/slow", READ, "answers after ?ms= milliseconds and holds nobody else up"),
    known("/workers", READ, "the workers and what they did"),
    known("/big", READ, "102,400 bytes"),
    known("/baseline11", "GET, HEAD, POST", "the sum of ?a=, &amp;b= and the body"),
    known("/pipeline", READ, "ok"),
    known("/upload", "GET, HEAD, POST, PUT", "how many bytes you sent"),
];

fn page() -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>ringfort</title>\n\
         <style>body{font:16px/1.6 system-ui,sans-serif;max-width:40em;margin:3em auto;\
         padding:0 1em}td{padding-right:2em}</style>\n<h1>ringfort</h1>\n\
         <p>It works. One master, forked workers, each on its own io_uring.</p>\n<table>\n",
    );
    for Known { path, about, .. } in &PATHS {
        let _ = writeln!(page, "<tr><td><a href=\"{path}\">{path}</a><td>{about}");
    }
    page.push_str("</table>\n");
    page
}

const HELLO: &str = "Hello, World!";
const PLAIN: &str = "text/plain";
const SLOW_MAX: u64 = 600_000;
const STREAM_LINES: u32 = 5;
const STREAM_PAUSE: Duration = Duration::from_millis(200);

/// Not all the same byte, so that a test sees a piece in the wrong place.
static BIG: [u8; 102_400] = {
    let mut bytes = [0; 102_400];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n"[at % 64];
        at += 1;
    }
    bytes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<i64>) {
        assert_eq!(integer(text.as_bytes()), want, "{text:?}");
    }

    #[test]
    fn integers() {
        check("0", Some(0));
        check("-7", Some(-7));
        check("007", Some(7));
        check("999999999999999999", Some(999_999_999_999_999_999));
        for wrong in ["", "-", "+1", "--1", "1 ", "1.0", "٣", "9999999999999999999"] {
            check(wrong, None);
        }
    }

    #[test]
    fn the_page_lists_every_path() {
        let page = page();
        for known in &PATHS {
            assert!(page.contains(&format!("href=\"{}\"", known.path)));
        }
    }

    #[test]
    fn a_stream_ends_by_itself() {
        let (mut count, mut out) = (Count(0), Vec::new());
        let mut pauses = 0;
        while count.next(&mut out) == Pull::Later(STREAM_PAUSE) {
            pauses += 1;
        }
        assert_eq!((pauses, out.iter().filter(|byte| **byte == b'\n').count()), (4, 5));
    }
}
