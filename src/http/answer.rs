//! Answers that are not out at once: tickets, streams and files, advanced step by step. Pure.

use super::connection::{Connection, Http, State, Stop};
use super::handler::{Handler, Owed, Pull, Stream};
use super::response::{Later, Length, Response};
use super::serve::{Facts, discard};
use crate::io::{Bytes, Errno, Fd, Instant};
use crate::panics::{Panicked, contained};
use crate::protocol::{Close, Cx, Out};
use crate::stats::{CloseReason, Counter};
use std::fmt;
use std::task::Poll;
use std::time::Duration;

/// An answer whose body is not out.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) facts: Facts,
    pub(super) source: Source,
}

#[derive(Debug)]
pub(super) enum Source {
    Ticket(Ticket),
    Stream(Pieces),
    File(FilePart),
    Owed(Box<dyn Owed>),
}

/// The handler answers later.
pub(super) struct Ticket {
    pub(super) at: Instant,
    pub(super) response: Response,
    pub(super) then: Later,
}

/// The handler produces the body while it is sent.
pub(super) struct Pieces {
    pub(super) stream: Box<dyn Stream>,
    /// How the peer finds the end. `Fixed`: what is still to come.
    pub(super) length: Length,
    /// Not before then.
    pub(super) wake: Option<Instant>,
    pub(super) last: Option<CloseReason>,
}

/// The body is in a file.
#[derive(Debug)]
pub(super) struct FilePart {
    pub(super) fd: Fd,
    pub(super) offset: u64,
    pub(super) left: u64,
    /// Until the first bytes are there: they share a send with the head, and a file that cannot
    /// be read can still be answered with 500.
    pub(super) response: Option<Response>,
    pub(super) last: Option<CloseReason>,
}

/// How far an answer came.
enum Step {
    Stop(Stop),
    /// The ticket is due, or the request's time is up.
    Due,
    /// Who owes it is to be asked.
    Ask,
    /// The stream has ended as its head said.
    Done,
    /// It has not, and cannot.
    Cut(CloseReason),
}

impl Answer {
    /// Gives up. What the application gave us is dropped; the file still has to be closed.
    pub(super) fn into_file(self: Box<Self>) -> Option<Fd> {
        match self.source {
            Source::File(file) => Some(file.fd),
            Source::Ticket(_) | Source::Stream(_) | Source::Owed(_) => {
                discard(State::Answer(self));
                None
            }
        }
    }
}

impl<H: Handler> Http<H> {
    /// Goes on with an answer. `None`: it is over, or became another one.
    pub(super) fn on_answer(
        &mut self,
        connection: &mut Connection,
        mut answer: Box<Answer>,
        cx: &mut Cx<'_>,
    ) -> Option<Stop> {
        let step = match &mut answer.source {
            Source::Ticket(ticket) => {
                ticket.step(cx.now, connection.begun.after(self.limits.request_timeout))
            }
            Source::Stream(pieces) => pieces.step(&mut self.scratch, cx.now, &mut cx.out),
            Source::File(file) => file.step(),
            Source::Owed(owed)
                if connection.eof && !self.limits.half_close && owed.ends_at_eof() =>
            {
                Step::Cut(CloseReason::ClientAborted)
            }
            Source::Owed(_) => Step::Ask,
        };
        match step {
            // Only a future's body waits to be resumed: it ends as its future does.
            Step::Stop(Stop::Wait) if connection.eof && !self.limits.half_close => {
                let now = answer.ends_with_the_connection();
                discard(State::Answer(answer));
                let reason = CloseReason::ClientAborted;
                connection.state = State::Closing(Close { reason, linger: false, now });
            }
            Step::Stop(stop) => {
                connection.state = State::Answer(answer);
                return Some(stop);
            }
            Step::Ask => return self.on_owed(connection, answer, cx),
            Step::Due => self.on_due(connection, *answer, cx),
            Step::Done => {
                let last = answer.last();
                discard(State::Answer(answer));
                self.finish(connection, last, cx);
            }
            Step::Cut(reason) => {
                if reason == CloseReason::HandlerPanic {
                    cx.stats.add(Counter::HandlerPanics, 1);
                }
                // Of a body without a length, an end-of-file would be the proper end.
                let now = answer.ends_with_the_connection();
                discard(State::Answer(answer));
                connection.state = State::Closing(Close { reason, linger: false, now });
            }
        }
        None
    }

    /// Asks for an answer that somebody else gives. When the request's time is up, it is given up.
    fn on_owed(
        &mut self,
        connection: &mut Connection,
        mut answer: Box<Answer>,
        cx: &mut Cx<'_>,
    ) -> Option<Stop> {
        let facts = answer.facts;
        let is_late = cx.now >= connection.begun.after(self.limits.request_timeout);
        if let Source::Owed(owed) = &mut answer.source {
            match contained(|| owed.poll(&mut self.response)) {
                Ok(Poll::Pending) if is_late => self.response.plain(503),
                Ok(Poll::Pending) => {
                    self.response.reset();
                    connection.state = State::Answer(answer);
                    return Some(Stop::Wait);
                }
                Ok(Poll::Ready(())) => {}
                Err(Panicked) => {
                    discard(State::Answer(answer));
                    self.response.plain(500);
                    self.on_panic(connection, facts, cx);
                    return None;
                }
            }
        }
        discard(State::Answer(answer));
        self.respond(connection, facts, cx);
        None
    }

    fn on_due(&mut self, connection: &mut Connection, answer: Answer, cx: &mut Cx<'_>) {
        let Answer { facts, source: Source::Ticket(ticket) } = answer else { return };
        let Ticket { at, response, then } = ticket;
        self.response = response;
        let is_late = cx.now < at;
        self.answer(connection, facts, cx, |_, response| {
            if is_late {
                drop(then);
                response.plain(503);
            } else {
                then(response);
            }
        });
    }

    /// The file bytes that were asked for.
    pub(super) fn on_file(
        &mut self,
        connection: &mut Connection,
        mut answer: Box<Answer>,
        bytes: Result<Vec<u8>, Errno>,
        cx: &mut Cx<'_>,
    ) {
        let Source::File(file) = &mut answer.source else {
            connection.state = State::Answer(answer);
            return;
        };
        let mut bytes = bytes.unwrap_or_default();
        bytes.truncate(usize::try_from(file.left).unwrap_or(usize::MAX));
        if bytes.is_empty() {
            return self.on_lost_file(connection, *answer, cx);
        }
        if let Some(response) = file.response.take() {
            let length = Length::Fixed(file.left);
            self.response = response;
            file.last = self.write_head(connection, answer.facts, length, cx);
        }
        file.offset += bytes.len() as u64;
        file.left -= bytes.len() as u64;
        cx.out.body(Bytes::Owned(bytes));
        if file.left > 0 {
            connection.state = State::Answer(answer);
            return;
        }
        let last = file.last;
        self.finished.extend(answer.into_file());
        self.finish(connection, last, cx);
    }

    /// A file is shorter than it was, or cannot be read.
    fn on_lost_file(&mut self, connection: &mut Connection, answer: Answer, cx: &mut Cx<'_>) {
        let Answer { facts, source: Source::File(file) } = answer else { return };
        self.finished.push(file.fd);
        if file.response.is_some() {
            self.response.fail("a file is shorter than it was, or cannot be read");
            return self.respond(connection, facts, cx);
        }
        let reason = CloseReason::StreamFailed;
        connection.state = State::Closing(Close { reason, linger: false, now: false });
    }
}

impl Answer {
    fn last(&self) -> Option<CloseReason> {
        match &self.source {
            Source::Stream(pieces) => pieces.last,
            Source::File(file) => file.last,
            Source::Ticket(_) | Source::Owed(_) => None,
        }
    }

    fn ends_with_the_connection(&self) -> bool {
        matches!(&self.source, Source::Stream(pieces) if pieces.length == Length::UntilClose)
    }
}

impl Ticket {
    fn step(&self, now: Instant, limit: Instant) -> Step {
        if now >= self.at || now >= limit {
            return Step::Due;
        }
        Step::Stop(Stop::Time { at: self.at.min(limit), exact: self.at <= limit })
    }
}

impl Pieces {
    fn step(&mut self, scratch: &mut Vec<u8>, now: Instant, out: &mut Out<'_>) -> Step {
        if let Some(at) = self.wake.filter(|wake| now < *wake) {
            return Step::Stop(Stop::Time { at, exact: true });
        }
        let mut produced = 0;
        while produced < STEP as usize && !out.is_full() {
            scratch.clear();
            let pull = contained(|| self.stream.next(scratch));
            produced += scratch.len();
            if !write_piece(&mut self.length, scratch, out.buffer()) {
                return Step::Cut(CloseReason::StreamFailed);
            }
            let is_empty = scratch.is_empty();
            if scratch.capacity() > SCRATCH_MAX {
                *scratch = Vec::new();
            }
            let delay = match pull {
                Err(Panicked) => return Step::Cut(CloseReason::HandlerPanic),
                Ok(Pull::Failed) => return Step::Cut(CloseReason::StreamFailed),
                Ok(Pull::Done) => return self.end(out),
                Ok(Pull::More) if !is_empty => continue,
                // Nothing yet, and no idea when.
                Ok(Pull::More) => Duration::ZERO,
                Ok(Pull::Later(delay)) => delay,
                Ok(Pull::Wait) => return Step::Stop(Stop::Wait),
            };
            let at = now.after(delay.max(DELAY_MIN));
            self.wake = Some(at);
            return Step::Stop(Stop::Time { at, exact: true });
        }
        Step::Stop(Stop::Full)
    }

    fn end(&self, out: &mut Out<'_>) -> Step {
        match self.length {
            Length::Fixed(left) if left > 0 => return Step::Cut(CloseReason::StreamFailed),
            Length::Chunked => out.buffer().extend_from_slice(b"0\r\n\r\n"),
            Length::Fixed(_) | Length::UntilClose => {}
        }
        Step::Done
    }
}

impl FilePart {
    fn step(&self) -> Step {
        let len = u32::try_from(self.left).map_or(STEP, |left| left.min(STEP));
        Step::Stop(Stop::Read(self.offset, len))
    }
}

/// Writes a piece of a body as its framing wants it. `false`: it is longer than was announced.
fn write_piece(length: &mut Length, piece: &[u8], buffer: &mut Vec<u8>) -> bool {
    match length {
        Length::Chunked if piece.is_empty() => {}
        Length::Chunked => {
            write_hex(piece.len(), buffer);
            buffer.extend_from_slice(b"\r\n");
            buffer.extend_from_slice(piece);
            buffer.extend_from_slice(b"\r\n");
        }
        Length::Fixed(left) => {
            let Some(rest) = left.checked_sub(piece.len() as u64) else { return false };
            *left = rest;
            buffer.extend_from_slice(piece);
        }
        Length::UntilClose => buffer.extend_from_slice(piece),
    }
    true
}

fn write_hex(value: usize, buffer: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - value.leading_zeros()).div_ceil(4).max(1);
    buffer.extend((0..digits).rev().map(|digit| DIGITS[value >> (4 * digit) & 15]));
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("at", &self.at).finish_non_exhaustive()
    }
}

impl fmt::Debug for Box<dyn Owed> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owed")
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Bytes that are produced or read before what was produced has left.
const STEP: u32 = 64 << 10;
/// Larger buffers of streams are not kept.
const SCRATCH_MAX: usize = 256 << 10;
/// How soon a stream that has nothing, or a ticket, is asked again at the earliest: one that is
/// never done must not keep the worker.
pub(super) const DELAY_MIN: Duration = Duration::from_millis(1);
