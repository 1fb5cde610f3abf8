//! One HTTP/1.1 connection: bytes and time in, answers and wishes out. Pure.
//!
//! Every call ends in `advance`, which does as much as input, output and fairness allow and says
//! why it stopped, and in `settle`, which makes a [`Next`] of that. Bytes are used where they were
//! received; only what cannot be used yet is copied (`carry`).

use super::access::{AccessLog, Entry};
use super::answer::{Answer, Source};
use super::body::BodyLimits;
use super::close::Refusal;
use super::date::Date;
use super::front::Front;
use super::handler::Handler;
use super::head::HeadLimits;
use super::rate::RateTable;
use super::response::Response;
use super::serve::{Incoming, asks_for_head, discard};
use crate::config::Config;
use crate::io::{Errno, Fd, Instant};
use crate::protocol::{Carried, Close, Cx, Next, Protocol, Stage};
use crate::stats::{CloseReason, Counter};
use std::fmt;
use std::mem;
use std::time::Duration;

/// HTTP/1.1 for one worker: its handler, and what all its connections share.
pub struct Http<H> {
    pub(super) handler: H,
    pub(super) limits: Limits,
    pub(super) date: Date,
    /// Filled in by the handler, written, and used again for the next request.
    pub(super) response: Response,
    /// What a stream produced last.
    pub(super) scratch: Vec<u8>,
    /// Files of answers that are over, to be closed by the worker.
    pub(super) finished: Vec<Fd>,
    pub(super) front: Front,
}

/// What the configuration says about connections.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) head: HeadLimits,
    pub(super) body: BodyLimits,
    pub(super) body_timeout: Duration,
    pub(super) body_rate_min: u64,
    pub(super) requests_max: u64,
    pub(super) keep_alive: bool,
    pub(super) half_close: bool,
    head_timeout: Duration,
    idle_timeout: Duration,
    /// `Duration::MAX` for no limit.
    pub(super) request_timeout: Duration,
}

/// One connection. While it idles, this is all the memory it has.
#[derive(Debug)]
pub struct Connection {
    pub(super) state: State,
    /// Received, and not used yet.
    carry: Vec<u8>,
    /// Of the accept, of the end of the last answer, or of the last progress of a body.
    pub(super) since: Instant,
    /// Of the first byte of the current request.
    pub(super) begun: Instant,
    /// Heads that were read.
    pub(super) requests: u64,
    /// What the access log will say of the current request.
    pub(super) entry: Option<Box<Entry>>,
    /// Bytes that had come, unused, when the drain began: requests in them are still answered.
    owed: usize,
    pub(super) draining: bool,
    pub(super) eof: bool,
    paused: bool,
    /// It has had its turn of this pass; what comes until `resume` waits.
    yielded: bool,
}

/// How long an idle connection is kept when the worker drains. A request may be on its way at this
/// moment; it is answered, with `Connection: close`, instead of meeting a closed door.
const DRAIN_GRACE: Duration = Duration::from_millis(500);
/// Over how long the closes of idle connections spread after that, so that their clients do not all
/// come back at the same moment.
const DRAIN_SPREAD: Duration = Duration::from_millis(250);
const DRAIN_STEPS: u32 = 16;

/// How much longer than others this connection is kept: descriptors are given in turn.
fn spread(fd: &Fd) -> Duration {
    DRAIN_SPREAD / DRAIN_STEPS * (fd.raw().cast_unsigned().wrapping_add(1) % DRAIN_STEPS)
}

const _: () = assert!(size_of::<Connection>() <= 144, "an idle connection costs too much");

#[derive(Debug, Default)]
pub(super) enum State {
    /// Between requests, or in a head.
    #[default]
    Head,
    /// In the body of a request.
    Body(Box<Incoming>),
    /// The answer is not out, and what produces it has not finished.
    Answer(Box<Answer>),
    /// To be answered with a status, then closed. `true`: without a body, after HEAD.
    Refused(Refusal, bool),
    /// Nothing more is read or written.
    Closing(Close),
}

/// Why [`Http::advance`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// All input was used, or what is left is not enough.
    Input,
    /// The output has to leave first.
    Full,
    /// Others have their turn first.
    Turn,
    /// It takes time: until then, exactly or at most some later.
    Time { at: Instant, exact: bool },
    /// Somebody else has to resume the connection.
    Wait,
    /// It takes file bytes: from where, and how many.
    Read(u64, u32),
}

impl<H: Handler> Http<H> {
    /// A server that answers with `handler`, within the limits of `config`.
    pub fn new(handler: H, config: &Config) -> Self {
        let request_timeout = config.request_timeout();
        Self {
            handler,
            limits: Limits {
                head: HeadLimits::from(config),
                body: BodyLimits::from(config),
                body_timeout: config.body_timeout(),
                body_rate_min: config.body_rate_min(),
                requests_max: config.requests_max(),
                keep_alive: config.keep_alive(),
                half_close: config.half_close(),
                head_timeout: config.head_timeout(),
                idle_timeout: config.idle_timeout(),
                request_timeout: if request_timeout.is_zero() {
                    Duration::MAX
                } else {
                    request_timeout
                },
            },
            date: Date::new(0),
            response: Response::new(),
            scratch: Vec::new(),
            finished: Vec::new(),
            front: Front::new(config),
        }
    }

    /// The same, with a limit that all workers count together.
    #[must_use]
    pub fn with_rate_limit(mut self, table: Option<RateTable>) -> Self {
        self.front.rate = table;
        self
    }

    /// Goes on with what is at hand: the carried bytes.
    fn advance_carried(&mut self, connection: &mut Connection, cx: &mut Cx<'_>) -> Next {
        let mut carry = mem::take(&mut connection.carry);
        let (used, stop) = self.advance(connection, &carry, cx);
        if used == 0 {
            connection.carry = carry;
        } else if used < carry.len() {
            // Not `drain`: what is left of a long pipeline would keep all its memory.
            connection.carry = carry.split_off(used);
        }
        self.settle(connection, stop, cx)
    }

    /// Serves until something stops it. Returns how much of the input was used.
    fn advance(
        &mut self,
        connection: &mut Connection,
        input: &[u8],
        cx: &mut Cx<'_>,
    ) -> (usize, Stop) {
        let mut used = 0;
        let mut turns = 0;
        loop {
            let rest = &input[used..];
            let waits_for_input = matches!(connection.state, State::Head | State::Body(_));
            if waits_for_input && rest.is_empty() {
                return (used, Stop::Input);
            }
            if let State::Closing(_) = connection.state {
                return (input.len(), Stop::Input);
            }
            if cx.out.is_full() {
                return (used, Stop::Full);
            }
            match mem::take(&mut connection.state) {
                State::Head if turns == TURNS_MAX => {
                    cx.stats.add(Counter::FairnessYields, 1);
                    return (used, Stop::Turn);
                }
                State::Head => match self.on_head(connection, rest, cx) {
                    Some(count) => {
                        used += count;
                        turns += 1;
                    }
                    None => return (used, Stop::Input),
                },
                State::Body(incoming) if incoming.is_full() => {
                    connection.state = State::Body(incoming);
                    return (used, Stop::Wait);
                }
                State::Body(incoming) => used += self.on_body(connection, incoming, rest, cx),
                State::Answer(answer) => {
                    if let Some(stop) = self.on_answer(connection, answer, cx) {
                        return (used, stop);
                    }
                }
                State::Refused(refusal, is_head) => {
                    self.answer_last(connection, refusal, is_head, cx);
                }
                state @ State::Closing(_) => connection.state = state,
            }
        }
    }

    /// Makes a wish list of where the connection stands.
    fn settle(&mut self, connection: &mut Connection, stop: Stop, cx: &mut Cx<'_>) -> Next {
        if connection.eof && stop == Stop::Input {
            connection.end_of_input();
        }
        connection.yielded = stop == Stop::Turn;
        let mut next = Next { stage: connection.stage(), ..Next::default() };
        if let State::Closing(close) = connection.state {
            connection.carry = Vec::new();
            next.close = Some(close);
            return next;
        }
        match stop {
            Stop::Input => next.deadline = Some(self.deadline(connection)),
            Stop::Full => next.flushed = true,
            Stop::Turn => next.again = true,
            Stop::Wait => next.deadline = self.request_deadline(connection),
            Stop::Time { at, exact } => (next.deadline, next.exact) = (Some(at), exact),
            Stop::Read(offset, len) => next.read_file = Some((offset, len)),
        }
        next.pause = stop != Stop::Input && connection.carry.len() > CARRY_MAX;
        if next.pause && !connection.paused {
            cx.stats.add(Counter::ReadPauses, 1);
        }
        connection.paused = next.pause;
        next
    }

    /// Until when a request may take, if there is a limit.
    fn request_deadline(&self, connection: &Connection) -> Option<Instant> {
        let limit = self.limits.request_timeout;
        (limit != Duration::MAX).then(|| connection.begun.after(limit))
    }

    /// Until when the peer may take to send what we wait for.
    fn deadline(&self, connection: &Connection) -> Instant {
        let limits = &self.limits;
        let is_first = connection.requests == 0;
        let own = if let State::Body(_) = connection.state {
            connection.since.after(limits.body_timeout)
        } else if !connection.in_head() {
            let timeout = match (connection.draining, is_first) {
                (true, _) => DRAIN_GRACE,
                (false, true) => limits.head_timeout,
                (false, false) => limits.idle_timeout,
            };
            return connection.since.after(timeout);
        } else {
            let start = if is_first { connection.since } else { connection.begun };
            start.after(limits.head_timeout)
        };
        own.min(connection.begun.after(limits.request_timeout))
    }
}

impl<H: Handler> Protocol for Http<H> {
    type Connection = Connection;

    fn tick(&mut self, unix: u64) {
        self.date = Date::new(unix);
        if let Some(log) = &mut self.front.log {
            log.tick(unix);
        }
    }

    fn open(&mut self, now: Instant, carried: Option<Carried>) -> (Connection, Next) {
        let mut connection = Connection::new(now);
        if let Some(Carried { requests, since }) = carried {
            (connection.requests, connection.since) = (requests, since);
        }
        let deadline = Some(self.deadline(&connection));
        (connection, Next { deadline, ..Next::default() })
    }

    fn carried(&self, connection: &Connection) -> Option<Carried> {
        let idles = matches!(connection.state, State::Head)
            && connection.carry.is_empty()
            && !connection.eof
            && !connection.draining;
        let (requests, since) = (connection.requests, connection.since);
        idles.then_some(Carried { requests, since })
    }

    fn receive(&mut self, connection: &mut Connection, bytes: &[u8], cx: &mut Cx<'_>) -> Next {
        if matches!(connection.state, State::Head) && !connection.in_head() {
            connection.begun = cx.now;
        }
        if connection.yielded {
            // A pass may bring many buffers; one turn is for all of them.
            connection.carry.extend_from_slice(bytes);
            return self.settle(connection, Stop::Turn, cx);
        }
        if !connection.carry.is_empty() {
            connection.carry.extend_from_slice(bytes);
            return self.advance_carried(connection, cx);
        }
        let (used, stop) = self.advance(connection, bytes, cx);
        connection.carry.extend_from_slice(&bytes[used..]);
        self.settle(connection, stop, cx)
    }

    fn resume(&mut self, connection: &mut Connection, cx: &mut Cx<'_>) -> Next {
        if let State::Body(incoming) = &mut connection.state
            && incoming.is_upload()
        {
            self.resume_upload(connection, cx);
        }
        self.advance_carried(connection, cx)
    }

    fn eof(&mut self, connection: &mut Connection, cx: &mut Cx<'_>) -> Next {
        connection.eof = true;
        self.advance_carried(connection, cx)
    }

    fn timeout(&mut self, connection: &mut Connection, cx: &mut Cx<'_>) -> Next {
        match connection.state {
            State::Head if connection.in_head() => {
                connection.refuse(Refusal::HEAD_TIMEOUT);
            }
            State::Head if connection.draining => connection.end(CloseReason::Drain),
            State::Head if connection.requests == 0 => connection.end(CloseReason::HeadTimeout),
            State::Head => connection.end(CloseReason::IdleTimeout),
            State::Body(_) => connection.refuse(Refusal::BODY_TIMEOUT),
            State::Answer(_) | State::Refused(..) | State::Closing(_) => {}
        }
        self.advance_carried(connection, cx)
    }

    fn file(
        &mut self,
        connection: &mut Connection,
        bytes: Result<Vec<u8>, Errno>,
        cx: &mut Cx<'_>,
    ) -> Next {
        if let State::Answer(_) = connection.state
            && let State::Answer(answer) = mem::take(&mut connection.state)
        {
            self.on_file(connection, answer, bytes, cx);
        }
        self.advance_carried(connection, cx)
    }

    fn drain(&mut self, connection: &mut Connection, cx: &mut Cx<'_>) -> Next {
        connection.draining = true;
        connection.owed = connection.carry.len();
        if matches!(connection.state, State::Head) && !connection.in_head() {
            connection.since = cx.now.after(spread(cx.fd));
        }
        self.advance_carried(connection, cx)
    }

    fn close(&mut self, connection: Connection) -> Option<Fd> {
        if let State::Answer(answer) = connection.state {
            return answer.into_file();
        }
        discard(connection.state);
        None
    }

    fn file_of(connection: &Connection) -> Option<&Fd> {
        match &connection.state {
            State::Answer(answer) => match &answer.source {
                Source::File(file) => Some(&file.fd),
                Source::Ticket(_) | Source::Stream(_) | Source::Owed(_) => None,
            },
            State::Head | State::Body(_) | State::Refused(..) | State::Closing(_) => None,
        }
    }

    fn log(&mut self) -> Option<&mut String> {
        self.front.log.as_mut().map(AccessLog::lines)
    }

    fn finished_file(&mut self, _: &mut Connection) -> Option<Fd> {
        self.finished.pop()
    }
}

impl Connection {
    fn new(now: Instant) -> Self {
        Self {
            state: State::Head,
            carry: Vec::new(),
            since: now,
            begun: now,
            requests: 0,
            entry: None,
            owed: 0,
            draining: false,
            eof: false,
            paused: false,
            yielded: false,
        }
    }

    /// Whether the peer has begun a request whose head is not whole. Empty lines before it are
    /// not yet a request.
    fn in_head(&self) -> bool {
        !self.carry.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    /// Where it stands, as seen from outside.
    fn stage(&self) -> Stage {
        match self.state {
            State::Head if !self.in_head() => Stage::Idle,
            State::Head | State::Body(_) => Stage::Reading,
            State::Answer(_) => Stage::Answering,
            State::Refused(..) | State::Closing(_) => Stage::Writing,
        }
    }

    /// Since its request had come whole.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        now.since(self.begun.max(self.since))
    }

    /// Counts bytes as used, before the request in them is served.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_sub(bytes);
    }

    /// Whether the drain lets no other request follow this one.
    pub(super) fn is_drained(&self) -> bool {
        self.draining && self.owed == 0
    }

    /// The peer will send no more, and what it sent is used as far as it can be.
    fn end_of_input(&mut self) {
        match self.state {
            State::Head if !self.in_head() => self.end(CloseReason::ClientClosed),
            State::Head | State::Body(_) => self.end(CloseReason::ClientAborted),
            State::Answer(_) | State::Refused(..) | State::Closing(_) => {}
        }
    }

    /// Answers with a refusal, then closes.
    fn refuse(&mut self, refusal: Refusal) {
        let is_head = match &self.state {
            State::Body(incoming) => incoming.is_head(),
            State::Head | State::Answer(_) | State::Refused(..) | State::Closing(_) => {
                asks_for_head(&self.carry)
            }
        };
        self.enter(State::Refused(refusal, is_head));
    }

    /// Closes without another word.
    pub(super) fn end(&mut self, reason: CloseReason) {
        self.enter(State::Closing(Close { reason, linger: false, now: false }));
    }

    /// Leaves a state of which nothing is needed any more.
    pub(super) fn enter(&mut self, state: State) {
        discard(mem::replace(&mut self.state, state));
    }
}

impl<H> fmt::Debug for Http<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Requests of one connection that are answered in a row, before others have their turn.
const TURNS_MAX: u32 = 64;
/// Bytes received but not used, above which reading pauses.
const CARRY_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests;
