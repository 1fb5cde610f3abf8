//! How the real master starts, signals and reaps its workers.

use super::errno::Failed;
use super::owned;
use super::process::{self, Forked};
use super::ring::Ring;
use super::{arrivals, cgroup, privilege, rescue, socket, watch, words};
use crate::io::{Child, Errno, Exit, Fd, Processes, Signal, Usage, WorkerPlan};

impl Processes for Ring {
    /// Forks. The child runs what [`Ring::set_launch`] was given and ends with its code; it never
    /// touches the master's ring, whose memory it does not even have.
    fn spawn(&mut self, plan: WorkerPlan<'_>) -> Result<Child, Errno> {
        let Some(launch) = &mut self.launch else { return Err(Errno::Denied) };
        let (ours, theirs) = socket::seqpacket_pair()?;
        let theirs_raw = theirs.raw();
        let pipe = (self.captures && plan.purpose.serves()).then(words::pipe).transpose();
        let pipe = pipe.inspect_err(|_| {
            socket::close(Fd::new(ours.raw()));
            socket::close(Fd::new(theirs_raw));
        })?;
        let ends = pipe.as_ref().map(|(ours, theirs)| (ours.raw(), theirs.raw()));
        let forked = process::spawn(|| {
            if let Some((read, write)) = ends {
                // Where it fails, nobody reads what the worker says.
                let _ = words::begin(write, read);
            }
            launch(&plan, Fd::new(theirs_raw))
        });
        socket::close(theirs);
        let read = pipe.map(|(read, write)| {
            socket::close(write);
            read
        });
        match forked {
            Ok(Forked { pid, pidfd }) => {
                self.children.insert(pidfd.raw(), pid);
                self.stderrs.extend(read.map(|read| (pid, read)));
                Ok(Child { pid, pidfd, channel: ours })
            }
            Err(error) => {
                read.into_iter().for_each(socket::close);
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

    fn place(&mut self, pid: u32) -> String {
        watch::place(pid)
    }

    fn untouched(
        &mut self,
        pid: u32,
        pidfd: &Fd,
        ports: &[u16],
        most: usize,
    ) -> Result<Vec<(u16, Fd)>, Errno> {
        rescue::untouched(pid, pidfd, ports, most)
    }

    fn is_untouched(&mut self, fd: &Fd) -> bool {
        rescue::is_untouched(fd)
    }

    fn stderr(&mut self, pid: u32) -> Option<Fd> {
        self.stderrs.remove(&pid)
    }

    fn pass_on(&mut self, bytes: &[u8]) {
        words::pass_on(bytes);
    }

    fn has_arrivals(&mut self, listener: &Fd) -> bool {
        watch::has_arrivals(listener)
    }

    fn peer_user(&mut self, fd: &Fd) -> Option<u32> {
        privilege::peer_user(fd)
    }
}
