//! Requests go out: what is due, by the schedule or because a reply came, one send a connection.

use super::{Client, Connection, Life, NOT_DIRTY, Phase, Sent};
use crate::io::{Bytes, Completion, Connects, ErrnoClass, Instant, Io, Kind, Op, Owned, SendNow};
use crate::load::pace::{Pace, Schedule};
use crate::load::tally::nanos;

/// What one connection sends in this pass.
#[derive(Debug)]
pub(super) struct Dirty {
    slot: u32,
    /// The only request, lent from its template; of several the first.
    template: u16,
    /// Several requests: their bytes in the arena.
    start: usize,
    end: usize,
}

impl Dirty {
    fn is_one(&self) -> bool {
        self.start == self.end
    }
}

impl<I: Io + Connects> Client<I> {
    pub(super) fn send_all_due(&mut self) {
        if !self.eager.is_empty() {
            self.now = self.io.now();
            let mut eager = std::mem::take(&mut self.eager);
            for slot in eager.drain(..) {
                self.fill(slot as usize);
            }
            self.eager = eager;
        }
        if self.schedule.as_ref().and_then(Schedule::due).is_some() {
            self.now = self.io.now();
            self.follow_schedule();
        }
    }

    /// Closed loop: as many requests as may be on their way.
    fn fill(&mut self, slot: usize) {
        self.connections[slot].is_free = false;
        while self.is_asking() && self.has_room(slot) {
            let connection = &self.connections[slot];
            // To connect anew is part of the first request's time: whoever asked had to wait.
            let is_new = connection.asked == 0 && self.begin.is_some_and(|b| connection.since >= b);
            let since = if is_new { connection.since } else { self.now };
            self.push(slot, since, since);
        }
    }

    fn has_room(&self, slot: usize) -> bool {
        let connection = &self.connections[slot];
        connection.life == Life::Open
            && !connection.send_armed
            && connection.sent.len() < self.job.pipeline as usize
            && self.job.requests_per_connection.is_none_or(|most| connection.asked < most)
    }

    /// Open loop: sends what is due, as far as connections have room. What is late because none has
    /// stays due: its latency counts from then.
    fn follow_schedule(&mut self) {
        let was_starved = std::mem::take(&mut self.starved);
        let Some(mut schedule) = self.schedule.take() else { return };
        while let Some(due) = schedule.due().filter(|due| *due <= self.now) {
            let Some(slot) = self.free.pop_front() else {
                self.starved = true;
                break;
            };
            let slot = slot as usize;
            self.connections[slot].is_free = false;
            if !self.has_room(slot) {
                continue;
            }
            // While there was no connection, it was not this client that was late.
            if !was_starved && self.phase == Phase::Measuring {
                self.tally.lag.saturating_record(nanos(self.now.since(due)));
            }
            self.push(slot, due, self.now);
            schedule.advance();
            if self.has_room(slot) {
                self.let_ask(slot);
            }
        }
        self.schedule = Some(schedule);
    }

    /// One more request on this connection.
    fn push(&mut self, slot: usize, due: Instant, at: Instant) {
        let counted = match self.job.pace {
            Pace::Closed => self.phase == Phase::Measuring,
            Pace::Open { .. } => self.phase >= Phase::Measuring && due >= self.start,
        };
        if counted {
            self.count_due(due);
        }
        let template = self.rotation.turn();
        let bytes = &self.job.templates[usize::from(template)].bytes;
        let connection = &mut self.connections[slot];
        connection.sent.push_back(Sent { due, at, template, counted });
        connection.asked += 1;
        if self.phase == Phase::Measuring {
            self.tally.bytes_out += bytes.len() as u64;
        }
        let Some(dirty) = self.dirty.get_mut(connection.dirty as usize) else {
            connection.dirty = u32::try_from(self.dirty.len()).expect("one a connection");
            let slot = u32::try_from(slot).expect("there are at most a million");
            self.dirty.push(Dirty { slot, template, start: 0, end: 0 });
            return;
        };
        let arena = &mut self.arena;
        if dirty.is_one() {
            dirty.start = arena.len();
            arena.extend_from_slice(&self.job.templates[usize::from(dirty.template)].bytes);
        } else if dirty.end != arena.len() {
            let start = arena.len();
            arena.extend_from_within(dirty.start..dirty.end);
            dirty.start = start;
        }
        arena.extend_from_slice(bytes);
        dirty.end = arena.len();
    }

    /// Sends inside the wait, and finds out which did not leave whole.
    pub(super) fn lend(&mut self, deadline: Option<Instant>, done: &mut Vec<Completion>) {
        let (arena, connections, templates) = (&self.arena, &self.connections, &self.job.templates);
        let is_open = |dirty: &Dirty| connections[dirty.slot as usize].life == Life::Open;
        self.dirty.retain(is_open);
        let sends = self.dirty.iter().map(|dirty| {
            let slot = dirty.slot as usize;
            let connection = &connections[slot];
            let head = match dirty.is_one() {
                true => &templates[usize::from(dirty.template)].bytes[..],
                false => &arena[dirty.start..dirty.end],
            };
            let fd = connection.fd.as_ref().expect("an open connection has one");
            SendNow { token: connection.token(slot, Kind::SendNow), fd, head, body: &[] }
        });
        self.io.wait(sends, deadline, done);
        if self.dirty.is_empty() {
            return;
        }
        for completion in done.iter().filter(|done| done.token.kind == Kind::SendNow) {
            self.on_send_now(completion);
        }
        for dirty in self.dirty.drain(..) {
            self.connections[dirty.slot as usize].dirty = NOT_DIRTY;
        }
        self.arena.clear();
    }

    /// The kernel did not take all of it: the rest follows when there is room.
    fn on_send_now(&mut self, completion: &Completion) {
        let sent = match completion.result {
            Ok(bytes) => bytes as usize,
            Err(errno) if errno.class() == ErrnoClass::Close => return, // the receive says so too
            Err(_) => 0,
        };
        let slot = completion.token.slot as usize;
        let is_it = |dirty: &&Dirty| dirty.slot == completion.token.slot;
        let Some(dirty) = self.dirty.iter().find(is_it) else { return };
        let (bytes, offset): (Bytes, usize) = if dirty.is_one() {
            (self.job.templates[usize::from(dirty.template)].bytes.clone().into(), sent)
        } else {
            (self.arena[dirty.start + sent..dirty.end].to_vec().into(), 0)
        };
        self.send(slot, bytes, offset);
    }

    /// One more request of the measured time.
    pub(super) fn count_due(&mut self, due: Instant) {
        self.tally.requests += 1;
        self.tally.second_half.due += u64::from(due >= self.half);
    }

    fn send(&mut self, slot: usize, bytes: Bytes, offset: usize) {
        let connection = &mut self.connections[slot];
        let token = connection.token(slot, Kind::Send);
        if let Some(fd) = &connection.fd {
            connection.send_armed = true;
            self.io.submit(token, Op::Send(fd, bytes, offset));
        }
    }

    pub(super) fn on_send(&mut self, completion: &Completion) {
        let owned = self.io.reclaim(completion.token);
        let slot = completion.token.slot as usize;
        // A slot is not used anew before its sends have ended, so this is its present use.
        let connection: &mut Connection = &mut self.connections[slot];
        connection.send_armed = false;
        match (owned, completion.result) {
            (Some(Owned::Bytes(bytes, offset)), Ok(sent))
                if connection.life == Life::Open && offset + (sent as usize) < bytes.len() =>
            {
                self.send(slot, bytes, offset + sent as usize);
            }
            // All is out, or the receive says what became of the connection.
            _ => {
                self.close_join(slot);
                self.let_ask(slot);
            }
        }
    }
}
