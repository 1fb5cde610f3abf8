//! Commands, from signals and control connections: which part of the master acts on each, what
//! waits for its turn, and what is refused because something else is under way.

use super::Master;
use super::answer::{Answer, Asker, Field};
use super::command::Command;
use super::epochs::Epochs;
use super::recycle::{Cause, Facts, Limits, Recycler};
use super::restart::Policy;
use super::scale::{self, Change, Scaling};
use super::shutdown::Phase;
use super::transact::{Kind, Running};
use super::upgrade::Upgrade;
use super::workers::State;
use crate::config::{Config, Mode};
use crate::event::Event;
use crate::io::{Instant, Io, Processes};
use crate::stats::Counter;

/// What operators asked for, and what it is done with.
#[derive(Debug)]
pub(super) struct Operations {
    /// What the pool began with.
    pub(super) base: Config,
    /// What holds now.
    pub(super) config: Config,
    pub(super) epochs: Epochs,
    /// The addresses that can have a listener a slot.
    pub(super) groups: Vec<u16>,
    pub(super) slots_max: u32,
    pub(super) running: Option<Running>,
    /// What waits for that to end: at most one of a kind, with all who asked for it.
    waiting: Vec<(Command, Vec<Asker>)>,
    scaling: Option<(Scaling, Vec<Asker>)>,
    /// How many workers there were before all were drained.
    pub(super) drained: Option<u32>,
    /// The next program has been tried: we become it.
    pub(super) upgrade: Option<(Upgrade, Vec<Asker>)>,
    /// The next program is the one before this.
    pub(super) back: bool,
    /// We are the next program: who asked for that, and how many workers there are to be if the
    /// configured number has changed.
    pub(super) took_over: Option<(Vec<Asker>, Option<u32>, Vec<String>)>,
    limits: Limits,
    recycler: Recycler,
    seed: u64,
}

impl Operations {
    pub(super) fn new(
        config: &Config,
        mode: Mode,
        groups: Vec<u16>,
        slots_max: u32,
        seed: u64,
    ) -> Self {
        Self {
            base: config.clone(),
            config: config.clone(),
            epochs: Epochs::new(mode),
            groups,
            slots_max,
            running: None,
            waiting: Vec::new(),
            scaling: None,
            drained: None,
            upgrade: None,
            back: false,
            took_over: None,
            limits: Limits::new(config),
            recycler: Recycler::default(),
            seed,
        }
    }

    /// A command of our own, first after what is under way.
    pub(super) fn put_off(&mut self, command: Command) {
        self.waiting.insert(0, (command, Vec::new()));
    }

    /// Waits for the end of what is under way: one of a kind, with all who asked for it,
    /// behind what was asked for since: the last word is the last done.
    pub(super) fn wait(&mut self, command: Command, askers: Vec<Asker>) {
        let same = |(other, _): &(Command, _)| other.name() == command.name();
        let (command, askers) = match self.waiting.iter().position(same) {
            Some(at) => {
                let (other, mut before) = self.waiting.remove(at);
                before.extend(askers);
                (other.then(command, self.slots_max), before)
            }
            None => (command, askers),
        };
        self.waiting.push((command, askers));
    }

    /// What waits, and who for it; a change of size that is not finished is asked for again.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Command, &[Asker])> {
        let scaling = self
            .scaling
            .iter()
            .map(|(scaling, askers)| (Command::ScaleTo(scaling.target), askers.as_slice()));
        scaling.chain(self.waiting.iter().map(|(command, askers)| (*command, askers.as_slice())))
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let transaction = self.running.as_ref().and_then(|running| running.machine.next_deadline());
        let scaling = self.scaling.as_ref().map(|(scaling, _)| scaling.until);
        let idle = self.running.is_none().then(|| self.recycler.next_deadline(&self.limits));
        let upgrade = self.upgrade.as_ref().map(|(upgrade, _)| upgrade.deadline());
        [transaction, scaling, idle.flatten(), upgrade].into_iter().flatten().min()
    }
}

impl<I: Io + Processes> Master<I> {
    /// Acts on a command. Each one ends in one answer, now or later.
    pub(super) fn on_command(&mut self, command: Command, asker: Option<Asker>, now: Instant) {
        self.notify(command);
        match command {
            Command::Drain => self.on_drain(asker, now),
            Command::Stop => {
                self.stop(now);
                self.answer(asker, Answer::done("stop", "stopping now"));
            }
            Command::Reap => self.reap(now),
            Command::Reload
            | Command::Rollback
            | Command::ScaleBy(_)
            | Command::ScaleTo(_)
            | Command::DrainWorkers
            | Command::Recycle(_)
            | Command::Upgrade
            | Command::SetMode(_) => {
                self.operate_on(command, asker.into_iter().collect(), now);
            }
            Command::Dump => self.dump(asker, now),
            Command::Ignore(why) => self.answer(asker, Answer::failed("command", why)),
        }
    }

    fn on_drain(&mut self, asker: Option<Asker>, now: Instant) {
        let draining = self.phase.is_draining();
        if !draining {
            self.begin_drain(now);
        }
        let text = if draining { "it drains already" } else { "draining" };
        self.answer(asker, Answer::done("drain", text));
    }

    /// The end of a command, for who asked for it.
    pub(super) fn answer(&mut self, asker: Option<Asker>, answer: Answer) {
        self.answers.extend(asker.map(|asker| (asker, answer)));
    }

    /// The end of a command that an operator gave: an event, and an answer to each who asked.
    pub(super) fn conclude(&mut self, askers: Vec<Asker>, answer: &Answer) {
        let Answer { ok, what, text, .. } = answer;
        (self.events)(&Event::CommandEnded { ok: *ok, what, text: text.clone() });
        for asker in askers {
            self.answer(Some(asker), answer.clone());
        }
    }

    /// Begins it, or puts it off, or refuses it.
    fn operate_on(&mut self, command: Command, askers: Vec<Asker>, now: Instant) {
        if self.phase.is_draining() {
            return self.conclude(askers, &Answer::failed(command.name(), "the pool drains"));
        }
        // Recycling can be done later, what an operator asks for cannot.
        if self.ops.running.as_ref().is_some_and(|running| running.kind == Kind::Recycle) {
            self.abort_transaction("something more urgent was asked for", now);
            // Nothing was wrong with the successors.
            self.ops.recycler = Recycler::default();
        }
        let busy = match (&self.ops.running, &self.ops.upgrade) {
            (Some(running), _) => {
                format!("busy: {} since {:?}", running.kind.name(), now.since(running.began))
            }
            (None, Some(_)) => "busy: upgrade".to_owned(),
            (None, None) => return self.begin(command, askers, now),
        };
        let waits = matches!(
            command,
            Command::Reload | Command::ScaleBy(_) | Command::ScaleTo(_) | Command::DrainWorkers
        );
        if !waits {
            return self.conclude(askers, &Answer::failed(command.name(), busy));
        }
        self.ops.wait(command, askers);
    }

    fn begin(&mut self, command: Command, askers: Vec<Asker>, now: Instant) {
        let replaces = matches!(command, Command::Rollback | Command::SetMode(_));
        if replaces && self.workers.active().next().is_none() {
            let why = "all workers were drained: a reload, TTIN or scale brings them back";
            return self.conclude(askers, &Answer::failed(command.name(), why));
        }
        match command {
            Command::Reload => self.begin_reload(askers, now),
            Command::Rollback => self.begin_rollback(askers, now),
            Command::SetMode(mode) => self.change_mode(mode, askers, now),
            Command::Upgrade => self.begin_upgrade(false, askers, now),
            Command::Recycle(slot) => self.begin_recycle(slot, askers, now),
            Command::ScaleBy(by) => {
                match scale::target(self.workers.active().count(), by, self.ops.slots_max) {
                    Ok(target) => self.scale_to(target, askers, now),
                    Err(why) => self.conclude(askers, &Answer::failed("scale", why)),
                }
            }
            Command::ScaleTo(0) | Command::DrainWorkers => {
                let active = u32::try_from(self.workers.active().count()).unwrap_or(u32::MAX);
                self.ops.drained = (active > 0).then_some(active).or(self.ops.drained);
                self.scale_to(0, askers, now);
            }
            Command::ScaleTo(target) => self.scale_to(target, askers, now),
            Command::Drain | Command::Stop | Command::Reap | Command::Dump | Command::Ignore(_) => {
                unreachable!("{command:?} is no operation")
            }
        }
    }

    /// Gets on with what is under way, and begins what waits for its end.
    pub(super) fn operate(&mut self, now: Instant) {
        self.expire_probes(self.phase.is_draining(), now);
        if self.phase.is_draining() {
            return;
        }
        self.recycle(now);
        self.drive(now);
        self.hand_over(now);
        if self.is_idle() && !self.ops.waiting.is_empty() {
            let (command, askers) = self.ops.waiting.remove(0);
            let command = self.as_far_as_may_be(command);
            self.begin(command, askers, now);
            self.drive(now);
        }
        self.finish_scaling(now);
    }

    /// Steps up or down that have waited may be several in one: they go as far as there is room.
    fn as_far_as_may_be(&mut self, command: Command) -> Command {
        let Command::ScaleBy(by) = command else { return command };
        let active: Vec<u32> = self.workers.active().collect();
        let Ok(target) = scale::reach(active.len(), by, self.ops.slots_max) else { return command };
        let fill = Change::new(&active, target).fill;
        let fits = self.room_to_fill(&fill);
        let less = u32::try_from(fill.len() - fits).unwrap_or(0);
        // If not even one has room, it is refused with the reason.
        Command::ScaleTo(if fits > 0 { target - less } else { target })
    }

    /// Whether neither a transaction is under way nor a handover to the next program.
    fn is_idle(&self) -> bool {
        self.ops.running.is_none() && self.ops.upgrade.is_none()
    }

    /// The pool ends: whatever is under way or waits is over.
    pub(super) fn abort_operations(&mut self, now: Instant) {
        let why = "the pool drains";
        self.abort_transaction(why, now);
        self.abort_handover(why);
        self.abort_waiting(why);
    }

    /// What waits for something else is over.
    pub(super) fn abort_waiting(&mut self, why: &str) {
        for (command, askers) in std::mem::take(&mut self.ops.waiting) {
            self.conclude(askers, &Answer::failed(command.name(), why));
        }
        if let Some((_, askers)) = self.ops.scaling.take() {
            self.conclude(askers, &Answer::failed("scale", why));
        }
    }

    /// Parks or fills slots until so many are filled. No listener is closed: those of a parked slot
    /// are read by the master.
    pub(super) fn scale_to(&mut self, target: u32, askers: Vec<Asker>, now: Instant) {
        let max = self.ops.slots_max;
        if target > max {
            let why = format!("workers_max allows {max} workers");
            return self.conclude(askers, &Answer::failed("scale", why));
        }
        let active: Vec<u32> = self.workers.active().collect();
        let change = Change::new(&active, target);
        let fits = self.room_to_fill(&change.fill);
        if fits < change.fill.len() {
            let why = format!(
                "the master's descriptors (RLIMIT_NOFILE) suffice for {} workers, not for {target}; \
                 nothing has changed",
                active.len() + fits
            );
            return self.conclude(askers, &Answer::failed("scale", why));
        }
        if target > 0 {
            self.ops.drained = None;
        }
        for slot in change.park {
            if let Some(line) = self.workers.park(slot) {
                self.drain_worker(line, now);
            }
        }
        let epoch = self.ops.epochs.current();
        for slot in change.fill {
            self.workers.unpark(slot, epoch, now);
        }
        let until = now.after(self.ops.config.boot_timeout());
        let mut all = self.ops.scaling.take().map_or_else(Vec::new, |(_, before)| before);
        all.extend(askers);
        self.ops.scaling = Some((Scaling { target, until }, all));
    }

    fn finish_scaling(&mut self, now: Instant) {
        let Some((scaling, _)) = &self.ops.scaling else { return };
        let Scaling { target, until } = *scaling;
        let ready = self.workers.all_ready();
        if !ready && now < until {
            return;
        }
        let Some((_, askers)) = self.ops.scaling.take() else { return };
        let answer = if ready {
            Answer::done("scale", format!("{target} workers"))
        } else {
            Answer::failed("scale", format!("not all of {target} workers came up; going on"))
        };
        self.conclude(askers, &answer.with("workers", Field::Number(target.into())));
    }

    /// Which slots are to be filled after a reload: as many as before all were drained; as many as
    /// configured, if all have died and none was to follow.
    pub(super) fn slots_to_fill(&self) -> Vec<u32> {
        let active: Vec<u32> = self.workers.active().collect();
        match (self.ops.drained, active.is_empty()) {
            (Some(count), _) => (0..count).collect(),
            (None, false) => active,
            (None, true) => {
                let configured = u32::try_from(self.ops.config.workers()).unwrap_or(u32::MAX);
                let count = if configured > 0 { configured } else { self.workers.slots() };
                (0..count.min(self.ops.slots_max)).collect()
            }
        }
    }

    /// All slots are filled again.
    pub(super) fn refilled(&mut self) {
        self.ops.drained = None;
    }

    /// What a new configuration changes in the master itself.
    pub(super) fn apply(&mut self, config: Config, now: Instant) {
        let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        self.drain_timeout = config.drain_timeout();
        self.workers.set_boot_timeout(config.boot_timeout());
        self.workers.set_policy(Policy::new(&config));
        self.watchdog.set_timeout(config.watchdog_timeout());
        self.pending.set_limits(count(config.pending_max()), config.pending_timeout());
        self.refusals.set_linger(config.linger_timeout());
        self.ops.limits = Limits::new(&config);
        let before = self.ops.config.workers();
        let wanted = u32::try_from(config.workers()).unwrap_or(u32::MAX);
        self.ops.config = config;
        if u64::from(wanted) != before && wanted > 0 {
            self.scale_to(wanted.min(self.ops.slots_max), Vec::new(), now);
        }
    }

    /// Replaces workers that have served long enough.
    fn recycle(&mut self, now: Instant) {
        let busy = !self.is_idle() || !self.workers.all_ready();
        if busy || !self.ops.recycler.is_due(&self.ops.limits, now) {
            return;
        }
        let slots: Vec<u32> = self.workers.active().collect();
        let mut due = Vec::new();
        for slot in slots {
            if let Some((pid, cause)) = self.recycle_cause(slot, now) {
                due.push(slot);
                (self.events)(&Event::WorkerRecycled { slot, pid, cause });
            }
        }
        if !due.is_empty() {
            self.recycle_slots(due, Vec::new(), now);
        }
    }

    fn recycle_cause(&mut self, slot: u32, now: Instant) -> Option<(u32, Cause)> {
        let line = self.workers.incumbent(slot)?;
        let life = self.workers.life(line)?;
        if !matches!(life.state, State::Ready | State::Full { .. }) {
            return None;
        }
        let (age, process) = (now.since(life.born), self.processes.get(&line)?);
        let (generation, pid) = (process.generation, process.pid);
        let (rss, pss) = self.ops.limits.ask_memory();
        let mut ask =
            |wanted: bool, shared_out| wanted.then(|| self.io.memory(pid, shared_out)).flatten();
        let facts = Facts {
            slot,
            generation,
            requests: self.board.line(line).get(Counter::Requests),
            age,
            rss: ask(rss, false),
            pss: ask(pss, true),
        };
        self.ops.limits.cause(&facts, self.ops.seed).map(|cause| (pid, cause))
    }

    /// A successor did not come up: recycling pauses.
    pub(super) fn recycling_failed(&mut self, now: Instant) {
        self.ops.recycler.failed(now);
    }

    /// Whether new connections are welcome: ADMIN's readiness. False from the first moment of a
    /// drain on, while connections are still accepted (`lame_duck`).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running && self.workers.any_is_ready()
    }
}
