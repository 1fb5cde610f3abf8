//! What a worker is told of itself and of the others.

use crate::io::WorkerPlan;
use crate::ipc::board::{Board, WorkerState};
use crate::ipc::mail::WorkerMail;
use crate::stats::Counter;

/// What a worker knows of itself and of the pool.
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    slot: u32,
    generation: u32,
    epoch: u32,
    board: Board,
    mail: WorkerMail,
}

impl WorkerInfo {
    pub(crate) fn new(plan: &WorkerPlan<'_>, board: Board, mail: WorkerMail) -> Self {
        let (slot, generation, epoch) = (plan.slot, plan.generation, plan.epoch);
        Self { slot, generation, epoch, board, mail }
    }

    /// Which reload it belongs to: 0 before the first.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Its messages to and from the master; connected if the pool has
    /// [`Pool::messages`](crate::Pool::messages).
    #[must_use]
    pub fn mail(&self) -> WorkerMail {
        self.mail.clone()
    }

    /// Which slot it fills: 0 to workers − 1.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// How often its slot was filled before.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// All workers that live, as the board shows them now. Reads shared memory; costs no system
    /// call. After an upgrade from a build that counts other things, its last workers are not among
    /// them.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerStatus> {
        let mut all: Vec<WorkerStatus> = (0..self.board.lines())
            .map(|index| self.board.line(index))
            .filter(|line| matches!(line.state(), WorkerState::Ready | WorkerState::Draining))
            .map(|line| WorkerStatus {
                slot: line.slot(),
                generation: line.generation(),
                draining: line.state() == WorkerState::Draining,
                connections: line.open(),
                requests: line.get(Counter::Requests),
                counters: std::array::from_fn(|at| line.get(Counter::ALL[at])),
            })
            .collect();
        all.sort_by_key(|status| (status.slot, status.generation));
        all
    }
}

/// One worker, as the board shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Its slot.
    pub slot: u32,
    /// How often the slot was filled before.
    pub generation: u32,
    /// It finishes what runs and takes nothing new.
    pub draining: bool,
    /// Connections open now.
    pub connections: u64,
    /// Requests read since its birth.
    pub requests: u64,
    counters: [u64; Counter::ALL.len()],
}

impl WorkerStatus {
    /// One of its counters.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }
}
