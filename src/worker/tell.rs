//! Where worker and machine meet: tell it what happened, do what it wants next.

use super::flush::Dirty;
use super::{Key, NOT_DIRTY, Phase, Worker};
use crate::io::{Buf, Errno, Io, Kind};
use crate::protocol::{Cx, Next, Out, Protocol};

/// What happened to a connection.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// Bytes came.
    Bytes(&'a Buf),
    /// The output has left, or its turn has come.
    Resume,
    /// The peer sends no more.
    Eof,
    /// Its deadline has passed.
    Timeout,
    /// The file bytes it asked for.
    File(Result<Vec<u8>, Errno>),
    /// The worker drains.
    Drain,
}

impl<I: Io, P: Protocol> Worker<I, P> {
    /// Tells a connection's machine, and does what it wants next. A connection that is closing is
    /// told nothing any more.
    pub(super) fn tell(&mut self, key: Key, event: Event<'_>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        let mut start = self.arena.len();
        let out = match &mut connection.backlog {
            Some(backlog) => backlog.out(self.limits.output),
            None => {
                let body = match self.dirty.get_mut(connection.dirty as usize) {
                    Some(dirty) => {
                        start = dirty.extend(&mut self.arena);
                        &mut dirty.body
                    }
                    None => &mut self.body,
                };
                Out::new(&mut self.arena, body, start, self.limits.output)
            }
        };
        let mut cx = Cx {
            now: self.now,
            out,
            stats: &self.line,
            token: key.token(Kind::Recv),
            fd: &connection.fd,
            lookup: I::peer,
        };
        let (protocol, machine) = (&mut self.protocol, &mut connection.machine);
        let next = match event {
            Event::Bytes(buf) => protocol.receive(machine, self.io.bytes(buf), &mut cx),
            Event::Resume => protocol.resume(machine, &mut cx),
            Event::Eof => protocol.eof(machine, &mut cx),
            Event::Timeout => protocol.timeout(machine, &mut cx),
            Event::File(bytes) => protocol.file(machine, bytes, &mut cx),
            Event::Drain => protocol.drain(machine, &mut cx),
        };
        self.note_output(key, start);
        self.apply(key, next);
    }

    /// Puts a connection that wrote into the arena on the list of this pass's sends.
    fn note_output(&mut self, key: Key, start: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let end = self.arena.len();
        if let Some(dirty) = self.dirty.get_mut(connection.dirty as usize) {
            dirty.end = end;
        } else if end > start || self.body.is_some() {
            connection.dirty = u32::try_from(self.dirty.len()).unwrap_or(NOT_DIRTY);
            self.dirty.push(Dirty { key, start, end, body: self.body.take() });
            // Once it has left, the connection may go to another worker.
            self.eager |= self.back.until.is_some();
        }
    }

    /// Does what a machine wants now.
    pub(super) fn apply(&mut self, key: Key, next: Next) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if next.close.is_none() {
            self.timers.set(key, &mut connection.timer, next.deadline, next.exact);
        }
        connection.stage = next.stage;
        connection.resume = next.again || next.flushed;
        if connection.resume {
            if connection.has_output() {
                self.eager = true;
            } else {
                self.resume.push(key);
            }
        }
        if next.pause != connection.paused {
            self.set_paused(key, next.pause);
        }
        if let Some(file) = self
            .connections
            .get_mut(key)
            .and_then(|connection| self.protocol.finished_file(&mut connection.machine))
        {
            self.io.close(file);
        }
        if let Some((offset, length)) = next.read_file {
            self.read_file(key, offset, length);
        }
        if let Some(close) = next.close {
            self.close(key, close);
        }
        self.recount(key);
    }
}
