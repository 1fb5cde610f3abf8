//! The third part: all answers of a pass leave, one inline send a connection. What the kernel does
//! not take at once is kept and sent asynchronously; new answers queue behind it.

use super::{Connection, Key, NOT_DIRTY, Phase, Worker};
use crate::io::{Bytes, Completion, Errno, ErrnoClass, Instant, Io, Kind, Op, Owned, SendNow};
use crate::protocol::{Out, Protocol};
use crate::stats::{CloseReason, Counter};
use std::collections::VecDeque;

/// Bytes reserved for the answers of a pass; more is possible, and given back afterwards.
pub(super) const ARENA: usize = 256 << 10;

/// What one connection sends in this pass.
#[derive(Debug)]
pub(super) struct Dirty {
    pub key: Key,
    /// Its bytes in the arena.
    pub start: usize,
    pub end: usize,
    /// A large body that follows them.
    pub body: Option<Bytes>,
}

impl Dirty {
    /// Makes its bytes the last of the arena, so that more can be appended; returns where they
    /// start.
    pub(super) fn extend(&mut self, arena: &mut Vec<u8>) -> usize {
        if self.end != arena.len() {
            let start = arena.len();
            arena.extend_from_within(self.start..self.end);
            (self.start, self.end) = (start, arena.len());
        }
        self.start
    }

    fn len(&self) -> usize {
        self.end - self.start + self.body.as_deref().map_or(0, <[u8]>::len)
    }
}

/// Output that the kernel did not take at once.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// What goes next; the first is with the kernel while a send is in flight.
    parts: VecDeque<(Bytes, usize)>,
    /// New answers.
    queue: Vec<u8>,
    /// A large body behind them.
    body: Option<Bytes>,
    /// When the peer must have taken something.
    deadline: Instant,
}

impl Backlog {
    /// Where the machine may write while the connection is blocked.
    pub(super) fn out(&mut self, most: usize) -> Out<'_> {
        let held: usize = self.parts.iter().map(|(bytes, offset)| bytes.len() - offset).sum();
        Out::new(&mut self.queue, &mut self.body, 0, most.saturating_sub(held))
    }

    /// The next bytes to send; `None` when all is out.
    fn next(&mut self) -> Option<(Bytes, usize)> {
        if self.parts.is_empty() {
            if !self.queue.is_empty() {
                self.parts.push_back((std::mem::take(&mut self.queue).into(), 0));
            }
            self.parts.extend(self.body.take().map(|body| (body, 0)));
        }
        self.parts.pop_front()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl<I: Io, P: Protocol> Worker<I, P> {
    /// Sends all answers of the pass inside the wait, and finds out which left whole.
    pub(super) fn send_all(&mut self, deadline: Option<Instant>, done: &mut Vec<Completion>) {
        if std::mem::take(&mut self.dirty_stale) {
            self.forget_gone();
        }
        // An answer with consequences must not wait for the next event to have them.
        let deadline = if std::mem::take(&mut self.eager) { Some(self.now) } else { deadline };
        let (arena, connections) = (&self.arena, &self.connections);
        let sends = self.dirty.iter().filter_map(|dirty| {
            let connection = connections.get(dirty.key)?;
            Some(SendNow {
                token: dirty.key.token(Kind::SendNow),
                fd: &connection.fd,
                head: &arena[dirty.start..dirty.end],
                body: dirty.body.as_deref().unwrap_or_default(),
            })
        });
        let sent: usize = self.dirty.iter().map(Dirty::len).sum();
        self.line.add(Counter::BytesOut, sent as u64);
        self.io.wait(Exact { inner: sends, left: self.dirty.len() }, deadline, done);
        self.settle(done);
    }

    /// Takes connections off the list that closed after they had answered.
    fn forget_gone(&mut self) {
        self.dirty.retain(|dirty| self.connections.get(dirty.key).is_some());
        for (index, dirty) in (0..).zip(&self.dirty) {
            if let Some(connection) = self.connections.get_mut(dirty.key) {
                connection.dirty = index;
            }
        }
    }

    /// After the wait: a send without a completion left whole.
    fn settle(&mut self, done: &[Completion]) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for completion in done.iter().filter(|done| done.token.kind == Kind::SendNow) {
            let key = Key::from(completion.token);
            let Some(connection) = self.connections.get(key) else { continue };
            if let Some(entry) = dirty.get_mut(connection.dirty as usize) {
                self.on_send_now(entry, completion.result);
            }
        }
        for entry in dirty.drain(..) {
            let Some(connection) = self.connections.get_mut(entry.key) else { continue };
            connection.dirty = NOT_DIRTY;
            if connection.backlog.is_none() {
                self.after_flush(entry.key);
            }
        }
        self.dirty = dirty;
        self.arena.clear();
        if self.arena.capacity() > 4 * ARENA {
            self.arena.shrink_to(ARENA);
        }
    }

    /// An inline send ran short or failed: what is left is kept and follows asynchronously.
    fn on_send_now(&mut self, dirty: &mut Dirty, result: Result<u32, Errno>) {
        let sent = match result.map_err(Errno::class) {
            Ok(count) => count as usize,
            Err(ErrnoClass::Retry | ErrnoClass::Pause | ErrnoClass::Expected) => 0,
            Err(ErrnoClass::Close) => return self.finish(dirty.key, CloseReason::Reset),
        };
        self.line.add(Counter::ShortSends, 1);
        let mut backlog = Box::<Backlog>::default();
        let head = dirty.end - dirty.start;
        if sent < head {
            let rest = self.arena[dirty.start + sent..dirty.end].to_vec();
            backlog.parts.push_back((rest.into(), 0));
        }
        if let Some(body) = dirty.body.take() {
            backlog.parts.push_back((body, sent.saturating_sub(head)));
        }
        self.send_backlog(dirty.key, backlog);
    }

    /// Sends the next part of a backlog, or lets the connection go on when there is none.
    fn send_backlog(&mut self, key: Key, mut backlog: Box<Backlog>) {
        let write = self.now.after(self.limits.write);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some((bytes, offset)) = backlog.next() else {
            connection.backlog = None;
            self.recount(key);
            return self.after_flush(key);
        };
        backlog.deadline = write;
        connection.backlog = Some(backlog);
        connection.in_flight.start(Kind::Send);
        self.io.submit(key.token(Kind::Send), Op::Send(&connection.fd, bytes, offset));
        self.timers.also(key, &mut connection.timer, write);
        self.recount(key);
    }

    /// An asynchronous send took some bytes, or failed.
    pub(super) fn on_send(&mut self, completion: &Completion) {
        let owned = self.io.reclaim(completion.token);
        let key = Key::from(completion.token);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.in_flight.finish(Kind::Send);
        if let Phase::Joining(_) = connection.phase {
            return self.close_join(key);
        }
        let Some(mut backlog) = connection.backlog.take() else {
            debug_assert!(false, "a send completed that no backlog knows of");
            return;
        };
        let Some(Owned::Bytes(bytes, offset)) = owned else {
            return self.finish(key, CloseReason::Reset);
        };
        let sent = match completion.result.map_err(Errno::class) {
            Ok(count) => count as usize,
            Err(ErrnoClass::Retry | ErrnoClass::Pause) => 0,
            Err(ErrnoClass::Close | ErrnoClass::Expected) => {
                return self.finish(key, CloseReason::Reset);
            }
        };
        if offset + sent < bytes.len() {
            backlog.parts.push_front((bytes, offset + sent));
        }
        self.send_backlog(key, backlog);
    }

    /// All output has left: close, or go on.
    fn after_flush(&mut self, key: Key) {
        let Some(Connection { phase, resume, .. }) = self.connections.get_mut(key) else { return };
        if *resume || matches!(phase, Phase::Closing(_)) {
            self.resume.push(key);
        }
        self.may_leave(key);
    }

    /// In the next turn: what connections wanted once their output had left.
    pub(super) fn on_flushed(&mut self) {
        let mut resume = std::mem::take(&mut self.resume);
        for key in resume.drain(..) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            // A key may be here twice: its machine may have written its last words since.
            let flushed = !connection.has_output();
            match connection.phase {
                Phase::Open if std::mem::take(&mut connection.resume) => {
                    self.tell(key, super::tell::Event::Resume);
                }
                Phase::Closing(close) if flushed => self.begin_close(key, close),
                Phase::Open
                | Phase::Leaving
                | Phase::Closing(_)
                | Phase::Lingering(_)
                | Phase::Joining(_) => {}
            }
        }
        // What was told to go on and wants to go on again waits for the next turn.
        resume.append(&mut self.resume);
        self.resume = resume;
    }
}

/// Every entry of the list has its connection (just retained), so the length is known.
struct Exact<T> {
    inner: T,
    left: usize,
}

impl<T: Iterator> Iterator for Exact<T> {
    type Item = T::Item;

    fn next(&mut self) -> Option<T::Item> {
        self.left = self.left.saturating_sub(1);
        self.inner.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Iterator> ExactSizeIterator for Exact<T> {}
