//! The process that accepts and supervises: a loop over pure machines.

pub mod balancer;
mod ledger;

use crate::config::Config;
use crate::error::Error;
use crate::event::Event;
use crate::io::{Completion, Fd, Instant, Io, Processes};
use crate::ipc::board::Board;
use balancer::Balancer;
pub use ledger::{Arrival, Ledger, RefuseReason, Report, WORKER_DIED};
use std::fmt;

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
    /// How many slots; 1 or more.
    pub workers: u32,
    /// Who picks the worker for a connection; [`balancer::balancer`] makes one.
    pub balancer: Box<dyn Balancer>,
    /// Whether this process is PID 1 and must reap strangers.
    pub pid1: bool,
    /// Where the jitter of the back-off comes from.
    pub seed: u64,
    /// Who is told what happens. Must not block.
    pub events: Box<dyn FnMut(&Event)>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// The master.
pub struct Master<I> {
    io: I,
    parts: Parts,
}

impl<I: Io + Processes> Master<I> {
    /// A master that has not begun: its first turn spawns the workers.
    pub fn new(io: I, parts: Parts, _config: &Config) -> Self {
        assert!(parts.workers > 0, "a pool without workers");
        assert!(parts.board.lines() / 3 >= parts.workers, "three lines a worker");
        Self { io, parts }
    }

    /// Runs until the pool has drained.
    ///
    /// # Errors
    ///
    /// `WorkersFailed` with each slot's reason, when no worker ever came up.
    pub fn run(mut self) -> Result<Report, Error> {
        let mut done = Vec::new();
        while !self.is_done() {
            let deadline = self.turn(&mut done);
            self.wait(deadline, &mut done);
        }
        self.finish()
    }

    /// Handles all of `done`, never blocks, and says when it must be called again at the latest.
    pub fn turn(&mut self, done: &mut Vec<Completion>) -> Option<Instant> {
        done.clear();
        None
    }

    /// Blocks until something completes or the deadline passes.
    pub fn wait(&mut self, deadline: Option<Instant>, done: &mut Vec<Completion>) {
        self.io.wait(std::iter::empty(), deadline, done);
    }

    /// Whether the process may exit: all workers are gone, every operation has ended and every
    /// descriptor is closed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.parts.workers == 0
    }

    /// The result of [`Master::run`], for who steps the master by hand. Call when it is done.
    ///
    /// # Errors
    ///
    /// As [`Master::run`].
    pub fn finish(self) -> Result<Report, Error> {
        Ok(Report::default())
    }

    /// What became of all connections so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::default()
    }
}

impl<I> fmt::Debug for Master<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Master").field("parts", &self.parts).finish_non_exhaustive()
    }
}
