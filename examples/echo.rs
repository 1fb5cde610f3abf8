//! A protocol of one's own, the least: what comes goes back. The worker keeps slots, buffers,
//! timers, back-pressure and drain.
//!
//! `cargo run --example echo`, then `nc 127.0.0.1 8080`

use ringfort::Pool;
use ringfort::io::Instant;
use ringfort::protocol::{Carried, Close, Cx, Next, Protocol};
use ringfort::stats::CloseReason;

struct Echo;

/// Stop reading when the peer does not read what it gets back, until all of it has left.
fn go_on(cx: &Cx<'_>) -> Next {
    let full = cx.out.is_full();
    Next { pause: full, flushed: full, ..Next::default() }
}

/// Once all that was written has left.
fn end(reason: CloseReason) -> Next {
    Next { close: Some(Close { reason, linger: false, now: false }), ..Next::default() }
}

impl Protocol for Echo {
    type Connection = ();

    fn open(&mut self, _now: Instant, _carried: Option<Carried>) -> ((), Next) {
        ((), Next::default())
    }

    fn receive(&mut self, (): &mut (), bytes: &[u8], cx: &mut Cx<'_>) -> Next {
        cx.out.buffer().extend_from_slice(bytes);
        go_on(cx)
    }

    fn resume(&mut self, (): &mut (), cx: &mut Cx<'_>) -> Next {
        go_on(cx)
    }

    fn eof(&mut self, (): &mut (), _cx: &mut Cx<'_>) -> Next {
        end(CloseReason::ClientClosed)
    }

    fn timeout(&mut self, (): &mut (), cx: &mut Cx<'_>) -> Next {
        go_on(cx)
    }

    fn drain(&mut self, (): &mut (), _cx: &mut Cx<'_>) -> Next {
        end(CloseReason::Drain)
    }
}

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .workers(2)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve_protocol(|_worker| Echo)
}
