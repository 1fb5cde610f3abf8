//! A small kernel and its workers, steered by the test: no chance, no time of its own.

use crate::config::{Balancing, Config};
use crate::event::Event;
use crate::io::{
    Batch, Buf, Child, Completion, Errno, Exit, Fd, Half, Instant, Io, Kind, Message, Op, Owned,
    Peer, Processes, Purpose, SendNow, Signal, Token, Usage, WorkerPlan,
};
use crate::ipc::board::Board;
use crate::ipc::handoff::{Handoff, is_handoff};
use crate::ipc::message;
use crate::master::balancer::Weights;
use crate::master::{Master, MasterListener, Parts, balancer};
use crate::signals::SignalManager;
use crate::stats::{CloseReason, Counter};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// A connection: its client and every descriptor of it.
pub(super) type Client = u32;

#[derive(Debug)]
struct Held {
    token: Token,
    fd: i32,
    what: What,
}

#[derive(Debug)]
enum What {
    Accept,
    Poll {
        seen: bool,
    },
    Recv,
    Pass(Batch),
    Receive,
    Read(Box<[u8]>),
    /// A probe: nobody answers it here, unless told to.
    Send,
}

/// A worker as its master sees it from outside.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) slot: u32,
    pub(super) line: u32,
    pub(super) purpose: Purpose,
    pub(super) epoch: u32,
    pub(super) settings: Vec<(String, String)>,
    /// It may read listeners of its own.
    pub(super) listeners: usize,
    /// What the master told it, by name.
    pub(super) heard: Vec<String>,
    pidfd: i32,
    channel: i32,
    /// Messages to the master.
    says: VecDeque<Message>,
    /// Messages from the master that it has not received.
    inbox: VecDeque<(Vec<u8>, Vec<Client>)>,
    /// Whose connections it has.
    pub(super) has: BTreeSet<Client>,
    /// Refuses messages with this.
    pub(super) deaf: Option<Errno>,
    /// It was short of descriptors, and has not been told to go on.
    short: bool,
    hung_up: bool,
    exit: Option<Exit>,
    pub(super) reaped: bool,
    pub(super) killed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Kernel {
    pub(super) now: Instant,
    next_fd: i32,
    open: BTreeSet<i32>,
    held: Vec<Held>,
    done: Vec<Completion>,
    owned: BTreeMap<Token, Owned>,
    /// The queue of each listener, by its descriptor.
    pub(super) queues: BTreeMap<i32, VecDeque<Client>>,
    /// Which client a connection's descriptor belongs to.
    clients: BTreeMap<i32, Client>,
    next_client: Client,
    pub(super) processes: Vec<Process>,
    signals: VecDeque<u32>,
    /// Descriptors that may be open at a time.
    pub(super) fds_max: usize,
    pub(super) spawn_errno: Option<Errno>,
    /// Clients that were answered 503 and have not closed.
    pub(super) answered: BTreeMap<Client, bool>,
    /// Whether clients keep their side open after a 503.
    pub(super) stubborn: bool,
    /// What connections got from the master.
    pub(super) refused: BTreeSet<Client>,
    pub(super) strangers: u32,
    /// The answers to probes, once there are any, by the connection.
    pub(super) probes: BTreeMap<Client, Option<String>>,
    /// How often `wait` was called.
    pub(super) waits: u64,
    /// What every worker has resident.
    pub(super) memory: Option<u64>,
    /// Processes that the kernel killed for want of memory.
    pub(super) oom_kills: u64,
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap()
}

impl Kernel {
    fn fd(&mut self) -> Fd {
        self.next_fd += 1;
        self.open.insert(self.next_fd);
        Fd::new(self.next_fd)
    }

    fn of_channel(&mut self, channel: i32) -> &mut Process {
        self.processes.iter_mut().find(|process| process.channel == channel).unwrap()
    }

    fn of_pidfd(&mut self, pidfd: i32) -> &mut Process {
        self.processes.iter_mut().find(|process| process.pidfd == pidfd).unwrap()
    }

    fn accept_one(&mut self, listener: i32) -> Result<i32, Errno> {
        if self.queues[&listener].is_empty() {
            return Err(Errno::Again);
        }
        if self.open.len() >= self.fds_max {
            return Err(Errno::NoFds);
        }
        let client = self.queues.get_mut(&listener).and_then(VecDeque::pop_front).unwrap();
        let fd = self.fd();
        self.clients.insert(fd.raw(), client);
        Ok(fd.raw())
    }

    fn complete(&mut self, token: Token, result: Result<u32, Errno>, more: bool) {
        self.done.push(Completion { token, result, buf: None, more });
    }

    /// Lets every operation get as far as it can.
    fn work(&mut self) {
        for mut held in std::mem::take(&mut self.held) {
            if self.step(&mut held) {
                self.held.push(held);
            }
        }
    }

    /// `false`: it is over.
    fn step(&mut self, held: &mut Held) -> bool {
        let (token, fd) = (held.token, held.fd);
        match &mut held.what {
            What::Accept => loop {
                match self.accept_one(fd) {
                    Ok(new) => self.complete(token, Ok(new.cast_unsigned()), true),
                    Err(Errno::Again) => return true,
                    Err(errno) => {
                        self.complete(token, Err(errno), false);
                        return false;
                    }
                }
            },
            What::Poll { seen } => {
                let readable = !self.queues[&fd].is_empty();
                if readable && !*seen {
                    self.complete(token, Ok(1), true);
                }
                *seen = readable;
                true
            }
            What::Recv => {
                let client = self.clients[&fd];
                if self.answered.get(&client) != Some(&true) {
                    return true;
                }
                self.complete(token, Ok(0), false);
                false
            }
            What::Pass(batch) => {
                let batch = std::mem::take(batch);
                let result = self.pass(fd, &batch);
                self.owned.insert(token, Owned::Batch(batch));
                self.complete(token, result, false);
                false
            }
            What::Receive => {
                let process = self.of_channel(fd);
                let said = process.says.pop_front();
                if let Some(message) = said {
                    let bytes = count(message.bytes.len());
                    self.owned.insert(token, Owned::Message(message));
                    self.complete(token, Ok(bytes), false);
                    return false;
                }
                if process.hung_up {
                    self.complete(token, Ok(0), false);
                    return false;
                }
                true
            }
            What::Send => {
                self.complete(token, Ok(1), false);
                false
            }
            What::Read(buffer) if self.clients.contains_key(&fd) => {
                self.step_probe(token, fd, buffer)
            }
            What::Read(buffer) => {
                let Some(signal) = self.signals.pop_front() else { return true };
                buffer[..4].copy_from_slice(&signal.to_ne_bytes());
                self.owned.insert(token, Owned::Buffer(std::mem::take(buffer)));
                self.complete(token, Ok(128), false);
                false
            }
        }
    }

    fn step_probe(&mut self, token: Token, fd: i32, buffer: &mut Box<[u8]>) -> bool {
        let client = self.clients[&fd];
        let Some(answer) = self.probes.get_mut(&client).and_then(Option::take) else {
            return true;
        };
        let end = answer.len();
        buffer[..end].copy_from_slice(answer.as_bytes());
        // The next read finds the end.
        self.probes.insert(client, Some(String::new()));
        self.owned.insert(token, Owned::Buffer(std::mem::take(buffer)));
        self.complete(token, Ok(count(end)), false);
        false
    }

    fn pass(&mut self, channel: i32, batch: &Batch) -> Result<u32, Errno> {
        let clients = batch.fds.iter().map(|fd| self.clients[&fd.raw()]).collect();
        let process = self.of_channel(channel);
        if let Some(errno) = process.deaf {
            return Err(errno);
        }
        if process.hung_up {
            return Err(Errno::PeerGone);
        }
        process.inbox.push_back((batch.bytes.clone(), clients));
        Ok(count(batch.bytes.len()))
    }
}

/// The master's kernel: shared with the test.
#[derive(Debug)]
pub(super) struct World(pub(super) Rc<RefCell<Kernel>>);

impl Io for World {
    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    fn unix_time(&self) -> u64 {
        1_700_000_000
    }

    fn submit(&mut self, token: Token, op: Op<'_>) {
        let mut kernel = self.0.borrow_mut();
        let (fd, what) = match op {
            Op::Accept(fd) => (fd, What::Accept),
            Op::Poll(fd) => (fd, What::Poll { seen: false }),
            Op::Recv(fd) => (fd, What::Recv),
            Op::Pass(fd, batch) => (fd, What::Pass(batch)),
            Op::Receive(fd) => (fd, What::Receive),
            Op::Read(fd, buffer, _) => (fd, What::Read(buffer)),
            Op::Cancel(which) => {
                if let Some(index) = kernel.held.iter().position(|held| held.token == which) {
                    let held = kernel.held.remove(index);
                    if let What::Read(buffer) = held.what {
                        kernel.owned.insert(which, Owned::Buffer(buffer));
                    }
                    kernel.complete(which, Err(Errno::Canceled), false);
                }
                kernel.complete(token, Ok(0), false);
                return;
            }
            Op::Send(fd, ..) => (fd, What::Send),
            Op::Write(..) => panic!("the master does not"),
        };
        let fd = fd.raw();
        assert!(kernel.open.contains(&fd), "{what:?} on a closed descriptor");
        let twice = kernel.held.iter().any(|held| held.token == token);
        assert!(!twice, "{token:?} submitted twice");
        kernel.held.push(Held { token, fd, what });
    }

    fn wait<'a>(
        &mut self,
        sends: impl ExactSizeIterator<Item = SendNow<'a>>,
        deadline: Option<Instant>,
        done: &mut Vec<Completion>,
    ) {
        let mut kernel = self.0.borrow_mut();
        kernel.waits += 1;
        for send in sends {
            assert_eq!(send.token.kind, Kind::SendNow);
            assert!(send.head.starts_with(b"HTTP/1.1 503 "));
            let client = kernel.clients[&send.fd.raw()];
            assert!(kernel.refused.insert(client), "client {client} was answered twice");
            let closes = !kernel.stubborn;
            kernel.answered.insert(client, closes);
        }
        kernel.work();
        if kernel.done.is_empty()
            && let Some(deadline) = deadline
        {
            kernel.now = kernel.now.max(deadline);
        }
        done.append(&mut kernel.done);
    }

    fn bytes(&self, _: &Buf) -> &[u8] {
        &[]
    }

    fn recycle(&mut self, _: Buf) {}

    fn reclaim(&mut self, token: Token) -> Option<Owned> {
        self.0.borrow_mut().owned.remove(&token)
    }

    fn accept(&mut self, listener: &Fd) -> Result<Fd, Errno> {
        self.0.borrow_mut().accept_one(listener.raw()).map(Fd::new)
    }

    fn shutdown(&mut self, fd: &Fd, _: Half) {
        let mut kernel = self.0.borrow_mut();
        assert!(kernel.open.contains(&fd.raw()));
        // A read that waits finds the end.
        let client = kernel.clients.get(&fd.raw()).copied();
        if let Some(probe) = client.and_then(|client| kernel.probes.get_mut(&client)) {
            probe.get_or_insert_default();
        }
    }

    fn close(&mut self, fd: Fd) {
        let mut kernel = self.0.borrow_mut();
        let fd = fd.raw();
        assert!(kernel.open.remove(&fd), "descriptor {fd} is closed twice");
        let used = kernel.held.iter().find(|held| held.fd == fd);
        assert!(used.is_none(), "closed under {used:?}");
        kernel.clients.remove(&fd);
        if let Some(process) = kernel.processes.iter_mut().find(|process| process.channel == fd) {
            process.hung_up = true;
        }
    }

    fn peer(_: &Fd) -> Peer {
        Peer::Gone
    }
}

impl Processes for World {
    fn spawn(&mut self, plan: WorkerPlan<'_>) -> Result<Child, Errno> {
        let mut kernel = self.0.borrow_mut();
        if let Some(errno) = kernel.spawn_errno {
            return Err(errno);
        }
        let (pidfd, channel) = (kernel.fd(), kernel.fd());
        let pid = 100 + count(kernel.processes.len());
        kernel.processes.push(Process {
            slot: plan.slot,
            line: plan.line,
            purpose: plan.purpose,
            epoch: plan.epoch,
            settings: plan.settings.to_vec(),
            listeners: plan.listeners.len(),
            heard: Vec::new(),
            pidfd: pidfd.raw(),
            channel: channel.raw(),
            says: VecDeque::new(),
            inbox: VecDeque::new(),
            has: BTreeSet::new(),
            deaf: None,
            short: false,
            hung_up: false,
            exit: None,
            reaped: false,
            killed: false,
        });
        Ok(Child { pid, pidfd, channel })
    }

    fn signal(&mut self, pidfd: &Fd, signal: Signal) -> Result<(), Errno> {
        let mut kernel = self.0.borrow_mut();
        let process = kernel.of_pidfd(pidfd.raw());
        if signal == Signal::Abort {
            // It is stopped: it would hear it only later.
            process.heard.push("ABRT".to_owned());
            return Ok(());
        }
        assert_eq!(signal, Signal::Kill, "the master does not use TERM");
        process.killed = true;
        process.hung_up = true;
        process.exit.get_or_insert(Exit::Signal(9, false));
        kernel.signals.push_back(17);
        Ok(())
    }

    fn reap(&mut self, pidfd: &Fd) -> Option<Exit> {
        let mut kernel = self.0.borrow_mut();
        let process = kernel.of_pidfd(pidfd.raw());
        process.reaped |= process.exit.is_some();
        process.exit
    }

    fn reap_stranger(&mut self) -> bool {
        let mut kernel = self.0.borrow_mut();
        kernel.strangers = kernel.strangers.saturating_sub(1);
        kernel.strangers > 0
    }

    fn stream_pair(&mut self) -> Result<(Fd, Fd), Errno> {
        let mut kernel = self.0.borrow_mut();
        Ok((kernel.fd(), kernel.fd()))
    }

    fn spare(&mut self) -> Result<Fd, Errno> {
        let mut kernel = self.0.borrow_mut();
        if kernel.open.len() >= kernel.fds_max {
            return Err(Errno::NoFds);
        }
        Ok(kernel.fd())
    }

    fn listen(&mut self, _: u16) -> Result<Fd, Errno> {
        let mut kernel = self.0.borrow_mut();
        if kernel.open.len() >= kernel.fds_max {
            return Err(Errno::NoFds);
        }
        let fd = kernel.fd();
        kernel.queues.insert(fd.raw(), VecDeque::new());
        Ok(fd)
    }

    fn hold_arrivals(&mut self, listener: &Fd) {
        assert!(self.0.borrow().open.contains(&listener.raw()));
    }

    fn pair(&mut self) -> Result<(Fd, Fd), Errno> {
        let mut kernel = self.0.borrow_mut();
        let (ours, theirs) = (kernel.fd(), kernel.fd());
        kernel.next_client += 1;
        let client = kernel.next_client;
        kernel.clients.insert(ours.raw(), client);
        kernel.clients.insert(theirs.raw(), client);
        kernel.probes.insert(client, None);
        Ok((ours, theirs))
    }

    fn memory(&mut self, _: u32, _: bool) -> Option<u64> {
        self.0.borrow().memory
    }

    fn adopt(&mut self, _: u32) -> Result<Fd, Errno> {
        Err(Errno::Denied)
    }

    fn replace(&mut self, _: &str) -> String {
        "there is no other program here".to_owned()
    }

    fn oom_kills(&mut self) -> Option<u64> {
        Some(self.0.borrow().oom_kills)
    }

    fn usage(&mut self, _: u32) -> Option<Usage> {
        None
    }

    fn has_arrivals(&mut self, listener: &Fd) -> bool {
        !self.0.borrow().queues[&listener.raw()].is_empty()
    }

    fn peer_user(&mut self, _: &Fd) -> Option<u32> {
        Some(0)
    }
}

/// A master in its world, and what the test may do to both.
pub(super) struct Stage {
    pub(super) master: Master<World>,
    pub(super) kernel: Rc<RefCell<Kernel>>,
    pub(super) board: Board,
    events: Rc<RefCell<Vec<Event>>>,
    done: Vec<Completion>,
    deadline: Option<Instant>,
    pub(super) listeners: Vec<i32>,
}

/// How connections reach workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Centralized,
    Shared,
}

impl Stage {
    /// A pool after its first turn: workers are spawned, none is ready.
    pub(super) fn new(mode: Mode, workers: u32, options: &[(&str, &str)]) -> Self {
        let mut config = Config::default();
        // Workers here turn when a test says so.
        config.set("watchdog_timeout", "0s").unwrap();
        for (name, value) in options {
            config.set(name, value).unwrap();
        }
        let kernel = Rc::new(RefCell::new(Kernel { fds_max: usize::MAX, ..Kernel::default() }));
        let slots = match mode {
            Mode::Centralized => vec![None],
            Mode::Shared => (0..workers).map(Some).collect(),
        };
        let listeners: Vec<MasterListener> = slots
            .into_iter()
            .map(|slot| MasterListener { address: 0, slot, fd: kernel.borrow_mut().fd() })
            .collect();
        let raw: Vec<i32> = listeners.iter().map(|listener| listener.fd.raw()).collect();
        kernel.borrow_mut().queues = raw.iter().map(|&fd| (fd, VecDeque::new())).collect();
        let lines = 5 * 8;
        let words = (0..Board::words(lines)).map(|_| AtomicU64::new(0));
        let board = Board::create(Vec::leak(words.collect()), lines);
        let events = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&events);
        let parts = Parts {
            listeners,
            signals: kernel.borrow_mut().fd(),
            board,
            workers,
            workers_max: 8,
            mode: match mode {
                Mode::Centralized => crate::config::Mode::Centralized,
                Mode::Shared => crate::config::Mode::Shared,
            },
            groups: vec![0],
            balancer: balancer::balancer(Balancing::LeastConnections, Weights::default()),
            pid1: false,
            calls: SignalManager::new(),
            admin: crate::admin::Parts::default(),
            seed: 42,
            events: Box::new(move |event| heard.borrow_mut().push(event.clone())),
        };
        let master = Master::new(World(Rc::clone(&kernel)), parts, &config);
        let (done, deadline) = (Vec::new(), None);
        let mut stage = Self { master, kernel, board, events, done, deadline, listeners: raw };
        stage.turn();
        stage
    }

    /// The same, and all workers ready.
    pub(super) fn ready(mode: Mode, workers: u32, options: &[(&str, &str)]) -> Self {
        let mut stage = Self::new(mode, workers, options);
        for process in 0..workers as usize {
            stage.say_ready(process);
        }
        stage.settle();
        stage
    }

    pub(super) fn turn(&mut self) {
        self.deadline = self.master.turn(&mut self.done);
        assert!(self.done.is_empty());
    }

    /// One wait and one turn; does not let time pass.
    pub(super) fn step(&mut self) {
        if self.master.is_done() {
            return;
        }
        self.master.wait(None, &mut self.done);
        self.turn();
    }

    /// Turns until nothing more happens without time passing.
    pub(super) fn settle(&mut self) {
        for _ in 0..1000 {
            self.step();
            let now = self.kernel.borrow().now;
            if self.kernel.borrow().is_quiet() && self.deadline.is_none_or(|at| at > now) {
                return;
            }
        }
        panic!("the master spins: {:?}", self.master);
    }

    /// Lets time pass, the master waking up at each of its deadlines.
    pub(super) fn pass_time(&mut self, duration: Duration) {
        let end = self.kernel.borrow().now.after(duration);
        for _ in 0..200_000 {
            self.settle();
            let now = self.kernel.borrow().now;
            let next =
                self.deadline.filter(|_| !self.master.is_done()).map_or(end, |at| at.min(end));
            if now >= end {
                return;
            }
            self.kernel.borrow_mut().now = next.max(now);
        }
        panic!("the master spins: {:?}", self.master);
    }

    /// A client connects.
    pub(super) fn connect(&mut self, listener: usize) -> Client {
        let mut kernel = self.kernel.borrow_mut();
        kernel.next_client += 1;
        let client = kernel.next_client;
        let fd = self.listeners[listener];
        kernel.queues.get_mut(&fd).unwrap().push_back(client);
        client
    }

    pub(super) fn signal(&mut self, signal: u32) {
        self.kernel.borrow_mut().signals.push_back(signal);
    }

    pub(super) fn say(&mut self, process: usize, message: Message) {
        self.kernel.borrow_mut().processes[process].says.push_back(message);
    }

    pub(super) fn say_ready(&mut self, process: usize) {
        let slot = self.kernel.borrow().processes[process].slot;
        let bytes = message::Message::worker_ready(slot, 0.0).encode(1024).unwrap();
        self.say(process, Message { bytes, ..Message::default() });
    }

    /// The worker receives all that its channel holds. Says whether it was told to drain.
    pub(super) fn receive(&mut self, process: usize) -> bool {
        let mut kernel = self.kernel.borrow_mut();
        let process = &mut kernel.processes[process];
        let line = self.board.line(process.line);
        let mut told = false;
        for (bytes, clients) in std::mem::take(&mut process.inbox) {
            if !is_handoff(&bytes) {
                let message = message::Message::parse(&bytes, 1024).unwrap();
                process.short &= message.kind != message::MessageType::Resume;
                told |= message.kind == message::MessageType::Shutdown;
                process.heard.push(message.kind.name().to_owned());
                continue;
            }
            let handoff = Handoff::decode(&bytes).unwrap();
            handoff.check(clients.len()).unwrap();
            if !line.claim(clients.len() as u64) || process.short {
                continue;
            }
            assert_eq!(handoff.sequence, line.get(Counter::Received));
            line.add(Counter::Adopted, clients.len() as u64);
            line.add(Counter::Received, clients.len() as u64);
            for client in clients {
                assert!(process.has.insert(client), "client {client} came twice");
            }
        }
        told
    }

    /// The worker receives one message with connections, of which it has descriptors for so many.
    pub(super) fn receive_short(&mut self, process: usize, most: usize) {
        let mut kernel = self.kernel.borrow_mut();
        let process = &mut kernel.processes[process];
        let line = self.board.line(process.line);
        let Some((bytes, clients)) = process.inbox.front() else { return };
        if process.short || !is_handoff(bytes) || clients.len() <= most {
            return;
        }
        let (_, clients) = process.inbox.pop_front().unwrap();
        if !line.claim(clients.len() as u64) {
            return;
        }
        line.add(Counter::Adopted, most as u64);
        line.add(Counter::Received, most as u64);
        process.has.extend(&clients[..most]);
        process.short = true;
        let bytes = message::Message::worker_short(process.slot, 0.0).encode(1024).unwrap();
        process.says.push_back(Message { bytes, ..Message::default() });
    }

    /// The worker ends one of its connections.
    pub(super) fn serve_one(&mut self, process: usize) -> Option<Client> {
        let mut kernel = self.kernel.borrow_mut();
        let process = &mut kernel.processes[process];
        let client = process.has.pop_first()?;
        self.board.line(process.line).close(CloseReason::ClientClosed);
        Some(client)
    }

    /// The process ends. Its connections are cut, its inbox is lost.
    pub(super) fn die(&mut self, process: usize, exit: Exit) {
        let mut kernel = self.kernel.borrow_mut();
        let process = &mut kernel.processes[process];
        process.exit.get_or_insert(exit);
        process.hung_up = true;
        process.inbox.clear();
        kernel.signals.push_back(17);
    }

    /// It ends, and its ring holds the other end of its channel for a while.
    pub(super) fn die_holding_its_channel(&mut self, process: usize, exit: Exit) {
        let mut kernel = self.kernel.borrow_mut();
        kernel.processes[process].exit = Some(exit);
        kernel.signals.push_back(17);
    }

    /// Whether the process runs.
    pub(super) fn is_alive(&self, process: usize) -> bool {
        self.kernel.borrow().processes[process].exit.is_none()
    }

    pub(super) fn slot(&self, process: usize) -> u32 {
        self.kernel.borrow().processes[process].slot
    }

    pub(super) fn hang_up(&mut self, process: usize) {
        self.kernel.borrow_mut().processes[process].hung_up = true;
    }

    pub(super) fn processes(&self) -> usize {
        self.kernel.borrow().processes.len()
    }

    /// What the master passed and the worker has not received.
    pub(super) fn inbox(&self, process: usize) -> usize {
        let kernel = self.kernel.borrow();
        kernel.processes[process].inbox.iter().map(|(_, clients)| clients.len()).sum()
    }

    /// Most connections in one message that waits for the worker.
    pub(super) fn largest_batch(&self, process: usize) -> usize {
        let kernel = self.kernel.borrow();
        let sizes = kernel.processes[process].inbox.iter().map(|(_, clients)| clients.len());
        sizes.max().unwrap_or(0)
    }

    /// Which operations of the master the kernel holds on listeners.
    pub(super) fn readers(&self) -> String {
        let kernel = self.kernel.borrow();
        let of = |fd: &i32| match kernel.held.iter().find(|held| held.fd == *fd).map(|h| &h.what) {
            Some(What::Accept) => "accept",
            Some(What::Poll { .. }) => "poll",
            _ => "-",
        };
        self.listeners.iter().map(of).collect::<Vec<_>>().join(" ")
    }

    /// The log, and a new one.
    pub(super) fn log(&self) -> Vec<String> {
        self.events.borrow_mut().drain(..).map(|event| event.to_string()).collect()
    }

    /// Descriptors that are open in the master.
    pub(super) fn open(&self) -> usize {
        self.kernel.borrow().open.len()
    }
}

impl Kernel {
    /// Nothing would come of another wait.
    fn is_quiet(&self) -> bool {
        self.done.is_empty() && self.held.iter().all(|held| !self.is_due(held))
    }

    fn is_due(&self, held: &Held) -> bool {
        match &held.what {
            What::Accept => !self.queues[&held.fd].is_empty(),
            What::Poll { seen } => !seen && !self.queues[&held.fd].is_empty(),
            What::Recv => self.answered.get(&self.clients[&held.fd]) == Some(&true),
            What::Pass(_) => true,
            What::Receive => {
                let process = self.processes.iter().find(|p| p.channel == held.fd).unwrap();
                process.hung_up || !process.says.is_empty()
            }
            What::Send => true,
            What::Read(_) => match self.clients.get(&held.fd) {
                Some(client) => self.probes.get(client).is_some_and(Option::is_some),
                None => !self.signals.is_empty(),
            },
        }
    }
}
