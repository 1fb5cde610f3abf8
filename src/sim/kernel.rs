//! The simulated kernel: its files and processes, and the handle that is one process's [`Io`].

use super::faults::FaultPlan;
use super::prng::{Prng, Ratio};
use super::proc::{Boot, Process};
use super::ring::{InFlight, Work};
use super::trace::Trace;
use super::{channel::Channel, net::Listener, net::Stream};
use crate::io::{
    Address, Buf, Completion, Connects, Errno, Fd, Half, Instant, Io, Kind, Op, Owned, Peer,
    SendNow, Token,
};
use crate::ipc::board::Board;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

/// A file: what descriptors, messages in flight and operations refer to. Numbers are not reused.
pub(super) type FileId = usize;
/// A process. Numbers are not reused.
pub type ProcessId = usize;

/// How large everything is.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Provided buffers of each ring, and their bytes. Few and small ones make receives starve.
    pub buffers: u16,
    /// Bytes of one provided buffer.
    pub buffer_bytes: u16,
    /// Bytes on their way in one direction of a connection: send and receive buffer together.
    pub stream_bytes: usize,
    /// Messages on their way in one direction of a channel.
    pub channel_messages: usize,
    /// Arrivals a listener holds.
    pub backlog: usize,
    /// Descriptors of a process without a parent (RLIMIT_NOFILE).
    pub fds: usize,
    /// Descriptors of a worker.
    pub worker_fds: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            buffers: 64,
            buffer_bytes: 4096,
            stream_bytes: 256 << 10,
            channel_messages: 64,
            backlog: 128,
            fds: 1024,
            worker_fds: 1024,
        }
    }
}

/// A mistake planted between the engine and the kernel, to prove that the checks would notice it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A descriptor is forgotten instead of closed.
    LostClose,
    /// A completion meant for an earlier connection of a slot is taken for the present one's.
    StaleGeneration,
    /// An answer is sent once more.
    DoubleSend,
    /// A worker does not see that what it had not begun was taken from it.
    LostRevocation,
}

const PLANTED: Ratio = Ratio::new(1, 20);

/// Unwinds out of the system call in which a process was killed; nobody but the world catches it.
pub(super) struct Killed;

#[derive(Debug)]
pub(super) struct File {
    pub(super) refs: u32,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Listener(Listener),
    Stream(Stream),
    Channel(Channel),
    /// A signalfd: a signal that is pending already is not counted twice.
    Signals(BTreeSet<u32>),
    Pidfd(ProcessId),
    Null,
}

/// All that exists.
#[derive(Debug)]
pub(super) struct State {
    pub(super) now: u64,
    pub(super) prng: Prng,
    pub(super) faults: FaultPlan,
    pub(super) sizes: Sizes,
    pub(super) files: Vec<Option<File>>,
    pub(super) processes: Vec<Process>,
    pub(super) boots: Vec<Boot>,
    pub(super) serial: u64,
    /// Who dies in which of its next system calls.
    pub(super) doom: Option<(ProcessId, u64)>,
    /// Connections that a dead worker took with it: their clients may miss answers.
    pub(super) excused: BTreeSet<u32>,
    /// Where clients connected from, if anybody cares, by connection.
    addresses: BTreeMap<u32, SocketAddr>,
    pub(super) connections: u32,
    /// Connections that workers accepted and did not live to count.
    pub(super) uncounted: u64,
    /// Connections that were reset because nobody had accepted them when their listener ended.
    pub(super) lost: u64,
    pub(super) board: Option<Board>,
    /// Where clients connect to, any of them.
    pub(super) listeners: Vec<FileId>,
    pub(super) bug: Option<Bug>,
    pub(super) trace: Trace,
}

impl State {
    pub(super) fn new(seed: u64, faults: FaultPlan, sizes: Sizes, keep_trace: bool) -> Self {
        Self {
            now: 1_000_000_000,
            prng: Prng::new(seed),
            faults,
            sizes,
            files: Vec::new(),
            processes: Vec::new(),
            boots: Vec::new(),
            serial: 0,
            doom: None,
            excused: BTreeSet::new(),
            addresses: BTreeMap::new(),
            connections: 0,
            uncounted: 0,
            lost: 0,
            board: None,
            listeners: Vec::new(),
            bug: None,
            trace: Trace::new(keep_trace),
        }
    }

    /// A new file with one reference, the caller's.
    pub(super) fn file(&mut self, body: Body) -> FileId {
        self.files.push(Some(File { refs: 1, body }));
        self.files.len() - 1
    }

    pub(super) fn body(&self, id: FileId) -> Option<&Body> {
        self.files[id].as_ref().map(|file| &file.body)
    }

    pub(super) fn body_mut(&mut self, id: FileId) -> Option<&mut Body> {
        self.files[id].as_mut().map(|file| &mut file.body)
    }

    pub(super) fn hold(&mut self, id: FileId) {
        self.files[id].as_mut().expect("only what exists is referred to").refs += 1;
    }

    /// One reference less; the last one closes the file.
    pub(super) fn release(&mut self, id: FileId) {
        let file = self.files[id].as_mut().expect("only what exists is referred to");
        file.refs -= 1;
        if file.refs > 0 {
            return;
        }
        match self.files[id].take().map(|file| file.body) {
            Some(Body::Listener(listener)) => self.close_listener(listener),
            Some(Body::Stream(stream)) => self.close_stream(stream),
            Some(Body::Channel(channel)) => self.close_channel(channel),
            Some(Body::Signals(_) | Body::Pidfd(_) | Body::Null) | None => {}
        }
    }

    /// The file a process means. Using a descriptor it does not hold is our mistake, not a fault.
    pub(super) fn of(&self, pid: ProcessId, fd: &Fd) -> FileId {
        let process = &self.processes[pid];
        let index = usize::try_from(fd.raw()).ok();
        index
            .and_then(|index| process.fds.get(index)?.as_ref())
            .unwrap_or_else(|| panic!("{} uses {fd:?}, which it does not hold", process.name))
            .file
    }

    /// The client of this end connects from here.
    pub(super) fn address(&mut self, client: FileId, address: SocketAddr) {
        if let Some(connection) = self.connection(client) {
            self.addresses.insert(connection, address);
        }
    }

    /// For the trace: which connection a file belongs to.
    pub(super) fn connection(&self, id: FileId) -> Option<u32> {
        match self.body(id) {
            Some(Body::Stream(stream)) => Some(stream.connection),
            _ => None,
        }
    }

    pub(super) fn note(
        &mut self,
        pid: ProcessId,
        connection: Option<u32>,
        operation: std::fmt::Arguments<'_>,
    ) {
        self.trace.note(self.now, &self.processes[pid].name, connection, operation);
    }
}

thread_local! {
    /// The process that runs, and where.
    static RUNNING: RefCell<Option<(Rc<RefCell<State>>, ProcessId)>> = const { RefCell::new(None) };
}

/// The kernel as one process sees it.
#[derive(Debug)]
pub struct Kernel {
    pub(super) state: Rc<RefCell<State>>,
    pub(super) pid: ProcessId,
    /// The provided buffers: they are this process's memory.
    memory: Vec<Vec<u8>>,
    /// Only for [`Bug::StaleGeneration`]: receives that ended, by slot.
    ended: BTreeMap<u32, u32>,
}

impl Kernel {
    pub(super) fn new(state: &Rc<RefCell<State>>, pid: ProcessId) -> Self {
        let buffers = usize::from(state.borrow().sizes.buffers);
        let state = Rc::clone(state);
        Self { state, pid, memory: vec![Vec::new(); buffers], ended: BTreeMap::new() }
    }

    /// Every system call passes here: a process can be killed in any of them.
    pub(super) fn call(&self) {
        let mut state = self.state.borrow_mut();
        if let Some((pid, calls)) = state.doom
            && pid == self.pid
        {
            if calls == 0 {
                drop(state);
                std::panic::resume_unwind(Box::new(Killed));
            }
            state.doom = Some((pid, calls - 1));
        }
    }

    /// This process runs now.
    pub(super) fn run_as(state: &Rc<RefCell<State>>, pid: ProcessId) {
        RUNNING.set(Some((Rc::clone(state), pid)));
    }

    fn strikes(&self, bug: Bug) -> bool {
        let mut state = self.state.borrow_mut();
        state.bug == Some(bug) && state.prng.chance(PLANTED)
    }

    /// [`Bug::StaleGeneration`]: the last completion of a slot's earlier receive comes once more,
    /// under the generation that lives there now.
    fn plant_stale(&mut self, token: Token) {
        if token.kind == Kind::Recv
            && self.ended.get(&token.slot).is_some_and(|ended| *ended != token.generation)
            && self.strikes(Bug::StaleGeneration)
        {
            self.ended.remove(&token.slot);
            let late = Completion { token, result: Err(Errno::Canceled), buf: None, more: false };
            self.state.borrow_mut().processes[self.pid].ring.done.push(late);
        }
    }
}

impl Io for Kernel {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.state.borrow().now)
    }

    fn unix_time(&self) -> u64 {
        784_111_777 + self.state.borrow().now / 1_000_000_000
    }

    fn submit(&mut self, token: Token, op: Op<'_>) {
        self.call();
        self.plant_stale(token);
        let mut state = self.state.borrow_mut();
        let (fd, work) = match op {
            Op::Accept(fd) => (Some(fd), Work::Accept),
            Op::Poll(fd) => (Some(fd), Work::Poll),
            Op::Recv(fd) => (Some(fd), Work::Recv),
            Op::Send(fd, bytes, offset) => (Some(fd), Work::Send { bytes, offset }),
            Op::Pass(fd, batch) => (Some(fd), Work::Pass(batch)),
            Op::Receive(fd) => (Some(fd), Work::Receive),
            Op::Write(fd, bytes, offset) => (Some(fd), Work::Write { bytes, offset }),
            Op::Read(fd, buffer, _) => (Some(fd), Work::Read(buffer)),
            Op::Cancel(target) => (None, Work::Cancel(target)),
        };
        let target = fd.map(|fd| (fd.raw(), state.of(self.pid, fd)));
        state.serial += 1;
        let op = InFlight { token, target, work, serial: state.serial, ready: None };
        state.queue(self.pid, op);
    }

    /// Never sleeps: the world calls again when there is news or the deadline has passed.
    fn wait<'a>(
        &mut self,
        sends: impl ExactSizeIterator<Item = SendNow<'a>>,
        deadline: Option<Instant>,
        done: &mut Vec<Completion>,
    ) {
        self.call();
        let mut state = self.state.borrow_mut();
        // Whether work that was woken runs before or after what is submitted now is open in the
        // real kernel too: a cancellation wins or loses its race here.
        if state.prng.chance(Ratio::new(1, 2)) {
            state.run_ready(self.pid, &mut self.memory);
        }
        state.start_queued(self.pid, &mut self.memory);
        let woken = std::mem::take(&mut state.processes[self.pid].woken);
        for send in sends.filter(|_| !woken) {
            if state.bug == Some(Bug::DoubleSend) && state.prng.chance(PLANTED) {
                let (head, body) = (send.head, send.body);
                state.send_now(self.pid, &SendNow { token: send.token, fd: send.fd, head, body });
            }
            state.send_now(self.pid, &send);
        }
        state.run_ready(self.pid, &mut self.memory);
        let process = &mut state.processes[self.pid];
        process.deadline = deadline.map(Instant::as_nanos);
        for completion in &process.ring.done {
            if completion.token.kind == Kind::Recv && !completion.more {
                self.ended.insert(completion.token.slot, completion.token.generation);
            }
        }
        done.append(&mut process.ring.done);
    }

    fn bytes(&self, buf: &Buf) -> &[u8] {
        assert!(
            self.state.borrow().processes[self.pid].ring.lent[usize::from(buf.id)],
            "{buf:?} is read but not lent"
        );
        &self.memory[usize::from(buf.id)][..usize::from(buf.len)]
    }

    fn recycle(&mut self, buf: Buf) {
        let mut state = self.state.borrow_mut();
        let lent = &mut state.processes[self.pid].ring.lent[usize::from(buf.id)];
        assert!(std::mem::replace(lent, false), "{buf:?} is given back twice");
        self.memory[usize::from(buf.id)].fill(0xdd); // who still reads it reads nonsense
    }

    fn reclaim(&mut self, token: Token) -> Option<Owned> {
        self.state.borrow_mut().processes[self.pid].ring.owned.remove(&token)
    }

    fn accept(&mut self, listener: &Fd) -> Result<Fd, Errno> {
        self.call();
        let mut state = self.state.borrow_mut();
        let listener = state.of(self.pid, listener);
        state.accept_one(self.pid, listener)
    }

    fn shutdown(&mut self, fd: &Fd, half: Half) {
        self.call();
        let mut state = self.state.borrow_mut();
        let file = state.of(self.pid, fd);
        let connection = state.connection(file);
        state.note(self.pid, connection, format_args!("shutdown {half:?}"));
        state.shut(file, half);
    }

    fn close(&mut self, fd: Fd) {
        self.call();
        if self.strikes(Bug::LostClose) {
            return;
        }
        self.state.borrow_mut().close(self.pid, &fd);
    }

    /// # Difference to Linux
    ///
    /// A function has no kernel to ask: whoever runs now is meant. A client that did not say where
    /// it is is at an address made up from the number.
    fn peer(fd: &Fd) -> Peer {
        let known = RUNNING.with_borrow(|running| {
            let (state, pid) = running.as_ref()?;
            let state = state.borrow();
            if state.addresses.is_empty() {
                return None;
            }
            state.addresses.get(&state.connection(state.of(*pid, fd))?).copied()
        });
        let made_up = || {
            let port = u16::try_from(fd.raw()).ok()?.checked_add(40_000)?;
            Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        known.or_else(made_up).map_or(Peer::Gone, Peer::Tcp)
    }
}

impl Connects for Kernel {
    /// # Difference to Linux
    ///
    /// Addresses mean nothing: any listener of the world may be the one. What is sent before the
    /// connection stands is not refused.
    fn connect(&mut self, token: Token, _: &Address, _: Option<IpAddr>) -> Result<Fd, Errno> {
        self.call();
        let mut state = self.state.borrow_mut();
        let (client, server) = state.pair();
        let Ok(fd) = state.install(self.pid, client, None) else {
            state.release(client);
            state.release(server);
            return Err(Errno::NoFds);
        };
        state.processes[self.pid].taken -= 1; // taken from no listener
        let connection = state.connection(client);
        state.note(self.pid, connection, format_args!("connect"));
        state.serial += 1;
        let (target, work) = (Some((fd.raw(), client)), Work::Connect(Some(server)));
        let op = InFlight { token, target, work, serial: state.serial, ready: None };
        state.queue(self.pid, op);
        Ok(fd)
    }
}
