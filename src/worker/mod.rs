//! The process that serves: one loop over one ring. It owns descriptors, buffers, timers and sends,
//! and knows nothing of HTTP: what a connection means is its [`Protocol`]'s business.
//!
//! A turn: adopt and count all that is new (`adopt`), tell the machines what came (`receive`,
//! `tell`), fire deadlines, re-arm. Then `wait` lends all answers of the pass to the kernel, one
//! send a connection (`flush`), and what a connection wanted after its output happens in the next
//! turn (`close`).

mod adopt;
mod close;
pub mod drain;
mod flush;
mod handback;
mod host;
pub mod in_flight;
mod log;
mod mail;
mod receive;
pub mod slots;
mod tell;
pub mod timers;

pub use slots::{Key, Slots};

use crate::config::Config;
use crate::io::{Batch, Bytes, Completion, Fd, Instant, Io, Kind, Op};
use crate::ipc::board::{Line, Stage, Stages, WorkerState};
use crate::ipc::message::{CONTROL_MAX, Message};
use crate::protocol::{Close, Protocol};
use crate::signals::SignalManager;
use crate::stats::{CloseReason, Counter};
use drain::{Drain, Step};
use flush::{Backlog, Dirty};
use handback::HandBack;
use in_flight::InFlight;
use log::Log;
use std::time::Duration;
use timers::{Fired, Timer, Timers};

/// What a worker is given at its birth.
#[derive(Debug)]
pub struct Parts {
    /// Which slot it fills: said in its READY.
    pub slot: u32,
    /// Its end of the channel to the master.
    pub channel: Fd,
    /// A signalfd that reads TERM, which drains this worker, and USR1 and USR2 for `calls`.
    pub signals: Option<Fd>,
    /// What the application does on signals.
    pub calls: SignalManager,
    /// Its own listeners (shared-socket mode), by index into the pool's addresses.
    pub listeners: Vec<(u16, Fd)>,
    /// It leaves those listeners alone until the master says `serve`: another worker reads them.
    pub waits: bool,
    /// Its line on the board.
    pub line: Line,
    /// Where requests are logged: a file opened for appending.
    pub access_log: Option<Fd>,
}

/// The limits the transport obeys; a protocol has its own.
#[derive(Clone, Copy, Debug)]
struct Limits {
    connections: usize,
    output: usize,
    write: Duration,
    linger: Duration,
    drain: Duration,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its machine decides.
    Open,
    /// It goes back to the master when its receive has ended.
    Leaving,
    /// Its last output is leaving; then it closes like this.
    Closing(Close),
    /// We said all; the peer's rest is read and dropped.
    Lingering(CloseReason),
    /// Nothing more: waiting for the kernel to let go.
    Joining(CloseReason),
}

/// One connection: this and its machine is all that an idle one costs.
#[derive(Debug)]
struct Connection<C> {
    fd: Fd,
    /// Which of the pool's addresses it arrived on.
    listener: u16,
    in_flight: InFlight,
    phase: Phase,
    /// It came from the master, who may still hold a copy of the descriptor.
    handed_over: bool,
    /// The peer has sent its last byte.
    eof: bool,
    /// The machine wants no input now.
    paused: bool,
    /// The machine wants to go on when its output has left.
    resume: bool,
    /// Where its machine says that it stands, and where it is counted.
    stage: Stage,
    counted: Stage,
    timer: Timer,
    /// Its entry in the list of this pass's answers.
    dirty: u32,
    /// Output that the kernel did not take at once.
    backlog: Option<Box<Backlog>>,
    machine: C,
}

impl<C> Connection<C> {
    /// Where it stands.
    fn stage(&self) -> Stage {
        let leaves = self.backlog.is_some() || !matches!(self.phase, Phase::Open | Phase::Leaving);
        if leaves { Stage::Writing } else { self.stage }
    }

    /// Whether an answer has not left whole.
    fn has_output(&self) -> bool {
        self.dirty != NOT_DIRTY || self.backlog.is_some()
    }
}

/// How many bytes a connection of this protocol costs while it idles: its slot, and nothing else.
#[must_use]
pub const fn slot_bytes<P: Protocol>() -> usize {
    size_of::<Connection<P::Connection>>()
}

const NOT_DIRTY: u32 = u32::MAX;

/// A listener of our own, and whether the kernel watches it for us.
#[derive(Debug)]
struct Listener {
    /// Which of the pool's addresses it is one of.
    address: u16,
    fd: Option<Fd>,
    armed: bool,
    /// Arrivals may be waiting that the last pass did not take.
    left_over: bool,
}

/// Whether a handoff found too few descriptors. Until the master says `resume` it has copies of all
/// that it hands over, so nothing of that is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Short {
    #[default]
    No,
    /// The master is to be told.
    ToTell,
    /// That is on its way.
    Telling,
    /// It knows.
    Told,
}

impl Short {
    /// A message has left, or not.
    fn told(&mut self, sent: bool) {
        if *self == Self::Telling {
            *self = if sent { Self::Told } else { Self::ToTell };
        }
    }
}

/// The process that serves.
#[derive(Debug)]
pub struct Worker<I: Io, P: Protocol> {
    io: I,
    protocol: P,
    line: Line,
    limits: Limits,
    slot: u32,
    channel: Option<Fd>,
    signals: Option<Fd>,
    calls: SignalManager,
    listeners: Vec<Listener>,
    /// Somebody else reads those listeners, until we are told to.
    waits: bool,
    connections: Slots<Connection<P::Connection>>,
    timers: Timers,
    drain: Drain,
    now: Instant,
    unix: u64,
    /// Answers of this pass, back to back.
    arena: Vec<u8>,
    dirty: Vec<Dirty>,
    /// A connection on that list is gone.
    dirty_stale: bool,
    /// A connection on that list waits for its output to have left.
    eager: bool,
    /// Where a machine puts a large body before its connection is on the list.
    body: Option<Bytes>,
    /// No descriptors: listeners are left alone until then.
    accept_pause: Option<Instant>,
    /// Connections to tell that they may go on.
    resume: Vec<Key>,
    /// Receives to arm again when the buffers are back.
    rearm: Vec<Key>,
    fired: Vec<(Key, u64)>,
    passing: bool,
    /// Application messages, if the pool has any.
    post: Option<mail::Post>,
    /// The master knows that we have no room.
    told_full: bool,
    short: Short,
    /// Somebody else than the master told us to drain, and it does not know.
    leaving: bool,
    log: Log,
    back: HandBack,
    /// How many connections stand where.
    stages: Stages,
    ended: bool,
}

/// The channel's only place in tokens.
const CHANNEL: u32 = 0;

impl<I: Io, P: Protocol> Worker<I, P> {
    /// Arms the channel and the listeners and tells the master that it is ready.
    pub fn new(io: I, protocol: P, parts: Parts, config: &Config) -> Self {
        let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let limits = Limits {
            connections: count(config.connections_max()),
            output: count(config.output_max()),
            write: config.write_timeout(),
            linger: config.linger_timeout(),
            drain: config.drain_timeout(),
        };
        let listener =
            |(address, fd)| Listener { address, fd: Some(fd), armed: false, left_over: false };
        let now = io.now();
        let mut worker = Self {
            protocol,
            line: parts.line,
            slot: parts.slot,
            channel: Some(parts.channel),
            signals: parts.signals,
            calls: parts.calls,
            listeners: parts.listeners.into_iter().map(listener).collect(),
            waits: parts.waits,
            connections: Slots::with_capacity(limits.connections.min(1 << 16)),
            timers: Timers::new(now),
            drain: Drain::default(),
            now,
            unix: 0,
            arena: Vec::with_capacity(flush::ARENA),
            dirty: Vec::new(),
            dirty_stale: false,
            eager: false,
            body: None,
            accept_pause: None,
            resume: Vec::new(),
            rearm: Vec::new(),
            fired: Vec::new(),
            passing: false,
            post: None,
            told_full: false,
            short: Short::default(),
            leaving: false,
            log: Log::new(parts.access_log),
            back: HandBack::default(),
            stages: Stages::default(),
            ended: false,
            limits,
            io,
        };
        worker.announce();
        worker
    }

    fn announce(&mut self) {
        self.tick();
        self.arm_channel();
        self.arm_signals();
        self.arm_listeners();
        self.line.set_state(WorkerState::Ready);
        self.say(&Message::worker_ready(self.slot, self.stamp()));
    }

    /// Handles all that completed, without blocking. Returns when to turn again at the latest.
    pub fn turn(&mut self, done: &mut Vec<Completion>) -> Option<Instant> {
        self.now = self.io.now();
        self.tick();
        // First all that is new is adopted and counted: once a handler runs, nothing is in transit.
        for completion in done.iter() {
            if completion.token.kind == Kind::Receive {
                self.on_receive(completion);
            } else if completion.token.kind == Kind::Poll {
                self.on_poll(completion);
            }
        }
        self.accept_left_over();
        self.on_flushed();
        for completion in done.drain(..) {
            match completion.token.kind {
                Kind::Recv => self.on_recv(completion),
                Kind::Send if mail::is_of_post(completion.token) => self.on_mail_sent(&completion),
                Kind::Read if mail::is_of_post(completion.token) => self.on_mail_read(&completion),
                Kind::Send => self.on_send(&completion),
                Kind::Read => self.on_read(&completion),
                Kind::Pass => self.on_pass(&completion),
                Kind::Write => self.on_write(&completion),
                Kind::Signal => self.on_signal(&completion),
                Kind::Receive | Kind::Poll | Kind::SendNow | Kind::Cancel => {}
                Kind::Accept | Kind::Connect | Kind::Knock | Kind::Ask | Kind::Tell => {
                    unreachable!("a worker never submits {:?}", completion.token.kind)
                }
            }
        }
        self.expire();
        self.hand_back();
        self.rearm_starved();
        self.arm_listeners();
        self.tell_leaving();
        self.tell_short();
        self.send_mail();
        self.write_log();
        self.line.note_activity(self.now.as_nanos());
        self.line.set_stages(self.stages);
        if self.line.has_untimed() {
            self.line.pass_took(self.io.now().since(self.now));
        }
        self.finish_drain();
        self.deadline()
    }

    /// Lends the pass's answers to the kernel and sleeps until something completes.
    pub fn wait(&mut self, deadline: Option<Instant>, done: &mut Vec<Completion>) {
        self.send_all(deadline, done);
    }

    /// Whether the process may exit: it drained, and nothing is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ended
    }

    /// Turns until drained.
    pub fn run(mut self) {
        let mut done = Vec::new();
        loop {
            let deadline = self.turn(&mut done);
            if self.is_done() {
                return;
            }
            self.wait(deadline, &mut done);
        }
    }

    /// Connections that are not over, with those that the protocol took away.
    fn held(&self) -> usize {
        self.connections.len() + self.protocol.taken()
    }

    /// Counts a connection where it stands now.
    fn recount(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let stage = connection.stage();
        let before = std::mem::replace(&mut connection.counted, stage);
        if before != stage {
            self.stages.add(before, -1);
            self.stages.add(stage, 1);
        }
    }

    fn tick(&mut self) {
        let unix = self.io.unix_time();
        if unix != self.unix {
            self.unix = unix;
            self.protocol.tick(unix);
        }
        self.line.set_tick(self.now.as_nanos());
        self.line.add(Counter::Passes, 1);
    }

    /// When to turn again: at once if there is work left, else at the next deadline.
    fn deadline(&self) -> Option<Instant> {
        let work_left =
            !self.resume.is_empty() || self.listeners.iter().any(|listener| listener.left_over);
        if work_left {
            return Some(self.now);
        }
        // Without connections its entries are left-overs, and nobody is to be woken for them.
        let timers = self.timers.next_deadline().filter(|_| !self.connections.is_empty());
        let drain = self.drain.deadline();
        let deadlines = [timers, drain, self.accept_pause, self.back.deadline(), self.log.until];
        deadlines.into_iter().flatten().min()
    }

    fn expire(&mut self) {
        let mut fired = std::mem::take(&mut self.fired);
        self.timers.expire(self.now, &mut fired);
        for (key, tick) in fired.drain(..) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let also = connection.backlog.as_deref().map(Backlog::deadline);
            let fired = self.timers.fired(key, &mut connection.timer, tick, self.now, also);
            if fired == Fired::Due {
                self.on_deadline(key);
            }
        }
        self.fired = fired;
        if self.drain.expire(self.now) == Step::Cut {
            self.cut_all();
        }
    }

    fn stamp(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double exactly")]
        let stamp = self.unix as f64;
        stamp
    }

    /// Sends a control message to the master; one at a time is enough for what a worker says.
    fn say(&mut self, message: &Message) {
        let Some(channel) = &self.channel else { return };
        if self.passing {
            return;
        }
        self.passing = true;
        // Ours are short; one that is too long would be our own mistake and is not sent.
        let Ok(bytes) = message.encode(CONTROL_MAX) else { return };
        let token = Key { slot: CHANNEL, generation: 0 }.token(Kind::Pass);
        self.io.submit(token, Op::Pass(channel, Batch { bytes, fds: Vec::new() }));
    }

    fn on_pass(&mut self, completion: &Completion) {
        if completion.token.generation == handback::BACK {
            return self.on_pass_back(completion);
        }
        self.passing = false;
        let _ = self.io.reclaim(completion.token);
        // A master that is gone says so by its end-of-file; one that has no room is told again.
        self.told_full &= completion.result.is_ok();
        self.short.told(completion.result.is_ok());
    }
}
