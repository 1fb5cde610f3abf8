//! The fourth part: closing. Ask (`close`), let the output leave, linger if the peer still talks,
//! wait until the kernel holds nothing (`close_join`), and only then close the descriptor.

use super::tell::Event;
use super::{Key, NOT_DIRTY, Phase, Worker};
use crate::io::{Half, Io, Kind, Op};
use crate::protocol::{Close, Protocol};
use crate::stats::CloseReason;

impl<I: Io, P: Protocol> Worker<I, P> {
    /// A machine wants its connection closed, once its output has left.
    pub(super) fn close(&mut self, key: Key, close: Close) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        if close.now {
            return self.finish(key, close.reason);
        }
        connection.phase = Phase::Closing(close);
        self.eager = true;
        self.timers.set(key, &mut connection.timer, None, false);
        if connection.dirty == NOT_DIRTY && connection.backlog.is_none() {
            self.begin_close(key, close);
        } else if !connection.eof && !connection.in_flight.has(Kind::Recv) {
            // Reading was paused; from now on it is to see the peer's end.
            self.rearm.push(key);
        }
    }

    /// The output has left.
    pub(super) fn begin_close(&mut self, key: Key, close: Close) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !close.linger || connection.eof || self.limits.linger.is_zero() {
            return self.finish(key, close.reason);
        }
        connection.phase = Phase::Lingering(close.reason);
        self.io.shutdown(&connection.fd, Half::Write);
        let deadline = self.now.after(self.limits.linger);
        self.timers.set(key, &mut connection.timer, Some(deadline), false);
        if !connection.in_flight.has(Kind::Recv) {
            self.rearm.push(key);
        }
    }

    /// Nothing more is sent or read: let the kernel let go.
    pub(super) fn finish(&mut self, key: Key, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Phase::Joining(_) = connection.phase {
            return;
        }
        connection.phase = Phase::Joining(reason);
        self.timers.set(key, &mut connection.timer, None, false);
        if connection.handed_over || connection.in_flight.has(Kind::Send) {
            // The master may still hold a copy: closing ours would tell the peer nothing. And what
            // waits to be sent must be let go of.
            self.io.shutdown(&connection.fd, Half::Both);
        } else if connection.in_flight.has(Kind::Recv) {
            let target = key.token(Kind::Recv);
            self.io.submit(target.with(Kind::Cancel), Op::Cancel(target));
        }
        self.close_join(key);
    }

    /// Closes the descriptor and frees the slot, unless the kernel still holds an operation.
    pub(super) fn close_join(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Phase::Joining(reason) = connection.phase else { return };
        if !connection.in_flight.is_idle() {
            return;
        }
        let Some(connection) = self.connections.remove(key) else { return };
        self.stages.add(connection.counted, -1);
        self.dirty_stale |= connection.dirty != NOT_DIRTY;
        if let Some(file) = self.protocol.close(connection.machine) {
            self.io.close(file);
        }
        self.io.close(connection.fd);
        self.line.close(reason);
    }

    /// A connection's deadline has passed: the peer's, for what it does not read, or its machine's.
    pub(super) fn on_deadline(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match (connection.phase, &connection.backlog) {
            (Phase::Lingering(reason), _) => self.finish(key, reason),
            (_, Some(backlog)) if backlog.deadline() <= self.now => {
                self.finish(key, CloseReason::WriteTimeout);
            }
            (Phase::Open, _) => self.tell(key, Event::Timeout),
            (Phase::Leaving | Phase::Closing(_) | Phase::Joining(_), _) => {}
        }
    }
}
