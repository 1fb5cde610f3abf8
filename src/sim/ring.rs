//! A ring: operations are queued, armed, woken and run, and complete inside `wait` only.

use super::kernel::{Body, FileId, ProcessId, State};
use super::prng::Ratio;
use crate::io::{Buf, Bytes, Completion, Errno, Kind, Owned, SendNow, Token};
use std::collections::BTreeMap;

/// One process's ring.
#[derive(Debug)]
pub(super) struct Ring {
    /// Submitted; the kernel sees them at the next `wait`.
    queued: Vec<InFlight>,
    armed: Vec<InFlight>,
    pub(super) done: Vec<Completion>,
    /// What finished operations owned, until it is reclaimed.
    pub(super) owned: BTreeMap<Token, Owned>,
    /// Which provided buffers the process holds.
    pub(super) lent: Vec<bool>,
}

/// An operation between its submission and its last completion.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) token: Token,
    /// The descriptor and the file it meant at submission.
    pub(super) target: Option<(i32, FileId)>,
    pub(super) work: Work,
    /// Who armed first is woken first.
    pub(super) serial: u64,
    /// When it runs; `None`: it sleeps.
    pub(super) ready: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Work {
    Accept,
    Poll,
    Recv,
    Send {
        bytes: Bytes,
        offset: usize,
    },
    /// Files are not modelled: it fails.
    Write {
        bytes: Bytes,
        offset: usize,
    },
    Pass(crate::io::Batch),
    Receive,
    Read(Box<[u8]>),
    /// The server's end, while it is on its way to a listener.
    Connect(Option<FileId>),
    Cancel(Token),
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    Readable,
    Writable,
}

/// Whether an operation stays armed.
type Stays = bool;

const SIGINFO_BYTES: usize = 128; // struct signalfd_siginfo, signalfd(2)
const EINVAL: i32 = 22;
const SEGMENT: usize = 1024;
const DELAY_NS_MAX: u64 = 5_000_000;
const SYN_AGAIN_NS: u64 = 1_000_000_000;

impl InFlight {
    /// The files it refers to.
    pub(super) fn files(&self) -> impl Iterator<Item = FileId> + use<> {
        let server = if let Work::Connect(server) = self.work { server } else { None };
        self.target.map(|(_, file)| file).into_iter().chain(server)
    }
}

impl Ring {
    pub(super) fn new(buffers: u16) -> Self {
        let lent = vec![false; usize::from(buffers)];
        let (queued, armed, done) = (Vec::new(), Vec::new(), Vec::new());
        Self { queued, armed, done, owned: BTreeMap::new(), lent }
    }

    /// When the next operation of this ring runs.
    pub(super) fn due(&self) -> Option<u64> {
        if !self.queued.is_empty() || !self.done.is_empty() {
            return Some(0);
        }
        self.armed.iter().filter_map(|op| op.ready).min()
    }

    /// An operation whose last completion was not seen, apart from cancellations.
    pub(super) fn under_way(&self) -> Option<Token> {
        let in_flight = self.queued.iter().chain(&self.armed).map(|op| op.token);
        let all = in_flight.chain(self.done.iter().map(|completion| completion.token));
        all.into_iter().find(|token| token.kind != Kind::Cancel)
    }

    /// The files that operations refer to.
    pub(super) fn files(&self) -> impl Iterator<Item = FileId> {
        self.queued.iter().chain(&self.armed).flat_map(InFlight::files)
    }

    /// What the kernel never saw, and what it still works on.
    pub(super) fn take_queued(&mut self) -> Vec<InFlight> {
        std::mem::take(&mut self.queued)
    }

    pub(super) fn take_armed(&mut self) -> Vec<InFlight> {
        std::mem::take(&mut self.armed)
    }
}

impl State {
    pub(super) fn queue(&mut self, pid: ProcessId, op: InFlight) {
        let ring = &self.processes[pid].ring;
        let twice = ring.queued.iter().chain(&ring.armed).any(|other| other.token == op.token);
        let idle = matches!(op.work, Work::Cancel(_));
        assert!(idle || !twice, "{:?} is submitted while it is in flight", op.token);
        if let Some((_, file)) = op.target {
            self.hold(file);
        }
        self.processes[pid].ring.queued.push(op);
    }

    /// Wakes who waits for this: all receives, sends and polls, but of several accepts on one
    /// listener only the one that was armed first, whether its process runs or not.
    pub(super) fn wake(&mut self, file: FileId, wake: Wake) {
        let on_it = |op: &InFlight| op.target.is_some_and(|(_, target)| target == file);
        let armed = self.processes.iter().flat_map(|process| &process.ring.armed);
        let accepts = armed.filter(|op| on_it(op) && matches!(op.work, Work::Accept));
        let first = accepts.map(|op| op.serial).min();
        for op in self.processes.iter_mut().flat_map(|process| &mut process.ring.armed) {
            let sends = matches!(op.work, Work::Send { .. });
            let wants = if sends { Wake::Writable } else { Wake::Readable };
            let passed_over = matches!(op.work, Work::Accept) && Some(op.serial) != first;
            if on_it(op) && wants == wake && !passed_over && op.ready.is_none() {
                let late = self.prng.chance(self.faults.delay);
                let delay = if late { self.prng.range(1, DELAY_NS_MAX) } else { 0 };
                op.ready = Some(self.now + delay);
            }
        }
    }

    /// Runs what was woken, in any order.
    pub(super) fn run_ready(&mut self, pid: ProcessId, memory: &mut [Vec<u8>]) {
        loop {
            let now = self.now;
            let armed = &self.processes[pid].ring.armed;
            let is_due = |op: &InFlight| op.ready.is_some_and(|ready| ready <= now);
            let due: Vec<usize> = (0..armed.len()).filter(|&at| is_due(&armed[at])).collect();
            if due.is_empty() {
                return;
            }
            let at = due[self.prng.index(due.len())];
            let op = self.processes[pid].ring.armed.swap_remove(at);
            self.run(pid, op, memory);
        }
    }

    /// The kernel takes what was submitted, in order.
    pub(super) fn start_queued(&mut self, pid: ProcessId, memory: &mut [Vec<u8>]) {
        for op in self.processes[pid].ring.take_queued() {
            if let Some((fd, file)) = op.target {
                let still = self.of(pid, &crate::io::Fd::new(fd)) == file;
                assert!(still, "descriptor {fd} of {:?} is another one by now", op.token);
            }
            if let Work::Cancel(target) = op.work {
                self.cancel(pid, target);
            } else {
                self.run(pid, op, memory);
            }
        }
    }

    /// An answer inside `wait`, with MSG_DONTWAIT and MSG_WAITALL.
    pub(super) fn send_now(&mut self, pid: ProcessId, send: &SendNow<'_>) {
        let file = self.of(pid, send.fd);
        let busy = self.processes[pid].ring.armed.iter().any(|op| {
            matches!(op.work, Work::Send { .. }) && op.target.is_some_and(|(_, at)| at == file)
        });
        assert!(!busy, "{:?}: two sends in flight on one connection", send.token);
        let total = send.head.len() + send.body.len();
        assert!(total > 0, "{:?} sends nothing", send.token);
        // The kernel always takes the first segment of an empty queue.
        let least = if self.is_drained(file) { total.min(SEGMENT) } else { 0 };
        let limit = match self.prng.chance(self.faults.send_short) {
            false => total,
            true if self.prng.chance(Ratio::new(1, 4)) => least,
            true => least + self.prng.index(total - least + 1),
        };
        let head = &send.head[..limit.min(send.head.len())];
        let body = &send.body[..limit - head.len()];
        let result = match limit {
            0 => Err(Errno::Again),
            _ => self.write(file, head, body),
        };
        self.note_bytes(pid, file, "send", result);
        if result != Ok(total) {
            let result = result.map(count);
            self.complete(pid, send.token, result, None, false);
        }
    }

    fn run(&mut self, pid: ProcessId, mut op: InFlight, memory: &mut [Vec<u8>]) {
        op.ready = None;
        let file = op.target.expect("all but a cancellation have one").1;
        let token = op.token;
        let stays = match &mut op.work {
            Work::Accept => self.run_accept(pid, token, file),
            Work::Poll => self.run_poll(pid, token, file),
            Work::Recv => self.run_recv(pid, token, file, memory),
            Work::Send { bytes, offset } => self.run_send(pid, token, file, &bytes[*offset..]),
            Work::Pass(batch) => {
                let result = self.pass(pid, file, batch);
                self.complete(pid, token, result, None, false)
            }
            Work::Receive => self.run_receive(pid, token, file),
            Work::Read(buffer) => self.run_read(pid, token, file, buffer),
            Work::Connect(server) => {
                op.ready = self.run_connect(pid, token, server);
                op.ready.is_some()
            }
            Work::Write { .. } => self.complete(pid, token, Err(Errno::Other(EINVAL)), None, false),
            Work::Cancel(_) => unreachable!("a cancellation is over at once"),
        };
        if stays {
            self.processes[pid].ring.armed.push(op);
        } else {
            self.finish(pid, op);
        }
    }

    fn run_accept(&mut self, pid: ProcessId, token: Token, file: FileId) -> Stays {
        loop {
            match self.accept_one(pid, file) {
                Err(Errno::Again) => return true,
                Err(errno) => return self.complete(pid, token, Err(errno), None, false),
                Ok(fd) => {
                    let more = self.goes_on();
                    let number = u32::try_from(fd.raw()).expect("a descriptor is not negative");
                    if !self.complete(pid, token, Ok(number), None, more) {
                        return false;
                    }
                }
            }
        }
    }

    fn run_poll(&mut self, pid: ProcessId, token: Token, file: FileId) -> Stays {
        let readable = match self.body(file) {
            Some(Body::Listener(listener)) => listener.over || !listener.backlog.is_empty(),
            Some(Body::Pidfd(target)) => self.processes[*target].exit().is_some(),
            other => panic!("poll on {other:?}"),
        };
        if !readable {
            return true;
        }
        let more = self.goes_on();
        self.complete(pid, token, Ok(1), None, more)
    }

    fn run_recv(
        &mut self,
        pid: ProcessId,
        token: Token,
        file: FileId,
        memory: &mut [Vec<u8>],
    ) -> Stays {
        loop {
            let lent = &self.processes[pid].ring.lent;
            let Some(free) = lent.iter().position(|lent| !lent) else {
                return self.complete(pid, token, Err(Errno::NoBuffers), None, false);
            };
            let mut max = usize::from(self.sizes.buffer_bytes);
            if self.prng.chance(self.faults.recv_short) {
                max = self.prng.index(max.min(64)) + 1;
            }
            let read = self.read(file, max);
            if read == Err(Errno::Again) {
                return true;
            }
            let length = read.as_ref().map(Vec::len).map_err(|errno| *errno);
            self.note_bytes(pid, file, "recv", length);
            let bytes = read.unwrap_or_default();
            if bytes.is_empty() {
                return self.complete(pid, token, length.map(count), None, false);
            }
            let more = self.goes_on();
            let id = u16::try_from(free).expect("buffers are numbered in 16 bits");
            let len = u16::try_from(bytes.len()).expect("a buffer is smaller than 64 KiB");
            self.processes[pid].ring.lent[free] = true;
            memory[free] = bytes;
            if !self.complete(pid, token, Ok(u32::from(len)), Some(Buf { id, len }), more) {
                return false;
            }
        }
    }

    fn run_send(&mut self, pid: ProcessId, token: Token, file: FileId, rest: &[u8]) -> Stays {
        let cut = rest.len() > 1 && self.prng.chance(self.faults.send_short);
        let limit = if cut { self.prng.index(rest.len() - 1) + 1 } else { rest.len() };
        let result = self.write(file, &rest[..limit], &[]);
        if result == Err(Errno::Again) {
            return true;
        }
        self.note_bytes(pid, file, "send", result);
        self.complete(pid, token, result.map(count), None, false)
    }

    fn run_receive(&mut self, pid: ProcessId, token: Token, file: FileId) -> Stays {
        let result = match self.receive(pid, file) {
            Err(Errno::Again) => return true,
            Err(errno) => Err(errno),
            Ok(message) => {
                let length = count(message.bytes.len());
                self.processes[pid].ring.owned.insert(token, Owned::Message(message));
                Ok(length)
            }
        };
        self.complete(pid, token, result, None, false)
    }

    /// When it is tried again, if there was no room.
    fn run_connect(
        &mut self,
        pid: ProcessId,
        token: Token,
        server: &mut Option<FileId>,
    ) -> Option<u64> {
        let is_listener =
            |id: &FileId| matches!(self.body(*id), Some(Body::Listener(found)) if !found.held);
        let listeners: Vec<FileId> = (0..self.files.len()).filter(is_listener).collect();
        if listeners.is_empty() {
            self.complete(pid, token, Err(Errno::Refused), None, false);
            return None;
        }
        let listener = listeners[self.prng.index(listeners.len())];
        if !self.arrive(listener, *server) {
            return Some(self.now + SYN_AGAIN_NS);
        }
        *server = None;
        self.complete(pid, token, Ok(0), None, false);
        None
    }

    /// # Difference to Linux
    ///
    /// Only signal descriptors and connections can be read; there are no regular files here.
    fn run_read(&mut self, pid: ProcessId, token: Token, file: FileId, buffer: &mut [u8]) -> Stays {
        if matches!(self.body(file), Some(Body::Stream(_))) {
            return match self.read(file, buffer.len()) {
                Err(Errno::Again) => true,
                Err(errno) => self.complete(pid, token, Err(errno), None, false),
                Ok(bytes) => {
                    buffer[..bytes.len()].copy_from_slice(&bytes);
                    self.complete(pid, token, Ok(count(bytes.len())), None, false)
                }
            };
        }
        let Some(Body::Signals(pending)) = self.body_mut(file) else {
            return self.complete(pid, token, Err(Errno::Other(EINVAL)), None, false);
        };
        let mut length = 0;
        for info in buffer.chunks_exact_mut(SIGINFO_BYTES) {
            let Some(number) = pending.pop_first() else { break };
            info.fill(0);
            info[..4].copy_from_slice(&number.to_ne_bytes());
            length += SIGINFO_BYTES;
        }
        if length == 0 {
            return true;
        }
        self.complete(pid, token, Ok(count(length)), None, false)
    }

    /// The cancellation itself completes silently, as in the real ring.
    fn cancel(&mut self, pid: ProcessId, target: Token) {
        let armed = &mut self.processes[pid].ring.armed;
        let Some(at) = armed.iter().position(|op| op.token == target) else { return };
        let op = armed.swap_remove(at);
        self.complete(pid, target, Err(Errno::Canceled), None, false);
        self.finish(pid, op);
    }

    fn finish(&mut self, pid: ProcessId, op: InFlight) {
        let files = op.files();
        let owned = match op.work {
            Work::Send { bytes, offset } | Work::Write { bytes, offset } => {
                Some(Owned::Bytes(bytes, offset))
            }
            Work::Pass(batch) => Some(Owned::Batch(batch)),
            Work::Read(buffer) => Some(Owned::Buffer(buffer)),
            Work::Accept
            | Work::Poll
            | Work::Recv
            | Work::Receive
            | Work::Connect(_)
            | Work::Cancel(_) => None,
        };
        if let Some(owned) = owned {
            self.processes[pid].ring.owned.insert(op.token, owned);
        }
        files.for_each(|file| self.release(file));
    }

    /// Answers `more`, so that a run can end with it.
    fn complete(
        &mut self,
        pid: ProcessId,
        token: Token,
        result: Result<u32, Errno>,
        buf: Option<Buf>,
        more: bool,
    ) -> Stays {
        if !matches!(token.kind, Kind::Recv | Kind::Accept) || result.is_err() {
            self.note(pid, None, format_args!("{token:?} {result:?}"));
        }
        self.processes[pid].ring.done.push(Completion { token, result, buf, more });
        more
    }

    fn goes_on(&mut self) -> bool {
        !self.prng.chance(self.faults.multishot_ends)
    }

    fn note_bytes(
        &mut self,
        pid: ProcessId,
        file: FileId,
        verb: &str,
        result: Result<usize, Errno>,
    ) {
        let connection = self.connection(file);
        match result {
            Ok(bytes) => self.note(pid, connection, format_args!("{verb} {bytes}")),
            Err(errno) => self.note(pid, connection, format_args!("{verb}: {errno}")),
        }
    }
}

fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("nothing here is larger than 4 GiB")
}
