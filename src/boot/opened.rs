//! What is open before the master begins: made here, or taken over from the program before.

use super::descriptors;
use super::upgrade::{self, Next};
use super::{Bound, LINES_PER_SLOT, MASTER_SIGNALS, Operators, configured_balancer, workers_max};
use crate::admin;
use crate::config::{Config, Mode};
use crate::error::Error;
use crate::io::Fd;
use crate::ipc::board::{Board, Build, Names};
use crate::ipc::manifest::{BoardPart, ElderPart, Manifest};
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
    /// What the board counts, as it is told to the next program.
    called: Names,
    elders: Vec<ElderPart>,
    /// The program before this one, if it became this.
    earlier: Option<Fd>,
    signals: Fd,
    before: Mask,
}

impl Opened {
    pub(super) fn fresh(
        config: &Config,
        hooks: &mut Hooks,
        mode: Mode,
        workers: u32,
        build: Build,
    ) -> Result<Self, Error> {
        descriptors::check(config, mode, workers, hooks.mail.is_some())?;
        let mut operators = Operators::open(config, hooks.control.take())?;
        let bound = Bound::listen(config, mode, workers).inspect_err(|_| operators.close())?;
        let (memory, board) = new_board(workers_max(config, workers), &build)?;
        let (signals, before) =
            signal::open(&MASTER_SIGNALS).map_err(|failed| failed.error("signals"))?;
        let (called, elders, earlier) = (build.called, Vec::new(), None);
        Ok(Self { operators, bound, memory, board, called, elders, earlier, signals, before })
    }

    /// As the program before left it. If its board counts something else than ours, that is for its
    /// workers, and ours get a new one.
    pub(super) fn taken_over(
        manifest: &mut Manifest,
        config: &Config,
        workers: u32,
        build: Build,
    ) -> Result<Self, Error> {
        let checked = upgrade::check(manifest, config);
        let checked = checked.and_then(|()| upgrade::check_sockets(&manifest.core));
        let bound = checked.and_then(|()| upgrade::bound(manifest));
        let bound = bound.map_err(|why| upgrade::refused(&why))?;
        let (memory, board) = if upgrade::names(&manifest.shell.board) == build.called {
            let part = &manifest.shell.board;
            let board = upgrade::board(part, &build.laid_out);
            (Fd::new(part.fd), board.map_err(|why| upgrade::refused(&why))?)
        } else {
            let slots = u32::try_from(manifest.core.slots.len()).unwrap_or(u32::MAX);
            let made = new_board(workers_max(config, workers).max(slots), &build)?;
            manifest.age_boards(made.1.lines());
            made
        };
        let shell = &manifest.shell;
        let elder = |elder: &ElderPart| {
            let board = upgrade::board(&elder.board, &upgrade::names(&elder.board))?;
            Ok((elder.first, board))
        };
        let elders = shell.elders.iter().map(elder).collect::<Result<Vec<_>, String>>();
        let board = board.with_elders(&elders.map_err(|why| upgrade::refused(&why))?);
        let (signals, _) =
            signal::open(&MASTER_SIGNALS).map_err(|failed| failed.error("signals"))?;
        let operators = Operators::taken_over(shell);
        let before = upgrade::blocked(shell)?;
        let (called, elders) = (build.called, shell.elders.clone());
        let earlier = shell.program.map(Fd::new);
        Ok(Self { operators, bound, memory, board, called, elders, earlier, signals, before })
    }

    /// How all of it goes to the next program.
    pub(super) fn next(
        &mut self,
        config: &Config,
        nofile: u64,
        workers: u32,
        mode: Mode,
    ) -> Result<Next, Error> {
        let Names { counters, reasons } = self.called.clone();
        let (fd, lines) = (self.memory.raw(), self.board.lines());
        let boards = (BoardPart { fd, lines, counters, reasons }, self.elders.clone());
        let facts = (&self.before, nofile, workers, mode);
        let shell = upgrade::shell(config, &self.bound, &self.operators, boards, facts);
        Next::new(shell, self.before.clone(), self.earlier.take())
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
        self.elders.iter().for_each(|elder| socket::close(Fd::new(elder.board.fd)));
        self.before.restore().map_err(|failed| failed.error("signals"))
    }
}

/// A board for so many slots.
fn new_board(slots: u32, build: &Build) -> Result<(Fd, Board), Error> {
    let lines = slots.saturating_mul(LINES_PER_SLOT);
    let words = Board::words_as(lines, &build.laid_out);
    let memory = shm::create(words).map_err(|failed| failed.error("the board"))?;
    let board = Board::create_as(memory.words, lines, &build.laid_out);
    Ok((memory.fd, board.map_err(|why| upgrade::refused(&why))?))
}
