//! A process becomes another program: its descriptors stay as far as they were written down, its
//! ring ends, and whatever runs then knows only the text.

use super::kernel::{Body, Kernel, ProcessId};
use super::ring::Ring;
use super::{Stepper, Violation, World};
use crate::io::Fd;
use crate::ipc::manifest::{Core, Manifest};
use std::collections::BTreeSet;

/// Unwinds out of the call in which a process became another program, with what it wrote down; only
/// the world catches it.
pub(super) struct Exec(pub(super) String);

/// How the next program is run: what was written down, and its signal descriptor.
pub type NextProgram = Box<dyn FnMut(Kernel, &Core, Fd) -> Box<dyn Stepper>>;

impl World {
    /// What a master becomes that upgrades.
    pub fn programs(&mut self, next: NextProgram) {
        self.next_program = next;
    }

    /// # Difference to Linux
    ///
    /// An operation that is under way would end with the ring, and what it has done be lost: here
    /// it is a violation. So is a connection that is open and was not written down.
    pub(super) fn exec(&mut self, pid: ProcessId, text: &str) -> Result<(), Violation> {
        let wrong = |what: &str| Violation(format!("process {pid} execs: {what}"));
        let core = Core::decode(text).ok_or_else(|| wrong("its text cannot be read"))?;
        let manifest = Manifest { core, ..Manifest::default() };
        let kept = manifest.descriptors();
        let mut state = self.state.borrow_mut();
        state.note(pid, None, format_args!("exec"));
        if let Some(token) = state.processes[pid].ring.under_way() {
            return Err(wrong(&format!("{token:?} is under way")));
        }
        let mut pending = BTreeSet::new();
        for at in 0..state.processes[pid].fds.len() {
            let Some(entry) = state.processes[pid].fds[at] else { continue };
            if i32::try_from(at).is_ok_and(|fd| kept.contains(&fd)) {
                continue;
            }
            match state.body(entry.file) {
                Some(Body::Stream(_)) => return Err(wrong("it forgets a connection")),
                // Signals that nobody has read stay pending with the process.
                Some(Body::Signals(signals)) => pending.extend(signals.iter().copied()),
                _ => {}
            }
            state.processes[pid].fds[at] = None;
            state.release(entry.file);
        }
        let buffers = state.sizes.buffers;
        state.processes[pid].ring = Ring::new(buffers);
        let signals = state.file(Body::Signals(pending));
        let signals = state.install(pid, signals, None).map_err(|_| wrong("no descriptor"))?;
        drop(state);
        let next = (self.next_program)(Kernel::new(&self.state, pid), &manifest.core, signals);
        self.start(pid, next);
        Ok(())
    }
}
