//! Control and health connections: accepted, read up to one question, answered, closed. They share
//! the master's ring; their number, bytes and time are bounded, so that whoever comes costs nothing
//! and nobody.
//!
//! A visitor asks, waits for its answer, is told it, lingers until it closes, and is joined. One
//! that still asks, or does not read, makes room when its door is full (`rooms`).

mod pause;
mod question;
mod rooms;

use super::line::{self, Request};
use super::page::Page;
use super::{Parts, Trust};
use crate::config::Config;
use crate::http::head::HeadLimits;
use crate::io::{
    Completion, Errno, ErrnoClass, Fd, Half, Instant, Io, Kind, Op, Owned, Processes, Token,
};
use crate::master::answer::{Answer, Asker};
use question::{Asked, question};
pub(crate) use rooms::DOOR_RESERVE;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Bytes of a question over HTTP.
const HEAD_MAX: usize = 4096;
/// Bytes that a visitor may send in all; who sends more is cut.
const BYTES_MAX: usize = 64 << 10;
/// How long a visitor may take to ask, to read its answer, and to close after it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an unread answer may hold up the end of the pool.
const END_PATIENCE: Duration = Duration::from_secs(1);
/// How often a receive that found no buffer is armed again.
const STARVED_MAX: u8 = 8;

/// What a visitor wants to know or have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// A line of the control language.
    Line(Request),
    /// A page over HTTP; without its body if that was a HEAD.
    Page(Page, bool),
}

impl Question {
    /// Whether it is answered only when workers have been replaced.
    fn is_long(self) -> bool {
        matches!(self, Self::Line(Request::Order(command)) if line::is_long(command.name()))
    }
}

/// All doors and all visitors.
#[derive(Debug)]
pub(crate) struct Visitors {
    doors: Vec<Door>,
    user: u32,
    limits: HeadLimits,
    rows: BTreeMap<u64, Visitor>,
    next: u64,
    asked: VecDeque<(Asker, Question)>,
    strangers: u64,
    closed: u64,
    ending: bool,
    /// The process becomes another program.
    paused: bool,
}

#[derive(Debug)]
struct Door {
    fd: Option<Fd>,
    trust: Trust,
    armed: bool,
    canceled: bool,
    /// Somebody may be waiting outside; tried again then.
    retry_at: Option<Instant>,
    /// Descriptors for visitors that come when there are no others.
    reserve: Vec<Fd>,
}

#[derive(Debug)]
struct Visitor {
    fd: Fd,
    door: usize,
    stage: Stage,
    input: Vec<u8>,
    received: usize,
    receiving: bool,
    telling: bool,
    /// It sends no more.
    ended: bool,
    /// Its receive was cancelled, because the process becomes another program.
    canceled: bool,
    starved: u8,
    deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its question is not complete.
    Asking,
    /// The master works on it.
    Waiting,
    /// The answer is on its way.
    Telling,
    /// The answer is out; until it closes.
    Lingering,
    /// It is told that there is no room for it, and closed.
    Leaving,
    /// Closed when no operation uses it.
    Closing,
}

impl Visitor {
    const fn new(fd: Fd, door: usize, stage: Stage) -> Self {
        Self {
            fd,
            door,
            stage,
            input: Vec::new(),
            received: 0,
            receiving: false,
            telling: false,
            ended: false,
            canceled: false,
            starved: 0,
            deadline: None,
        }
    }
}

impl Visitors {
    pub(crate) fn new(doors: Vec<(Fd, Trust)>, user: u32) -> Self {
        let door = |(fd, trust)| Door {
            fd: Some(fd),
            trust,
            armed: false,
            canceled: false,
            retry_at: None,
            reserve: Vec::new(),
        };
        let mut config = Config::default();
        // In range, both of them.
        let _ = config.setters().head_max(HEAD_MAX as u64).map(drop);
        Self {
            doors: doors.into_iter().map(door).collect(),
            user,
            limits: HeadLimits::from(&config),
            rows: BTreeMap::new(),
            next: 0,
            asked: VecDeque::new(),
            strangers: 0,
            closed: 0,
            ending: false,
            paused: false,
        }
    }

    /// Takes its doors from the master's parts; the rest is for the view.
    pub(crate) fn of(parts: &mut Parts) -> Self {
        Self::new(std::mem::take(&mut parts.doors), parts.user)
    }

    /// Watches every door that is not watched.
    pub(crate) fn arm<I: Io + Processes>(&mut self, io: &mut I) {
        for index in 0..self.doors.len() {
            let door = &mut self.doors[index];
            if let (Some(fd), false, false) = (&door.fd, door.armed, self.ending) {
                door.armed = true;
                io.submit(Token::new(Kind::Knock, completion_slot(index), 0), Op::Poll(fd));
                self.stock(io, index);
            }
        }
    }

    /// Somebody came, or the watch is over.
    pub(crate) fn on_knock<I: Io + Processes>(
        &mut self,
        io: &mut I,
        completion: &Completion,
        now: Instant,
    ) {
        let index = completion.token.slot as usize;
        let Some(door) = self.doors.get_mut(index) else { return };
        door.armed = completion.more;
        if self.ending {
            return self.close_door(io, index);
        }
        if self.paused {
            return;
        }
        self.accept(io, index, now);
    }

    /// Bytes of a question came, or the visitor's end.
    pub(crate) fn on_ask<I: Io + Processes>(
        &mut self,
        io: &mut I,
        completion: Completion,
        now: Instant,
    ) {
        let number = number(completion.token);
        let row = self.rows.get_mut(&number);
        let bytes = completion.buf.map(|buf| {
            let bytes = io.bytes(&buf).to_vec();
            io.recycle(buf);
            bytes
        });
        let Some(visitor) = row else { return };
        visitor.receiving = completion.more;
        let count = completion.result.unwrap_or(0) as usize;
        visitor.received += count;
        match completion.result.map_err(Errno::class) {
            Ok(0) => visitor.ended = true,
            Ok(_) if visitor.received > BYTES_MAX => return self.cut(io, number),
            Ok(_) => {
                if visitor.stage == Stage::Asking {
                    visitor.input.extend(bytes.into_iter().flatten());
                    if !self.paused {
                        self.read(io, number, now);
                    }
                }
            }
            Err(ErrnoClass::Retry) => {}
            Err(ErrnoClass::Expected) if visitor.canceled => {}
            // All buffers were taken; they are free again when this pass is over.
            Err(ErrnoClass::Pause) if visitor.starved < STARVED_MAX => visitor.starved += 1,
            Err(ErrnoClass::Pause | ErrnoClass::Close | ErrnoClass::Expected) => {
                visitor.ended = true;
            }
        }
        let Some(visitor) = self.rows.get_mut(&number) else { return };
        let goes_on = !visitor.ended && !visitor.canceled && visitor.stage != Stage::Closing;
        if !visitor.receiving && goes_on {
            visitor.receiving = true;
            io.submit(completion.token, Op::Recv(&visitor.fd));
        }
        let is_over = match visitor.stage {
            // What it said may be a whole question.
            Stage::Asking => !self.paused,
            Stage::Lingering => true,
            Stage::Waiting | Stage::Telling | Stage::Leaving | Stage::Closing => false,
        };
        if visitor.ended && is_over {
            visitor.stage = Stage::Closing;
        }
        self.join(io, number);
    }

    /// Looks for a whole question in what came.
    fn read<I: Io + Processes>(&mut self, io: &mut I, number: u64, now: Instant) {
        let Some(visitor) = self.rows.get_mut(&number) else { return };
        let door = visitor.door;
        let trust = self.doors[door].trust;
        let question = match question(&visitor.input, trust, &self.limits) {
            Asked::Not => return,
            Asked::Question(question) => question,
            Asked::Wrong(bytes) => return self.tell(io, Asker(number), bytes, now),
        };
        if question.is_long() && !self.may_wait(door) {
            self.forget_who_left(io, door, now);
            if !self.may_wait(door) {
                self.strangers += 1;
                return self.tell(io, Asker(number), rooms::busy(trust), now);
            }
        }
        let Some(visitor) = self.rows.get_mut(&number) else { return };
        visitor.stage = Stage::Waiting;
        visitor.deadline = None;
        visitor.input = Vec::new();
        self.asked.push_back((Asker(number), question));
    }

    /// What was asked first of that which nobody works on; each is to be answered with `tell`.
    pub(crate) fn poll(&mut self) -> Option<(Asker, Question)> {
        self.asked.pop_front()
    }

    /// The answer, whole. A visitor that has left is told nothing.
    pub(crate) fn tell<I: Io + Processes>(
        &mut self,
        io: &mut I,
        asker: Asker,
        bytes: Vec<u8>,
        now: Instant,
    ) {
        let Some(visitor) = self.rows.get_mut(&asker.0) else { return };
        if !matches!(visitor.stage, Stage::Asking | Stage::Waiting) {
            return;
        }
        visitor.stage = Stage::Telling;
        visitor.deadline = Some(now.after(if self.ending { END_PATIENCE } else { PATIENCE }));
        visitor.telling = true;
        let token = token(asker.0, Kind::Tell);
        io.submit(token, Op::Send(&visitor.fd, bytes.into(), 0));
    }

    /// Some of the answer is out, or it failed.
    pub(crate) fn on_tell<I: Io + Processes>(&mut self, io: &mut I, completion: &Completion) {
        let owned = io.reclaim(completion.token);
        let number = number(completion.token);
        let Some(visitor) = self.rows.get_mut(&number) else { return };
        visitor.telling = false;
        match (completion.result, owned) {
            _ if visitor.stage == Stage::Closing => {}
            (Ok(sent), Some(Owned::Bytes(bytes, offset))) => {
                let offset = offset.saturating_add(sent as usize);
                if offset < bytes.len() {
                    visitor.telling = true;
                    io.submit(completion.token, Op::Send(&visitor.fd, bytes, offset));
                } else {
                    io.shutdown(&visitor.fd, Half::Write);
                    let over = visitor.ended || visitor.stage == Stage::Leaving;
                    visitor.stage = if over { Stage::Closing } else { Stage::Lingering };
                }
            }
            (Ok(_) | Err(_), _) => visitor.stage = Stage::Closing,
        }
        if visitor.stage == Stage::Closing {
            self.cut(io, number);
        }
    }

    /// Who took too long is cut; a door that rested is tried again.
    pub(crate) fn expire<I: Io + Processes>(&mut self, io: &mut I, now: Instant) {
        let due = |visitor: &Visitor| visitor.deadline.is_some_and(|at| at <= now);
        let late: Vec<u64> = self
            .rows
            .iter()
            .filter(|(_, visitor)| due(visitor) && visitor.stage != Stage::Closing)
            .map(|(&number, _)| number)
            .collect();
        for number in late {
            self.cut(io, number);
        }
        for index in 0..self.doors.len() {
            if self.doors[index].retry_at.is_some_and(|at| at <= now) {
                self.accept(io, index, now);
            }
        }
    }

    /// When to call `expire`.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let visitors = self.rows.values().filter(|visitor| visitor.stage != Stage::Closing);
        let doors = self.doors.iter().filter_map(|door| door.retry_at);
        visitors.filter_map(|visitor| visitor.deadline).chain(doors).min()
    }

    /// The pool is at its end: no new visitors; who waits is told so, who was told may read it.
    /// Call again until it says that all is closed.
    pub(crate) fn end<I: Io + Processes>(&mut self, io: &mut I, now: Instant) -> bool {
        if !self.ending {
            self.ending = true;
            for index in 0..self.doors.len() {
                self.close_door(io, index);
            }
            let bye = super::json::answer(&Answer::failed("end", "the pool has ended"));
            for (number, stage) in self.stages() {
                match stage {
                    Stage::Waiting => self.tell(io, Asker(number), bye.clone().into_bytes(), now),
                    Stage::Asking => self.cut(io, number),
                    Stage::Telling | Stage::Lingering | Stage::Leaving | Stage::Closing => {}
                }
            }
            self.asked.clear();
            for visitor in self.rows.values_mut() {
                let soon = now.after(END_PATIENCE);
                visitor.deadline = Some(visitor.deadline.map_or(soon, |at| at.min(soon)));
            }
        }
        // What is out is out: a peer that has it need not close first.
        for (number, stage) in self.stages() {
            if stage == Stage::Lingering {
                self.cut(io, number);
            }
        }
        self.rows.is_empty() && self.doors.iter().all(|door| door.fd.is_none())
    }

    fn stages(&self) -> Vec<(u64, Stage)> {
        self.rows.iter().map(|(&number, visitor)| (number, visitor.stage)).collect()
    }

    /// Control and health connections that were turned away.
    pub(crate) const fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Descriptors that were closed since the last time this was asked.
    pub(crate) const fn take_closed(&mut self) -> u64 {
        std::mem::replace(&mut self.closed, 0)
    }

    fn close_door<I: Io + Processes>(&mut self, io: &mut I, index: usize) {
        let Some(door) = self.doors.get_mut(index) else { return };
        door.retry_at = None;
        if door.armed {
            if !door.canceled {
                door.canceled = true;
                let knock = Token::new(Kind::Knock, completion_slot(index), 0);
                io.submit(knock.with(Kind::Cancel), Op::Cancel(knock));
            }
            return;
        }
        for fd in std::mem::take(&mut door.reserve).into_iter().chain(door.fd.take()) {
            io.close(fd);
        }
    }

    /// Ends it now, whatever it was at.
    fn cut<I: Io + Processes>(&mut self, io: &mut I, number: u64) {
        if let Some(visitor) = self.rows.get_mut(&number) {
            visitor.stage = Stage::Closing;
            // It ends the receive, and the send that a peer who does not read holds up.
            io.shutdown(&visitor.fd, Half::Both);
        }
        self.join(io, number);
    }

    fn join<I: Io + Processes>(&mut self, io: &mut I, number: u64) {
        let Some(visitor) = self.rows.get(&number) else { return };
        if visitor.stage != Stage::Closing || visitor.receiving || visitor.telling {
            return;
        }
        if let Some(visitor) = self.rows.remove(&number) {
            self.closed += 1;
            io.close(visitor.fd);
            // What it leaves is kept for the next.
            self.stock(io, visitor.door);
        }
    }
}

/// The number is split over slot and generation: it never comes again while its row lives.
#[expect(clippy::cast_possible_truncation, reason = "cut to the width of each field on purpose")]
fn token(number: u64, kind: Kind) -> Token {
    let slots = u64::from(Token::SLOTS_MAX);
    Token::new(kind, (number % slots) as u32, (number / slots) as u32)
}

fn number(token: Token) -> u64 {
    u64::from(token.generation) * u64::from(Token::SLOTS_MAX) + u64::from(token.slot)
}

/// There are two doors at most.
fn completion_slot(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::line::LINE_MAX;
    use proptest::prelude::*;

    fn limits() -> HeadLimits {
        Visitors::new(Vec::new(), 0).limits
    }

    fn shown(input: &[u8], trust: Trust) -> String {
        match question(input, trust, &limits()) {
            Asked::Not => "not yet".to_owned(),
            Asked::Question(question) => format!("{question:?}"),
            Asked::Wrong(bytes) => {
                let text = String::from_utf8(bytes).unwrap();
                text.lines().next().unwrap().to_owned()
            }
        }
    }

    #[track_caller]
    fn check(input: &str, trust: Trust, want: &str) {
        assert_eq!(shown(input.as_bytes(), trust), want, "{input:?}");
    }

    #[test]
    fn a_line_is_a_command_and_a_method_is_http() {
        use Trust::{Anyone, Operator};
        check("", Operator, "not yet");
        check("stat", Operator, "not yet");
        check("status\n", Operator, "Line(Status)");
        check("status\r\nrest", Operator, "Line(Status)");
        check("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", Operator, "Page(Live, true)");
        check("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", Anyone, "Page(Status, false)");
        check("GET /livez?x HTTP/1.0\r\n\r\n", Anyone, "Page(Live, true)");
        check("GET /livez HTTP/1.1\r\nHost", Anyone, "not yet");
        check("POST / HTTP/1.1\r\nHost: x\r\n\r\n", Anyone, "HTTP/1.1 405 Method Not Allowed");
        // No command comes in through a health listener.
        check("stop\n", Anyone, "HTTP/1.1 400 Bad Request");
        let line = "{\"code\":2,\"ok\":false,\"text\":\"the line is too long\",\"what\":\"line\"}";
        check(&"x".repeat(LINE_MAX + 1), Operator, line);
        check(&format!("{}\n", "x".repeat(LINE_MAX + 1)), Operator, line);
        check(&"x".repeat(LINE_MAX), Operator, "not yet");
        check(&format!("GET /{}", "x".repeat(HEAD_MAX)), Anyone, "HTTP/1.1 400 Bad Request");
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(
            input in "(status|stop now|GET / HTTP/1.1|HEAD /livez HTTP/1.1|x{0,300})(\r?\n(Host: x)?){0,4}",
            trusted: bool,
        ) {
            let trust = if trusted { Trust::Operator } else { Trust::Anyone };
            let whole = shown(input.as_bytes(), trust);
            let first = (0..=input.len())
                .map(|end| shown(&input.as_bytes()[..end], trust))
                .find(|shown| shown != "not yet");
            prop_assert_eq!(first.unwrap_or_else(|| "not yet".to_owned()), whole);
        }

        #[test]
        fn garbage_is_a_question_or_an_answer(
            input in prop::collection::vec(any::<u8>(), 0..600),
            trusted: bool,
        ) {
            let trust = if trusted { Trust::Operator } else { Trust::Anyone };
            let _ = shown(&input, trust);
        }
    }
}
