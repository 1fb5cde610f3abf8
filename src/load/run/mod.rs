//! The loop of one thread of the load generator: connects, asks, reads and counts over one ring.
//!
//! A turn handles all that completed, then reads the clock once more and sends: so that the time a
//! request was sent is the time it went to the kernel, not the time the pass began.

mod connect;
mod end;
mod receive;
mod references;
mod send;

pub use references::References;

use super::pace::{Pace, Schedule};
use super::reply::Reader;
use super::request::{Rotation, Template};
use super::tally::{Failure, Tally, last_second};
use crate::io::{Address, Completion, Connects, Fd, Instant, Io, Kind};
use connect::Sources;
use send::Dirty;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What one thread has to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where to connect.
    pub address: Address,
    /// The requests of the mix, at least one.
    pub templates: Arc<[Template]>,
    /// What their bodies must equal, the same for all threads.
    pub references: References,
    /// Which thread of how many this is.
    pub share: (u32, u32),
    /// Connections of this thread.
    pub connections: u32,
    /// Requests on their way on one connection.
    pub pipeline: u32,
    /// Replies after which a connection is closed and another opened.
    pub requests_per_connection: Option<u64>,
    /// When to send; the rate is that of all threads.
    pub pace: Pace,
    /// Before the clock starts.
    pub warm_up: Duration,
    /// While it runs.
    pub duration: Duration,
    /// Of a connect, of a reply, and of the end.
    pub timeout: Duration,
    /// For Poisson arrivals.
    pub seed: u64,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connections are being opened.
    Connecting,
    /// They are, or the time for it is up; [`Client::begin`] is awaited.
    Ready,
    /// Asking, but not counting yet.
    WarmUp,
    /// The clock runs.
    Measuring,
    /// Nothing new is due; what is on its way is awaited.
    Draining,
    /// Connections are being closed.
    Closing,
    /// Nothing is left.
    Done,
}

/// One thread's load.
#[derive(Debug)]
pub struct Client<I> {
    io: I,
    job: Job,
    phase: Phase,
    now: Instant,
    /// When the present phase ends at the latest.
    phase_end: Instant,
    /// When to begin to ask, once that is known.
    begin: Option<Instant>,
    /// The measured time, and half of it.
    start: Instant,
    half: Instant,
    end: Instant,
    /// The second of it that `now` is in.
    second: u64,
    tick: Instant,
    connections: Vec<Connection>,
    /// How many connects are on their way.
    connecting: usize,
    /// How many connections are not open though they should be.
    broken: usize,
    sources: Sources,
    rotation: Rotation,
    schedule: Option<Schedule>,
    /// Open loop: connections with room for a request.
    free: VecDeque<u32>,
    /// Open loop: a request is due and there is no such connection.
    starved: bool,
    /// Closed loop: connections that may ask again.
    eager: Vec<u32>,
    /// Receives to arm again when the buffers are back.
    rearm: Vec<u32>,
    /// What is to be sent in this pass.
    dirty: Vec<Dirty>,
    arena: Vec<u8>,
    tally: Tally,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// There is none; another is opened at this time.
    Closed(Instant),
    /// Since this time.
    Connecting(Instant),
    Open,
    /// Nothing more: waiting for the kernel to let go.
    Joining,
}

/// One connection's slot.
#[derive(Debug)]
struct Connection {
    fd: Option<Fd>,
    generation: u32,
    life: Life,
    /// Operations that the kernel holds.
    connect_armed: bool,
    recv_armed: bool,
    send_armed: bool,
    reader: Reader,
    sent: VecDeque<Sent>,
    /// Requests of this connection's life.
    asked: u64,
    /// When its connect began.
    since: Instant,
    /// It is in the list of connections with room.
    is_free: bool,
    /// Its entry in the list of this pass's sends.
    dirty: u32,
    /// It is not open by somebody's fault.
    is_broken: bool,
    /// It was open once before.
    is_reopened: bool,
    has_answered: bool,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    due: Instant,
    at: Instant,
    template: u16,
    /// It was due within the measured time.
    counted: bool,
}

const NOT_DIRTY: u32 = u32::MAX;
/// How often timeouts are looked for, at least.
const TICK: Duration = Duration::from_millis(100);
/// Connects on their way at once: more would overflow backlogs and look like a slow server.
const CONNECTING_MAX: usize = 128;
/// A connect that failed is tried again after so long.
const RETRY: Duration = Duration::from_millis(50);

impl<I: Io + Connects> Client<I> {
    /// Begins to open its connections.
    pub fn new(io: I, job: Job) -> Self {
        let now = io.now();
        let depth = job.pipeline as usize;
        let connection = |_| Connection {
            fd: None,
            generation: 0,
            life: Life::Closed(now),
            connect_armed: false,
            recv_armed: false,
            send_armed: false,
            reader: Reader::default(),
            sent: VecDeque::with_capacity(depth),
            asked: 0,
            since: now,
            is_free: false,
            dirty: NOT_DIRTY,
            is_broken: true,
            is_reopened: false,
            has_answered: false,
        };
        let connections: Vec<Connection> = (0..job.connections).map(connection).collect();
        let mut tally = Tally::default();
        tally.connections.requested = u64::from(job.connections);
        Self {
            phase: Phase::Connecting,
            now,
            phase_end: now.after(job.timeout),
            begin: None,
            start: now,
            half: now,
            end: now,
            second: 0,
            tick: now,
            connecting: 0,
            broken: connections.len(),
            connections,
            sources: Sources::new(&job),
            rotation: Rotation::new(job.templates.iter().map(|t| t.weight), job.share.0),
            schedule: None,
            free: VecDeque::new(),
            starved: false,
            eager: Vec::new(),
            rearm: Vec::new(),
            dirty: Vec::new(),
            arena: Vec::new(),
            tally,
            job,
            io,
        }
    }

    /// Handles all that completed, without blocking. Returns when to turn again at the latest.
    pub fn turn(&mut self, done: &mut Vec<Completion>) -> Option<Instant> {
        self.now = self.io.now();
        if self.phase == Phase::Measuring {
            // What comes with the end still belongs to the last second.
            let second = self.now.since(self.start).as_secs();
            self.second = second.min(last_second(self.measured()));
        }
        for completion in done.drain(..) {
            match completion.token.kind {
                Kind::Recv => self.on_recv(completion),
                Kind::Send => self.on_send(&completion),
                Kind::Connect => self.on_connect(&completion),
                Kind::SendNow | Kind::Cancel => {}
                Kind::Accept
                | Kind::Poll
                | Kind::Pass
                | Kind::Receive
                | Kind::Read
                | Kind::Write
                | Kind::Knock
                | Kind::Ask
                | Kind::Tell
                | Kind::Signal => unreachable!("never submitted: {:?}", completion.token.kind),
            }
        }
        self.rearm_starved();
        self.advance();
        if self.now >= self.tick {
            self.on_tick();
        }
        self.send_all_due();
        self.deadline()
    }

    /// Lends what is to be sent to the kernel and sleeps until something completes.
    pub fn wait(&mut self, deadline: Option<Instant>, done: &mut Vec<Completion>) {
        self.lend(deadline, done);
    }

    /// Where the run stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Starts asking at this time; after the warm-up the clock starts. Call it once, when it is
    /// ready.
    pub fn begin(&mut self, at: Instant) {
        assert!(self.phase == Phase::Ready && self.begin.is_none(), "begins once, when ready");
        self.begin = Some(at);
        self.start = at.after(self.job.warm_up);
        self.half = self.start.after(self.job.duration / 2);
        self.end = self.start.after(self.job.duration);
    }

    /// Whether [`Client::begin`] is awaited.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.phase == Phase::Ready && self.begin.is_none()
    }

    /// The time of the last turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// What was counted so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.connections.len() - self.broken
    }

    /// The measured time: what was planned, or until it was stopped.
    #[must_use]
    pub fn measured(&self) -> Duration {
        self.end.since(self.start)
    }

    /// Goes from phase to phase as time passes.
    fn advance(&mut self) {
        let is_over = self.now >= self.phase_end;
        match self.phase {
            Phase::Connecting if self.broken == 0 || is_over => self.phase = Phase::Ready,
            Phase::Ready if self.begin.is_some_and(|begin| begin <= self.now) => {
                self.tally.connections.opened = self.open() as u64;
                self.phase = Phase::WarmUp;
                self.phase_end = self.start;
                self.schedule = self.schedule(self.now, self.job.warm_up, true);
                self.let_all_ask();
                self.advance(); // the warm-up may take no time
            }
            Phase::WarmUp if is_over => {
                self.phase = Phase::Measuring;
                self.phase_end = self.end;
                self.tally.connections.alive_min = self.open() as u64;
                self.schedule = self.schedule(self.start, self.job.duration, false);
            }
            Phase::Measuring if is_over => {
                self.phase = Phase::Draining;
                self.phase_end = self.end.after(self.job.timeout);
            }
            Phase::Draining if is_over => {
                self.give_up();
                self.enter_closing();
            }
            Phase::Draining if self.is_drained() => self.enter_closing(),
            Phase::Closing if self.connections.iter().all(|c| c.fd.is_none()) => {
                self.phase = Phase::Done;
            }
            Phase::Connecting
            | Phase::Ready
            | Phase::WarmUp
            | Phase::Measuring
            | Phase::Draining
            | Phase::Closing
            | Phase::Done => {}
        }
    }

    /// The schedule of the warm-up keeps the first rate.
    fn schedule(&self, start: Instant, duration: Duration, is_warm_up: bool) -> Option<Schedule> {
        let Pace::Open { arrivals, from, to } = self.job.pace else { return None };
        let to = if is_warm_up { from } else { to };
        let seed = self.job.seed.wrapping_add(u64::from(is_warm_up));
        Some(Schedule::new((arrivals, from, to), self.job.share, start, duration, seed))
    }

    /// Whether the pass may send requests of a closed loop.
    fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::WarmUp | Phase::Measuring)
    }

    fn let_all_ask(&mut self) {
        for slot in 0..self.connections.len() {
            self.let_ask(slot);
        }
    }

    /// This connection has room: it asks again, or waits until something is due.
    fn let_ask(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        if connection.life != Life::Open || connection.is_free {
            return;
        }
        let number = u32::try_from(slot).expect("there are at most a million");
        connection.is_free = true;
        match self.job.pace {
            Pace::Closed => self.eager.push(number),
            Pace::Open { .. } => self.free.push_back(number),
        }
    }

    /// Looks for what takes too long, and opens what is closed.
    fn on_tick(&mut self) {
        self.tick = self.now.after(TICK.min(self.job.timeout / 4).max(Duration::from_millis(1)));
        let (now, timeout) = (self.now, self.job.timeout);
        let is_over = |since: Instant| now.since(since) >= timeout;
        for slot in 0..self.connections.len() {
            let connection = &self.connections[slot];
            match connection.life {
                Life::Open if connection.sent.front().is_some_and(|sent| is_over(sent.at)) => {
                    self.break_off(slot, Failure::Timeout, "");
                }
                Life::Connecting(since) if is_over(since) => self.cancel_connect(slot),
                Life::Closed(at) if at <= now => self.open_connection(slot),
                Life::Open | Life::Connecting(_) | Life::Closed(_) | Life::Joining => {}
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let mut deadline = self.tick;
        if self.phase == Phase::Done {
            return None;
        }
        match self.phase {
            Phase::Ready => deadline = self.begin.map_or(deadline, |begin| begin.min(deadline)),
            Phase::Closing | Phase::Done => {}
            Phase::Connecting | Phase::WarmUp | Phase::Measuring | Phase::Draining => {
                deadline = deadline.min(self.phase_end);
            }
        }
        if let Some(due) = self.schedule.as_ref().and_then(Schedule::due)
            && !self.free.is_empty()
        {
            deadline = deadline.min(due);
        }
        Some(deadline)
    }
}
