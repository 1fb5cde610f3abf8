//! The second part of a turn: bytes of a client, bytes of a file.

use super::tell::Event;
use super::{Key, Phase, Worker};
use crate::io::{Completion, Errno, ErrnoClass, Io, Kind, Op, Owned};
use crate::protocol::Protocol;
use crate::stats::{CloseReason, Counter};

impl<I: Io, P: Protocol> Worker<I, P> {
    pub(super) fn arm_recv(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.in_flight.start(Kind::Recv);
        self.io.submit(key.token(Kind::Recv), Op::Recv(&connection.fd));
    }

    /// Bytes, end-of-file or an error of one connection. A buffer comes back whoever it was for.
    pub(super) fn on_recv(&mut self, completion: Completion) {
        let key = Key::from(completion.token);
        if let Some(connection) = self.connections.get_mut(key) {
            if !completion.more {
                connection.in_flight.finish(Kind::Recv);
            }
            match connection.phase {
                Phase::Open => self.on_recv_open(key, &completion),
                Phase::Leaving => self.on_recv_leaving(key, &completion),
                Phase::Closing(_) => self.on_recv_closing(key, &completion),
                Phase::Lingering(reason) => self.on_recv_lingering(key, &completion, reason),
                Phase::Joining(_) => self.close_join(key),
            }
        }
        if let Some(buf) = completion.buf {
            self.io.recycle(buf);
        }
    }

    pub(super) fn on_recv_open(&mut self, key: Key, completion: &Completion) {
        match (completion.result, &completion.buf) {
            (Ok(0), _) => {
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.eof = true;
                }
                self.tell(key, Event::Eof);
            }
            (Ok(count), Some(buf)) => {
                self.line.add(Counter::BytesIn, u64::from(count));
                self.tell(key, Event::Bytes(buf));
                if !completion.more {
                    self.rearm.push(key);
                }
            }
            (Ok(_), None) => debug_assert!(false, "received bytes without a buffer"),
            (Err(errno), _) => match errno.class() {
                ErrnoClass::Pause | ErrnoClass::Retry => {
                    self.line.add(Counter::Starved, 1);
                    self.rearm.push(key);
                }
                // Our own cancellation, because the machine wanted a pause. If it wants to read
                // again by now, it is armed again.
                ErrnoClass::Expected => self.rearm.push(key),
                ErrnoClass::Close => self.finish(key, CloseReason::Reset),
            },
        }
    }

    /// The peer still talks while our last answer leaves: it must be lingered over.
    fn on_recv_closing(&mut self, key: Key, completion: &Completion) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match completion.result {
            Ok(0) => connection.eof = true,
            Ok(_) => {
                if let Phase::Closing(close) = &mut connection.phase {
                    close.linger = true;
                }
                if !completion.more {
                    self.rearm.push(key);
                }
            }
            Err(errno) if errno.class() == ErrnoClass::Close => {
                self.finish(key, CloseReason::Reset);
            }
            Err(_) => self.rearm.push(key),
        }
    }

    fn on_recv_lingering(&mut self, key: Key, completion: &Completion, reason: CloseReason) {
        match completion.result {
            Ok(0) => self.finish(key, reason),
            Err(errno) if errno.class() == ErrnoClass::Close => self.finish(key, reason),
            Ok(_) | Err(_) if !completion.more => self.rearm.push(key),
            Ok(_) | Err(_) => {}
        }
    }

    /// All buffers of the pass are back: receives that ended early are armed again.
    pub(super) fn rearm_starved(&mut self) {
        let mut rearm = std::mem::take(&mut self.rearm);
        for key in rearm.drain(..) {
            let Some(connection) = self.connections.get(key) else { continue };
            let wanted = match connection.phase {
                Phase::Open => !connection.paused && !self.waits_to_leave(connection),
                Phase::Closing(_) | Phase::Lingering(_) => true,
                Phase::Leaving | Phase::Joining(_) => false,
            };
            if wanted && !connection.eof && !connection.in_flight.has(Kind::Recv) {
                self.arm_recv(key);
            }
        }
        self.rearm = rearm;
    }

    /// The machine wants no input, or wants it again.
    pub(super) fn set_paused(&mut self, key: Key, paused: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.paused == paused {
            return;
        }
        connection.paused = paused;
        let armed = connection.in_flight.has(Kind::Recv);
        if paused && armed {
            let target = key.token(Kind::Recv);
            self.io.submit(target.with(Kind::Cancel), Op::Cancel(target));
        } else if !paused && !armed {
            self.rearm.push(key);
        }
    }

    /// Asks for file bytes on behalf of a machine.
    pub(super) fn read_file(&mut self, key: Key, offset: u64, length: u32) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(file) = P::file_of(&connection.machine) else {
            debug_assert!(false, "a machine asked for a file that it does not have");
            return;
        };
        if connection.in_flight.has(Kind::Read) {
            return;
        }
        connection.in_flight.start(Kind::Read);
        let buffer = vec![0; length as usize].into_boxed_slice();
        self.io.submit(key.token(Kind::Read), Op::Read(file, buffer, offset));
    }

    /// File bytes came.
    pub(super) fn on_read(&mut self, completion: &Completion) {
        let owned = self.io.reclaim(completion.token);
        let key = Key::from(completion.token);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.in_flight.finish(Kind::Read);
        if let Phase::Joining(_) = connection.phase {
            return self.close_join(key);
        }
        let bytes = match (completion.result, owned) {
            (Ok(count), Some(Owned::Buffer(buffer))) => {
                let mut bytes = buffer.into_vec();
                bytes.truncate(count as usize);
                Ok(bytes)
            }
            (Ok(_), _) => Err(Errno::Gone),
            (Err(errno), _) => Err(errno),
        };
        self.tell(key, Event::File(bytes));
    }
}
