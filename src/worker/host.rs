//! What whoever drives a worker's turns from outside may ask of it, between two turns.

use super::tell::Event;
use super::{Key, Worker};
use crate::io::{Fd, Instant, Io, Token};
use crate::protocol::Protocol;
use std::net::SocketAddr;
use std::time::Duration;

impl<I: Io, P: Protocol> Worker<I, P> {
    /// Resumes a connection now: what its machine waited for is there. A connection that is over
    /// is none.
    pub fn resume(&mut self, token: Token) {
        self.now = self.io.now();
        self.tell(Key::from(token), Event::Resume);
    }

    /// Serves one more connection, that did not come from the pool's listeners. A worker that has
    /// drained closes it.
    pub fn add(&mut self, fd: Fd) {
        if self.ended {
            return self.io.close(fd);
        }
        self.now = self.io.now();
        // As if it had come to the pool's first address.
        self.adopt(fd, 0, false, None);
    }

    /// Drains as if somebody had sent it TERM: the master gets to know, and spawns a successor.
    pub fn retire(&mut self, time: Option<Duration>) {
        self.now = self.io.now();
        self.leaving |= self.drain.is_serving();
        self.begin_drain(time.unwrap_or(self.limits.drain), true);
    }

    /// Whether it takes nothing new any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        !self.drain.is_serving()
    }

    /// When to turn again at the latest; in the past if there is work left.
    #[must_use]
    pub fn next_turn(&self) -> Option<Instant> {
        // A connection that was resumed between turns may want to read again.
        let work_left = !self.rearm.is_empty() || self.has_mail();
        if work_left { Some(self.now) } else { self.deadline() }
    }

    /// Whether there are answers that the next `wait` will send.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.eager || !self.dirty.is_empty()
    }

    /// The time of its last turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Who is at the other end of a connection. A system call.
    #[must_use]
    pub fn peer(&self, token: Token) -> Option<SocketAddr> {
        I::peer(&self.connections.get(Key::from(token))?.fd).address()
    }

    /// The kernel it runs on.
    pub fn io(&mut self) -> &mut I {
        &mut self.io
    }

    /// What it speaks.
    pub fn protocol(&mut self) -> &mut P {
        &mut self.protocol
    }

    /// Its counters.
    #[must_use]
    pub fn line(&self) -> &crate::ipc::board::Line {
        &self.line
    }
}
