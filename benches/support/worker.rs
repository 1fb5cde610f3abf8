//! The worker alone, at its lowest level: the engine's loop on its real ring, with no master.

use super::floor::{Requests, answer};
use super::server::Setup;
use ringfort::config::Config;
use ringfort::http::{Http, Request, Response};
use ringfort::io::{Address, Errno, Fd, Instant};
use ringfort::ipc::board::Line;
use ringfort::protocol::{Carried, Close, Cx, Next, Protocol};
use ringfort::stats::CloseReason;
use ringfort::sys::ring::{Ring, RingSettings};
use ringfort::sys::socket::{self, Options};
use ringfort::worker::{Parts, Worker};
use std::time::Duration;

/// The worker with a protocol that does what the floor does: what it costs above the floor is the
/// loop. Never returns.
pub(crate) fn serve_fixed(setup: &Setup) {
    run(setup, |_| Fixed { answer: answer(setup), close: setup.close });
}

/// The worker with HTTP: what it costs above the other is parsing, checking and answering.
pub(crate) fn serve_http(setup: &Setup) {
    run(setup, |config| {
        let hello = |_: &Request<'_>, response: &mut Response| response.text("Hello, World!");
        Http::new(hello, config)
    });
}

fn run<P: Protocol>(setup: &Setup, protocol: impl FnOnce(&Config) -> P) {
    let defer_accept = Duration::from_secs(u64::from(setup.defer));
    let options = Options { backlog: 4096, reuse_port: true, defer_accept };
    let address = Address::Tcp(([127, 0, 0, 1], setup.port).into());
    let listener = socket::listen(&address, options).expect("the address is free");
    let (channel, _masters_end) = socket::seqpacket_pair().expect("a socket pair");
    let ring = Ring::new(RingSettings::WORKER).expect("a ring");
    let mut config = Config::default();
    config.setters().connections_max(20_000).expect("in range");
    let listeners = vec![(0, listener)];
    let (waits, line) = (false, Line::detached());
    let (signals, access_log) = (None, None);
    let calls = ringfort::signals::SignalManager::new();
    let parts = Parts { slot: 0, channel, signals, calls, listeners, waits, line, access_log };
    Worker::new(ring, protocol(&config), parts, &config).run();
}

/// Answers fixed bytes to whatever ends in an empty line.
struct Fixed {
    answer: &'static [u8],
    close: bool,
}

impl Protocol for Fixed {
    type Connection = Requests;

    fn tick(&mut self, _unix: u64) {}

    fn carried(&self, _: &Requests) -> Option<Carried> {
        None
    }

    fn open(&mut self, now: Instant, _: Option<Carried>) -> (Requests, Next) {
        (Requests::default(), idle(now))
    }

    fn receive(&mut self, requests: &mut Requests, bytes: &[u8], cx: &mut Cx<'_>) -> Next {
        requests.count(bytes);
        let count = std::mem::take(&mut requests.ended);
        (0..count).for_each(|_| cx.out.buffer().extend_from_slice(self.answer));
        if self.close && count > 0 { close(CloseReason::ClientAsked) } else { idle(cx.now) }
    }

    fn resume(&mut self, _: &mut Requests, cx: &mut Cx<'_>) -> Next {
        idle(cx.now)
    }

    fn eof(&mut self, _: &mut Requests, _: &mut Cx<'_>) -> Next {
        close(CloseReason::ClientClosed)
    }

    fn timeout(&mut self, _: &mut Requests, _: &mut Cx<'_>) -> Next {
        close(CloseReason::IdleTimeout)
    }

    fn file(&mut self, _: &mut Requests, _: Result<Vec<u8>, Errno>, cx: &mut Cx<'_>) -> Next {
        idle(cx.now)
    }

    fn drain(&mut self, _: &mut Requests, _: &mut Cx<'_>) -> Next {
        close(CloseReason::Drain)
    }

    fn close(&mut self, _: Requests) -> Option<Fd> {
        None
    }

    fn file_of(_: &Requests) -> Option<&Fd> {
        None
    }

    fn finished_file(&mut self, _: &mut Requests) -> Option<Fd> {
        None
    }
}

fn idle(now: Instant) -> Next {
    Next { deadline: Some(now.after(Duration::from_secs(75))), ..Next::default() }
}

fn close(reason: CloseReason) -> Next {
    Next { close: Some(Close { reason, linger: false, now: false }), ..Next::default() }
}
