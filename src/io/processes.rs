//! The part of the seam that only a master needs: workers as processes.

use super::{Errno, Fd};
use std::fmt;
use std::time::Duration;

/// Which worker a master wants.
#[derive(Debug)]
pub struct WorkerPlan<'a> {
    /// Which slot it will fill.
    pub slot: u32,
    /// How often this slot was filled before: 0 for the first.
    pub generation: u32,
    /// Which reload it belongs to.
    pub epoch: u32,
    /// Its line on the board.
    pub line: u32,
    /// The listeners of its slot, by index into the pool's addresses; empty in centralized mode.
    /// They stay the master's: the worker gets copies.
    pub listeners: &'a [(u16, Fd)],
    /// Its end of a stream for application messages, if the pool has any; it gets a copy.
    pub mail: Option<&'a Fd>,
    /// What it is for.
    pub purpose: Purpose,
    /// The options of its epoch that differ from those the pool began with: name and value.
    pub settings: &'a [(String, String)],
    /// Of one that tries the next program: what that would take over (`ipc::manifest`).
    pub handover: &'a str,
}

/// What a worker process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It serves from the moment it is ready.
    Serve,
    /// It is to succeed another: it leaves its listeners alone until it is told to serve.
    Succeed,
    /// It reads the configuration anew, says what it found, and exits; it never serves.
    Check,
    /// It becomes the program on disk, which says whether it could take over, and exits.
    Upgrade,
}

impl Purpose {
    /// Whether it is a worker.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Serve | Self::Succeed)
    }
}

/// A worker that was spawned, as the master holds it.
#[derive(Debug)]
pub struct Child {
    /// Its number, for logs; never used to signal.
    pub pid: u32,
    /// What it is signalled and reaped by (pidfd_open(2)).
    pub pidfd: Fd,
    /// Our end of its channel (SOCK_SEQPACKET).
    pub channel: Fd,
}

/// How a process ended (wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with a code.
    Code(i32),
    /// By a signal; with a core dump or not.
    Signal(i32, bool),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal, dumped) => {
                write!(f, "signal {signal}")?;
                if let Some((_, name)) = SIGNALS.iter().find(|(number, _)| number == signal) {
                    write!(f, " (SIG{name})")?;
                }
                f.write_str(if *dumped { ", core dumped" } else { "" })
            }
        }
    }
}

/// The signals that end a process (signal(7)), as they are numbered on all of our machines.
const SIGNALS: [(i32, &str); 16] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (4, "ILL"),
    (5, "TRAP"),
    (6, "ABRT"),
    (7, "BUS"),
    (8, "FPE"),
    (9, "KILL"),
    (11, "SEGV"),
    (13, "PIPE"),
    (14, "ALRM"),
    (15, "TERM"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (31, "SYS"),
];

/// What the master sends to a worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Finish and leave.
    Term,
    /// End with a core dump, where the system makes them.
    Abort,
    /// Now.
    Kill,
}

/// What a process does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It is on a CPU, or waits for one.
    Running,
    /// It waits for something else.
    Waiting,
    /// It was stopped by a signal.
    Stopped,
    /// A debugger holds it.
    Traced,
}

impl RunState {
    /// As part of a sentence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "blocked",
            Self::Stopped => "stopped",
            Self::Traced => "traced",
        }
    }
}

/// What a process does, and how long it was on a CPU so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What it does.
    pub state: RunState,
    /// On a CPU, in user and kernel mode.
    pub cpu: Duration,
}

/// What only the master asks of the kernel.
pub trait Processes {
    /// Starts a worker. In the child it never returns.
    fn spawn(&mut self, plan: WorkerPlan<'_>) -> Result<Child, Errno>;
    /// A worker that an earlier program of this process spawned: its pidfd.
    fn adopt(&mut self, pid: u32) -> Result<Fd, Errno>;
    /// Becomes the program on disk, which takes over what this text says (`ipc::manifest`). No
    /// operation may be under way. It returns only when that failed, and why.
    fn replace(&mut self, handover: &str) -> String;
    /// Sends a signal through the pidfd, so never to a stranger with the same number.
    fn signal(&mut self, pidfd: &Fd, signal: Signal) -> Result<(), Errno>;
    /// How it ended, if it has; it is gone from the process table then (`waitid(P_PIDFD)`).
    fn reap(&mut self, pidfd: &Fd) -> Option<Exit>;
    /// Reaps one foreign child (as PID 1 only); `false` when there is none.
    fn reap_stranger(&mut self) -> bool;
    /// Both ends of a stream for application messages.
    fn stream_pair(&mut self) -> Result<(Fd, Fd), Errno>;
    /// A descriptor that stands for nothing: the reserve to be closed when descriptors run out.
    fn spare(&mut self) -> Result<Fd, Errno>;
    /// One more listener in the group of this address, by index into the pool's addresses.
    fn listen(&mut self, address: u16) -> Result<Fd, Errno>;
    /// Nobody joins this listener's queue any more, whoever holds it; those in it can be accepted.
    /// Who comes is refused, at the latest when the listener is shut down.
    fn hold_arrivals(&mut self, listener: &Fd);
    /// Two ends of a new connection: ours, and one to be handed to a worker.
    fn pair(&mut self) -> Result<(Fd, Fd), Errno>;
    /// Bytes of memory that a worker (by its number: it is not reaped) has resident; `shared_out`:
    /// each shared page counts for its share only (PSS). `None`: the kernel does not say.
    fn memory(&mut self, pid: u32, shared_out: bool) -> Option<u64>;
    /// How many processes of our control group the kernel has killed for want of memory; `None`:
    /// nobody can say.
    fn oom_kills(&mut self) -> Option<u64> {
        None
    }
    /// What a worker (by its number: it is not reaped) does now. `None`: the kernel does not say.
    fn usage(&mut self, pid: u32) -> Option<Usage>;
    /// Where in the kernel a worker is; empty: nowhere, or the kernel does not say.
    fn place(&mut self, _pid: u32) -> String {
        String::new()
    }
    /// Connections of a worker on which nobody has read or written a byte, accepted on one of these
    /// ports, and `most` of them: copies, each with its port.
    fn untouched(
        &mut self,
        _pid: u32,
        _pidfd: &Fd,
        _ports: &[u16],
        _most: usize,
    ) -> Result<Vec<(u16, Fd)>, Errno> {
        Ok(Vec::new())
    }
    /// Whether that is still so.
    fn is_untouched(&mut self, _fd: &Fd) -> bool {
        false
    }
    /// Where to read what a worker that was just spawned writes to standard error; `None`: it
    /// writes to ours.
    fn stderr(&mut self, _pid: u32) -> Option<Fd> {
        None
    }
    /// Writes to our standard error, as far as that takes it at once.
    fn pass_on(&mut self, _bytes: &[u8]) {}
    /// Whether arrivals wait in a listener's queue (poll(2), without waiting).
    fn has_arrivals(&mut self, listener: &Fd) -> bool;
    /// Which user is at the other end of a Unix socket (SO_PEERCRED); `None`: nobody can say.
    fn peer_user(&mut self, fd: &Fd) -> Option<u32>;
}
