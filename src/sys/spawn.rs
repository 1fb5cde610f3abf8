//! How the real master starts, signals and reaps its workers.

use super::errno::Failed;
use super::owned;
use super::process::{self, Forked};
use super::ring::Ring;
use super::{arrivals, cgroup, privilege, socket, watch};
use crate::io::{Child, Errno, Exit, Fd, Processes, Signal, Usage, WorkerPlan};

impl Processes for Ring {
    /// Forks. The child runs what [`Ring::set_launch`] was given and ends with its code; it never
    /// touches the master's ring, whose memory it does not even have.
    fn spawn(&mut self, plan: WorkerPlan<'_>) -> Result<Child, Errno> {
        let Some(launch) = &mut self.launch else { return Err(Errno::Denied) };
        let (ours, theirs) = socket::seqpacket_pair()?;
        let theirs_raw = theirs.raw();
        let forked = process::spawn(|| launch(&plan, Fd::new(theirs_raw)));
        socket::close(theirs);
        match forked {
            Ok(Forked { pid, pidfd }) => {
                self.children.insert(pidfd.raw(), pid);
                Ok(Child { pid, pidfd, channel: ours })
            }
            Err(error) => {
                socket::close(ours);
                Err(error.errno())
            }
        }
    }

    fn adopt(&mut self, pid: u32) -> Result<Fd, Errno> {
        let pidfd = process::adopt(pid).map_err(Failed::errno)?;
        self.children.insert(pidfd.raw(), pid);
        Ok(pidfd)
    }

    fn replace(&mut self, handover: &str) -> String {
        match &mut self.replace {
            Some(replace) => replace(handover),
            None => "this pool cannot be replaced".to_owned(),
        }
    }

    fn signal(&mut self, pidfd: &Fd, signal: Signal) -> Result<(), Errno> {
        process::signal(pidfd, signal)
    }

    fn reap(&mut self, pidfd: &Fd) -> Option<Exit> {
        let exit = process::reap(pidfd)?;
        self.children.remove(&pidfd.raw());
        Some(exit)
    }

    fn reap_stranger(&mut self) -> bool {
        process::reap_stranger(|pid| self.children.values().any(|ours| *ours == pid))
    }

    fn stream_pair(&mut self) -> Result<(Fd, Fd), Errno> {
        owned::stream_pair()
    }

    fn spare(&mut self) -> Result<Fd, Errno> {
        socket::spare()
    }

    fn listen(&mut self, address: u16) -> Result<Fd, Errno> {
        self.listen.as_mut().map_or(Err(Errno::Denied), |listen| listen(address))
    }

    fn hold_arrivals(&mut self, listener: &Fd) {
        arrivals::hold(listener);
    }

    fn pair(&mut self) -> Result<(Fd, Fd), Errno> {
        socket::stream_pair()
    }

    fn memory(&mut self, pid: u32, shared_out: bool) -> Option<u64> {
        process::memory(pid, shared_out)
    }

    fn oom_kills(&mut self) -> Option<u64> {
        cgroup::oom_kills()
    }

    fn usage(&mut self, pid: u32) -> Option<Usage> {
        watch::usage(pid)
    }

    fn has_arrivals(&mut self, listener: &Fd) -> bool {
        watch::has_arrivals(listener)
    }

    fn peer_user(&mut self, fd: &Fd) -> Option<u32> {
        privilege::peer_user(fd)
    }
}
