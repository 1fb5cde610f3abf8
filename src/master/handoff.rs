//! Handing over: weigh the workers, pick, pass a batch to each, keep copies until they have it.

use super::Master;
use super::balancer::{Client, Load, Seen};
use super::ledger::Arrival;
use super::supervise::{Passing, Process};
use super::workers::{Role, State};
use crate::event::{ChannelFault, Event};
use crate::io::{
    Batch, Completion, ErrnoClass, Instant, Io, Kind, Message, Op, Owned, Processes, Token,
};
use crate::ipc::handoff::{CREDITS, Handoff};
use crate::stats::Counter;
use std::time::Duration;

impl<I: Io + Processes> Master<I> {
    /// Closes the copies of what workers have received.
    pub(super) fn settle(&mut self, now: Instant) {
        for &line in self.processes.keys() {
            let received = self.board.line(line).get(Counter::Received);
            self.workers.moved(line, received, now);
            for fd in self.ledger.settle(line, received) {
                self.io.close(fd);
                self.accepting.closed += 1;
            }
        }
        for slot in 0..self.workers.slots() {
            let late = |line: &u32| self.workers.life(*line).is_some_and(|life| life.late);
            let reader = self.workers.reader(slot).filter(|line| !late(line));
            let now = reader.map(|line| {
                let counters = self.board.line(line);
                // Received first: who is counted there is counted as adopted.
                let own = counters.get(Counter::Received);
                let own = counters.get(Counter::Adopted).saturating_sub(own);
                let opened = self.ledger.handed(line) + own;
                Seen { line, opened, closed: counters.get(Counter::Closed) }
            });
            self.balancer.watch(slot as usize, now);
        }
    }

    /// Gives each waiting connection to a worker with room; one message a worker.
    pub(super) fn dispatch(&mut self, now: Instant) {
        if self.pending.is_empty() || !self.phase.hands_over() {
            return;
        }
        self.weigh(now);
        while let Some(arrival) = self.pending.front()
            && let client = Client::of(&arrival.fd, I::peer)
            && let Some(slot) = self.balancer.pick(&client, &self.loads)
            && let Some(process) = self.processes.get_mut(&self.lines[slot])
            && let Some(arrival) = self.pending.pop()
        {
            let load = &mut self.loads[slot];
            load.room -= 1;
            load.connections += 1;
            process.outbox.push(arrival);
        }
        for (&line, process) in &mut self.processes {
            if !process.outbox.is_empty() {
                process.pass(&mut self.io, line, self.ledger.handed(line));
            }
        }
    }

    fn weigh(&mut self, now: Instant) {
        let slots = self.workers.slots() as usize;
        self.loads.clear();
        self.loads.resize(slots, Load::default());
        self.lines.resize(slots, u32::MAX);
        for (line, life) in self.workers.lives() {
            let Some(process) = self.processes.get(&line) else { continue };
            let takes = life.takes() && !self.ledger.is_revoked(line);
            if life.state != State::Ready || !takes || !process.may_pass() {
                continue;
            }
            let counters = self.board.line(line);
            let received = counters.get(Counter::Received);
            let in_transit = self.ledger.handed(line).saturating_sub(received);
            let connections = in_transit + counters.open();
            let room = process.room_for(now).saturating_sub(connections);
            let credits = CREDITS.saturating_sub(in_transit);
            let mut place = life.slot as usize;
            if life.role == Role::Trial {
                // Beside the one that fills its slot.
                place = self.loads.len();
                self.loads.push(Load::default());
                self.lines.push(line);
            }
            self.lines[place] = line;
            self.loads[place] = Load {
                room: u32::try_from(room.min(credits).min(Batch::FDS_MAX as u64)).unwrap_or(0),
                connections,
                active: counters
                    .get(Counter::Requests)
                    .saturating_sub(counters.get(Counter::Responses)),
            };
        }
    }

    pub(super) fn on_pass(&mut self, completion: &Completion, now: Instant) {
        let line = completion.token.slot;
        let owned = self.io.reclaim(completion.token);
        let asked = self.workers.life(line).is_some_and(|life| life.role == Role::Candidate);
        let Some(process) = self.processes.get_mut(&line) else { return };
        let Some(passing) = process.passing.take() else { return };
        let mut batch = match owned {
            Some(Owned::Batch(batch)) => batch,
            Some(Owned::Bytes(..) | Owned::Message(_) | Owned::Buffer(_)) | None => {
                Batch::default()
            }
        };
        match passing {
            Passing::Connections(mut marks) => {
                let arrivals = batch.fds.drain(..).zip(marks.drain(..));
                let arrivals = arrivals.map(|(fd, (listener, at, carried))| Arrival {
                    fd,
                    listener,
                    at,
                    carried,
                });
                match completion.result {
                    Ok(_) => {
                        let before = self.ledger.handed(line);
                        for arrival in self.ledger.hand_over(line, arrivals) {
                            self.pending.put_back(arrival);
                        }
                        let count = self.ledger.handed(line) - before;
                        self.board.line(line).add(Counter::HandedOver, count);
                        self.watchdog.wake(line, now);
                    }
                    Err(_) if asked => {
                        // A probe is for nobody else: who reads at its other end sees its end.
                        for arrival in arrivals {
                            self.ledger.unprobe(1);
                            self.io.close(arrival.fd);
                            self.accepting.closed += 1;
                        }
                    }
                    Err(_) => arrivals.for_each(|arrival| self.pending.put_back(arrival)),
                }
                process.marks = marks;
            }
            // Its channel may have been given up in this very pass: then there is nothing to retry.
            Passing::Control if completion.result.is_err() && !process.abandoned => {
                process.control = Some(std::mem::take(&mut batch.bytes));
                process.retry_at = Some(now.after(super::SOON));
            }
            Passing::Resume if completion.result.is_err() && !process.abandoned => {
                process.resume = true;
                process.retry_at = Some(now.after(super::SOON));
            }
            Passing::Control | Passing::Resume => {}
        }
        process.batch = batch;
        if let Err(errno) = completion.result {
            match errno.class() {
                ErrnoClass::Retry | ErrnoClass::Pause | ErrnoClass::Expected => {
                    let received = self.board.line(line).get(Counter::Received);
                    self.workers.full(line, received, now);
                }
                ErrnoClass::Close => self.channel_broken(line, ChannelFault::Failed(errno), now),
            }
        }
        self.take_back(line, now);
        // A control message that waited for the channel goes next, unless it waits for its retry.
        if self.processes.get(&line).is_some_and(|process| process.retry_at.is_none()) {
            self.pass_control(line);
        }
        self.join(line);
    }
}

impl<I: Io + Processes> Master<I> {
    /// A worker that drains gives connections back: they wait for another one.
    pub(super) fn on_hand_back(
        &mut self,
        line: u32,
        message: Message,
        now: Instant,
    ) -> Result<(), String> {
        let header = Handoff::decode(&message.bytes).map_err(|error| error.to_string());
        let header = header.and_then(|header| match header.check(message.fds.len()) {
            _ if !header.is_back() => Err("a handoff from a worker".to_owned()),
            // Out of descriptors: those that came are the first; the rest is lost, and counted.
            Err(_) if message.truncated && header.entries().len() > message.fds.len() => Ok(header),
            Err(wrong) => Err(wrong.to_string()),
            Ok(()) => Ok(header),
        });
        let header = match header {
            Ok(header) => header,
            Err(wrong) => {
                message.fds.into_iter().for_each(|fd| self.close(fd));
                return Err(wrong);
            }
        };
        let count = message.fds.len() as u64;
        self.ledger.take_back(line, count);
        if let Some(process) = self.processes.get_mut(&line) {
            process.taken_back += count;
        }
        for (fd, &(listener, carried)) in message.fds.into_iter().zip(header.entries()) {
            self.pending.put_back(Arrival { fd, listener, at: now, carried });
        }
        Ok(())
    }

    /// A worker that had no descriptors for all that it was handed gets no more of it, and what it
    /// has not taken waits for another one. Until the message that says `resume` it takes nothing.
    pub(super) fn take_back(&mut self, line: u32, now: Instant) {
        let idle = |process: &&mut Process| process.short && process.passing.is_none();
        let Some(process) = self.processes.get_mut(&line).filter(idle) else { return };
        let open = self.board.line(line).open();
        let again = process.cap.is_some();
        process.cap = Some((open, now.after(SHORT)));
        (process.short, process.resume) = (false, true);
        let pid = process.pid();
        if let Some(life) = self.workers.life(line).filter(|_| !again) {
            (self.events)(&Event::WorkerShort { slot: life.slot, pid, open });
        }
        self.recover(line);
        self.pass_control(line);
    }

    /// Promises workers room for more, when there is.
    pub(super) fn promise(&mut self) {
        if self.pending.is_paused() {
            return;
        }
        for (&line, process) in &mut self.processes {
            let count = std::mem::take(&mut process.taken_back);
            if count > 0 {
                self.board.line(line).add(Counter::TakenBack, count);
            }
        }
    }
}

impl Process {
    /// Sends what is in the outbox; `sequence`: connections handed to this life before.
    pub(super) fn pass<I: Io>(&mut self, io: &mut I, line: u32, sequence: u64) {
        let Some(channel) = &self.channel else { return };
        let mut handoff = Handoff::new(sequence);
        let mut batch = std::mem::take(&mut self.batch);
        let mut marks = std::mem::take(&mut self.marks);
        batch.bytes.clear();
        for arrival in self.outbox.drain(..) {
            handoff.push(arrival.listener, arrival.carried);
            marks.push((arrival.listener, arrival.at, arrival.carried));
            batch.fds.push(arrival.fd);
        }
        handoff.encode(&mut batch.bytes);
        self.passing = Some(Passing::Connections(marks));
        let token = Token::new(Kind::Pass, line, self.generation);
        io.submit(token, Op::Pass(channel, batch));
    }
}

/// How long a worker that was out of descriptors gets no more connections than it holds, unless one
/// of them ends.
const SHORT: Duration = Duration::from_millis(100);
