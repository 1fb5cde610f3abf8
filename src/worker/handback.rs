//! A drain that somebody else goes on after: idle connections go back to the master, who gives them
//! to another worker. Their clients see nothing of it.
//!
//! A connection goes back when nothing of it is here: no byte unused, no answer on its way. Its
//! receive is cancelled first; what comes before that has ended is served here, and the connection
//! goes back after the answer. While an answer leaves nothing is received: a client whose next
//! request follows at once would else never be found idle. Only so many are on their way as the
//! master has promised to take.

use super::tell::Event;
use super::{CHANNEL, Connection, Key, Phase, Worker};
use crate::io::{Batch, Completion, Errno, ErrnoClass, Half, Instant, Io, Kind, Op, Owned};
use crate::ipc::handoff::{CREDITS, Handoff};
use crate::protocol::Protocol;
use crate::stats::Counter;
use std::time::Duration;

/// What goes back, and when that ends.
#[derive(Debug, Default)]
pub(super) struct HandBack {
    /// Connections go back until then; what is left drains as if nobody went on.
    pub(super) until: Option<Instant>,
    /// Connections that may be idle.
    candidates: Vec<Key>,
    /// Receives being cancelled.
    leaving: u64,
    /// Receives that have ended: to be passed.
    ready: Vec<Key>,
    /// A message that the channel had no room for.
    waiting: Option<Batch>,
    /// The kernel is passing one.
    is_passing: bool,
    retry_at: Option<Instant>,
}

impl HandBack {
    /// Whether nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_passing && self.waiting.is_none()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.until, self.retry_at].into_iter().flatten().min()
    }
}

impl<I: Io, P: Protocol> Worker<I, P> {
    /// Gives back what idles, from now on.
    pub(super) fn begin_hand_back(&mut self, time: Duration) {
        self.back.until = Some(self.now.after(time - time / LAST_PART));
        self.back.candidates = self.connections.keys();
    }

    /// Nobody goes on any more, or there is no time left: the ordinary drain.
    pub(super) fn end_hand_back(&mut self) {
        if self.back.until.take().is_none() {
            return;
        }
        self.back.candidates = Vec::new();
        for key in self.connections.keys() {
            self.rearm.push(key);
            self.tell(key, Event::Drain);
        }
    }

    /// A connection may idle now.
    pub(super) fn may_leave(&mut self, key: Key) {
        if self.back.until.is_some() {
            self.back.candidates.push(key);
        }
    }

    /// Passes what is ready, and lets as many others leave as the master will take.
    pub(super) fn hand_back(&mut self) {
        self.back.retry_at = None;
        if self.back.until.is_some_and(|until| until <= self.now) {
            self.end_hand_back();
        }
        let on_its_way = self.line.get(Counter::HandedBack) - self.line.get(Counter::TakenBack);
        let mut used = on_its_way + self.back.leaving + self.back.ready.len() as u64;
        while used < CREDITS
            && let Some(key) = self.back.candidates.pop()
        {
            used += u64::from(self.leave(key));
        }
        self.pass_back();
        if !self.back.candidates.is_empty() || self.back.waiting.is_some() {
            self.back.retry_at = Some(self.now.after(SOON));
        }
    }

    /// Begins to let go of a connection, if nothing of it is here.
    fn leave(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let armed = connection.in_flight.has(Kind::Recv);
        let target = key.token(Kind::Recv);
        if connection.phase != Phase::Open || connection.eof || connection.paused {
            return false;
        }
        if self.protocol.carried(&connection.machine).is_none() {
            self.rearm.push(key);
            return false;
        }
        if connection.has_output() {
            // It comes again when that has left.
            if armed {
                self.io.submit(target.with(Kind::Cancel), Op::Cancel(target));
            }
            return false;
        }
        connection.phase = Phase::Leaving;
        self.back.leaving += 1;
        if armed {
            self.io.submit(target.with(Kind::Cancel), Op::Cancel(target));
        } else {
            self.left(key);
        }
        true
    }

    /// Whether a connection's next request waits outside until its whole answer has left.
    pub(super) fn waits_to_leave(&self, connection: &Connection<P::Connection>) -> bool {
        self.back.until.is_some()
            && connection.has_output()
            && self.protocol.carried(&connection.machine).is_some()
    }

    /// What came while its receive was being cancelled.
    pub(super) fn on_recv_leaving(&mut self, key: Key, completion: &Completion) {
        let canceled = completion.result.map_err(Errno::class) == Err(ErrnoClass::Expected);
        if canceled && self.back.until.is_some() {
            return self.left(key);
        }
        // It stays, with what it brought.
        self.back.leaving -= 1;
        if let Some(connection) = self.connections.get_mut(key) {
            connection.phase = Phase::Open;
        }
        self.on_recv_open(key, completion);
        self.may_leave(key);
        if self.back.until.is_none() {
            self.tell(key, Event::Drain);
        }
    }

    fn left(&mut self, key: Key) {
        self.back.leaving -= 1;
        self.back.ready.push(key);
    }

    /// One message at a time. Its connections are counted before it goes: what the master has not
    /// taken when we are gone is cut.
    fn pass_back(&mut self) {
        if self.back.is_passing || self.channel.is_none() {
            return;
        }
        let batch = match self.back.waiting.take() {
            Some(batch) => batch,
            None if self.back.ready.is_empty() => return,
            None => self.pack(),
        };
        let Some(channel) = &self.channel else { return };
        self.back.is_passing = true;
        let token = Key { slot: CHANNEL, generation: BACK }.token(Kind::Pass);
        self.io.submit(token, Op::Pass(channel, batch));
    }

    fn pack(&mut self) -> Batch {
        let mut handoff = Handoff::back(self.line.get(Counter::HandedBack));
        let mut batch = Batch::default();
        while !handoff.is_full()
            && let Some(key) = self.back.ready.pop()
        {
            let Some(mut connection) = self.connections.remove(key) else { continue };
            self.stages.add(connection.counted, -1);
            self.timers.set(key, &mut connection.timer, None, false);
            let carried = self.protocol.carried(&connection.machine);
            handoff.push(connection.listener, carried);
            if let Some(file) = self.protocol.close(connection.machine) {
                self.io.close(file);
            }
            batch.fds.push(connection.fd);
        }
        handoff.encode(&mut batch.bytes);
        self.line.add(Counter::HandedBack, batch.fds.len() as u64);
        batch
    }

    /// The message has left, with copies of our descriptors; or it has not.
    pub(super) fn on_pass_back(&mut self, completion: &Completion) {
        self.back.is_passing = false;
        let Some(Owned::Batch(batch)) = self.io.reclaim(completion.token) else { return };
        match completion.result.map_err(Errno::class) {
            Err(ErrnoClass::Retry | ErrnoClass::Pause) => self.back.waiting = Some(batch),
            Ok(_) => batch.fds.into_iter().for_each(|fd| self.io.close(fd)),
            Err(ErrnoClass::Close | ErrnoClass::Expected) => self.abandon(batch),
        }
    }

    /// The master is gone: nobody takes what waits for it.
    pub(super) fn drop_back(&mut self) {
        let batch = self.back.waiting.take().unwrap_or_default();
        self.abandon(batch);
        self.end_hand_back();
    }

    fn abandon(&mut self, batch: Batch) {
        for fd in batch.fds {
            // A copy of the master's may live on for a moment.
            self.io.shutdown(&fd, Half::Both);
            self.io.close(fd);
        }
    }
}

/// Tells the passing of connections from that of control messages.
pub(super) const BACK: u32 = 1;
/// The last quarter of a drain is for the ordinary one: what could not go back is told to close.
const LAST_PART: u32 = 4;
/// How soon the master's promises are looked at again: they are on the board, and wake nobody.
const SOON: Duration = Duration::from_millis(1);
