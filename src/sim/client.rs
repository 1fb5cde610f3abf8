//! Clients of many manners. Each knows what it asked and checks that it gets exactly that: whole,
//! in order, nothing else.

use super::kernel::{FileId, State};
use super::prng::{Prng, Ratio};
use super::trace::Fnv;
use crate::io::{Errno, Half};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// One request at a time, on one connection.
    Polite,
    /// All requests at once.
    Pipelining,
    /// All requests at once, and reads their answers a few bytes at a time.
    SlowReader,
    /// All requests at once, then closes its sending half and reads to the end.
    HalfClosing,
    /// Goes away in the middle, with a reset.
    Aborting,
    /// Writes a few bytes at a time.
    Dripping,
}

const STYLES: [Style; 6] = [
    Style::Polite,
    Style::Pipelining,
    Style::SlowReader,
    Style::HalfClosing,
    Style::Aborting,
    Style::Dripping,
];

#[derive(Clone, Debug)]
struct Request {
    target: String,
    body: Vec<u8>,
    /// It asks for the connection to be closed after the answer.
    close: bool,
}

/// One client with its list of requests. It opens connections until each was answered.
#[derive(Debug)]
pub(super) struct Client {
    style: Style,
    prng: Prng,
    todo: VecDeque<Request>,
    asked: VecDeque<Request>,
    /// When it was to begin.
    began_at: u64,
    /// When it last asked or heard something, and when it last sent something or connected.
    asked_at: u64,
    sent_at: u64,
    out: Vec<u8>,
    inbox: Vec<u8>,
    pub(super) stream: Option<FileId>,
    connection: u32,
    /// The last answer said that the connection ends.
    told_close: bool,
    sent_fin: bool,
    next_at: u64,
    pub(super) done: bool,
    pub(super) tally: Tally,
    /// Where it connects from; `None`: nobody cares.
    address: Option<SocketAddr>,
    /// It takes every answer for right and keeps it: what it asked first, when, and what came.
    asks: Option<Answered>,
}

/// What a client that asks the application's own questions was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// What it asked for.
    pub target: String,
    /// The status; 0: it gave up, because the pool drained.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// From its first connect to the whole answer.
    pub took: Duration,
    /// How often a worker died with its request; then it asked again.
    pub cut: u64,
}

/// What clients saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections opened.
    pub connections: u64,
    /// Right answers.
    pub answered: u64,
    /// Answers with status 503.
    pub refused: u64,
    /// Connections that ended without an answer they were owed, because their worker died.
    pub cut: u64,
}

impl Tally {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            answered: self.answered + other.answered,
            refused: self.refused + other.refused,
            cut: self.cut + other.cut,
        }
    }
}

const SECOND: u64 = 1_000_000_000;
/// The longest anything may take: a stop, a slow boot and every timeout of the engine together.
const PATIENCE: u64 = 30 * SECOND;

/// What the application under test answers to a request: bytes that depend on all of it. The
/// target is `/id/length`.
#[must_use]
pub fn answer(target: &str, body: &[u8]) -> Vec<u8> {
    let mut hash = Fnv::default();
    hash.eat(target.as_bytes());
    hash.eat(body);
    let length = target.rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    hash.0
        .to_be_bytes()
        .into_iter()
        .cycle()
        .zip((0..=255_u8).cycle())
        .map(mix)
        .take(length)
        .collect()
}

fn mix((byte, number): (u8, u8)) -> u8 {
    byte ^ number
}

impl Client {
    pub(super) fn new(id: u64, now: u64, mut prng: Prng) -> Self {
        let style = STYLES[prng.index(STYLES.len())];
        let count = if prng.chance(Ratio::new(1, 12)) { 40 } else { prng.range(1, 6) };
        let closes = prng.chance(Ratio::new(1, 2));
        let request = |number| {
            let length = match prng.range(0, 9) {
                0..6 => prng.range(0, 200),
                6..9 => prng.range(0, 10_000),
                _ => prng.range(0, 300_000),
            };
            let body = match prng.range(0, 3) {
                0 => (0..prng.range(0, 20_000)).map(|at| b'a' + (at % 26) as u8).collect(),
                _ => Vec::new(),
            };
            let target = format!("/{id}.{number}/{length}");
            Request { target, body, close: closes && number + 1 == count }
        };
        Self {
            style,
            todo: (0..count).map(request).collect(),
            asked: VecDeque::new(),
            began_at: now,
            asked_at: 0,
            sent_at: 0,
            out: Vec::new(),
            inbox: Vec::new(),
            stream: None,
            connection: 0,
            told_close: false,
            sent_fin: false,
            next_at: now + prng.range(0, 3 * SECOND),
            done: false,
            tally: Tally::default(),
            address: None,
            asks: None,
            prng,
        }
    }

    /// One that asks the application for this at this time, politely, and keeps what it says.
    pub(super) fn asking(
        target: &str,
        body: &[u8],
        address: Option<SocketAddr>,
        at: u64,
        prng: Prng,
    ) -> Self {
        let asks = Some(Answered { target: target.to_owned(), ..Answered::default() });
        let mut client = Self { address, asks, ..Self::visitor(target, at, prng) };
        client.todo[0].body = body.to_vec();
        (client.asked_at, client.sent_at) = (at, at);
        client
    }

    /// What it was answered, if it asked for the application's own and is done.
    pub(super) fn answered(&self) -> Option<Answered> {
        let asks = self.asks.as_ref().filter(|_| self.done)?;
        Some(Answered { cut: self.tally.cut, ..asks.clone() })
    }

    /// One that asks once, politely, and for the connection to be closed.
    pub(super) fn visitor(target: &str, now: u64, prng: Prng) -> Self {
        let request = Request { target: target.to_owned(), body: Vec::new(), close: true };
        let todo = VecDeque::from([request]);
        Self { style: Style::Polite, todo, next_at: now, ..Self::new(0, now, prng) }
    }

    /// When it acts next, if nothing happens before; `None`: it waits for the server.
    pub(super) fn due(&self, state: &State) -> Option<u64> {
        if self.done {
            return None;
        }
        let Some(stream) = self.stream else { return Some(self.next_at) };
        let wants = state.is_readable(stream)
            || (!self.out.is_empty() && state.is_writable(stream))
            || (self.asked.is_empty() && !self.todo.is_empty())
            || self.style == Style::Aborting;
        Some(if wants { self.next_at } else { self.asked_at + PATIENCE })
    }

    /// Acts once. What the server did wrong is the error.
    pub(super) fn step(
        &mut self,
        state: &mut State,
        listeners: &[FileId],
        drain_at: Option<u64>,
    ) -> Result<(), String> {
        let pause = match self.style {
            Style::SlowReader | Style::Dripping => self.prng.range(10_000, 10_000_000),
            Style::Polite | Style::Pipelining | Style::HalfClosing | Style::Aborting => {
                self.prng.range(1_000, 300_000)
            }
        };
        self.next_at = state.now + pause;
        let Some(stream) = self.stream else { return self.connect(state, listeners, drain_at) };
        if self.style == Style::Aborting && self.prng.chance(Ratio::new(1, 12)) {
            state.trace.note(state.now, "client", Some(self.connection), format_args!("reset"));
            state.abort(stream);
            self.stream = None;
            self.done = true;
            return Ok(());
        }
        self.ask(state.now);
        self.write(state, stream);
        let ended = self.read(state, stream)?;
        if !ended && self.asked.is_empty() && self.todo.is_empty() && !self.awaits_end() {
            self.leave(state);
        } else if ended {
            self.end(state, drain_at)?;
        } else if state.now >= self.asked_at + PATIENCE {
            return Err(self.wrong("no answer for 30 seconds"));
        }
        Ok(())
    }

    fn connect(
        &mut self,
        state: &mut State,
        listeners: &[FileId],
        drain_at: Option<u64>,
    ) -> Result<(), String> {
        match state.connect(listeners[self.prng.index(listeners.len())]) {
            Ok(stream) => {
                self.stream = Some(stream);
                if let Some(address) = self.address {
                    state.address(stream, address);
                }
                self.connection = state.connection(stream).unwrap_or(0);
                (self.asked_at, self.sent_at) = (state.now, state.now);
                self.tally.connections += 1;
                let (now, style) = (state.now, self.style);
                let connection = Some(self.connection);
                state.trace.note(now, "client", connection, format_args!("connect, {style:?}"));
            }
            Err(Errno::Again) => self.next_at = state.now + SECOND, // the SYN is sent again
            Err(_) if drain_at.is_some() => self.done = true,
            Err(_) => return Err("connection refused: nobody listens".to_owned()),
        }
        Ok(())
    }

    fn ask(&mut self, now: u64) {
        let one = matches!(self.style, Style::Polite | Style::Dripping);
        while !self.told_close && (!one || self.asked.is_empty()) {
            let Some(request) = self.todo.pop_front() else { return };
            let Request { target, body, close } = &request;
            let method = if body.is_empty() { "GET" } else { "POST" };
            self.out.extend(format!("{method} {target} HTTP/1.1\r\nHost: sim\r\n").bytes());
            if *close {
                self.out.extend(b"Connection: close\r\n");
            }
            if !body.is_empty() {
                self.out.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
            }
            self.out.extend(b"\r\n");
            self.out.extend(body);
            self.asked.push_back(request);
            self.asked_at = now;
        }
    }

    fn write(&mut self, state: &mut State, stream: FileId) {
        if self.sent_fin {
            return;
        }
        let drips = self.style == Style::Dripping;
        let most = if drips { 1 + self.prng.index(200) } else { usize::MAX };
        let part = self.out.len().min(most);
        if part > 0 {
            match state.write(stream, &self.out[..part], &[]) {
                Ok(sent) => {
                    let connection = Some(self.connection);
                    state.trace.note(state.now, "client", connection, format_args!("send {sent}"));
                    self.out.drain(..sent);
                    self.sent_at = state.now;
                }
                Err(Errno::Again) => {}
                Err(_) => self.out.clear(), // the read tells
            }
        }
        if self.out.is_empty() && self.todo.is_empty() && self.style == Style::HalfClosing {
            let connection = Some(self.connection);
            state.trace.note(state.now, "client", connection, format_args!("shutdown Write"));
            state.shut(stream, Half::Write);
            self.sent_fin = true;
        }
    }

    /// Whether the server ended the connection.
    fn read(&mut self, state: &mut State, stream: FileId) -> Result<bool, String> {
        let max =
            if self.style == Style::SlowReader { 1 + self.prng.index(20_000) } else { 1 << 20 };
        let ended = match state.read(stream, max) {
            Ok(bytes) if bytes.is_empty() => true,
            Ok(bytes) => {
                let (connection, count) = (Some(self.connection), bytes.len());
                state.trace.note(state.now, "client", connection, format_args!("recv {count}"));
                self.inbox.extend(bytes);
                self.asked_at = state.now;
                false
            }
            Err(Errno::Again) => false,
            Err(_) => true,
        };
        while let Some((status, close, body)) = self.response()? {
            let Some(request) = self.asked.pop_front() else {
                return Err(self.wrong("an answer to nothing"));
            };
            self.told_close |= close;
            match status {
                _ if self.asks.is_some() && status != 503 => self.keep(status, body, state.now),
                200 if body == answer(&request.target, &request.body) => self.tally.answered += 1,
                200 => return Err(self.wrong(&format!("a wrong answer to {}", request.target))),
                503 => {
                    self.tally.refused += 1;
                    self.asked.push_front(request);
                    self.next_at = state.now + SECOND;
                    break;
                }
                _ => return Err(self.wrong(&format!("status {status} for {}", request.target))),
            }
        }
        Ok(ended)
    }

    fn keep(&mut self, status: u16, body: Vec<u8>, now: u64) {
        self.tally.answered += 1;
        if let Some(asks) = &mut self.asks {
            (asks.status, asks.body) = (status, body);
            asks.took = Duration::from_nanos(now - self.began_at);
        }
    }

    /// The next whole answer: status, whether the connection ends with it, body.
    fn response(&mut self) -> Result<Option<(u16, bool, Vec<u8>)>, String> {
        let Some(end) = self.inbox.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(&self.inbox[..end]).to_ascii_lowercase();
        let status = head.strip_prefix("http/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        let (Some(status), Some(length)) = (status, length.and_then(|text| text.parse().ok()))
        else {
            return Err(self.wrong(&format!("what is this? {head:?}")));
        };
        let length: usize = length;
        if self.inbox.len() < end + 4 + length {
            return Ok(None);
        }
        let body = self.inbox[end + 4..end + 4 + length].to_vec();
        self.inbox.drain(..end + 4 + length);
        Ok(Some((status, head.contains("\r\nconnection: close"), body)))
    }

    /// Everything is answered, and the server is to close now.
    fn awaits_end(&self) -> bool {
        self.told_close || self.sent_fin
    }

    fn end(&mut self, state: &mut State, drain_at: Option<u64>) -> Result<(), String> {
        let by_death = state.excused.contains(&self.connection);
        // A drain may cross a request on its way, but not one that was there before.
        let by_drain = drain_at.is_some_and(|at| self.sent_at >= at || !self.out.is_empty());
        let served = self.asked.is_empty() && self.todo.is_empty() && self.inbox.is_empty();
        let told = self.told_close && self.inbox.is_empty();
        if !served && !by_death && !by_drain && !told {
            return Err(self.wrong("closed with answers owed"));
        }
        self.tally.cut += u64::from(!served && by_death);
        while let Some(request) = self.asked.pop_back() {
            self.todo.push_front(request);
        }
        let again_at = self.next_at;
        self.leave(state);
        if !served && drain_at.is_none() {
            (self.done, self.next_at) = (false, again_at);
        }
        Ok(())
    }

    /// Closes the connection and is done.
    pub(super) fn leave(&mut self, state: &mut State) {
        self.done = true;
        let Some(stream) = self.stream.take() else { return };
        state.trace.note(state.now, "client", Some(self.connection), format_args!("close"));
        state.release(stream);
        (self.told_close, self.sent_fin) = (false, false);
        self.out.clear();
        self.inbox.clear();
    }

    fn wrong(&self, what: &str) -> String {
        let Self { connection, style, asked, todo, inbox, .. } = self;
        let (asked, todo, rest) = (asked.len(), todo.len(), inbox.len());
        format!(
            "connection #{connection}, {style:?}: {what} ({asked} asked, {todo} to ask, {rest} bytes of an answer)"
        )
    }
}
