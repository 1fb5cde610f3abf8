//! Processes: tables of descriptors, fork, exit, kill and stop, wait, signals.

use super::kernel::{Body, Bug, FileId, ProcessId, State};
use super::prng::Ratio;
use super::ring::{Ring, Wake};
use crate::io::{Child, Errno, Exit, Fd, Purpose, Signal, WorkerPlan};
use crate::ipc::board::Line;
use crate::stats::Counter;
use std::collections::BTreeSet;

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) fds: Vec<Option<Entry>>,
    pub(super) ring: Ring,
    pub(super) phase: Phase,
    /// Until when it sleeps in `wait`, if nothing completes.
    pub(super) deadline: Option<u64>,
    /// Its next `wait` is the one in which it has slept until now.
    pub(super) woken: bool,
    /// It is not run before this time (SIGSTOP, SIGCONT).
    pub(super) stopped_until: u64,
    /// An ABRT is pending.
    pub(super) aborted: bool,
    /// How many descriptors reached it in messages, and how many connections it ever held.
    pub(super) received: u64,
    /// Connections that it gave back to the master.
    pub(super) given: u64,
    pub(super) taken: u64,
    /// Its line on the board.
    pub(super) line: Option<u32>,
    pub(super) parent: Option<ProcessId>,
    reaped: bool,
}

/// A descriptor of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) file: FileId,
    /// It came in a message, as the n-th of this process's life.
    pub(super) received: Option<u64>,
    /// A worker has given it back: its copy may be closed without a word.
    pub(super) given: bool,
}

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// It ended, but its ring goes on accepting and receiving until the kernel tears it down.
    Dying {
        exit: Exit,
        until: u64,
    },
    Gone(Exit),
}

/// What a new worker process starts with.
#[derive(Debug)]
pub struct Boot {
    pub(super) pid: ProcessId,
    /// When it has booted.
    pub(super) at: u64,
    /// Which slot it fills.
    pub slot: u32,
    /// Which life of the slot it is.
    pub generation: u32,
    /// Which reload it belongs to.
    pub epoch: u32,
    /// Its line on the board.
    pub line: u32,
    /// Its end of the channel to the master.
    pub channel: Fd,
    /// A signal descriptor of its own.
    pub signals: Fd,
    /// Its copies of its slot's listeners.
    pub listeners: Vec<(u16, Fd)>,
    /// What it is for.
    pub purpose: Purpose,
    /// The options of its epoch.
    pub settings: Vec<(String, String)>,
}

/// How a process ends that is killed.
pub(super) const KILLED: Exit = Exit::Signal(9, false);
pub(super) const ABORTED: Exit = Exit::Signal(6, true);
pub(super) const SIGTERM: i32 = 15;
const SIGCHLD: u32 = 17;
const TEARDOWN_NS_MAX: u64 = 40_000_000;
const BOOT_NS: u64 = 150_000;
const BOOT_SLOW_NS_MAX: u64 = 2_000_000_000;

impl Process {
    /// How it ended, if it has.
    pub(super) fn exit(&self) -> Option<Exit> {
        match self.phase {
            Phase::Running => None,
            Phase::Dying { exit, .. } | Phase::Gone(exit) => Some(exit),
        }
    }

    /// The files its descriptors refer to.
    pub(super) fn held(&self) -> impl Iterator<Item = FileId> {
        self.fds.iter().flatten().map(|entry| entry.file)
    }
}

impl State {
    /// A process that runs, without descriptors.
    pub(super) fn process(&mut self, name: String, parent: Option<ProcessId>) -> ProcessId {
        self.processes.push(Process {
            name,
            fds: vec![None; 3],
            ring: Ring::new(self.sizes.buffers),
            phase: Phase::Running,
            deadline: None,
            woken: false,
            stopped_until: 0,
            aborted: false,
            received: 0,
            given: 0,
            taken: 0,
            line: None,
            parent,
            reaped: false,
        });
        self.processes.len() - 1
    }

    /// Gives a file the lowest free number; takes over the caller's reference, unless it fails.
    pub(super) fn install(
        &mut self,
        pid: ProcessId,
        file: FileId,
        received: Option<u64>,
    ) -> Result<Fd, Errno> {
        let is_connection = matches!(self.body(file), Some(Body::Stream(_)));
        let process = &mut self.processes[pid];
        // 0, 1 and 2 stay closed, so that a number made up is not one that exists.
        let free = process.fds.iter().skip(3).position(Option::is_none).map(|at| at + 3);
        let at = free.unwrap_or(process.fds.len());
        let is_worker = process.parent.is_some();
        if at >= if is_worker { self.sizes.worker_fds } else { self.sizes.fds } {
            return Err(Errno::NoFds);
        }
        process.fds.resize(process.fds.len().max(at + 1), None);
        process.fds[at] = Some(Entry { file, received, given: false });
        process.taken += u64::from(is_connection);
        Ok(Fd::new(i32::try_from(at).unwrap_or(i32::MAX)))
    }

    fn room(&self, pid: ProcessId) -> usize {
        self.sizes.fds.saturating_sub(3 + self.processes[pid].held().count())
    }

    pub(super) fn close(&mut self, pid: ProcessId, fd: &Fd) {
        let file = self.of(pid, fd);
        let at = usize::try_from(fd.raw()).expect("`of` has found it");
        let entry = self.processes[pid].fds[at].take().expect("`of` has found it");
        let adopted = entry.received.is_some_and(|order| order <= self.counted(pid));
        if entry.received.is_some() && !adopted && self.processes[pid].parent.is_some() {
            // It was taken back: this worker never had it.
            self.processes[pid].received -= 1;
            self.processes[pid].taken -= 1;
        }
        let careful = !adopted || entry.given || self.is_shut(file);
        assert!(careful, "a copy may live on: shut down before you close");
        if let Some(order) = entry.received.filter(|_| !adopted) {
            self.leave(pid, order);
        }
        let connection = self.connection(file);
        self.note(pid, connection, format_args!("close"));
        self.release(file);
    }

    /// A worker closes what it was handed and has not counted: it never had that.
    fn leave(&mut self, pid: ProcessId, order: u64) {
        let process = &mut self.processes[pid];
        if process.parent.is_some() {
            process.received -= 1;
            process.taken -= 1;
            for later in process.fds.iter_mut().flatten().filter_map(|e| e.received.as_mut()) {
                *later -= u64::from(*later > order);
            }
        }
    }

    pub(super) fn spawn(
        &mut self,
        parent: ProcessId,
        plan: &WorkerPlan<'_>,
    ) -> Result<Child, Errno> {
        if self.room(parent) < 2 {
            return Err(Errno::NoFds);
        }
        if self.prng.chance(self.faults.fork_refused) {
            let memory = self.prng.chance(Ratio::new(1, 2));
            return Err(if memory { Errno::NoBuffers } else { Errno::Again });
        }
        let name = format!("worker {}.{}", plan.slot, plan.generation);
        let pid = self.process(name, Some(parent));
        self.processes[pid].line = Some(plan.line);
        let (ours, theirs) = self.channel();
        let pidfd = self.file(Body::Pidfd(pid));
        let channel = self.install(pid, theirs, None)?;
        let signals = self.file(Body::Signals(BTreeSet::new()));
        let signals = self.install(pid, signals, None)?;
        let mut listeners = Vec::new();
        for (index, fd) in plan.listeners {
            let file = self.of(parent, fd);
            self.hold(file);
            listeners.push((*index, self.install(pid, file, None)?));
        }
        let slow = self.prng.chance(self.faults.boot_slow);
        let at = self.now + if slow { self.prng.range(BOOT_NS, BOOT_SLOW_NS_MAX) } else { BOOT_NS };
        let (slot, generation, epoch, line) = (plan.slot, plan.generation, plan.epoch, plan.line);
        self.note(parent, None, format_args!("spawn {slot}.{generation}"));
        self.boots.push(Boot {
            pid,
            at,
            slot,
            generation,
            epoch,
            line,
            channel,
            signals,
            listeners,
            purpose: plan.purpose,
            settings: plan.settings.to_vec(),
        });
        let pidfd = self.install(parent, pidfd, None)?;
        let channel = self.install(parent, ours, None)?;
        Ok(Child { pid: u32::try_from(pid).unwrap_or(u32::MAX), pidfd, channel })
    }

    /// The process that a pidfd stands for.
    pub(super) fn process_of(&self, pid: ProcessId, pidfd: &Fd) -> ProcessId {
        match self.body(self.of(pid, pidfd)) {
            Some(Body::Pidfd(target)) => *target,
            other => panic!("{other:?} is no pidfd"),
        }
    }

    /// A signal reaches the process's signal descriptor, or does what it does by default.
    pub(super) fn signal(&mut self, target: ProcessId, signal: Signal) -> Result<(), Errno> {
        if self.processes[target].exit().is_some() {
            return Err(Errno::Gone);
        }
        match signal {
            Signal::Kill => self.end(target, KILLED),
            // One that is stopped hears it when it goes on.
            Signal::Abort if self.processes[target].stopped_until > self.now => {
                self.processes[target].aborted = true;
            }
            Signal::Abort => self.end(target, ABORTED),
            Signal::Term if self.notify(target, SIGTERM.unsigned_abs()) => {}
            Signal::Term => self.end(target, Exit::Signal(SIGTERM, false)),
        }
        Ok(())
    }

    /// Makes a signal pending; `false`: the process has no descriptor for signals.
    pub(super) fn notify(&mut self, target: ProcessId, number: u32) -> bool {
        let mut held = self.processes[target].held();
        let found = held.find(|file| matches!(self.body(*file), Some(Body::Signals(_))));
        drop(held);
        let Some(file) = found else { return false };
        if let Some(Body::Signals(pending)) = self.body_mut(file) {
            pending.insert(number);
        }
        self.wake(file, Wake::Readable);
        true
    }

    pub(super) fn reap(&mut self, parent: ProcessId, target: ProcessId) -> Option<Exit> {
        let process = &mut self.processes[target];
        let exit = process.exit()?;
        if std::mem::replace(&mut process.reaped, true) {
            return None;
        }
        let name = process.name.clone();
        self.note(parent, None, format_args!("reap {name}: {exit}"));
        Some(exit)
    }

    /// A process ends. Its descriptors are closed now; what its ring works on only later.
    pub(super) fn end(&mut self, pid: ProcessId, exit: Exit) {
        if self.processes[pid].exit().is_some() {
            return;
        }
        self.note(pid, None, format_args!("end: {exit}"));
        let until = self.now + self.prng.range(0, TEARDOWN_NS_MAX);
        self.processes[pid].phase = Phase::Dying { exit, until };
        self.boots.retain(|boot| boot.pid != pid);
        self.count_uncounted(pid);
        self.excuse(pid);
        self.close_all(pid);
        for op in self.processes[pid].ring.take_queued() {
            op.files().for_each(|file| self.release(file));
        }
        if let Some(parent) = self.processes[pid].parent {
            self.notify(parent, SIGCHLD);
        }
        let pidfds = |file: &Option<super::kernel::File>| {
            let body = file.as_ref().map(|file| &file.body);
            matches!(body, Some(Body::Pidfd(of)) if *of == pid)
        };
        for file in (0..self.files.len()).filter(|at| pidfds(&self.files[*at])).collect::<Vec<_>>()
        {
            self.wake(file, Wake::Readable);
        }
    }

    /// A worker's line on the board.
    pub(super) fn line(&self, pid: ProcessId) -> Option<Line> {
        Some(self.board?.line(self.processes[pid].line?))
    }

    /// [`Bug::LostRevocation`]: the master has turned, and workers see nothing of what it revoked.
    pub(super) fn lose_revocations(&self) {
        if let (Some(Bug::LostRevocation), Some(board)) = (self.bug, self.board) {
            (0..board.lines()).for_each(|line| board.line(line).reinstate());
        }
    }

    /// How many connections that it was handed a worker has counted.
    fn counted(&self, pid: ProcessId) -> u64 {
        self.line(pid).map_or(0, |line| line.get(Counter::Received))
    }

    /// What it accepted and had not said when it died: nobody can know of it.
    fn count_uncounted(&mut self, pid: ProcessId) {
        let Some(line) = self.line(pid) else { return };
        let process = &self.processes[pid];
        let own = line.get(Counter::Adopted).saturating_sub(line.get(Counter::Received));
        self.uncounted += (process.taken - process.received).saturating_sub(own);
    }

    /// The connections that die with a worker: what it accepted by itself, and what it was handed
    /// and has counted. All others are the master's to give to somebody else.
    fn excuse(&mut self, pid: ProcessId) {
        let Some(line) = self.line(pid) else { return };
        let counted = line.get(Counter::Received);
        for entry in self.processes[pid].fds.iter().flatten() {
            let is_its_own = entry.received.is_none_or(|order| order <= counted);
            if is_its_own
                && !entry.given
                && let Some(connection) = self.connection(entry.file)
            {
                self.excused.insert(connection);
            }
        }
    }

    /// A dead process's ring: runs on what it was waiting for, then goes.
    pub(super) fn run_dying(&mut self, pid: ProcessId) {
        let Phase::Dying { exit, until } = self.processes[pid].phase else { return };
        let mut memory = vec![Vec::new(); usize::from(self.sizes.buffers)];
        self.run_ready(pid, &mut memory);
        self.processes[pid].ring.done.clear();
        if self.now < until {
            return;
        }
        self.processes[pid].phase = Phase::Gone(exit);
        self.close_all(pid); // what it went on accepting and receiving
        for op in self.processes[pid].ring.take_armed() {
            op.files().for_each(|file| self.release(file));
        }
        self.processes[pid].ring.owned.clear();
        self.note(pid, None, format_args!("ring gone"));
    }

    fn close_all(&mut self, pid: ProcessId) {
        for entry in std::mem::take(&mut self.processes[pid].fds).into_iter().flatten() {
            self.release(entry.file);
        }
    }
}
