//! What must hold after every step, whatever the engine does. Pure.

use super::kernel::{Body, FileId, ProcessId, State};
use crate::ipc::board::Line;
use crate::stats::{CloseReason, Counter};

impl State {
    /// Every file is referred to exactly as often as it counts: by descriptors, messages on their
    /// way, backlogs, operations, and by `others` (clients). None is lost, none is kept.
    pub(super) fn check_files(&self, others: impl Iterator<Item = FileId>) -> Result<(), String> {
        let mut counted = vec![0; self.files.len()];
        let held = self.processes.iter().flat_map(|process| process.held());
        let armed = self.processes.iter().flat_map(|process| process.ring.files());
        held.chain(armed).chain(others).for_each(|file| counted[file] += 1);
        for file in self.files.iter().flatten() {
            match &file.body {
                Body::Listener(listener) => listener.backlog.iter().for_each(|f| counted[*f] += 1),
                Body::Channel(channel) => channel.carried().for_each(|f| counted[f] += 1),
                Body::Stream(_) | Body::Signals(_) | Body::Pidfd(_) | Body::Null => {}
            }
        }
        for (id, (file, counted)) in self.files.iter().zip(counted).enumerate() {
            let refs = file.as_ref().map_or(0, |file| file.refs);
            if refs != counted {
                return Err(format!(
                    "file {id} counts {refs} references and has {counted}: {file:?}"
                ));
            }
        }
        Ok(())
    }

    /// A process that goes to sleep holds no provided buffer, and has reclaimed what finished.
    pub(super) fn check_sleeper(&self, pid: ProcessId) -> Result<(), String> {
        let process = &self.processes[pid];
        let held = process.ring.lent.iter().filter(|lent| **lent).count();
        if held > 0 {
            return Err(format!("{} sleeps on {held} provided buffers", process.name));
        }
        if let Some((token, _)) = process.ring.owned.first_key_value() {
            return Err(format!("{} never reclaimed {token:?}", process.name));
        }
        Ok(())
    }

    /// The connections a process holds descriptors of.
    pub(super) fn streams(&self, pid: ProcessId) -> u64 {
        let is_stream = |file: &FileId| matches!(self.body(*file), Some(Body::Stream(_)));
        self.processes[pid].held().filter(is_stream).count() as u64
    }

    /// The ledger of one worker's life: adopted = served + refused + cut + open, adopted is what
    /// the kernel gave it, and open is what it holds.
    pub(super) fn check_ledger(&self, pid: ProcessId, line: Line) -> Result<(), String> {
        let process = &self.processes[pid];
        let by_reason: u64 = CloseReason::ALL.iter().map(|reason| line.closed_for(*reason)).sum();
        let [adopted, closed, received] =
            [Counter::Adopted, Counter::Closed, Counter::Received].map(|counter| line.get(counter));
        let held = self.streams(pid);
        let balanced = closed == by_reason
            && (process.truncated || adopted == process.taken)
            && (process.truncated || received == process.received)
            && adopted - closed == held;
        if balanced {
            return Ok(());
        }
        Err(format!(
            "the ledger of {} does not balance: adopted {adopted} of {}, received {received} of {}, closed {closed} for {by_reason} reasons, holds {held}",
            process.name, process.taken, process.received
        ))
    }
}
