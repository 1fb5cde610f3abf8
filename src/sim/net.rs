//! TCP as two bounded queues of bytes with fin and reset, and listeners with a backlog.
//!
//! # Difference to Linux
//!
//! Bytes arrive the moment they are sent; only completions are late. No options, no addresses, no
//! half-open connections: a listener that is full refuses at once, and the client tries again.

use super::kernel::{Body, FileId, ProcessId, State};
use super::ring::Wake;
use crate::io::{Errno, Fd, Half};
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Listener {
    /// The server's ends of connections nobody has accepted yet, and since when they wait.
    pub(super) backlog: VecDeque<(FileId, u64)>,
    /// Nobody joins them any more.
    pub(super) held: bool,
    /// It was shut down.
    pub(super) over: bool,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) connection: u32,
    /// The other end; its file may be gone.
    peer: FileId,
    /// What came from there and was not read.
    inbox: VecDeque<u8>,
    capacity: usize,
    /// The peer will send no more.
    eof: bool,
    /// The peer is gone without having read everything.
    reset: bool,
    read_shut: bool,
    write_shut: bool,
}

impl State {
    /// Two connected ends.
    pub(super) fn pair(&mut self) -> (FileId, FileId) {
        self.connections += 1;
        let (first, connection) = (self.files.len(), self.connections);
        let capacity = self.sizes.stream_bytes;
        let end = |peer| {
            let inbox = VecDeque::new();
            let (eof, reset, read_shut, write_shut) = (false, false, false, false);
            Stream { connection, peer, inbox, capacity, eof, reset, read_shut, write_shut }
        };
        (self.file(Body::Stream(end(first + 1))), self.file(Body::Stream(end(first))))
    }

    /// A connection of a process with itself: neither end was taken from a listener.
    pub(super) fn own_pair(&mut self, pid: ProcessId) -> Result<(Fd, Fd), Errno> {
        let taken = self.processes[pid].taken;
        let (one, other) = self.pair();
        let ours = self.install(pid, one, None).inspect_err(|_| {
            self.release(one);
            self.release(other);
        })?;
        let theirs = self.install(pid, other, None).inspect_err(|_| {
            self.close(pid, &ours);
            self.release(other);
            self.processes[pid].taken = taken;
        })?;
        self.processes[pid].taken = taken;
        Ok((ours, theirs))
    }

    /// A client's end of a new connection; [`Errno::Again`]: the backlog is full,
    /// [`Errno::Refused`]: nobody listens.
    pub(super) fn connect(&mut self, listener: FileId) -> Result<FileId, Errno> {
        match self.body(listener) {
            Some(Body::Listener(found)) if found.held => return Err(Errno::Refused),
            Some(Body::Listener(found)) if found.backlog.len() < self.sizes.backlog => {}
            Some(_) => return Err(Errno::Again),
            None => return Err(Errno::Refused),
        }
        let (client, server) = self.pair();
        self.arrive(listener, Some(server));
        Ok(client)
    }

    /// The server's end of a connection joins the backlog; `false`: it has no room.
    pub(super) fn arrive(&mut self, listener: FileId, server: Option<FileId>) -> bool {
        let (now, room) = (self.now, self.sizes.backlog);
        let Some(Body::Listener(found)) = self.body_mut(listener) else { return false };
        if found.held || found.backlog.len() >= room {
            return false;
        }
        found.backlog.extend(server.map(|server| (server, now)));
        self.wake(listener, Wake::Readable);
        true
    }

    /// accept4(2): one arrival, or [`Errno::Again`], or [`Errno::Gone`] after a shutdown.
    pub(super) fn accept_one(&mut self, pid: ProcessId, listener: FileId) -> Result<Fd, Errno> {
        let Some(Body::Listener(found)) = self.body(listener) else {
            panic!("accept on something that does not listen");
        };
        let none = if found.over { Errno::Gone } else { Errno::Again };
        let Some(&(file, _)) = found.backlog.front() else { return Err(none) };
        if self.prng.chance(self.faults.aborted) {
            return Err(Errno::Aborted);
        }
        if self.prng.chance(self.faults.no_fds) {
            return Err(Errno::NoFds);
        }
        let fd = self.install(pid, file, None)?;
        if let Some(Body::Listener(found)) = self.body_mut(listener) {
            found.backlog.pop_front();
        }
        let connection = self.connection(file);
        self.note(pid, connection, format_args!("accept"));
        Ok(fd)
    }

    /// Sends as much of `head`, then `body`, as there is room for; [`Errno::Again`]: there is none.
    pub(super) fn write(&mut self, id: FileId, head: &[u8], body: &[u8]) -> Result<usize, Errno> {
        let stream = self.stream(id);
        if stream.reset || stream.write_shut {
            return Err(Errno::PeerGone);
        }
        let peer_id = stream.peer;
        let Some(Body::Stream(peer)) = self.body_mut(peer_id) else {
            // Nobody reads there: these bytes are answered with a reset.
            self.stream_mut(id).reset = true;
            self.wake(id, Wake::Readable);
            return Ok(head.len() + body.len());
        };
        let held = peer.inbox.len();
        if held >= peer.capacity {
            return Err(Errno::Again);
        }
        for part in [head, body] {
            let room = peer.capacity - peer.inbox.len();
            peer.inbox.extend(&part[..part.len().min(room)]);
        }
        let sent = peer.inbox.len() - held;
        self.wake(peer_id, Wake::Readable);
        Ok(sent)
    }

    /// At most `max` bytes; none: end-of-file; [`Errno::Again`]: nothing there.
    pub(super) fn read(&mut self, id: FileId, max: usize) -> Result<Vec<u8>, Errno> {
        let stream = self.stream_mut(id);
        let bytes: Vec<u8> = stream.inbox.drain(..max.min(stream.inbox.len())).collect();
        if bytes.is_empty() && stream.reset {
            return Err(Errno::PeerGone);
        }
        if bytes.is_empty() && !stream.eof && !stream.read_shut {
            return Err(Errno::Again);
        }
        let peer = stream.peer;
        if !bytes.is_empty() {
            self.wake(peer, Wake::Writable);
        }
        Ok(bytes)
    }

    /// Whether a read would answer something.
    pub(super) fn is_readable(&self, id: FileId) -> bool {
        let stream = self.stream(id);
        !stream.inbox.is_empty() || stream.eof || stream.reset || stream.read_shut
    }

    /// Whether all that was sent was read.
    pub(super) fn is_drained(&self, id: FileId) -> bool {
        match self.body(self.stream(id).peer) {
            Some(Body::Stream(peer)) => peer.inbox.is_empty(),
            _ => true,
        }
    }

    /// Whether a write would answer something.
    pub(super) fn is_writable(&self, id: FileId) -> bool {
        let stream = self.stream(id);
        match self.body(stream.peer) {
            Some(Body::Stream(peer)) => stream.reset || peer.inbox.len() < peer.capacity,
            _ => true,
        }
    }

    /// Whether closing it tells the peer nothing new, whoever else holds it.
    pub(super) fn is_shut(&self, id: FileId) -> bool {
        let stream = self.stream(id);
        stream.write_shut || stream.reset
    }

    pub(super) fn shut(&mut self, id: FileId, half: Half) {
        if let Some(Body::Listener(listener)) = self.body_mut(id) {
            let over = Listener { held: true, over: true, ..Listener::default() };
            let before = std::mem::replace(listener, over);
            self.wake(id, Wake::Readable);
            return self.close_listener(before);
        }
        let stream = self.stream_mut(id);
        stream.write_shut = true;
        stream.read_shut |= half == Half::Both;
        let peer = stream.peer;
        if let Some(Body::Stream(peer)) = self.body_mut(peer) {
            peer.eof = true;
        }
        self.wake(peer, Wake::Readable);
        self.wake(id, Wake::Readable);
        self.wake(id, Wake::Writable);
    }

    /// The client goes away without good-bye (SO_LINGER 0).
    pub(super) fn abort(&mut self, id: FileId) {
        let peer = self.stream(id).peer;
        self.reset(peer);
        self.release(id);
    }

    /// A last reference is gone: fin, or a reset if something was left unread.
    pub(super) fn close_stream(&mut self, stream: Stream) {
        if !stream.inbox.is_empty() {
            return self.reset(stream.peer);
        }
        if let Some(Body::Stream(peer)) = self.body_mut(stream.peer) {
            peer.eof = true;
            self.wake(stream.peer, Wake::Readable);
            self.wake(stream.peer, Wake::Writable);
        }
    }

    /// The listener's last reference is gone: whoever waited in its backlog is reset.
    pub(super) fn close_listener(&mut self, listener: Listener) {
        self.lost += listener.backlog.len() as u64;
        for (server, _) in listener.backlog {
            let peer = self.stream(server).peer;
            self.reset(peer);
            self.release(server);
        }
    }

    fn reset(&mut self, id: FileId) {
        let eats = self.prng.chance(self.faults.reset_eats);
        let Some(Body::Stream(stream)) = self.body_mut(id) else { return };
        stream.reset = true;
        if eats {
            stream.inbox.clear();
        }
        self.wake(id, Wake::Readable);
        self.wake(id, Wake::Writable);
    }

    fn stream(&self, id: FileId) -> &Stream {
        match self.body(id) {
            Some(Body::Stream(stream)) => stream,
            other => panic!("{other:?} is no connection"),
        }
    }

    fn stream_mut(&mut self, id: FileId) -> &mut Stream {
        match self.body_mut(id) {
            Some(Body::Stream(stream)) => stream,
            other => panic!("{other:?} is no connection"),
        }
    }
}
