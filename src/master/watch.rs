//! The watchdog's hands: what it is told of each worker, and what it wants done.

use super::Master;
use super::picture::Picture;
use super::watchdog::{Action, Facts};
use super::workers::{Life, Role, State};
use crate::event::{Event, Hang, KillReason};
use crate::io::{Instant, Io, Processes, Signal};
use crate::ipc::message::Message;
use crate::stats::Counter;

/// Whether it is looked at: it serves, or drains and may still have something in transit.
fn is_watched(life: &Life) -> bool {
    let lives = matches!(life.state, State::Ready | State::Full { .. } | State::Draining);
    lives && matches!(life.role, Role::Incumbent | Role::Trial)
}

impl<I: Io + Processes> Master<I> {
    /// Looks after those whose loop may hang.
    pub(super) fn watch(&mut self, now: Instant) {
        let workers = &self.workers;
        let exists = |line| workers.life(line).is_some_and(is_watched);
        if !self.watchdog.begin(now, exists) {
            return;
        }
        let watched = self.workers.lives().filter(|(_, life)| is_watched(life));
        let lines: Vec<u32> = watched.map(|(line, _)| line).collect();
        for line in lines {
            let facts = self.facts(line);
            match self.watchdog.look(line, facts, now) {
                Some(action) => self.watchdog_wants(line, action, facts, now),
                None => self.reinstate(line),
            }
        }
        self.watchdog.end(now);
    }

    fn facts(&mut self, line: u32) -> Facts {
        let counters = self.board.line(line);
        let turned = counters.tick();
        let mut facts = Facts { turned, open: counters.open() > 0, ..Facts::default() };
        let (Some(life), Some(process)) = (self.workers.life(line), self.processes.get(&line))
        else {
            return facts;
        };
        if !self.watchdog.is_quiet(line, turned) {
            return facts;
        }
        let begun = counters.get(Counter::Requests) > counters.get(Counter::Responses);
        // Nobody but it reads them, as long as it is not late.
        let reads = process.reads && !life.late && self.workers.reader(life.slot) == Some(line);
        let listeners = if reads { self.sockets.of_slot(life.slot) } else { &[] };
        facts.waits = begun
            || self.ledger.waits(line, counters.seen())
            || listeners.iter().any(|(_, listener)| self.io.has_arrivals(listener));
        // One that drains ends by itself, unless it holds somebody and does not turn.
        facts.strikes = life.state != State::Draining || facts.open || facts.waits;
        if facts.waits || self.watchdog.is_suspect(line) {
            facts.usage = self.io.usage(process.pid);
        }
        facts
    }

    fn watchdog_wants(&mut self, line: u32, action: Action, facts: Facts, now: Instant) {
        let (Some(life), Some(process)) = (self.workers.life(line), self.processes.get(&line))
        else {
            return;
        };
        let (slot, pid) = (life.slot, process.pid);
        match action {
            // What is on its way already wakes it as well.
            Action::Ask if process.may_pass() => self.tell(line, &Message::ping(self.stamp())),
            Action::Ask => {}
            Action::Avoid => {
                self.workers.set_late(line, true);
                let rescued = self.take_back_unseen(line);
                let hang = Hang::Late { rescued };
                (self.events)(&Event::WorkerHang { slot, pid, hang });
            }
            Action::Welcome => {
                self.workers.set_late(line, false);
                self.reinstate(line);
                (self.events)(&Event::WorkerHang { slot, pid, hang: Hang::Back });
            }
            Action::Report => {
                let hang = Hang::Known(Box::new(self.picture(line, now)));
                (self.events)(&Event::WorkerHang { slot, pid, hang });
            }
            Action::Abort => {
                let taken = self.take_untouched(line, now);
                let Some(process) = self.processes.get(&line) else { return };
                // One that is gone is reaped; one that ignores it is killed.
                if let Some(pidfd) = &process.pidfd {
                    let _ = self.io.signal(pidfd, Signal::Abort);
                }
                let quiet = now.since(Instant::from_nanos(facts.turned));
                self.workers.struck(line, quiet);
                (self.events)(&Event::WorkerHang { slot, pid, hang: Hang::Aborted { taken } });
            }
            Action::Kill => self.workers.kill_for(line, KillReason::Hung, now),
        }
    }

    /// What a worker is at.
    pub(super) fn picture(&mut self, line: u32, now: Instant) -> Picture {
        let counters = self.board.line(line);
        let mut picture = Picture::of(&counters);
        picture.quiet = now.since(Instant::from_nanos(counters.tick()));
        let (Some(life), Some(process)) = (self.workers.life(line), self.processes.get(&line))
        else {
            return picture;
        };
        if life.state != State::Dead {
            picture.usage = self.io.usage(process.pid);
            picture.place = self.io.place(process.pid);
        }
        let passing = process.passing() as u64;
        picture.transit =
            self.ledger.handed(line).saturating_sub(counters.get(Counter::Received)) + passing;
        let reads = process.reads && self.workers.incumbent(life.slot) == Some(line);
        let listeners = if reads { self.sockets.of_slot(life.slot) } else { &[] };
        picture.arrivals = listeners.iter().any(|(_, fd)| self.io.has_arrivals(fd));
        picture
    }

    /// What is on its way to a worker and it has not seen goes to others, for good: if it goes on,
    /// it finds that none of it is its own.
    fn take_back_unseen(&mut self, line: u32) -> u64 {
        let seen = self.board.line(line).revoke();
        let arrivals = self.ledger.revoke(line, seen);
        let count = arrivals.len() as u64;
        for arrival in arrivals {
            self.pending.put_back(arrival);
        }
        count
    }

    /// It turns again: it may be handed connections when it has seen all that were taken back.
    fn reinstate(&mut self, line: u32) {
        let late = self.workers.life(line).is_some_and(|life| life.late);
        let passing = self.processes.get(&line).is_some_and(|process| process.passing() > 0);
        if late || passing || !self.ledger.is_revoked(line) {
            return;
        }
        let counters = self.board.line(line);
        if !self.ledger.waits(line, counters.seen()) {
            counters.reinstate();
            self.ledger.reinstate(line);
        }
    }
}
