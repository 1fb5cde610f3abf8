//! The end of a pool: stop accepting, hand over what is there, let the workers finish, count.

use super::Master;
use super::ledger::{self, RefuseReason, Report, WORKER_DIED};
use super::supervise::Passing;
use crate::event::Event;
use crate::io::{Instant, Io, Kind, Op, Processes, Token};
use crate::ipc::message::{CONTROL_MAX, Message};
use std::time::Duration;

/// Where the master stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its first turn is to come.
    Starting,
    /// It accepts and hands over.
    Running,
    /// It accepts nothing and asks the kernel for nothing more, and becomes the next program when
    /// the kernel does nothing any more; workers serve on.
    Quiescing,
    /// It accepts and hands over, and says that it is not ready, until then.
    LameDuck {
        /// When it stops accepting.
        until: Instant,
    },
    /// It accepts nothing new; what was accepted still goes to workers, until then at most.
    Settling {
        /// What waits longer is refused.
        until: Instant,
        /// When workers that have not finished are killed.
        kill_at: Instant,
    },
    /// The workers finish; what comes back is refused.
    Draining,
    /// No worker is left; the last descriptors are closed.
    Ending,
    /// Nothing is left.
    Done,
}

impl Phase {
    /// Whether the end has begun.
    pub(super) const fn is_draining(self) -> bool {
        !matches!(self, Self::Starting | Self::Running | Self::Quiescing)
    }

    /// Whether nothing new is accepted any more.
    const fn is_ending(self) -> bool {
        self.is_draining() && !self.accepts()
    }

    /// Whether workers take connections.
    pub(super) const fn hands_over(self) -> bool {
        self.accepts() || matches!(self, Self::Settling { .. })
    }

    /// Whether arrivals are taken.
    pub(super) const fn accepts(self) -> bool {
        matches!(self, Self::Running | Self::LameDuck { .. })
    }

    pub(super) const fn next_deadline(self) -> Option<Instant> {
        match self {
            Self::LameDuck { until } | Self::Settling { until, .. } => Some(until),
            Self::Starting
            | Self::Running
            | Self::Quiescing
            | Self::Draining
            | Self::Ending
            | Self::Done => None,
        }
    }
}

impl<I: Io + Processes> Master<I> {
    /// Drain: say so, then finish what runs, then exit.
    pub(super) fn begin_drain(&mut self, now: Instant) {
        self.before_drain = self.books();
        self.abort_operations(now);
        self.phase = Phase::LameDuck { until: now.after(self.ops.config.lame_duck()) };
        (self.events)(&Event::DrainBegan { timeout: self.drain_timeout });
    }

    /// Nothing new is accepted any more.
    fn settle_down(&mut self, now: Instant) {
        self.workers.stop();
        let until = now.after(SETTLE.min(self.drain_timeout));
        let kill_at = now.after(self.drain_timeout).after(KILL_GRACE);
        self.phase = Phase::Settling { until, kill_at };
    }

    /// The books as they stand when a drain begins. What was open in workers that are dead, and not
    /// buried, was cut before it.
    fn books(&self) -> Report {
        let mut report = self.report();
        let dead = self.processes.iter().filter(|(_, process)| process.dead);
        let cut: u64 = dead.map(|(&line, _)| ledger::open_in(&self.board.line(line))).sum();
        *report.cut.entry(WORKER_DIED).or_default() += cut;
        report
    }

    /// Stop now.
    pub(super) fn stop(&mut self, now: Instant) {
        (self.events)(&Event::Stopping);
        self.end_now(now);
    }

    fn end_now(&mut self, now: Instant) {
        if !self.phase.is_draining() {
            self.before_drain = self.books();
            self.abort_operations(now);
        }
        if self.phase != Phase::Ending {
            self.phase = Phase::Draining;
        }
        self.workers.stop();
        for &line in self.processes.keys() {
            self.workers.kill(line, now);
        }
        self.refusals.hurry(now);
    }

    /// Goes on to the next phase when this one is over; all of them in one pass, if need be.
    pub(super) fn advance(&mut self, now: Instant) {
        if self.phase == Phase::Running
            && let Some(error) = self.boot_failure()
        {
            self.failure = Some(error);
            self.end_now(now);
        }
        if let Phase::LameDuck { until } = self.phase
            && now >= until
        {
            self.settle_down(now);
        }
        if !self.phase.is_ending() {
            return;
        }
        self.close_listeners(now);
        if let Phase::Settling { until, kill_at } = self.phase {
            let settled = self.pending.is_empty() && !self.sockets.are_open();
            let passing = self.processes.values().any(|process| process.passing() > 0);
            if now >= until || (settled && !passing) {
                self.phase = Phase::Draining;
                self.tell_workers(kill_at, now);
            }
        }
        if self.phase == Phase::Draining {
            while let Some(arrival) = self.pending.pop() {
                self.turn_away(arrival, RefuseReason::Draining, now);
            }
            if self.processes.is_empty() && !self.sockets.are_open() {
                self.phase = Phase::Ending;
            }
        }
        if self.phase == Phase::Ending
            && self.refusals.is_empty()
            && self.probes.is_empty()
            && self.see_off(now)
            && self.signals.close_join(&mut self.io)
        {
            if let Some(reserve) = self.accepting.reserve.take() {
                self.io.close(reserve);
            }
            self.phase = Phase::Done;
            let report = Box::new(self.report());
            (self.events)(&Event::DrainEnded { report });
        }
    }

    /// Takes what every listener holds when the kernel has ended all operations of ours on them,
    /// and ends them, for all who have copies: what arrived with somebody who is dying, or boots,
    /// would be reset with the last copy.
    fn close_listeners(&mut self, now: Instant) {
        if !self.sockets.are_open() || !self.listeners.are_idle() {
            return;
        }
        let joined = self.sockets.hold(&mut self.io, now);
        self.sweep_all(now);
        self.dispatch(now);
        // Out of descriptors: those left are taken as soon as some are closed.
        let later = now < joined || self.accepting.is_paused();
        let may = matches!(self.phase, Phase::Settling { until, .. } if now < until);
        if !(later && may) {
            self.sockets.close(&mut self.io);
        }
    }

    fn tell_workers(&mut self, kill_at: Instant, now: Instant) {
        let drain = kill_at.since(now).saturating_sub(KILL_GRACE);
        let message = Message::shutdown(drain, false, self.stamp());
        let lines: Vec<u32> = self.processes.keys().copied().collect();
        for line in lines {
            self.workers.drain(line, kill_at);
            self.tell(line, &message);
        }
    }

    pub(super) fn stamp(&self) -> f64 {
        // Seconds since 1970 are exact in a float for 285 million years.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let stamp = self.io.unix_time() as f64;
        stamp
    }

    /// Says something to a worker, as soon as its channel is free; instead of what waits for that.
    pub(super) fn tell(&mut self, line: u32, message: &Message) {
        let bytes = message.encode(CONTROL_MAX).expect("what a master says is short");
        if let Some(process) = self.processes.get_mut(&line).filter(|process| !process.abandoned) {
            process.control = Some(bytes);
        }
        self.pass_control(line);
    }

    /// Passes the control message that waits, unless a message is on its way.
    pub(super) fn pass_control(&mut self, line: u32) {
        let resume = Message::resume(self.stamp());
        let resume = resume.encode(CONTROL_MAX).expect("what a master says is short");
        if let Some(process) = self.processes.get_mut(&line)
            && process.passing.is_none()
            && !process.abandoned
            && let Some(channel) = &process.channel
            && (process.control.is_some() || process.resume)
        {
            process.retry_at = None;
            let (bytes, passing) = match process.control.take() {
                Some(control) => (control, Passing::Control),
                None => {
                    process.resume = false;
                    (resume, Passing::Resume)
                }
            };
            process.batch.bytes = bytes;
            let batch = std::mem::take(&mut process.batch);
            process.passing = Some(passing);
            let token = Token::new(Kind::Pass, line, process.generation);
            self.io.submit(token, Op::Pass(channel, batch));
        }
    }
}

/// How long a drain tries to give what was accepted to workers that have no room.
const SETTLE: Duration = Duration::from_millis(500);
/// How long after the drain's deadline a worker may take to cut and exit.
pub(super) const KILL_GRACE: Duration = Duration::from_millis(500);
