//! What only the master asks of the simulated kernel: processes, and what it makes for them.

use super::exec::Exec;
use super::kernel::{Body, Kernel};
use super::net::Listener;
use crate::io::{Child, Errno, Exit, Fd, Processes, RunState, Signal, Usage, WorkerPlan};
use std::time::Duration;

impl Processes for Kernel {
    fn spawn(&mut self, plan: WorkerPlan<'_>) -> Result<Child, Errno> {
        self.call();
        self.state.borrow_mut().spawn(self.pid, &plan)
    }

    fn signal(&mut self, pidfd: &Fd, signal: Signal) -> Result<(), Errno> {
        self.call();
        let mut state = self.state.borrow_mut();
        let target = state.process_of(self.pid, pidfd);
        state.signal(target, signal)
    }

    fn reap(&mut self, pidfd: &Fd) -> Option<Exit> {
        self.call();
        let mut state = self.state.borrow_mut();
        let target = state.process_of(self.pid, pidfd);
        state.reap(self.pid, target)
    }

    /// # Difference to Linux
    ///
    /// There are no strangers here.
    fn reap_stranger(&mut self) -> bool {
        false
    }

    /// Application messages are not simulated: a master with mail is run on the real kernel.
    fn stream_pair(&mut self) -> Result<(Fd, Fd), Errno> {
        Err(Errno::Denied)
    }

    fn spare(&mut self) -> Result<Fd, Errno> {
        self.call();
        let mut state = self.state.borrow_mut();
        let file = state.file(Body::Null);
        state.install(self.pid, file, None).inspect_err(|_| state.release(file))
    }

    /// # Difference to Linux
    ///
    /// A pool has one address here, and all listeners are of its group.
    fn listen(&mut self, _: u16) -> Result<Fd, Errno> {
        self.call();
        let mut state = self.state.borrow_mut();
        let file = state.file(Body::Listener(Listener::default()));
        let fd = state.install(self.pid, file, None).inspect_err(|_| state.release(file))?;
        state.listeners.push(file);
        Ok(fd)
    }

    fn hold_arrivals(&mut self, listener: &Fd) {
        self.call();
        let mut state = self.state.borrow_mut();
        let listener = state.of(self.pid, listener);
        if let Some(Body::Listener(found)) = state.body_mut(listener) {
            found.held = true;
        }
    }

    fn pair(&mut self) -> Result<(Fd, Fd), Errno> {
        self.call();
        self.state.borrow_mut().own_pair(self.pid)
    }

    /// # Difference to Linux
    ///
    /// Memory is not simulated.
    fn memory(&mut self, _: u32, _: bool) -> Option<u64> {
        None
    }

    /// # Difference to Linux
    ///
    /// A turn takes no time: nobody is ever seen running.
    fn usage(&mut self, pid: u32) -> Option<Usage> {
        self.call();
        let state = self.state.borrow();
        let process = state.processes.get(usize::try_from(pid).ok()?)?;
        let stopped = process.stopped_until > state.now;
        let state = if stopped { RunState::Stopped } else { RunState::Waiting };
        Some(Usage { state, cpu: Duration::ZERO })
    }

    fn has_arrivals(&mut self, listener: &Fd) -> bool {
        self.call();
        let state = self.state.borrow();
        let body = state.body(state.of(self.pid, listener));
        matches!(body, Some(Body::Listener(listener)) if !listener.backlog.is_empty())
    }

    fn adopt(&mut self, pid: u32) -> Result<Fd, Errno> {
        self.call();
        let mut state = self.state.borrow_mut();
        let target = usize::try_from(pid).map_err(|_| Errno::Gone)?;
        let file = state.file(Body::Pidfd(target));
        state.install(self.pid, file, None).inspect_err(|_| state.release(file))
    }

    fn replace(&mut self, handover: &str) -> String {
        self.call();
        let mut state = self.state.borrow_mut();
        let refused = state.faults.fork_refused;
        if state.prng.chance(refused) {
            return "no memory".to_owned();
        }
        drop(state);
        std::panic::resume_unwind(Box::new(Exec(handover.to_owned())))
    }

    /// # Difference to Linux
    ///
    /// There is one user, root.
    fn peer_user(&mut self, _: &Fd) -> Option<u32> {
        Some(0)
    }
}
