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
mod exec;
mod faults;
mod kernel;
mod net;
mod parent;
mod prng;
mod proc;
mod ring;
mod step;
mod trace;

use crate::io::{Completion, Fd, Instant};
use crate::ipc::board::Board;
use crate::protocol::Protocol;
use crate::worker::Worker;
use client::Client;
pub use client::{Answered, Tally, answer};
pub use exec::NextProgram;
pub use faults::FaultPlan;
use kernel::{Body, FileId, State};
pub use kernel::{Bug, Kernel, ProcessId, Sizes};
pub use prng::{Prng, Ratio};
pub use proc::Boot;
use proc::Phase;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
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

impl<P: Protocol> Stepper for Worker<Kernel, P> {
    fn turn(&mut self, done: &mut Vec<Completion>) -> Option<Instant> {
        self.turn(done)
    }

    fn wait(&mut self, deadline: Option<Instant>, done: &mut Vec<Completion>) {
        self.wait(deadline, done);
    }

    fn exit(&mut self) -> Option<i32> {
        self.is_done().then_some(0)
    }
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
    next_program: NextProgram,
    loops: BTreeMap<ProcessId, Loop>,
    clients: Vec<Client>,
    /// When the pool was told to drain.
    drain_at: Option<u64>,
    /// Whatever happens to clients now is no violation.
    gave_up: bool,
    /// How long an arrival may wait to be accepted, in nanoseconds.
    backlog_ns_max: u64,
    steps: u64,
}

/// A process between two steps.
struct Loop {
    stepper: Box<dyn Stepper>,
    done: Vec<Completion>,
    deadline: Option<Instant>,
    next: Next,
    /// Its turns since this time.
    turns: (u64, u32),
}

/// What a process does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Turn,
    Wait,
    /// It waits since its last wait: until something completes or its deadline passes.
    WakeUp,
}

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
            next_program: Box::new(|_, _, _| panic!("nobody said what the next program is")),
            loops: BTreeMap::new(),
            clients: Vec::new(),
            drain_at: None,
            gave_up: false,
            backlog_ns_max: u64::MAX,
            steps: 0,
        }
    }

    /// Plants a mistake between the engine and the kernel.
    pub fn plant(&mut self, bug: Bug) {
        self.state.borrow_mut().bug = Some(bug);
    }

    /// From now on no arrival may wait longer to be accepted, until the pool drains.
    pub fn expect_acceptance(&mut self, within: Duration) {
        self.backlog_ns_max = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
    }

    /// A process without a parent: drive its kernel by hand, or hand its loop to [`World::start`].
    #[must_use]
    pub fn process(&mut self, name: &str) -> (ProcessId, Kernel) {
        let pid = self.state.borrow_mut().process(name.to_owned(), None);
        (pid, Kernel::new(&self.state, pid))
    }

    /// The world runs this process from now on.
    pub fn start(&mut self, pid: ProcessId, stepper: Box<dyn Stepper>) {
        let (done, deadline, next, turns) = (Vec::new(), None, Next::Turn, (0, 0));
        self.loops.insert(pid, Loop { stepper, done, deadline, next, turns });
    }

    /// How workers are run, and the page they count on.
    pub fn workers(&mut self, board: Board, spawner: Spawner) {
        self.state.borrow_mut().board = Some(board);
        self.spawner = spawner;
    }

    /// A new listener of this process; clients connect to any of them.
    pub fn listener(&mut self, pid: ProcessId) -> Fd {
        let file = self.state.borrow_mut().file(Body::Listener(net::Listener::default()));
        self.state.borrow_mut().listeners.push(file);
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

    /// One more client, which asks once, at this time and from this address, for something that
    /// the application answers in its own way: see [`World::take_answers`].
    pub fn ask(&mut self, target: &str, body: &[u8], from: Option<SocketAddr>, at: Instant) {
        let prng = self.chance.split();
        self.clients.push(Client::asking(target, body, from, at.as_nanos(), prng));
    }

    /// What those have been answered that had asked with [`World::ask`] and are done; each once.
    #[must_use]
    pub fn take_answers(&mut self) -> Vec<Answered> {
        let answers = self.clients.iter().filter_map(Client::answered).collect();
        self.clients.retain(|client| client.answered().is_none());
        answers
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

    /// A signal from outside that does not end the pool.
    pub fn notify(&mut self, pid: ProcessId, number: u32) {
        self.state.borrow_mut().notify(pid, number);
    }

    /// A process is killed from outside.
    pub fn kill(&mut self, pid: ProcessId) {
        self.state.borrow_mut().end(pid, proc::KILLED);
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
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("steps", &self.steps).finish_non_exhaustive()
    }
}
