//! Replies come in: each is matched with its request, checked and counted.

use super::{Client, Connection, Life, Phase, References, Sent};
use crate::io::{Buf, Completion, Connects, Errno, Instant, Io, Kind, Op};
use crate::load::reply::{Ask, End, Malformed, Reply};
use crate::load::request::{Expect, ExpectBody};
use crate::load::tally::{Failure, last_second, micros, nanos};

/// What some bytes did to their connection.
enum After {
    /// It goes on.
    Open,
    /// It is over, as it should be: the server said so, or we have had all we wanted.
    Renew,
    /// What came is no reply.
    Broken(Malformed),
    /// Nobody asked for what came.
    Unasked,
}

impl<I: Io + Connects> Client<I> {
    pub(super) fn arm(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        let token = connection.token(slot, Kind::Recv);
        if let Some(fd) = &connection.fd {
            connection.recv_armed = true;
            self.io.submit(token, Op::Recv(fd));
        }
    }

    pub(super) fn rearm_starved(&mut self) {
        while let Some(slot) = self.rearm.pop() {
            let slot = slot as usize;
            let connection = &self.connections[slot];
            if connection.life == Life::Open && !connection.recv_armed {
                self.arm(slot);
            }
        }
    }

    pub(super) fn on_recv(&mut self, completion: Completion) {
        let slot = completion.token.slot as usize;
        // A slot is not used anew before its receive has ended, so this is its present use.
        debug_assert_eq!(self.connections[slot].generation, completion.token.generation);
        if !completion.more {
            self.connections[slot].recv_armed = false;
        }
        if let Some(buf) = completion.buf {
            self.on_bytes(slot, buf);
        }
        if completion.more {
            return;
        }
        let connection = &self.connections[slot];
        match completion.result {
            _ if connection.life == Life::Joining => self.close_join(slot),
            _ if connection.life != Life::Open => {}
            Ok(0) => self.on_eof(slot),
            Ok(_) | Err(Errno::NoBuffers | Errno::Canceled) => {
                self.rearm.push(completion.token.slot);
            }
            Err(errno) => self.on_reset(slot, errno),
        }
    }

    fn on_bytes(&mut self, slot: usize, buf: Buf) {
        if self.phase == Phase::Measuring {
            self.tally.bytes_in += u64::from(buf.len);
        }
        // Whole replies are taken out one by one; `at` is how far we have come.
        let mut at = 0;
        let after = loop {
            if self.connections[slot].life != Life::Open {
                break After::Open;
            }
            let mut rest = &self.io.bytes(&buf)[at..];
            let before = rest.len();
            let connection = &mut self.connections[slot];
            let Some(sent) = connection.sent.front().copied() else {
                break match rest.is_empty() {
                    true => After::Open,
                    false => After::Unasked,
                };
            };
            let ask = ask(&self.job.templates, &self.job.references, sent);
            match connection.reader.next(&mut rest, ask) {
                Ok(Some(reply)) => {
                    at += before - rest.len();
                    connection.sent.pop_front();
                    if self.on_reply(slot, reply, sent) {
                        break After::Renew;
                    }
                }
                Ok(None) => break After::Open,
                Err(malformed) => break After::Broken(malformed),
            }
        };
        self.io.recycle(buf);
        match after {
            After::Open => self.let_ask_if_room(slot),
            After::Renew => {
                self.lose(slot, Failure::Closed, "the reply before it closed the connection");
                self.hang_up(slot);
            }
            After::Broken(malformed) => self.break_off(slot, Failure::Malformed, malformed.why()),
            After::Unasked => {
                self.tally.fail(Failure::Unasked, || "no request was on its way".to_owned());
                self.break_off(slot, Failure::Closed, "");
            }
        }
    }

    fn let_ask_if_room(&mut self, slot: usize) {
        if self.connections[slot].sent.len() < self.job.pipeline as usize {
            self.let_ask(slot);
        }
    }

    /// Whether the connection is over with it.
    fn on_reply(&mut self, slot: usize, reply: Reply, sent: Sent) -> bool {
        let expect = &self.job.templates[usize::from(sent.template)].expect;
        let connection = &mut self.connections[slot];
        connection.has_answered = true;
        let mut judged = expect.judge(&reply);
        if judged.is_ok() && expect.body == ExpectBody::SameAsFirst {
            let kept = connection.reader.take_kept();
            let references = &self.job.references;
            if !references.is_as_first(sent.template, &kept, reply.body_bytes) {
                judged = Err(Failure::Body);
            }
        }
        if sent.counted {
            self.tally.count_status(reply.status);
        }
        match judged {
            Err(failure) => self.fail(failure, &why(&reply, failure), sent.due, Some(sent)),
            Ok(()) => self.answered(sent),
        }
        let connection = &self.connections[slot];
        let is_last = self.job.requests_per_connection.is_some_and(|most| connection.asked >= most);
        reply.closes || (is_last && connection.sent.is_empty())
    }

    /// A right reply.
    fn answered(&mut self, sent: Sent) {
        let service = self.now.since(sent.at);
        let response = self.now.since(sent.due);
        if self.phase == Phase::Measuring {
            self.tally.replies += 1;
            self.tally.second_half.replies += u64::from(self.now >= self.half);
            let second = self.tally.second(self.second);
            second.replies += 1;
            second.latency.saturating_record(micros(response));
        }
        if sent.counted {
            self.tally.answered += 1;
            self.tally.service.saturating_record(nanos(service));
            if self.schedule.is_some() {
                self.tally.response.saturating_record(nanos(response));
            }
        }
    }

    /// A request that failed.
    pub(super) fn fail(&mut self, failure: Failure, why: &str, due: Instant, sent: Option<Sent>) {
        if sent.is_some_and(|sent| !sent.counted) {
            return;
        }
        self.tally.fail(failure, || why.to_owned());
        let second = due.since(self.start).as_secs().min(last_second(self.measured()));
        self.tally.second(second).failures += 1;
        let service = sent.map(|sent| self.now.since(sent.at));
        self.tally.wait_in_vain(self.now.since(due), service);
    }

    /// All that is on its way on this connection has failed. Only the first can be short.
    pub(super) fn lose(&mut self, slot: usize, failure: Failure, why: &str) {
        let mut failure = failure;
        while let Some(sent) = self.connections[slot].sent.pop_front() {
            self.fail(failure, why, sent.due, Some(sent));
            if failure == Failure::Short {
                failure = Failure::Closed;
            }
        }
    }

    fn on_eof(&mut self, slot: usize) {
        let connection: &mut Connection = &mut self.connections[slot];
        let Some(sent) = connection.sent.front().copied() else {
            return self.hang_up(slot); // an idle connection may be closed at any time
        };
        let ask = ask(&self.job.templates, &self.job.references, sent);
        match connection.reader.end(ask) {
            End::Clean => self.break_off(slot, Failure::Closed, "before any of the reply"),
            End::Short => self.break_off(slot, Failure::Short, "in the middle of the reply"),
            End::Whole(reply) => {
                connection.sent.pop_front();
                self.on_reply(slot, reply, sent);
                self.lose(slot, Failure::Closed, "the reply before it closed the connection");
                self.hang_up(slot);
            }
        }
    }

    fn on_reset(&mut self, slot: usize, errno: Errno) {
        if self.connections[slot].sent.is_empty() {
            return self.hang_up(slot);
        }
        self.break_off(slot, Failure::Reset, &errno.to_string());
    }
}

fn ask<'a>(
    templates: &[crate::load::request::Template],
    references: &'a References,
    sent: Sent,
) -> Ask<'a> {
    let (template, body) = (&templates[usize::from(sent.template)], references.get(sent.template));
    let keep = body.is_none() && template.expect.body == ExpectBody::SameAsFirst;
    Ask { head: template.head, body, keep }
}

fn why(reply: &Reply, failure: Failure) -> String {
    if failure == Failure::Status {
        format!("status {}", reply.status)
    } else {
        format!("{} bytes that differ from the expected ones", reply.body_bytes)
    }
}

impl Expect {
    fn judge(&self, reply: &Reply) -> Result<(), Failure> {
        let right = match self.status {
            Some(status) => reply.status == status,
            None => reply.status < 400,
        };
        match (right, reply.body_right) {
            (false, _) => Err(Failure::Status),
            (true, false) => Err(Failure::Body),
            (true, true) => Ok(()),
        }
    }
}
