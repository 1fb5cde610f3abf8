//! The process that accepts and supervises: a loop over pure machines.
//!
//! A pass handles all completions, closes the copies that workers have received, acts on deadlines,
//! takes arrivals, hands over in batches, and arms what must be armed. Nothing in it blocks.

mod accept;
pub mod answer;
pub mod balancer;
pub mod command;
mod control;
pub mod ends;
pub mod epochs;
mod handoff;
mod handover;
pub mod ledger;
pub mod listeners;
mod mail;
mod operate;
pub mod pending;
pub mod picture;
pub mod probe;
pub mod recycle;
pub mod refuse;
pub mod reload;
mod rescue;
pub mod restart;
mod room;
pub mod scale;
mod shutdown;
mod sockets;
mod spawn;
mod supervise;
mod takeover;
mod transact;
pub mod trial;
pub mod upgrade;
mod watch;
pub mod watchdog;
mod words;
pub mod workers;

use crate::admin;
use crate::config::{Config, Mode};
use crate::error::Error;
use crate::event::Event;
use crate::io::{Completion, Fd, Instant, Io, Kind, Processes};
use crate::ipc::board::Board;
use crate::ipc::mail::MasterMail;
use crate::signals::SignalManager;
use accept::Accepting;
use answer::{Answer, Asker};
use balancer::{Balancer, Guard, Load};
use command::Command;
use control::Control;
use ends::Ends;
use ledger::Ledger;
pub use ledger::{RefuseReason, Report, WORKER_DIED};
use listeners::Listeners;
use operate::Operations;
use pending::Pending;
use probe::{Probe, Probes};
use refuse::Refusals;
use restart::{Intensity, Policy};
pub use room::{FDS_PER_WORKER, FDS_SPARE};
use shutdown::Phase;
use sockets::{Signals, Sockets};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use supervise::Process;
use watchdog::Watchdog;
use workers::Workers;

/// A listener that the master holds.
#[derive(Debug)]
pub struct MasterListener {
    /// Which of the pool's addresses it listens on.
    pub address: u16,
    /// Whose it is: a worker slot's (shared socket), or the master's alone (centralized).
    pub slot: Option<u32>,
    /// The socket: listening, not blocking.
    pub fd: Fd,
}

/// What a master is made of, besides its kernel and its configuration.
pub struct Parts {
    /// All listeners. They are the master's for ever; a worker gets copies of those of its slot.
    pub listeners: Vec<MasterListener>,
    /// A signalfd (blocking) with HUP, INT, QUIT, TERM, USR1, USR2, CHLD, WINCH, TTIN and TTOU.
    pub signals: Fd,
    /// The shared page: at least three lines a worker.
    pub board: Board,
    /// How many slots are filled at first; 1 or more.
    pub workers: u32,
    /// Up to how many may ever be filled.
    pub workers_max: u32,
    /// How connections reach workers at first; never `Auto`.
    pub mode: Mode,
    /// The addresses whose listeners are a group (SO_REUSEPORT), so that a slot can have its own.
    pub groups: Vec<u16>,
    /// Who picks the worker for a connection; [`balancer::balancer`] makes one.
    pub balancer: Box<dyn Balancer>,
    /// Whether this process is PID 1 and must reap strangers.
    pub pid1: bool,
    /// Where the jitter of the back-off comes from.
    pub seed: u64,
    /// Who is told what happens. Must not block.
    pub events: Box<dyn FnMut(&Event)>,
    /// What the application does on signals.
    pub calls: SignalManager,
    /// Control and health listeners, and what is told there.
    pub admin: admin::Parts,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// The master: its kernel, the machines that decide, and the descriptors they decide about.
pub struct Master<I> {
    io: I,
    events: Box<dyn FnMut(&Event)>,
    board: Board,
    pid1: bool,
    message_max: usize,
    drain_timeout: Duration,

    workers: Workers,
    intensity: Intensity,
    ends: Ends,
    listeners: Listeners,
    pending: Pending,
    ledger: Ledger,
    balancer: Guard,
    watchdog: Watchdog,
    mail: Option<MasterMail>,
    accepting: Accepting,
    phase: Phase,

    sockets: Sockets,
    /// By line of the board.
    processes: BTreeMap<u32, Process>,
    /// What workers write to standard error, if we read it.
    words: BTreeMap<u32, words::Words>,
    /// What workers that were struck had not begun.
    untouched: BTreeMap<u32, Vec<ledger::Arrival>>,
    probes: Probes,
    refusals: Refusals,
    signals: Signals,

    /// One a slot, and whose line it is; made anew in each pass that hands over.
    loads: Vec<Load>,
    lines: Vec<u32>,
    /// The books when the drain began.
    before_drain: Report,
    failure: Option<Error>,
    ops: Operations,
    calls: SignalManager,
    control: Control,
    /// Ends of commands, for who asked.
    answers: Vec<(Asker, Answer)>,
    /// All of them, for tests that have no visitor.
    #[cfg(test)]
    told: Vec<(Asker, Answer)>,
}

impl<I: Io + Processes> Master<I> {
    /// A master that has not begun: its first turn spawns the workers.
    pub fn new(io: I, parts: Parts, config: &Config) -> Self {
        let Parts { listeners: held, signals, board, workers, balancer, pid1, seed, .. } = parts;
        let Parts { workers_max, mode, groups, events, calls, admin, .. } = parts;
        assert!(workers > 0, "a pool without workers");
        assert!(board.lines() / LINES_PER_WORKER >= workers, "three lines a worker");
        let mut listeners = Listeners::default();
        let sockets = Sockets::new(held, &mut listeners);
        let mut table = Workers::new(workers, board.lines(), config.boot_timeout(), seed);
        table.set_policy(Policy::new(config));
        let pending_max = usize::try_from(config.pending_max()).unwrap_or(usize::MAX);
        Self {
            io,
            events,
            board,
            pid1,
            message_max: usize::try_from(config.message_max()).unwrap_or(usize::MAX),
            drain_timeout: config.drain_timeout(),
            workers: table,
            intensity: Intensity::default(),
            ends: Ends::default(),
            listeners,
            pending: Pending::new(pending_max, config.pending_timeout()),
            ledger: Ledger::default(),
            balancer: Guard::new(balancer),
            watchdog: Watchdog::new(config.watchdog_timeout()),
            mail: None,
            accepting: Accepting::default(),
            phase: Phase::Starting,
            sockets,
            processes: BTreeMap::new(),
            words: BTreeMap::new(),
            untouched: BTreeMap::new(),
            probes: Probes::new(),
            refusals: Refusals::new(config.linger_timeout()),
            signals: Signals::new(signals),
            loads: Vec::new(),
            lines: Vec::new(),
            before_drain: Report::default(),
            failure: None,
            ops: Operations::new(config, mode, groups, workers_max.max(workers), seed),
            calls,
            control: Control::new(admin),
            answers: Vec::new(),
            #[cfg(test)]
            told: Vec::new(),
        }
    }

    /// Runs until the pool has drained.
    ///
    /// # Errors
    ///
    /// `WorkersFailed` with each slot's reason, when no worker ever came up.
    pub fn run(mut self) -> Result<Report, Error> {
        let mut done = Vec::new();
        loop {
            let deadline = self.turn(&mut done);
            if self.is_done() {
                return self.finish();
            }
            self.wait(deadline, &mut done);
        }
    }

    /// Handles all of `done`, never blocks, and says when it must be called again at the latest.
    pub fn turn(&mut self, done: &mut Vec<Completion>) -> Option<Instant> {
        let now = self.io.now();
        if self.phase == Phase::Starting {
            self.start(now);
        }
        for completion in done.drain(..) {
            self.on_completion(completion, now);
        }
        self.refusals.sent(&mut self.io);
        self.settle(now);
        if self.phase == Phase::Quiescing {
            return self.quiesce(now);
        }
        self.attend(now);
        self.watch(now);
        self.supervise(now);
        self.operate(now);
        self.expire(now);
        self.count_idle();
        self.sweep(now);
        self.give_up_waiting(now);
        self.dispatch(now);
        self.promise();
        if self.balancer.take_panic() {
            (self.events)(&Event::BalancerPanicked);
        }
        self.post();
        self.advance(now);
        self.arm(now);
        if self.phase == Phase::Quiescing {
            return self.quiesce(now);
        }
        self.next_deadline(now)
    }

    fn start(&mut self, now: Instant) {
        let (workers, listeners) = (self.workers.slots(), self.listeners.count());
        (self.events)(&Event::Started { workers, listeners });
        self.balancer.reset();
        self.ends.oom(self.io.oom_kills());
        self.signals.read(&mut self.io);
        self.accepting.reserve = self.io.spare().ok();
        self.phase = Phase::Running;
        self.wake_up(now);
    }

    fn on_completion(&mut self, completion: Completion, now: Instant) {
        match completion.token.kind {
            Kind::Accept => self.on_accept(&completion, now),
            Kind::Poll => self.on_poll(&completion, now),
            Kind::Recv => self.refusals.on_recv(&mut self.io, completion),
            Kind::SendNow => self.refusals.on_send(&completion),
            Kind::Pass => self.on_pass(&completion, now),
            Kind::Receive => self.on_receive(&completion, now),
            Kind::Signal => self.on_signal(&completion, now),
            Kind::Send if probe::is_probe(completion.token) => self.on_probe_sent(&completion),
            Kind::Read if probe::is_probe(completion.token) => self.on_probe_read(&completion),
            Kind::Read if words::is_words(completion.token) => self.on_words(&completion),
            Kind::Read => self.on_mail_read(&completion, now),
            Kind::Send => self.on_mail_sent(&completion),
            Kind::Knock | Kind::Ask | Kind::Tell => self.on_visit(completion, now),
            Kind::Cancel => {}
            Kind::Write | Kind::Connect => {
                unreachable!("the master submits no {:?}", completion.token.kind)
            }
        }
    }

    fn on_signal(&mut self, completion: &Completion, now: Instant) {
        let mut signals = self.signals.completed(&mut self.io, completion, now);
        command::in_order(&mut signals);
        for signal in signals {
            let draining = self.phase.is_draining();
            let upgrades = signal == command::USR2 && self.ops.config.usr2_upgrade() && !draining;
            let command = match upgrades {
                true => Command::Upgrade,
                false => command::command(signal, draining),
            };
            if !upgrades && self.calls.in_master(signal) {
                continue;
            }
            if let Command::Ignore(why) = command {
                (self.events)(&Event::SignalIgnored { signal, why });
            } else {
                self.on_command(command, None, now);
            }
        }
        if !matches!(self.phase, Phase::Ending | Phase::Quiescing)
            && self.signals.retry_at.is_none()
        {
            self.signals.read(&mut self.io);
        }
    }

    /// What has waited, lingered or paused long enough.
    fn expire(&mut self, now: Instant) {
        while let Some(arrival) = self.pending.expire(now) {
            self.turn_away(arrival, RefuseReason::PendingTimeout, now);
        }
        self.refusals.expire(&mut self.io, now);
        self.resume(now);
        if self.signals.retry_at.is_some_and(|at| at <= now) && self.phase != Phase::Ending {
            self.signals.read(&mut self.io);
        }
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let waits_for_room = !self.pending.is_empty() && self.workers.any_is_ready();
        let soon = self.ledger.has_copies() || waits_for_room;
        let processes = self.processes.values().filter_map(Process::next_deadline);
        [
            self.workers.next_deadline(),
            self.watchdog.next_look(),
            self.pending.next_deadline(),
            self.refusals.next_deadline(),
            self.refusals.is_sending().then_some(now),
            self.accepting.next_deadline(),
            self.signals.retry_at,
            self.phase.next_deadline(),
            self.sockets.next_deadline(now),
            self.ops.next_deadline(),
            self.control.next_deadline(),
            (!self.answers.is_empty()).then_some(now),
            self.probes.values().filter_map(Probe::next_deadline).min(),
            self.listeners.readable(0).map(|_| now),
            soon.then(|| now.after(SOON)),
            processes.min(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Blocks until something completes or the deadline passes.
    pub fn wait(&mut self, deadline: Option<Instant>, done: &mut Vec<Completion>) {
        self.io.wait(self.refusals.sends(), deadline, done);
        self.refusals.waited();
    }

    /// Whether the process may exit: all workers are gone, every operation has ended and every
    /// descriptor is closed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The result of [`Master::run`], for who steps the master by hand. Call when it is done.
    ///
    /// # Errors
    ///
    /// As [`Master::run`].
    pub fn finish(self) -> Result<Report, Error> {
        let report = self.report();
        self.failure.map_or(Ok(report), Err)
    }

    /// What became of all connections so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let living = self
            .processes
            .iter()
            .map(|(&line, process)| (line, self.board.line(line), process.passing() as u64));
        let mut report =
            self.ledger.report(living, self.pending.len() as u64 + self.refusals.undecided());
        if self.phase.is_draining() {
            report.since(&self.before_drain);
        }
        report
    }

    fn close(&mut self, fd: Fd) {
        self.io.close(fd);
        self.accepting.closed += 1;
    }
}

impl<I> fmt::Debug for Master<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Master")
            .field("phase", &self.phase)
            .field("workers", &self.workers)
            .field("pending", &self.pending)
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}

/// A slot's worker, its successor, and one that is not buried yet.
const LINES_PER_WORKER: u32 = 3;
/// How long the master sleeps at most while copies are out or arrivals wait for room: workers say
/// how far they are on the board, and that wakes nobody.
const SOON: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
