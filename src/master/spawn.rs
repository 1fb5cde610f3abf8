//! Supervision, its beginning: who is forked, with which listeners and settings.

use super::supervise::Process;
use super::workers::Wanted;
use super::{Master, MasterListener};
use crate::config::Mode;
use crate::event::Event;
use crate::io::{Batch, Child, Errno, Fd, Instant, Io, Processes, Purpose, WorkerPlan};

impl<I: Io + Processes> Master<I> {
    pub(super) fn spawn(
        &mut self,
        slot: u32,
        generation: u32,
        line: u32,
        wanted: Wanted,
        now: Instant,
    ) {
        let Wanted { epoch, purpose } = wanted;
        let settings = self.ops.epochs.settings(epoch);
        let shared = settings.mode == Mode::Shared && purpose.serves();
        let config = settings.config(&self.ops.base);
        let connections_max = config.unwrap_or_else(|_| self.ops.base.clone()).connections_max();
        if shared {
            self.complete_listeners(slot);
        }
        self.board.line(line).begin(slot, generation, epoch);
        let reads = shared && !self.sockets.of_slot(slot).is_empty();
        let (child, mail) = match self.fork(slot, generation, line, wanted, reads) {
            Ok(spawned) => spawned,
            Err(errno) if purpose == Purpose::Serve => {
                let delay = self.workers.spawn_refused(slot, now);
                (self.events)(&Event::SpawnRefused { slot, errno, delay });
                return;
            }
            Err(errno) => {
                let why = format!("cannot fork: {errno}");
                return self.candidate_refused(slot, purpose, &why, now);
            }
        };
        let pid = child.pid;
        match purpose {
            Purpose::Serve => self.workers.spawned(slot, line, now),
            Purpose::Succeed | Purpose::Check | Purpose::Upgrade => {
                self.workers.candidate_spawned(slot, line, wanted, now);
            }
        }
        self.ledger.begin(line);
        let process = fresh(child, generation, reads, connections_max);
        self.processes.insert(line, process);
        self.receive(line);
        self.open_words(line);
        if let Some(mail) = mail {
            self.open_post(line, mail);
        }
        if purpose.serves() {
            (self.events)(&Event::WorkerSpawned { slot, generation, pid });
        }
    }

    /// The process, and our end of its stream for application messages, if the pool has any. For a
    /// moment it takes one descriptor more than the worker before has left: the reserve.
    fn fork(
        &mut self,
        slot: u32,
        generation: u32,
        line: u32,
        wanted: Wanted,
        reads: bool,
    ) -> Result<(Child, Option<Fd>), Errno> {
        let mut forked = self.try_fork(slot, generation, line, wanted, reads);
        if matches!(forked, Err(Errno::NoFds))
            && let Some(reserve) = self.accepting.reserve.take()
        {
            self.io.close(reserve);
            forked = self.try_fork(slot, generation, line, wanted, reads);
            self.accepting.reserve = self.io.spare().ok();
        }
        forked
    }

    fn try_fork(
        &mut self,
        slot: u32,
        generation: u32,
        line: u32,
        wanted: Wanted,
        reads: bool,
    ) -> Result<(Child, Option<Fd>), Errno> {
        let Wanted { epoch, purpose } = wanted;
        let listeners = if reads { self.sockets.of_slot(slot) } else { &[] };
        let settings = &self.ops.epochs.settings(epoch).options;
        let mail = self.mail.as_ref().filter(|_| purpose.serves());
        let (ours, theirs) = mail.map(|_| self.io.stream_pair()).transpose()?.unzip();
        let mail = theirs.as_ref();
        let handover =
            if purpose == Purpose::Upgrade { self.save().encode() } else { String::new() };
        let plan = WorkerPlan {
            slot,
            generation,
            epoch,
            line,
            listeners,
            mail,
            purpose,
            settings,
            handover: &handover,
        };
        let spawned = self.io.spawn(plan);
        // The child has a copy.
        if let Some(theirs) = theirs {
            self.io.close(theirs);
        }
        match (spawned, ours) {
            (Err(errno), Some(ours)) => {
                self.io.close(ours);
                Err(errno)
            }
            (spawned, ours) => spawned.map(|child| (child, ours)),
        }
    }

    /// Makes the listeners that a slot lacks, if its worker can be forked then. A central one
    /// becomes the first slot's that asks.
    fn complete_listeners(&mut self, slot: u32) {
        for address in self.ops.groups.clone() {
            if self.sockets.has(slot, address) {
                continue;
            }
            if let Some(place) = self.sockets.assign(address, slot) {
                self.listeners.assign(place, slot);
                continue;
            }
            let made = match self.can_listen_and_fork() {
                true => self.io.listen(address),
                false => Err(Errno::NoFds),
            };
            match made {
                Ok(fd) => {
                    self.listeners.add(Some(slot));
                    self.sockets.add(MasterListener { address, slot: Some(slot), fd });
                }
                // Its worker serves what the master hands over.
                Err(errno) => (self.events)(&Event::ListenFailed { slot, errno }),
            }
        }
    }
}

/// A process that was forked just now.
fn fresh(child: Child, generation: u32, reads: bool, connections_max: u64) -> Process {
    Process {
        generation,
        reads,
        connections_max,
        pid: child.pid,
        pidfd: Some(child.pidfd),
        channel: Some(child.channel),
        abandoned: false,
        receiving: false,
        canceled: false,
        passing: None,
        outbox: Vec::new(),
        control: None,
        retry_at: None,
        short: false,
        resume: false,
        cap: None,
        taken_back: 0,
        dead: false,
        last_words: None,
        batch: Batch::default(),
        marks: Vec::new(),
        post: None,
    }
}
