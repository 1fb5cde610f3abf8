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
                Body::Listener(listener) => {
                    listener.backlog.iter().for_each(|(f, _)| counted[*f] += 1);
                }
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

    /// No arrival waits in a backlog for longer than this: no queue is without a reader.
    pub(super) fn check_backlogs(&self, nanos: u64) -> Result<(), String> {
        for file in self.files.iter().flatten() {
            if let Body::Listener(listener) = &file.body
                && let Some((server, since)) = listener.backlog.front()
                && self.now - since > nanos
            {
                let connection = self.connection(*server);
                return Err(format!("connection {connection:?} waits to be accepted"));
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

    /// The connections a process holds descriptors of, and has not given back.
    pub(super) fn streams(&self, pid: ProcessId) -> u64 {
        let is_stream = |file: FileId| matches!(self.body(file), Some(Body::Stream(_)));
        let entries = self.processes[pid].fds.iter().flatten();
        entries.filter(|entry| !entry.given && is_stream(entry.file)).count() as u64
    }

    /// The ledger of one worker's life: adopted = served + refused + cut + handed back + open,
    /// adopted is what the kernel gave it, and open is what it holds.
    pub(super) fn check_ledger(&self, pid: ProcessId, line: Line) -> Result<(), String> {
        let process = &self.processes[pid];
        let by_reason: u64 = CloseReason::ALL.iter().map(|reason| line.closed_for(*reason)).sum();
        let [adopted, closed, received, back] =
            [Counter::Adopted, Counter::Closed, Counter::Received, Counter::HandedBack]
                .map(|counter| line.get(counter));
        // Counted as handed back: those that wait for the channel are still here, or were closed
        // because the channel is gone.
        let open = adopted - closed - back;
        let waiting = back.saturating_sub(process.given);
        let held = self.streams(pid);
        let balanced = closed == by_reason
            && adopted == process.taken
            && received == process.received
            && (open..=open + waiting).contains(&held);
        if balanced {
            return Ok(());
        }
        Err(format!(
            "the ledger of {} does not balance: adopted {adopted} of {}, received {received} of {}, closed {closed} for {by_reason} reasons, handed back {back}, holds {held}",
            process.name, process.taken, process.received
        ))
    }
}
