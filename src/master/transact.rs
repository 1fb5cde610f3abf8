//! Carries out what the reload transaction decides: candidates, probes, the trial, the hand-over of
//! a slot, the end.

use super::Master;
use super::answer::{Answer, Asker, Field};
use super::epochs::Settings;
use super::reload::{Action, Plan, Transaction};
use super::shutdown::KILL_GRACE;
use super::trial::{self, Sample};
use super::workers::{Life, Role, Wanted};
use crate::config::Mode;
use crate::event::{Event, KillReason};
use crate::io::{Instant, Io, Processes, Purpose};
use crate::ipc::message::Message;

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Reload,
    Rollback,
    SetMode,
    Recycle,
    /// The next program is tried.
    TryUpgrade,
    /// This is the next program: its workers replace those of the one before.
    Upgrade,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Rollback => "rollback",
            Self::SetMode => "mode",
            Self::Recycle => "recycle",
            Self::TryUpgrade | Self::Upgrade => "upgrade",
        }
    }
}

/// A transaction that is under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) machine: Transaction,
    pub(super) kind: Kind,
    pub(super) began: Instant,
    askers: Vec<Asker>,
    /// Of the candidates.
    epoch: u32,
    /// The slot beside whose worker the configuration is read.
    check_slot: u32,
    /// What a reload found that only a restart can change.
    restart: Vec<String>,
    /// The lines on trial, and what they had done when it began.
    trial: Vec<(u32, Sample)>,
    others: Vec<(u32, Sample)>,
}

impl<I: Io + Processes> Master<I> {
    pub(super) fn begin_reload(&mut self, askers: Vec<Asker>, now: Instant) {
        let config = &self.ops.config;
        let workers = u32::try_from(config.canary_workers()).unwrap_or(u32::MAX);
        let trial = (workers > 0).then(|| (workers, config.canary_time()));
        let plan = Plan { check: true, trial, ..self.plan() };
        // What the check finds replaces these.
        let settings = self.ops.epochs.settings(self.ops.epochs.current()).clone();
        self.transact(Kind::Reload, plan, Some(settings), askers, now);
    }

    pub(super) fn begin_rollback(&mut self, askers: Vec<Asker>, now: Instant) {
        match self.ops.epochs.before().cloned() {
            Some(settings) => {
                self.transact(Kind::Rollback, self.plan(), Some(settings), askers, now);
            }
            None if self.control.has_earlier() => self.begin_upgrade(true, askers, now),
            None => {
                let why = "there is no earlier configuration";
                self.conclude(askers, &Answer::failed(Kind::Rollback.name(), why));
            }
        }
    }

    pub(super) fn begin_mode(&mut self, mode: Mode, askers: Vec<Asker>, now: Instant) {
        let settings = self.ops.epochs.settings(self.ops.epochs.current()).clone();
        let why = match mode {
            Mode::Auto => Some("shared or centralized"),
            Mode::Shared if self.ops.groups.is_empty() => {
                Some("none of the addresses can have a listener a worker")
            }
            Mode::Shared | Mode::Centralized => None,
        };
        if let Some(why) = why {
            return self.conclude(askers, &Answer::failed(Kind::SetMode.name(), why));
        }
        let settings = Settings { mode, ..settings };
        self.transact(Kind::SetMode, self.plan(), Some(settings), askers, now);
    }

    pub(super) fn begin_recycle(&mut self, slot: Option<u32>, askers: Vec<Asker>, now: Instant) {
        let slots: Vec<u32> = match slot {
            Some(slot) => self.workers.active().filter(|active| *active == slot).collect(),
            None => self.workers.active().collect(),
        };
        if slots.is_empty() {
            let why = "no worker is in that slot";
            return self.conclude(askers, &Answer::failed(Kind::Recycle.name(), why));
        }
        self.recycle_slots(slots, askers, now);
    }

    pub(super) fn recycle_slots(&mut self, slots: Vec<u32>, askers: Vec<Asker>, now: Instant) {
        let surge = u32::try_from(self.ops.config.max_unavailable()).unwrap_or(u32::MAX);
        let plan = Plan { slots, surge, one_by_one: true, undo: false, ..self.plan() };
        self.transact(Kind::Recycle, plan, None, askers, now);
    }

    /// Tries the program on disk, or goes `back` to the one before this.
    pub(super) fn begin_upgrade(&mut self, back: bool, askers: Vec<Asker>, now: Instant) {
        self.ops.back = back;
        if !self.control.is_upgradable() {
            let why = "this pool's process began as another program's child: replace that one";
            return self.conclude(askers, &Answer::failed(Kind::TryUpgrade.name(), why));
        }
        let plan = Plan { check: true, probe: None, slots: Vec::new(), undo: false, ..self.plan() };
        self.transact(Kind::TryUpgrade, plan, None, askers, now);
    }

    /// The workers of the program before this one are replaced by our own.
    pub(super) fn finish_upgrade(&mut self, askers: Vec<Asker>, now: Instant) {
        let plan = Plan { undo: false, ..self.plan() };
        let settings = self.ops.epochs.settings(self.ops.epochs.current()).clone();
        self.transact(Kind::Upgrade, plan, Some(settings), askers, now);
    }

    /// All slots, with probes and an undo.
    fn plan(&self) -> Plan {
        let config = &self.ops.config;
        let time = config.probe_timeout();
        Plan {
            check: false,
            probe: (!time.is_zero()).then_some(time),
            trial: None,
            slots: self.slots_to_fill(),
            surge: u32::try_from(config.surge()).unwrap_or(u32::MAX),
            one_by_one: false,
            undo: true,
        }
    }

    /// `settings`: of a new epoch; `None`: the present one goes on.
    fn transact(
        &mut self,
        kind: Kind,
        plan: Plan,
        settings: Option<Settings>,
        askers: Vec<Asker>,
        now: Instant,
    ) {
        let epochs = &mut self.ops.epochs;
        let epoch = match settings {
            Some(settings) => epochs.begin(settings),
            None => epochs.current(),
        };
        let check_slot = plan.slots.first().copied().unwrap_or(0);
        (self.events)(&Event::TransactionBegan { what: kind.name(), epoch });
        self.ops.running = Some(Running {
            machine: Transaction::new(plan),
            kind,
            began: now,
            askers,
            epoch,
            check_slot,
            restart: Vec::new(),
            trial: Vec::new(),
            others: Vec::new(),
        });
    }

    /// Does what the transaction wants now, and what follows from that at once.
    pub(super) fn drive(&mut self, now: Instant) {
        while self.act(now) {
            self.supervise(now);
        }
    }

    /// Whether it wanted anything.
    fn act(&mut self, now: Instant) -> bool {
        let mut acted = false;
        while let Some(running) = &mut self.ops.running
            && let Some(action) = running.machine.poll(now)
        {
            acted = true;
            let (epoch, check_slot) = (running.epoch, running.check_slot);
            match action {
                Action::Check => {
                    let tries = running.kind == Kind::TryUpgrade;
                    let purpose = if tries { Purpose::Upgrade } else { Purpose::Check };
                    self.workers.want(check_slot, Wanted { epoch, purpose });
                }
                Action::Spawn(slot) => {
                    self.workers.want(slot, Wanted { epoch, purpose: Purpose::Succeed });
                }
                Action::Probe(slot) => {
                    let time = self.ops.config.probe_timeout();
                    let path = self.ops.config.probe_path().to_owned();
                    self.probe(slot, &path, time, now);
                }
                Action::Try(slot) => self.try_out(slot),
                Action::Judge => self.judge(),
                Action::Promote(slot) => self.promote(slot, epoch, now),
                Action::GiveUp(slot) => self.give_up(slot, now),
                Action::Undo => running.epoch = self.ops.epochs.current(),
                Action::End(result) => self.end_transaction(result, now),
            }
        }
        acted
    }

    /// Ends the transaction here and now.
    pub(super) fn abort_transaction(&mut self, why: &str, now: Instant) {
        if let Some(running) = &mut self.ops.running {
            let check_slot = running.check_slot;
            running.machine.abort(why);
            self.give_up_check(check_slot, now);
            self.drive(now);
        }
    }

    /// The throw-away child has read the configuration.
    pub(super) fn config_read(&mut self, message: &Message, now: Instant) {
        let Some(running) = &mut self.ops.running else { return };
        if running.kind == Kind::TryUpgrade {
            let check_slot = running.check_slot;
            running.machine.checked(Ok(()));
            return self.give_up_check(check_slot, now);
        }
        let said = message.config().ok_or_else(|| "it said nothing about it".to_owned());
        let (epoch, check_slot) = (running.epoch, running.check_slot);
        let result = said.and_then(|(options, restart)| {
            let settings = self.ops.epochs.settings(epoch).reread(options);
            settings.config(&self.ops.base)?;
            self.ops.epochs.replace(epoch, settings);
            running.restart = restart;
            Ok(())
        });
        running.machine.checked(result);
        self.give_up_check(check_slot, now);
    }

    fn give_up_check(&mut self, slot: u32, now: Instant) {
        let line = self.workers.candidate(slot);
        let life = line.and_then(|line| self.workers.life(line));
        if life.is_some_and(|life| life.role == Role::Check) {
            self.workers.give_up(slot, now);
        }
    }

    /// A candidate, or the child that reads the configuration, could not be forked.
    pub(super) fn candidate_refused(
        &mut self,
        slot: u32,
        purpose: Purpose,
        why: &str,
        now: Instant,
    ) {
        self.workers.give_up(slot, now);
        if let Some(running) = &mut self.ops.running {
            match purpose {
                Purpose::Check | Purpose::Upgrade => {
                    running.machine.checked(Err(why.to_owned()));
                }
                Purpose::Serve | Purpose::Succeed => running.machine.failed(slot, why),
            }
        }
    }

    /// A candidate serves.
    pub(super) fn candidate_ready(&mut self, slot: u32) {
        if let Some(running) = &mut self.ops.running {
            running.machine.ready(slot);
        }
    }

    /// A candidate has answered, or not.
    pub(super) fn probed(&mut self, slot: u32, result: Result<(), String>) {
        if let Some(running) = &mut self.ops.running {
            running.machine.answered(slot, result);
        }
    }

    /// A life has ended, and all that it said was heard.
    pub(super) fn life_over(&mut self, line: u32, life: &Life, now: Instant) {
        let Some(running) = &mut self.ops.running else { return };
        let slot = life.slot;
        if self.workers.candidate(slot) == Some(line) {
            if life.role == Role::Check {
                running.machine.checked(Err(life.why()));
                self.workers.give_up(slot, now);
            } else {
                running.machine.failed(slot, &life.why());
            }
        } else if life.role == Role::Incumbent && self.workers.incumbent(slot) != Some(line) {
            running.machine.left(slot);
            let theirs = running.kind != Kind::Recycle && life.epoch == running.epoch;
            if theirs && !life.asked {
                running.machine.crashed(slot, &life.why());
            }
        }
    }

    fn promote(&mut self, slot: u32, epoch: u32, now: Instant) {
        let candidate = self.workers.candidate(slot);
        let life = candidate.and_then(|line| self.workers.life(line));
        let waits = life.is_some_and(|life| life.role == Role::Candidate);
        let before = match self.workers.promote(slot) {
            Ok(before) => before,
            Err(why) => {
                let running = self.ops.running.iter_mut();
                return running.for_each(|running| running.machine.not_promoted(slot, &why));
            }
        };
        if let Some(line) = candidate.filter(|_| waits) {
            self.let_serve(line);
        }
        match (before, &mut self.ops.running) {
            (Some(line), _) => self.drain_worker(line, now),
            (None, Some(running)) => running.machine.left(slot),
            (None, None) => {}
        }
        for line in self.workers.beyond_epochs(epoch, OLD_EPOCHS) {
            self.workers.kill_for(line, KillReason::OldEpoch, now);
        }
    }

    /// Whoever is on trial has connections: it drains. Others have none.
    fn give_up(&mut self, slot: u32, now: Instant) {
        let line = self.workers.candidate(slot);
        let life = line.and_then(|line| self.workers.life(line));
        let on_trial = life.is_some_and(|life| life.role == Role::Trial);
        match line.filter(|_| on_trial) {
            Some(line) => {
                self.workers.release(slot);
                self.drain_worker(line, now);
            }
            None => self.workers.give_up(slot, now),
        }
    }

    fn try_out(&mut self, slot: u32) {
        let Some(line) = self.workers.candidate(slot) else { return };
        let first = self.ops.running.as_ref().is_some_and(|running| running.trial.is_empty());
        if first {
            let others: Vec<(u32, Sample)> = self
                .workers
                .active()
                .filter_map(|slot| self.workers.incumbent(slot))
                .map(|line| (line, self.begin_sample(line)))
                .collect();
            if let Some(running) = &mut self.ops.running {
                running.others = others;
            }
        }
        self.workers.try_out(slot);
        self.let_serve(line);
        let sample = self.begin_sample(line);
        if let Some(running) = &mut self.ops.running {
            running.trial.push((line, sample));
        }
    }

    fn judge(&mut self) {
        let Some(running) = &self.ops.running else { return };
        let since = |lines: &[(u32, Sample)]| {
            let now = |line: u32| Sample::of(&self.board.line(line));
            let differences = lines.iter().map(|(line, before)| now(*line).since(before));
            differences.fold(Sample::default(), |sum, each| sum.plus(&each))
        };
        let limits = trial::Limits::new(&self.ops.config);
        let verdict = trial::judge(&since(&running.trial), &since(&running.others), limits);
        if let Some(running) = &mut self.ops.running {
            running.machine.judged(verdict);
        }
    }

    /// What it has done until now; from now on its answers are timed.
    fn begin_sample(&self, line: u32) -> Sample {
        let line = self.board.line(line);
        line.want_times(true);
        Sample::of(&line)
    }

    /// A successor reads its listeners from now on.
    fn let_serve(&mut self, line: u32) {
        if self.processes.get(&line).is_some_and(|process| process.reads) {
            let message = Message::serve(self.stamp());
            self.tell(line, &message);
        }
    }

    /// A worker finishes, and hands its connections back.
    pub(super) fn drain_worker(&mut self, line: u32, now: Instant) {
        let time = self.drain_timeout;
        self.workers.drain(line, now.after(time).after(KILL_GRACE));
        let message = Message::shutdown(time, true, self.stamp());
        self.tell(line, &message);
    }

    fn end_transaction(&mut self, result: Result<(), String>, now: Instant) {
        let Some(running) = self.ops.running.take() else { return };
        for (line, _) in running.trial.iter().chain(&running.others) {
            self.board.line(*line).want_times(false);
        }
        let Running { kind, epoch, askers, restart, .. } = running;
        let answer = match result {
            Ok(()) if kind == Kind::TryUpgrade => return self.begin_handover(askers, now),
            Ok(()) => self.commit(kind, epoch, restart, now),
            Err(why) => {
                self.ops.epochs.drop(epoch);
                if kind == Kind::Recycle {
                    self.recycling_failed(now);
                }
                let so = match kind {
                    Kind::TryUpgrade => "nothing has changed",
                    Kind::Upgrade => "the master is the new program, the old workers serve on",
                    Kind::Reload | Kind::Rollback | Kind::SetMode | Kind::Recycle => {
                        "the old workers serve on"
                    }
                };
                let text = format!("{why}; {so}");
                Answer::failed(kind.name(), text)
            }
        };
        self.conclude(askers, &answer);
    }

    fn commit(&mut self, kind: Kind, epoch: u32, restart: Vec<String>, now: Instant) -> Answer {
        let settings = self.ops.epochs.settings(epoch);
        let applied = settings.changed(self.ops.epochs.settings(self.ops.epochs.current()));
        let config = settings.config(&self.ops.base);
        self.ops.epochs.commit(epoch);
        if kind == Kind::Upgrade {
            self.ops.epochs.forget_before();
        }
        self.refilled();
        if let Ok(config) = config
            && kind != Kind::Recycle
        {
            self.apply(config, now);
        }
        let workers = self.workers.active().count();
        let text = match (kind, restart.is_empty()) {
            (Kind::Recycle, _) => "every worker asked for was replaced".to_owned(),
            (_, true) => format!("epoch {epoch} serves with {workers} workers"),
            (_, false) => {
                let names = restart.join(", ");
                format!(
                    "epoch {epoch} serves with {workers} workers; a restart is needed for {names}"
                )
            }
        };
        Answer::done(kind.name(), text)
            .with("epoch", Field::Number(epoch.into()))
            .with("workers", Field::Number(workers as u64))
            .with("applied", Field::List(applied))
            .with("needs_restart", Field::List(restart))
    }
}

/// Old epochs that may be alive beside the present one.
const OLD_EPOCHS: usize = 2;
