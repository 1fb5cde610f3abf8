//! Becoming the next program: cancels all that the kernel does for this one, writes down what the
//! master knows, and hands over. Workers serve on meanwhile, and know nothing of it.

use super::Master;
use super::answer::{Answer, Asker};
use super::ledger::saved;
use super::shutdown::Phase;
use super::supervise::Process;
use super::transact::Kind;
use super::upgrade::{Busy, Step, Upgrade};
use super::workers::State;
use crate::admin::line;
use crate::event::Event;
use crate::io::{Instant, Io, Kind as Operation, Op, Processes, Token};
use crate::ipc::manifest::{Core, VisitorPart, WaitingPart, to_hex};
use std::collections::VecDeque;

impl<I: Io + Processes> Master<I> {
    /// The next program has been tried, and is good.
    pub(super) fn begin_handover(&mut self, askers: Vec<Asker>, now: Instant) {
        self.ops.upgrade = Some((Upgrade::new(now), askers));
    }

    /// Stops asking the kernel for anything, when what the trial left behind is buried.
    pub(super) fn hand_over(&mut self, now: Instant) {
        let Some((upgrade, _)) = &mut self.ops.upgrade else { return };
        let short = self.processes.values().any(|process| process.short || process.resume);
        let busy = Busy { lives: short || self.workers.is_in_between(), ..Busy::default() };
        match upgrade.poll(&busy, now) {
            Step::Quiesce => {
                self.phase = Phase::Quiescing;
                (self.events)(&Event::HandoverBegan);
            }
            Step::GiveUp(why) => self.abort_handover(&why),
            Step::Wait | Step::Exec => {}
        }
    }

    /// We stay the program that we are.
    pub(super) fn abort_handover(&mut self, why: &str) {
        if let Some((_, askers)) = self.ops.upgrade.take() {
            let text = format!("{why}; nothing has changed");
            self.conclude(askers, &Answer::failed(Kind::TryUpgrade.name(), text));
        }
    }

    /// A pass while the kernel is to end all that it does. It goes back to serving, or never
    /// returns.
    pub(super) fn quiesce(&mut self, now: Instant) -> Option<Instant> {
        let Some((mut upgrade, askers)) = self.ops.upgrade.take() else {
            self.resume_all(now);
            return Some(now);
        };
        self.tell_answers(now);
        if now >= upgrade.hurry_at() {
            self.refusals.hurry(now);
        }
        self.refusals.expire(&mut self.io, now);
        self.expire_probes(true, now);
        self.hear_out(now);
        let busy = self.cancel_all();
        self.arm(now);
        match upgrade.poll(&busy, now) {
            Step::Wait | Step::Quiesce => {
                let words = self.processes.values().filter_map(Process::next_deadline).min();
                let sends = self.refusals.is_sending().then_some(now);
                let hurry = Some(upgrade.hurry_at()).filter(|at| *at > now);
                let refusals = self.refusals.next_deadline();
                let deadline = Some(upgrade.deadline());
                self.ops.upgrade = Some((upgrade, askers));
                return [words, sends, hurry, refusals, deadline].into_iter().flatten().min();
            }
            Step::Exec => {
                let core = self.save_for(&askers);
                let why = self.io.replace(&core.encode());
                self.ops.upgrade = Some((upgrade, askers));
                self.abort_handover(&why);
            }
            Step::GiveUp(why) => {
                self.ops.upgrade = Some((upgrade, askers));
                self.abort_handover(&why);
            }
        }
        self.resume_all(now);
        Some(now)
    }

    /// Cancels what the kernel does; what it still does.
    fn cancel_all(&mut self) -> Busy {
        let mut channels = false;
        for (&line, process) in &mut self.processes {
            if process.receiving && !process.dead && !process.canceled {
                process.canceled = true;
                let token = Token::new(Operation::Receive, line, process.generation);
                self.io.submit(token.with(Operation::Cancel), Op::Cancel(token));
            }
            let posted = process.pause_post(&mut self.io, line);
            channels |= process.receiving || process.passing.is_some() || !posted;
        }
        Busy {
            lives: self.workers.is_in_between() || self.processes.values().any(|p| p.dead),
            listeners: !self.listeners.are_idle(),
            channels,
            signals: !self.signals.pause(&mut self.io),
            visitors: !self.control.visitors.pause(&mut self.io),
            refusals: !self.refusals.is_empty(),
            probes: !self.probes.is_empty(),
        }
    }

    /// Everything goes on as before.
    fn resume_all(&mut self, now: Instant) {
        self.phase = Phase::Running;
        self.refusals.set_linger(self.ops.config.linger_timeout());
        self.listen_to_all(now);
    }

    /// Hears workers, signals and visitors, from the beginning or again.
    pub(super) fn listen_to_all(&mut self, now: Instant) {
        let lines: Vec<u32> = self.processes.keys().copied().collect();
        for line in lines {
            if let Some(process) = self.processes.get_mut(&line)
                && !process.receiving
                && !process.abandoned
            {
                process.canceled = false;
                self.receive(line);
            }
            self.begin_mail(line);
        }
        self.signals.resume(&mut self.io);
        self.control.visitors.resume(&mut self.io, now);
    }

    /// What the master knows now.
    pub(super) fn save(&self) -> Core {
        self.save_for(&[])
    }

    fn save_for(&self, askers: &[Asker]) -> Core {
        let epochs = &self.ops.epochs;
        let connections = |all: &VecDeque<_>| all.iter().map(saved::save).collect();
        let visitors = &self.control.visitors;
        let connected = |askers: &[Asker]| {
            let connections = askers.iter().filter_map(|asker| visitors.connection(*asker));
            connections.map(crate::io::Fd::raw).collect()
        };
        let waiting = self.ops.waiting().filter_map(|(command, askers)| {
            Some(WaitingPart { line: line::line(command)?, askers: connected(askers) })
        });
        let asking = visitors.asking().map(|(fd, door, input)| VisitorPart {
            fd: fd.raw(),
            door,
            input: to_hex(input),
        });
        let mut workers = Vec::new();
        for (&line, process) in &self.processes {
            let Some(mut part) = self.workers.save_life(line) else { continue };
            self.ledger.save_transit(line, &mut part);
            process.save(&mut part);
            workers.push(part);
        }
        Core {
            listeners: self.sockets.save(),
            mode: epochs.settings(epochs.current()).mode.name().to_owned(),
            epoch: epochs.current(),
            slots: self.workers.save_slots(),
            workers,
            pending: connections(self.pending.all()),
            askers: connected(askers),
            ledger: self.ledger.save(),
            began: self.control.began.unwrap_or_default().as_nanos(),
            drained: self.ops.drained,
            waiting: waiting.collect(),
            visitors: asking.collect(),
            back: self.ops.back.then_some(true),
        }
    }

    /// Whether a worker lives that an earlier program of this process spawned.
    pub(super) fn has_state(&self, line: u32, state: State) -> bool {
        self.workers.life(line).is_some_and(|life| life.state == state)
    }
}
