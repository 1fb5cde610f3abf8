//! The simulated side of the seam: a whole pool, its clients and its kernel in one thread, from one
//! seed.
//!
//! The world takes one small step at a time: one process runs one turn or one wait, or one client
//! acts, or a dead process's ring goes on. Who goes next, how long it takes and what goes wrong is
//! drawn from the seed, so a run can be had again. After every step the checks of `check.rs` hold,
//! or the run ends with a [`Violation`]. When nobody can go on, time jumps to the next deadline;
//! when there is none, the world is quiet.
//!
//! These belong to its normal behaviour, because real bugs live there: of several accepts on one
//! listener one is woken, even if its process is stopped; a dead process's ring goes on accepting
//! and receiving for up to 40 ms; completions appear inside `wait` only; a multishot takes all it
//! finds; descriptors of a message are installed before anybody handles them; sends that do not fit
//! come out short. It does not model TCP options, files, threads or memory.

mod channel;
mod check;
mod client;
mod faults;
mod kernel;
mod net;
mod prng;
mod proc;
mod ring;
mod trace;

use crate::io::{Completion, Exit, Fd, Instant};
use crate::ipc::board::Board;
use client::Client;
pub use client::{Tally, answer};
pub use faults::FaultPlan;
use kernel::{Body, FileId, Killed, State};
pub use kernel::{Bug, Kernel, ProcessId, Sizes};
pub use prng::{Prng, Ratio};
pub use proc::Boot;
use proc::Phase;
use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
pub use trace::Trace;

/// The loop of a process, stepped by hand.
pub trait Stepper {
    /// Handles all of `done`, never blocks; when it must be called again at the latest.
    fn turn(&mut self, done: &mut Vec<Completion>) -> Option<Instant>;
    /// Its `wait`. It is called again when the process wakes up in it: what it lends then was lent
    /// before, and is not sent again.
    fn wait(&mut self, deadline: Option<Instant>, done: &mut Vec<Completion>);
    /// With which code the process exits, if it is time.
    fn exit(&mut self) -> Option<i32>;
}

/// Builds the loop of a new worker.
pub type Spawner = Box<dyn FnMut(Kernel, Boot) -> Box<dyn Stepper>>;

/// What the engine did wrong, and what led to it.
#[derive(Clone, Debug)]
pub struct Violation(String);

impl From<String> for Violation {
    fn from(what: String) -> Self {
        Self(what)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A simulated machine.
pub struct World {
    state: Rc<RefCell<State>>,
    chance: Prng,
    spawner: Spawner,
    loops: BTreeMap<ProcessId, Loop>,
    clients: Vec<Client>,
    listeners: Vec<FileId>,
    /// When the pool was told to drain.
    drain_at: Option<u64>,
    /// Whatever happens to clients now is no violation.
    gave_up: bool,
    steps: u64,
}

/// A process between two steps.
struct Loop {
    stepper: Box<dyn Stepper>,
    done: Vec<Completion>,
    deadline: Option<Instant>,
    next: Next,
}

/// What a process does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Turn,
    Wait,
    /// It waits since its last wait: until something completes or its deadline passes.
    WakeUp,
}

/// Who can act.
#[derive(Clone, Copy)]
enum Actor {
    Process(ProcessId),
    Boot(ProcessId),
    Dying(ProcessId),
    Client(usize),
}

const STEP_NS_MAX: u64 = 20_000;
const STOP_NS_MAX: u64 = 2_000_000_000;
const DOOM_CALLS_MAX: u64 = 60;
/// A run that takes more is not getting anywhere.
const STEPS_MAX: u64 = 2_000_000;
const EXIT_BOOT_FAILED: i32 = 3;
const SIGKILL: Exit = Exit::Signal(9, false);

impl World {
    /// An empty machine. `keep_trace`: remember what happens, for [`World::trace`].
    #[must_use]
    pub fn new(seed: u64, faults: FaultPlan, sizes: Sizes, keep_trace: bool) -> Self {
        let mut chance = Prng::new(seed);
        let state = State::new(chance.bits(), faults, sizes, keep_trace);
        Self {
            state: Rc::new(RefCell::new(state)),
            chance,
            spawner: Box::new(|_, _| panic!("nobody said how to run a worker")),
            loops: BTreeMap::new(),
            clients: Vec::new(),
            listeners: Vec::new(),
            drain_at: None,
            gave_up: false,
            steps: 0,
        }
    }

    /// Plants a mistake between the engine and the kernel.
    pub fn plant(&mut self, bug: Bug) {
        self.state.borrow_mut().bug = Some(bug);
    }

    /// A process without a parent: drive its kernel by hand, or hand its loop to [`World::start`].
    #[must_use]
    pub fn process(&mut self, name: &str) -> (ProcessId, Kernel) {
        let pid = self.state.borrow_mut().process(name.to_owned(), None);
        (pid, Kernel::new(&self.state, pid))
    }

    /// The world runs this process from now on.
    pub fn start(&mut self, pid: ProcessId, stepper: Box<dyn Stepper>) {
        let (done, deadline, next) = (Vec::new(), None, Next::Turn);
        self.loops.insert(pid, Loop { stepper, done, deadline, next });
    }

    /// How workers are run, and the page they count on.
    pub fn workers(&mut self, board: Board, spawner: Spawner) {
        self.state.borrow_mut().board = Some(board);
        self.spawner = spawner;
    }

    /// A new listener of this process; clients connect to any of them.
    pub fn listener(&mut self, pid: ProcessId) -> Fd {
        let file = self.state.borrow_mut().file(Body::Listener(net::Listener::default()));
        self.listeners.push(file);
        self.give(pid, file)
    }

    /// A signal descriptor of this process.
    pub fn signals(&mut self, pid: ProcessId) -> Fd {
        let file = self.state.borrow_mut().file(Body::Signals(BTreeSet::new()));
        self.give(pid, file)
    }

    /// A channel with both ends in one process.
    pub fn channel(&mut self, pid: ProcessId) -> (Fd, Fd) {
        let (one, other) = self.state.borrow_mut().channel();
        (self.give(pid, one), self.give(pid, other))
    }

    /// A connection with both ends in one process.
    pub fn pair(&mut self, pid: ProcessId) -> (Fd, Fd) {
        let (one, other) = self.state.borrow_mut().pair();
        (self.give(pid, one), self.give(pid, other))
    }

    /// The client's end, in this process, of a new connection to a listener of it.
    pub fn connect(&mut self, pid: ProcessId, listener: &Fd) -> Fd {
        let mut state = self.state.borrow_mut();
        let listener = state.of(pid, listener);
        let file = state.connect(listener).expect("it listens and has room");
        drop(state);
        self.give(pid, file)
    }

    fn give(&mut self, pid: ProcessId, file: FileId) -> Fd {
        let mut state = self.state.borrow_mut();
        state.install(pid, file, None).expect("the table of a new process has room")
    }

    /// More clients, each with its manner and its requests.
    pub fn clients(&mut self, count: u64) {
        let now = self.state.borrow().now;
        let base = self.clients.len() as u64;
        let new = (base..base + count).map(|id| Client::new(id, now, self.chance.split()));
        self.clients.extend(new);
    }

    /// One more client, which asks once for this target and for the connection to be closed.
    pub fn visitor(&mut self, target: &str) {
        let client = Client::visitor(target, self.now().as_nanos(), self.chance.split());
        self.clients.push(client);
    }

    /// Whether every client has had all its answers.
    #[must_use]
    pub fn clients_done(&self) -> bool {
        self.clients.iter().all(|client| client.done)
    }

    /// What all clients saw.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.clients.iter().map(|client| client.tally).fold(Tally::default(), Tally::plus)
    }

    /// From here on clients may be left alone: the pool is stopped, or its master is killed.
    pub fn give_up(&mut self) {
        self.gave_up = true;
    }

    /// A signal from outside. After the first, only those are owed an answer who had asked by then.
    pub fn signal(&mut self, pid: ProcessId, number: u32) {
        self.drain_at = Some(self.drain_at.unwrap_or_else(|| self.now().as_nanos()));
        // Who ended meanwhile does not hear it.
        self.state.borrow_mut().notify(pid, number);
    }

    /// A process is killed from outside.
    pub fn kill(&mut self, pid: ProcessId) {
        self.state.borrow_mut().end(pid, SIGKILL);
    }

    /// From now on other things go wrong, or none.
    pub fn set_faults(&mut self, faults: FaultPlan) {
        self.state.borrow_mut().faults = faults;
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_nanos(self.state.borrow().now)
    }

    /// Connections that processes took from listeners, less those that a worker took and did not
    /// live to count.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        let state = self.state.borrow();
        let accepted = |process: &proc::Process| process.taken - process.received;
        state.processes.iter().map(accepted).sum::<u64>() - state.uncounted
    }

    /// How many descriptors of connections the processes hold.
    #[must_use]
    pub fn connections_held(&self) -> u64 {
        let state = self.state.borrow();
        (0..state.processes.len()).map(|pid| state.streams(pid)).sum()
    }

    /// When all processes have ended, no file may be left.
    ///
    /// # Errors
    ///
    /// What is left.
    pub fn check_empty(&self) -> Result<(), Violation> {
        let state = self.state.borrow();
        let living =
            state.processes.iter().find(|process| !matches!(process.phase, Phase::Gone(_)));
        let file = state.files.iter().flatten().next();
        match (living, file) {
            (None, None) => Ok(()),
            (Some(process), _) => Err(Violation(format!("{} lives on", process.name))),
            (_, Some(file)) => Err(Violation(format!("nobody closed {file:?}"))),
        }
    }

    /// Time passes.
    pub fn advance(&mut self, duration: Duration) {
        let mut state = self.state.borrow_mut();
        state.now = Instant::from_nanos(state.now).after(duration).as_nanos();
    }

    /// What happened so far.
    pub fn trace<T>(&self, look: impl FnOnce(&Trace) -> T) -> T {
        look(&self.state.borrow().trace)
    }

    /// Steps until `enough` says so or nothing is left to happen; `Ok(false)`: the latter.
    ///
    /// # Errors
    ///
    /// The first thing that was not as it should be.
    pub fn run_until(&mut self, mut enough: impl FnMut(&Self) -> bool) -> Result<bool, Violation> {
        while !enough(self) {
            if !self.step()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One step; `Ok(false)`: nothing is left to happen.
    fn step(&mut self) -> Result<bool, Violation> {
        let Some(actor) = self.next_actor() else { return Ok(false) };
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(Violation(format!("no end after {STEPS_MAX} steps")));
        }
        self.strike();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.act(actor)));
        match outcome {
            Ok(result) => result?,
            Err(payload) => self.unwound(actor, &*payload)?,
        }
        let mut state = self.state.borrow_mut();
        state.now += self.chance.range(1, STEP_NS_MAX);
        state.check_files(self.clients.iter().filter_map(|client| client.stream))?;
        Ok(true)
    }

    /// One of those that can act now; if there is none, time jumps to when there is.
    fn next_actor(&mut self) -> Option<Actor> {
        let mut state = self.state.borrow_mut();
        let mut due: Vec<(u64, Actor)> = Vec::new();
        for (pid, process) in state.processes.iter().enumerate() {
            match process.phase {
                Phase::Dying { until, .. } => {
                    let at = process.ring.due().map_or(until, |at| at.min(until));
                    due.push((at, Actor::Dying(pid)));
                }
                Phase::Running => {
                    let Some(found) = self.loops.get(&pid) else { continue };
                    let at = match found.next {
                        Next::WakeUp => {
                            process.ring.due().into_iter().chain(process.deadline).min()
                        }
                        Next::Turn | Next::Wait => Some(0),
                    };
                    due.extend(at.map(|at| (at.max(process.stopped_until), Actor::Process(pid))));
                }
                Phase::Gone(_) => {}
            }
        }
        due.extend(state.boots.iter().map(|boot| (boot.at, Actor::Boot(boot.pid))));
        let clients = self.clients.iter().enumerate();
        due.extend(
            clients.filter_map(|(at, client)| Some((client.due(&state)?, Actor::Client(at)))),
        );
        let soonest = due.iter().map(|(at, _)| *at).min()?;
        state.now = state.now.max(soonest);
        due.retain(|(at, _)| *at <= state.now);
        Some(due[self.chance.index(due.len())].1)
    }

    /// Kills or stops a worker, at times: between two steps, or in one of its next system calls.
    fn strike(&mut self) {
        let mut state = self.state.borrow_mut();
        let killed = self.chance.chance(state.faults.worker_killed);
        if !killed && !self.chance.chance(state.faults.worker_stopped) {
            return;
        }
        let is_worker = |pid: &ProcessId| {
            state.processes[*pid].line.is_some() && state.processes[*pid].exit().is_none()
        };
        let workers: Vec<ProcessId> = (0..state.processes.len()).filter(is_worker).collect();
        if workers.is_empty() {
            return;
        }
        let victim = workers[self.chance.index(workers.len())];
        if !killed {
            state.note(victim, None, format_args!("stopped"));
            state.processes[victim].stopped_until = state.now + self.chance.range(1, STOP_NS_MAX);
        } else if self.chance.chance(Ratio::new(1, 2)) {
            state.end(victim, SIGKILL);
        } else {
            state.doom = Some((victim, self.chance.range(0, DOOM_CALLS_MAX)));
        }
    }

    fn act(&mut self, actor: Actor) -> Result<(), Violation> {
        match actor {
            Actor::Process(pid) => self.run_process(pid),
            Actor::Boot(pid) => {
                self.boot(pid);
                Ok(())
            }
            Actor::Dying(pid) => {
                self.loops.remove(&pid);
                self.state.borrow_mut().run_dying(pid);
                Ok(())
            }
            Actor::Client(at) => {
                let mut state = self.state.borrow_mut();
                let client = &mut self.clients[at];
                match client.step(&mut state, &self.listeners, self.drain_at) {
                    Err(_) if self.gave_up => {
                        client.leave(&mut state);
                        Ok(())
                    }
                    result => Ok(result?),
                }
            }
        }
    }

    /// A turn, or the wait after it, or the end of a sleep.
    fn run_process(&mut self, pid: ProcessId) -> Result<(), Violation> {
        if self.state.borrow().processes[pid].exit().is_some() {
            return Ok(()); // the step before this one killed it
        }
        let Loop { stepper, done, deadline, next } =
            self.loops.get_mut(&pid).expect("only what has a loop acts");
        if *next != Next::Turn {
            self.state.borrow_mut().processes[pid].woken = *next == Next::WakeUp;
            stepper.wait(*deadline, done);
            let state = self.state.borrow();
            let passed = state.processes[pid].deadline.is_some_and(|at| at <= state.now);
            *next = if done.is_empty() && !passed { Next::WakeUp } else { Next::Turn };
            if *next == Next::WakeUp {
                state.check_sleeper(pid)?;
            }
            return Ok(());
        }
        *deadline = stepper.turn(done);
        assert!(done.is_empty(), "a turn handles all that is done");
        *next = Next::Wait;
        let exit = stepper.exit();
        let mut state = self.state.borrow_mut();
        if let Some(line) = state.line(pid) {
            state.check_ledger(pid, line)?;
        }
        if let Some(code) = exit {
            let left = state.streams(pid);
            state.end(pid, Exit::Code(code));
            if left > 0 {
                return Err(Violation(format!("process {pid} exits with {left} connections")));
            }
        }
        Ok(())
    }

    fn boot(&mut self, pid: ProcessId) {
        let mut state = self.state.borrow_mut();
        let Some(at) = state.boots.iter().position(|boot| boot.pid == pid) else { return };
        let boot = state.boots.swap_remove(at);
        if self.chance.chance(state.faults.boot_fails) {
            return state.end(pid, Exit::Code(EXIT_BOOT_FAILED));
        }
        drop(state);
        let stepper = (self.spawner)(Kernel::new(&self.state, pid), boot);
        self.start(pid, stepper);
    }

    /// A process was killed in a system call, or somebody's assertion failed.
    fn unwound(&mut self, actor: Actor, payload: &(dyn Any + Send)) -> Result<(), Violation> {
        let mut state = self.state.borrow_mut();
        if payload.is::<Killed>()
            && let Some((pid, _)) = state.doom.take()
        {
            state.end(pid, SIGKILL);
            return Ok(());
        }
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let who = match actor {
            Actor::Process(pid) | Actor::Boot(pid) | Actor::Dying(pid) => {
                state.processes[pid].name.clone()
            }
            Actor::Client(_) => "client".to_owned(),
        };
        Err(Violation(format!("{who} panics: {}", text.unwrap_or("with something unprintable"))))
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("steps", &self.steps).finish_non_exhaustive()
    }
}
