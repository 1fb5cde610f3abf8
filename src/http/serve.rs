//! One request: from the connection to the handler, and its answer back. Contains panics. Pure.

use super::answer::{Answer, DELAY_MIN, FilePart, Pieces, Source, Ticket};
use super::body::Body;
use super::close::Refusal;
use super::connection::{Connection, Http, State};
use super::handler::{Handler, Upload};
use super::head::{Framing, Head, Storage, Version, parse};
use super::request::Request;
use super::response::{Length, Payload, Persistence, Response};
use crate::io::{Fd, Instant};
use crate::panics::{self, Panicked, contained};
use crate::protocol::{Close, Cx};
use crate::stats::{CloseReason, Counter};
use std::fmt;
use std::mem;
use std::os::fd::IntoRawFd;

/// A request whose body is coming.
#[derive(Debug)]
pub(super) struct Incoming {
    facts: Facts,
    body: Body,
    sink: Sink,
    /// Since when it has been coming.
    since: Instant,
    /// How much of it came, the chunked coding included.
    bytes: u64,
}

/// What becomes of a body.
enum Sink {
    /// Kept until it is whole, with the head that it belongs to.
    Whole { head: Vec<u8>, body: Vec<u8> },
    /// Passed on.
    Upload(Box<dyn Upload>),
}

/// What an answer has to know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) is_head: bool,
    is_http10: bool,
    keep_alive: bool,
}

impl Incoming {
    pub(super) fn is_upload(&self) -> bool {
        matches!(self.sink, Sink::Upload(_))
    }

    /// Whether its receiver takes no more for now. One that panics takes everything: it will be
    /// found out when it is given some.
    pub(super) fn is_full(&self) -> bool {
        match &self.sink {
            Sink::Upload(upload) => contained(|| upload.is_full()).unwrap_or(false),
            Sink::Whole { .. } => false,
        }
    }

    pub(super) fn is_head(&self) -> bool {
        self.facts.is_head
    }
}

impl Facts {
    pub(super) fn of(head: &Head<'_>) -> Self {
        Self {
            is_head: head.method == "HEAD",
            is_http10: head.version == Version::Http10,
            keep_alive: head.keep_alive,
        }
    }
}

/// Whether bytes that are no head yet, or not one that is served, begin with the method HEAD.
pub(super) fn asks_for_head(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"HEAD ")
}

/// Drops what may hold objects of the application.
pub(super) fn discard(state: State) {
    if let State::Body(_) | State::Answer(_) = state {
        panics::discard(state);
    }
}

impl<H: Handler> Http<H> {
    /// Serves the request that `input` begins with, or begins to read its body. Returns how much of
    /// the input was used; `None` when the head is not complete.
    pub(super) fn on_head(
        &mut self,
        connection: &mut Connection,
        input: &[u8],
        cx: &mut Cx<'_>,
    ) -> Option<usize> {
        let mut storage = Storage::new();
        let head = match parse(input, &mut storage, &self.limits.head) {
            Ok(Some(head)) => head,
            Ok(None) => return None,
            Err(refusal) => {
                connection.state = State::Refused(refusal, asks_for_head(input));
                return Some(input.len());
            }
        };
        connection.requests += 1;
        cx.stats.add(Counter::Requests, 1);
        if let Some(wait) = self.admit(connection, &head, cx) {
            return Some(self.over_limit(connection, (&head, input), wait, cx));
        }
        match head.framing {
            Framing::None | Framing::Length(0) => {
                connection.spend(head.length);
                self.serve(connection, &head, &[], cx);
                Some(head.length)
            }
            Framing::Length(_) | Framing::Chunked => {
                Some(self.begin_body(connection, &head, input, cx))
            }
        }
    }

    fn begin_body(
        &mut self,
        connection: &mut Connection,
        head: &Head<'_>,
        input: &[u8],
        cx: &mut Cx<'_>,
    ) -> usize {
        let request = Request::new(head, &[], cx, self.front.proxies);
        cx.stats.handling(head.method, head.target);
        let upload = contained(|| self.handler.upload(&request));
        cx.stats.handled();
        let Ok(upload) = upload else {
            self.on_panic(connection, Facts::of(head), cx);
            return input.len();
        };
        let (head_bytes, here) = input.split_at(head.length);
        if let (None, Framing::Length(length)) = (&upload, head.framing)
            && let Some(body) = usize::try_from(length).ok().and_then(|length| here.get(..length))
        {
            // All of it is here: no copy.
            let used = head.length + body.len();
            connection.spend(used);
            self.serve(connection, head, body, cx);
            return used;
        }
        // RFC 9110 §10.1.1: not when the body has begun to come.
        if head.expects_continue && here.is_empty() {
            cx.out.buffer().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let sink = match upload {
            Some(upload) => Sink::Upload(upload),
            None => Sink::Whole { head: head_bytes.to_vec(), body: Vec::new() },
        };
        let body = Body::new(head.framing, &self.limits.body);
        connection.state = State::Body(Box::new(Incoming {
            facts: Facts::of(head),
            body,
            sink,
            since: cx.now,
            bytes: 0,
        }));
        connection.since = cx.now;
        connection.spend(head.length);
        head.length
    }

    /// More of a body came. Returns how much of the input belongs to it.
    pub(super) fn on_body(
        &mut self,
        connection: &mut Connection,
        mut incoming: Box<Incoming>,
        input: &[u8],
        cx: &mut Cx<'_>,
    ) -> usize {
        let Incoming { body, sink, .. } = &mut *incoming;
        let outcome = match sink {
            Sink::Whole { body: whole, .. } => {
                Ok(body.decode(input, &mut |bytes| whole.extend_from_slice(bytes)))
            }
            Sink::Upload(upload) => {
                contained(|| body.decode(input, &mut |bytes| upload.write(bytes)))
            }
        };
        let decoded = match outcome {
            Ok(Ok(decoded)) => decoded,
            Ok(Err(refusal)) => {
                connection.state = State::Refused(refusal, incoming.facts.is_head);
                discard(State::Body(incoming));
                return input.len();
            }
            Err(Panicked) => {
                let facts = incoming.facts;
                discard(State::Body(incoming));
                self.on_panic(connection, facts, cx);
                return input.len();
            }
        };
        connection.since = cx.now;
        connection.spend(decoded.used);
        incoming.bytes += decoded.used as u64;
        if decoded.done {
            self.on_whole_body(connection, *incoming, cx);
        } else if self.is_too_slow(&incoming, cx.now) {
            connection.state = State::Refused(Refusal::BODY_TOO_SLOW, incoming.facts.is_head);
            discard(State::Body(incoming));
        } else {
            connection.state = State::Body(incoming);
        }
        decoded.used
    }

    /// Tells the receiver of a body that its connection was resumed. It was not the peer that made
    /// it wait until now.
    pub(super) fn resume_upload(&mut self, connection: &mut Connection, cx: &mut Cx<'_>) {
        let State::Body(mut incoming) = mem::take(&mut connection.state) else { return };
        let Sink::Upload(upload) = &mut incoming.sink else { return };
        let was_full = contained(|| upload.is_full()).unwrap_or(false);
        if let Err(Panicked) = contained(|| upload.resume()) {
            let facts = incoming.facts;
            discard(State::Body(incoming));
            return self.on_panic(connection, facts, cx);
        }
        if was_full {
            connection.since = cx.now;
            incoming.since = cx.now;
            incoming.bytes = 0;
        }
        connection.state = State::Body(incoming);
    }

    fn is_too_slow(&self, incoming: &Incoming, now: Instant) -> bool {
        let took = now.since(incoming.since);
        let rate = u128::from(self.limits.body_rate_min);
        took >= self.limits.body_timeout * 2
            && u128::from(incoming.bytes) * 1000 < took.as_millis() * rate
    }

    fn on_whole_body(&mut self, connection: &mut Connection, incoming: Incoming, cx: &mut Cx<'_>) {
        let facts = incoming.facts;
        match incoming.sink {
            Sink::Whole { head, body } => {
                let mut storage = Storage::new();
                match parse(&head, &mut storage, &self.limits.head) {
                    Ok(Some(head)) => self.serve(connection, &head, &body, cx),
                    // The same bytes were a head before, so they still are.
                    Ok(None) | Err(_) => {
                        connection.state = State::Refused(Refusal::BAD_REQUEST, facts.is_head);
                    }
                }
            }
            Sink::Upload(upload) => {
                self.answer(connection, facts, cx, |_, response| upload.finish(response));
            }
        }
    }

    /// The request is whole: asks the handler and answers.
    fn serve(
        &mut self,
        connection: &mut Connection,
        head: &Head<'_>,
        body: &[u8],
        cx: &mut Cx<'_>,
    ) {
        let facts = Facts::of(head);
        if head.target == "*" {
            // RFC 9110 §9.3.7: asks whether the server is there, not for any resource of it.
            self.response.status(204);
            return self.respond(connection, facts, cx);
        }
        let request = Request::new(head, body, cx, self.front.proxies);
        cx.stats.handling(head.method, head.target);
        self.answer(connection, facts, cx, |handler, response| handler.handle(&request, response));
    }

    /// Has the application fill in a response, and answers with it.
    pub(super) fn answer(
        &mut self,
        connection: &mut Connection,
        facts: Facts,
        cx: &mut Cx<'_>,
        fill: impl FnOnce(&mut H, &mut Response),
    ) {
        let filled = contained(|| fill(&mut self.handler, &mut self.response));
        cx.stats.handled();
        match filled {
            Ok(()) => self.respond(connection, facts, cx),
            Err(Panicked) => {
                let half_filled = mem::take(&mut self.response);
                let _ = contained(|| drop(half_filled));
                self.on_panic(connection, facts, cx);
            }
        }
    }

    /// Writes the answer, or what can be written of it now; what remains becomes the state.
    pub(super) fn respond(&mut self, connection: &mut Connection, facts: Facts, cx: &mut Cx<'_>) {
        let body = mem::take(&mut self.response.body);
        let may_have_body = self.response.may_have_body();
        let length = match &body {
            _ if !may_have_body => Length::Fixed(0),
            Payload::None | Payload::After(..) | Payload::Owed(_) => Length::Fixed(0),
            Payload::Bytes(bytes) => Length::Fixed(bytes.len() as u64),
            Payload::File(part) => Length::Fixed(part.len),
            Payload::Stream(stream) => match contained(|| stream.length()) {
                Ok(Some(length)) => Length::Fixed(length),
                Ok(None) if facts.is_http10 => Length::UntilClose,
                Ok(None) => Length::Chunked,
                Err(Panicked) => return self.on_panic(connection, facts, cx),
            },
        };
        let has_body = may_have_body && !facts.is_head;
        let source = match body {
            Payload::After(delay, then) => {
                let response = mem::take(&mut self.response);
                Source::Ticket(Ticket { at: cx.now.after(delay.max(DELAY_MIN)), response, then })
            }
            Payload::Owed(owed) => {
                self.response.reset();
                Source::Owed(owed)
            }
            Payload::File(part) if has_body && part.len > 0 => Source::File(FilePart {
                fd: Fd::new(part.file.into_raw_fd()),
                offset: part.offset,
                left: part.len,
                response: Some(mem::take(&mut self.response)),
                last: None,
            }),
            Payload::Stream(stream) if has_body => {
                let last = self.write_head(connection, facts, length, cx);
                Source::Stream(Pieces { stream, length, wake: None, last })
            }
            Payload::None | Payload::Bytes(_) | Payload::File(_) | Payload::Stream(_) => {
                let last = self.write_head(connection, facts, length, cx);
                if let Payload::Bytes(bytes) = body {
                    if has_body {
                        cx.out.body(bytes);
                    }
                } else {
                    let _ = contained(|| drop(body));
                }
                return self.finish(connection, last, cx);
            }
        };
        connection.state = State::Answer(Box::new(Answer { facts, source }));
    }

    /// Writes the head of the response and counts it; the response is then as new. Returns why it
    /// is the connection's last one.
    pub(super) fn write_head(
        &mut self,
        connection: &mut Connection,
        facts: Facts,
        length: Length,
        cx: &mut Cx<'_>,
    ) -> Option<CloseReason> {
        let last = self.last(connection, facts, length);
        let persistence = match last {
            Some(_) => Persistence::Close,
            None if facts.is_http10 => Persistence::KeepAlive,
            None => Persistence::Implied,
        };
        cx.stats.add(Counter::Responses, 1);
        cx.stats.answered(connection.waited(cx.now));
        match self.response.code() {
            400..=499 => cx.stats.add(Counter::ClientErrors, 1),
            500.. => cx.stats.add(Counter::ServerErrors, 1),
            _ => {}
        }
        self.response.write_head(&self.date, length, persistence, cx.out.buffer());
        let bytes = match length {
            _ if facts.is_head => Some(0),
            Length::Fixed(bytes) => Some(bytes),
            Length::Chunked | Length::UntilClose => None,
        };
        self.note(connection, self.response.code(), bytes, cx);
        self.response.reset();
        last
    }

    /// Why no other request may follow, if so.
    fn last(&self, connection: &Connection, facts: Facts, length: Length) -> Option<CloseReason> {
        let max = self.limits.requests_max;
        if !facts.keep_alive || length == Length::UntilClose {
            Some(CloseReason::ClientAsked)
        } else if self.response.wants_close() {
            Some(CloseReason::HandlerAsked)
        } else if !self.limits.keep_alive {
            Some(CloseReason::KeepAliveOff)
        } else if max != 0 && connection.requests >= max {
            Some(CloseReason::RequestsMax)
        } else if connection.is_drained() {
            Some(CloseReason::Drain)
        } else {
            None
        }
    }

    /// The answer is out, as far as it depends on us.
    pub(super) fn finish(
        &self,
        connection: &mut Connection,
        last: Option<CloseReason>,
        cx: &Cx<'_>,
    ) {
        // The drain may have begun after the head had been written.
        let drained = connection.is_drained().then_some(CloseReason::Drain);
        connection.since = cx.now;
        connection.begun = cx.now;
        connection.state = match last.or(drained) {
            None => State::Head,
            Some(reason) => State::Closing(Close {
                reason,
                // Who asked for the close sends no more. Anybody else may be about to.
                linger: reason != CloseReason::ClientAsked && !connection.eof,
                now: false,
            }),
        };
    }

    /// Code of the application panicked before an answer began.
    pub(super) fn on_panic(&mut self, connection: &mut Connection, facts: Facts, cx: &mut Cx<'_>) {
        cx.stats.add(Counter::HandlerPanics, 1);
        let refusal = Refusal { status: 500, reason: CloseReason::HandlerPanic };
        self.answer_last(connection, refusal, facts.is_head, cx);
    }

    /// The one answer to what will not be served; nothing after it is.
    pub(super) fn answer_last(
        &mut self,
        connection: &mut Connection,
        refusal: Refusal,
        is_head: bool,
        cx: &mut Cx<'_>,
    ) {
        self.response.plain(refusal.status);
        self.write_last(connection, refusal, is_head, cx);
    }

    /// The same, with the response as it is.
    pub(super) fn write_last(
        &mut self,
        connection: &mut Connection,
        Refusal { status, reason }: Refusal,
        is_head: bool,
        cx: &mut Cx<'_>,
    ) {
        cx.stats.add(Counter::Responses, 1);
        cx.stats.answered(connection.waited(cx.now));
        let is_ours = status >= 500;
        cx.stats.add(if is_ours { Counter::ServerErrors } else { Counter::ClientErrors }, 1);
        self.response.write_whole(&self.date, is_head, cx.out.buffer());
        self.response.reset();
        self.note(connection, status, None, cx);
        let linger = !connection.eof;
        connection.state = State::Closing(Close { reason, linger, now: false });
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { body, .. } => write!(f, "Whole({} bytes)", body.len()),
            Self::Upload(_) => f.write_str("Upload"),
        }
    }
}
