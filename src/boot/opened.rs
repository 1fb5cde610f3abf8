//! What is open before the master begins: made here, or taken over from the program before.

use super::upgrade::{self, Next};
use super::{Bound, LINES_PER_SLOT, MASTER_SIGNALS, Operators, configured_balancer, workers_max};
use crate::admin;
use crate::config::{Config, Mode};
use crate::error::Error;
use crate::io::Fd;
use crate::ipc::board::Board;
use crate::ipc::manifest::Manifest;
use crate::master::Parts;
use crate::pool::Hooks;
use crate::sys::signal::Mask;
use crate::sys::{clock, process, shm, signal, socket};

/// What is open before the master begins, and closed after its end.
pub(super) struct Opened {
    pub(super) operators: Operators,
    pub(super) bound: Bound,
    memory: Fd,
    pub(super) board: Board,
    signals: Fd,
    before: Mask,
}

impl Opened {
    pub(super) fn fresh(
        config: &Config,
        control: Option<Fd>,
        mode: Mode,
        workers: u32,
    ) -> Result<Self, Error> {
        let mut operators = Operators::open(config, control)?;
        let bound = Bound::listen(config, mode, workers).inspect_err(|_| operators.close())?;
        let lines = workers_max(config, workers).saturating_mul(LINES_PER_SLOT);
        let memory = shm::create(Board::words(lines)).map_err(|f| f.error("the board"))?;
        let board = Board::create(memory.words, lines);
        let (signals, before) =
            signal::open(&MASTER_SIGNALS).map_err(|failed| failed.error("signals"))?;
        Ok(Self { operators, bound, memory: memory.fd, board, signals, before })
    }

    /// As the program before left it.
    pub(super) fn taken_over(manifest: &Manifest, config: &Config) -> Result<Self, Error> {
        let shell = &manifest.shell;
        let checked = upgrade::check(manifest, config);
        let checked = checked.and_then(|()| upgrade::check_sockets(&manifest.core));
        let bound = checked.and_then(|()| upgrade::bound(manifest));
        let bound = bound.map_err(|why| upgrade::refused(&why))?;
        let board = upgrade::board(&shell.board).map_err(|why| upgrade::refused(&why))?;
        let (signals, _) =
            signal::open(&MASTER_SIGNALS).map_err(|failed| failed.error("signals"))?;
        let (operators, memory) = (Operators::taken_over(shell), Fd::new(shell.board.fd));
        let before = upgrade::blocked(shell)?;
        Ok(Self { operators, bound, memory, board, signals, before })
    }

    /// How all of it goes to the next program.
    pub(super) fn next(
        &self,
        config: &Config,
        nofile: u64,
        workers: u32,
        mode: Mode,
    ) -> Result<Next, Error> {
        let board = (&self.memory, &self.board);
        let facts = (&self.before, nofile, workers, mode);
        let shell = upgrade::shell(config, &self.bound, &self.operators, board, facts);
        Next::new(shell, self.before.clone())
    }

    /// What the master gets of it, but for what is its operators'.
    pub(super) fn parts(
        &mut self,
        config: &Config,
        hooks: Hooks,
        workers: u32,
        mode: Mode,
    ) -> Result<Parts, Error> {
        let balancer = match hooks.balancer {
            Some(own) => own,
            None => configured_balancer(config)?,
        };
        let room = self.board.lines() / LINES_PER_SLOT;
        let workers = workers.min(room).max(1);
        Ok(Parts {
            groups: self.bound.groups(),
            listeners: std::mem::take(&mut self.bound.listeners),
            signals: std::mem::replace(&mut self.signals, Fd::new(-1)),
            board: self.board,
            workers,
            workers_max: workers_max(config, workers).min(room),
            mode,
            balancer,
            pid1: process::is_pid1(),
            seed: clock::monotonic().as_nanos(),
            events: hooks.event,
            calls: hooks.calls,
            admin: admin::Parts::default(),
        })
    }

    pub(super) fn close(mut self) -> Result<(), Error> {
        for (path, id) in self.bound.paths {
            socket::unlink_own(&path, id);
        }
        self.operators.close();
        socket::close(self.memory);
        self.before.restore().map_err(|failed| failed.error("signals"))
    }
}
