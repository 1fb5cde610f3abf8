//! A whole connection: what its client reads depends on what it sent, and on nothing else.

use super::script::Script;
use crate::http::{Handler, Pull, Request, Response, Stream, Upload};
use crate::stats::CloseReason;
use std::time::Duration;

/// The first byte says how the rest is cut, the second how much output may be held. Neither changes
/// what the client reads, nor why the connection ends; and whatever the time and the worker do,
/// it does end.
pub fn connection(data: &[u8]) {
    let [cut, room, input @ ..] = data else { return };
    let whole = end(script(usize::MAX).send(input));
    let mut cut_script = script(16 * usize::from(*room) + 1);
    cut_script.reads = room % 2 == 0;
    for piece in input.chunks(usize::from(*cut) + 1) {
        cut_script.send(piece);
    }
    assert_eq!(end(&mut cut_script), whole, "{}", input.escape_ascii());
    let mut slow = script(usize::MAX);
    for piece in input.chunks(64) {
        slow.send(piece).wait(Duration::from_millis(u64::from(*cut) * 100));
    }
    slow.drain().wait(Duration::from_secs(120));
    assert!(slow.close().is_some(), "a drained connection ends: {}", input.escape_ascii());
}

fn script(room: usize) -> Script<App> {
    let options = [("body_max", "2k"), ("head_max", "1k"), ("request_line_max", "200")];
    let mut script = Script::new(App, &options);
    script.room = room;
    script
}

/// What the client has read when it ends its side, and why the connection is then closed.
fn end(script: &mut Script<App>) -> (String, Option<CloseReason>) {
    script.reads = true;
    script.run().eof().wait(Duration::from_secs(1));
    // Whether it is sent depends on whether the body had begun to come, so on the cuts.
    let text = script.text().replace("100 Continue||", "");
    (text, script.close().map(|close| close.reason))
}

/// Answers in many ways, and never with bytes of the request.
#[derive(Debug)]
struct App;

impl Handler for App {
    fn handle(&mut self, request: &Request<'_>, response: &mut Response) {
        match request.path().as_bytes() {
            [b'/', b's', ..] => response.stream(Countdown(3)),
            [b'/', b'b', ..] => response.text("x".repeat(3000)),
            [b'/', b'c', ..] => response.close().text("bye"),
            [b'/', b'n', ..] => response.status(204).text(""),
            [b'/', b'l', ..] => response.after(Duration::from_millis(9), |r| r.text("later")),
            _ => response.text(request.body().len().to_string()),
        }
    }

    fn upload(&mut self, head: &Request<'_>) -> Option<Box<dyn Upload>> {
        head.path().starts_with("/u").then(|| Box::new(Sum(0)) as Box<dyn Upload>)
    }
}

struct Countdown(u8);

impl Stream for Countdown {
    fn next(&mut self, out: &mut Vec<u8>) -> Pull {
        out.extend(std::iter::repeat_n(b'.', usize::from(self.0)));
        self.0 -= 1;
        if self.0 == 0 { Pull::Done } else { Pull::More }
    }
}

struct Sum(usize);

impl Upload for Sum {
    fn write(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn finish(self: Box<Self>, response: &mut Response) {
        response.text(self.0.to_string());
    }
}
