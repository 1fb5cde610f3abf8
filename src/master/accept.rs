//! Taking arrivals: accept, poll, the pause when there is no room or no descriptor, the 503.

use super::Master;
use super::ledger::{Arrival, RefuseReason};
use super::listeners::{Action, How, Reader};
use super::supervise::Process;
use crate::event::Event;
use crate::io::{Completion, Errno, ErrnoClass, Fd, Instant, Io, Kind, Op, Processes, Token};
use std::time::Duration;

/// Whether arrivals are taken now, and what is said about it.
#[derive(Debug, Default)]
pub(super) struct Accepting {
    /// Closed and taken again around one refusal when descriptors run out.
    pub(super) reserve: Option<Fd>,
    /// Descriptors closed so far, apart from those of refusals.
    pub(super) closed: u64,
    /// Until then, or until a descriptor was closed: all descriptors closed when it began.
    paused: Option<(Instant, u64)>,
    refused: Throttle,
    out_of_fds: Throttle,
    failed: Throttle,
}

impl Accepting {
    pub(super) const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.paused.map(|(until, _)| until)
    }
}

/// Counts, and lets a count through at most once a second.
#[derive(Debug, Default)]
struct Throttle {
    count: u64,
    last: Option<Instant>,
}

impl Throttle {
    fn hit(&mut self) {
        self.count += 1;
    }

    fn poll(&mut self, now: Instant) -> Option<u64> {
        if self.count == 0 || self.last.is_some_and(|last| now.since(last) < THROTTLE) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

impl<I: Io + Processes> Master<I> {
    pub(super) fn on_accept(&mut self, completion: &Completion, now: Instant) {
        let Token { slot: listener, generation, .. } = completion.token;
        self.listeners.completed(listener, generation, completion.more);
        match completion.result {
            // A connection is never dropped, whatever became of its listener since.
            Ok(raw) => {
                if let Ok(raw) = i32::try_from(raw) {
                    self.arrive(Fd::new(raw), listener, now);
                }
            }
            Err(errno) => self.on_accept_error(listener, errno, now),
        }
    }

    pub(super) fn on_poll(&mut self, completion: &Completion, now: Instant) {
        let Token { slot: listener, generation, .. } = completion.token;
        self.listeners.completed(listener, generation, completion.more);
        match completion.result {
            Ok(_) => {
                let slot = self.listeners.reported(listener);
                if let Some(line) = slot.and_then(|slot| self.workers.reader(slot)) {
                    self.watchdog.wake(line, now);
                }
            }
            Err(errno) => self.on_accept_error(listener, errno, now),
        }
    }

    fn arrive(&mut self, fd: Fd, listener: u32, now: Instant) {
        let address = self.sockets.get(listener).map_or(0, |&(address, _)| address);
        self.ledger.accept();
        if let Some(excess) =
            self.pending.push(Arrival { fd, listener: address, at: now, carried: None })
        {
            self.refuse(excess.fd, RefuseReason::PendingMax, now);
        }
    }

    fn on_accept_error(&mut self, listener: u32, errno: Errno, now: Instant) {
        match errno.class() {
            ErrnoClass::Retry | ErrnoClass::Expected => {}
            ErrnoClass::Pause => self.on_out_of_fds(listener, now),
            ErrnoClass::Close => {
                self.pause(now);
                self.accepting.failed.hit();
                if self.accepting.failed.poll(now).is_some() {
                    (self.events)(&Event::AcceptFailed { errno });
                }
            }
        }
    }

    /// The reserve descriptor answers one arrival; the rest wait in the kernel's backlog until a
    /// descriptor is closed.
    fn on_out_of_fds(&mut self, listener: u32, now: Instant) {
        self.accepting.out_of_fds.hit();
        if let Some(count) = self.accepting.out_of_fds.poll(now) {
            (self.events)(&Event::OutOfFds { count });
        }
        if let Some(reserve) = self.accepting.reserve.take()
            && let Some((_, socket)) = self.sockets.get(listener)
        {
            self.io.close(reserve);
            match self.io.accept(socket) {
                Ok(fd) => {
                    self.ledger.accept();
                    self.refuse(fd, RefuseReason::OutOfFds, now);
                }
                Err(_) => self.accepting.reserve = self.io.spare().ok(),
            }
        }
        self.pause(now);
    }

    fn pause(&mut self, now: Instant) {
        self.accepting.paused = Some((now.after(PAUSE), self.closed()));
    }

    /// Ends a pause that has lasted long enough or has freed a descriptor. The reserve comes first.
    pub(super) fn resume(&mut self, now: Instant) {
        let Some((until, closed)) = self.accepting.paused else { return };
        if now < until && self.closed() == closed {
            return;
        }
        self.accepting.paused = None;
        if self.accepting.reserve.is_none() {
            self.accepting.reserve = self.io.spare().ok();
        }
    }

    fn closed(&self) -> u64 {
        self.accepting.closed + self.refusals.closed()
    }

    fn takes_arrivals(&self) -> bool {
        let paused = self.accepting.paused.is_some() || self.pending.is_paused();
        self.phase.accepts() && !paused
    }

    /// Nobody will take this one: 503, or, if it idles, that only when it asks.
    pub(super) fn turn_away(&mut self, arrival: Arrival, reason: RefuseReason, now: Instant) {
        if arrival.carried.is_none_or(|carried| carried.requests == 0) {
            return self.refuse(arrival.fd, reason, now);
        }
        self.refusals.listen(&mut self.io, arrival.fd, now);
    }

    /// Whoever would wait longer for a worker than `pending_timeout` is told at once.
    pub(super) fn give_up_waiting(&mut self, now: Instant) {
        let in_vain = !self.pending.is_empty()
            && self.phase.accepts()
            && self.workers.none_before(now.after(self.pending.timeout()));
        while in_vain && let Some(arrival) = self.pending.pop() {
            self.turn_away(arrival, RefuseReason::NoWorker, now);
        }
    }

    /// Counts how those ended that idled when nobody took them.
    pub(super) fn count_idle(&mut self) {
        let (idle, asked) = self.refusals.take_idle();
        self.ledger.close_idle(idle);
        for _ in 0..asked {
            self.ledger.refuse(RefuseReason::Draining);
        }
    }

    /// Answers 503 and closes.
    pub(super) fn refuse(&mut self, fd: Fd, reason: RefuseReason, now: Instant) {
        self.ledger.refuse(reason);
        self.refusals.begin(&mut self.io, fd, now);
        self.accepting.refused.hit();
        if let Some(count) = self.accepting.refused.poll(now) {
            (self.events)(&Event::Refused { count });
        }
    }

    /// Takes what polled listeners hold, at most [`SWEEP_MAX`] of each; the rest in the next pass.
    pub(super) fn sweep(&mut self, now: Instant) {
        let mut from = 0;
        while let Some(listener) = self.listeners.readable(from) {
            from = listener + 1;
            for _ in 0..SWEEP_MAX {
                if !self.takes_arrivals() || !self.take(listener, now) {
                    break;
                }
            }
        }
    }

    /// Takes all that the listeners still hold, for the last time.
    pub(super) fn sweep_all(&mut self, now: Instant) {
        for listener in 0..self.listeners.count() {
            for _ in 0..BACKLOG_MAX {
                if !self.take(listener, now) {
                    break;
                }
            }
        }
    }

    /// Takes one arrival; `false` when there is none now.
    fn take(&mut self, listener: u32, now: Instant) -> bool {
        let Some((_, socket)) = self.sockets.get(listener) else { return false };
        match self.io.accept(socket) {
            Ok(fd) => self.arrive(fd, listener, now),
            Err(Errno::Again) => {
                self.listeners.emptied(listener);
                return false;
            }
            Err(errno) => {
                self.on_accept_error(listener, errno, now);
                return errno.class() == ErrnoClass::Retry;
            }
        }
        true
    }

    /// Arms and cancels, so that each listener is read by whom it should be.
    pub(super) fn arm(&mut self, now: Instant) {
        let open = self.takes_arrivals();
        let (workers, board, processes) = (&self.workers, self.board, &self.processes);
        // A full worker leaves its listeners alone, and says so; then they are ours.
        let reads = |line| {
            let process = processes.get(&line).filter(|process: &&Process| process.reads);
            process.is_some_and(|process| board.line(line).open() < process.room_for(now))
        };
        let serves = |slot| {
            let late = |line| workers.life(line).is_some_and(|life| life.late);
            workers.reader(slot).filter(|&line| reads(line) && !late(line))
        };
        let (watchdog, accepts) = (&self.watchdog, self.phase.accepts());
        let reader = |slot: Option<u32>| match slot.and_then(serves) {
            Some(line) if accepts && watchdog.is_asleep(line) => Reader::Watched,
            Some(_) => Reader::Worker,
            None if open => Reader::Master,
            None => Reader::Nobody,
        };
        while let Some(action) = self.listeners.poll(reader) {
            let (Action::Arm { listener, how, generation }
            | Action::Cancel { listener, how, generation }) = action;
            let kind = match how {
                How::Accept => Kind::Accept,
                How::Poll => Kind::Poll,
            };
            let token = Token::new(kind, listener, generation);
            match (action, self.sockets.get(listener)) {
                (Action::Cancel { .. }, _) => {
                    self.io.submit(token.with(Kind::Cancel), Op::Cancel(token));
                }
                (Action::Arm { how: How::Accept, .. }, Some((_, socket))) => {
                    self.io.submit(token, Op::Accept(socket));
                }
                (Action::Arm { how: How::Poll, .. }, Some((_, socket))) => {
                    self.io.submit(token, Op::Poll(socket));
                }
                (Action::Arm { .. }, None) => self.listeners.completed(listener, generation, false),
            }
        }
    }
}

/// Arrivals taken from one listener in one pass, so that others get their turn.
const SWEEP_MAX: usize = 64;
/// More than a backlog can hold (`backlog` is at most 65535): no listener keeps the master for
/// ever.
const BACKLOG_MAX: usize = 1 << 17;
/// How long accepting pauses when descriptors have run out and none is closed.
const PAUSE: Duration = Duration::from_millis(100);
const THROTTLE: Duration = Duration::from_secs(1);
