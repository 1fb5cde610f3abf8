//! Answers that are not out at once: tickets, streams and files, advanced step by step. Pure.

use super::connection::{Connection, Http, State, Stop};
use super::handler::{Handler, Pull, Stream};
use super::response::{Later, Length, Response};
use super::serve::{Facts, Panicked, contained, discard};
use crate::io::{Bytes, Errno, Fd, Instant};
use crate::protocol::{Close, Cx};
use crate::stats::{CloseReason, Counter};
use std::fmt;
use std::mem;
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

impl Answer {
    /// Gives up. What the application gave us is dropped; the file still has to be closed.
    pub(super) fn into_file(self: Box<Self>) -> Option<Fd> {
        match self.source {
            Source::File(file) => Some(file.fd),
            Source::Ticket(_) | Source::Stream(_) => {
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
        answer: Answer,
        cx: &mut Cx<'_>,
    ) -> Option<Stop> {
        let Answer { facts, source } = answer;
        let (source, stop) = match source {
            Source::Ticket(ticket) => {
                let (ticket, stop) = self.on_ticket(connection, facts, ticket, cx)?;
                (Source::Ticket(ticket), stop)
            }
            Source::Stream(pieces) => {
                let (pieces, stop) = self.on_stream(connection, pieces, cx)?;
                (Source::Stream(pieces), stop)
            }
            Source::File(file) => {
                let len = u32::try_from(file.left).map_or(STEP, |left| left.min(STEP));
                let stop = Stop::Read(file.offset, len);
                (Source::File(file), stop)
            }
        };
        connection.state = State::Answer(Box::new(Answer { facts, source }));
        Some(stop)
    }

    fn on_ticket(
        &mut self,
        connection: &mut Connection,
        facts: Facts,
        ticket: Ticket,
        cx: &mut Cx<'_>,
    ) -> Option<(Ticket, Stop)> {
        let limit = connection.begun.after(self.limits.request_timeout);
        if cx.now < ticket.at && cx.now < limit {
            let is_exact = ticket.at <= limit;
            let stop = Stop::Time(ticket.at.min(limit), is_exact);
            return Some((ticket, stop));
        }
        let Ticket { at, mut response, then } = ticket;
        let outcome = if cx.now < at {
            response.plain(503);
            contained(|| drop(then))
        } else {
            contained(|| then(&mut response))
        };
        match outcome {
            Ok(()) => self.respond(connection, facts, response, cx),
            Err(Panicked) => self.on_panic(connection, facts, cx),
        }
        None
    }

    fn on_stream(
        &mut self,
        connection: &mut Connection,
        mut pieces: Pieces,
        cx: &mut Cx<'_>,
    ) -> Option<(Pieces, Stop)> {
        if let Some(wake) = pieces.wake
            && cx.now < wake
        {
            return Some((pieces, Stop::Time(wake, true)));
        }
        pieces.wake = None;
        let mut produced = 0;
        while produced < STEP as usize && !cx.out.is_full() {
            let mut scratch = mem::take(&mut self.scratch);
            scratch.clear();
            let pull = contained(|| pieces.stream.next(&mut scratch));
            produced += scratch.len();
            let is_empty = scratch.is_empty();
            let fits = write_piece(&mut pieces.length, &scratch, cx.out.buffer());
            if scratch.capacity() <= SCRATCH_MAX {
                self.scratch = scratch;
            }
            match pull {
                Err(Panicked) => {
                    cx.stats.add(Counter::HandlerPanics, 1);
                    self.cut(connection, pieces, CloseReason::HandlerPanic);
                    return None;
                }
                Ok(_) if !fits => {
                    self.cut(connection, pieces, CloseReason::StreamFailed);
                    return None;
                }
                Ok(Pull::Failed) => {
                    self.cut(connection, pieces, CloseReason::StreamFailed);
                    return None;
                }
                Ok(Pull::Done) => {
                    self.on_stream_done(connection, pieces, cx);
                    return None;
                }
                // Nothing yet, and no idea when: ask again in the next pass, not in this one.
                Ok(Pull::More) if is_empty => return Some((pieces, Stop::Turn)),
                Ok(Pull::More) => {}
                Ok(Pull::Later(delay)) => {
                    let wake = cx.now.after(delay.max(Duration::from_millis(1)));
                    pieces.wake = Some(wake);
                    return Some((pieces, Stop::Time(wake, true)));
                }
            }
        }
        Some((pieces, Stop::Full))
    }

    fn on_stream_done(&mut self, connection: &mut Connection, pieces: Pieces, cx: &mut Cx<'_>) {
        match pieces.length {
            Length::Fixed(left) if left > 0 => {
                return self.cut(connection, pieces, CloseReason::StreamFailed);
            }
            Length::Chunked => cx.out.buffer().extend_from_slice(b"0\r\n\r\n"),
            Length::Fixed(_) | Length::UntilClose => {}
        }
        let last = pieces.last;
        let _ = contained(|| drop(pieces));
        self.finish(connection, last, cx);
    }

    /// An answer cannot be ended as its head said: its peer must not take it for whole.
    fn cut(&self, connection: &mut Connection, pieces: Pieces, reason: CloseReason) {
        // An end-of-file would be the proper end of such a body.
        let now = pieces.length == Length::UntilClose;
        let _ = contained(|| drop(pieces));
        connection.state = State::Closing(Close { reason, linger: false, now });
    }

    /// The file bytes that were asked for.
    pub(super) fn on_file(
        &mut self,
        connection: &mut Connection,
        answer: Answer,
        bytes: Result<Vec<u8>, Errno>,
        cx: &mut Cx<'_>,
    ) {
        let Answer { facts, source } = answer;
        let Source::File(mut file) = source else {
            connection.state = State::Answer(Box::new(Answer { facts, source }));
            return;
        };
        let mut bytes = bytes.unwrap_or_default();
        bytes.truncate(usize::try_from(file.left).unwrap_or(usize::MAX));
        if bytes.is_empty() {
            self.finished.push(file.fd);
            let Some(mut response) = file.response else {
                let reason = CloseReason::StreamFailed;
                connection.state = State::Closing(Close { reason, linger: false, now: false });
                return;
            };
            response.fail("a file is shorter than it was, or cannot be read");
            return self.respond(connection, facts, response, cx);
        }
        if let Some(response) = file.response.take() {
            let length = Length::Fixed(file.left);
            file.last = self.write_head(connection, facts, &response, length, cx);
            self.recycle(response);
        }
        file.offset += bytes.len() as u64;
        file.left -= bytes.len() as u64;
        cx.out.body(Bytes::Owned(bytes));
        if file.left > 0 {
            let source = Source::File(file);
            connection.state = State::Answer(Box::new(Answer { facts, source }));
            return;
        }
        self.finished.push(file.fd);
        self.finish(connection, file.last, cx);
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

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Bytes that are produced or read before what was produced has left.
const STEP: u32 = 64 << 10;
/// Larger buffers of streams are not kept.
const SCRATCH_MAX: usize = 256 << 10;
