//! What the machine of one connection offers to the worker. HTTP is its first user. Pure.
//!
//! The worker owns descriptors, buffers, timers and sends; the machine decides. It is told what
//! happened (`receive`, `flushed`, `eof`, `timeout`, `read`, `drain`) and answers by writing into
//! [`Out`] and with a [`Next`]: what it wants now. The last `Next` is what holds; nothing is
//! remembered from earlier ones.

use crate::io::{Bytes, Errno, Fd, Instant, Peer, Token};
pub use crate::ipc::board::Stage;
pub use crate::ipc::handoff::Carried;
use crate::stats::CloseReason;

/// A protocol: what all connections of one worker share (configuration, the handler, the Date).
pub trait Protocol {
    /// The state of one connection. Keep it small: an idle connection is this and nothing else.
    type Connection;

    /// A new second began. Called before anything else of the pass, at most once a second.
    fn tick(&mut self, unix: u64) {
        let _ = unix;
    }
    /// A connection came. Who takes its descriptor away owns it from then on: the worker gives it
    /// no slot and reads nothing from it. By default it is given back, and opened.
    fn take(&mut self, fd: Fd, now: Instant) -> Option<Fd> {
        let _ = now;
        Some(fd)
    }
    /// How many connections that were taken away are not over: they count against
    /// `connections_max`, and a drain waits for them.
    fn taken(&self) -> usize {
        0
    }
    /// A connection was adopted.
    /// `carried`: another worker served it before.
    fn open(&mut self, now: Instant, carried: Option<Carried>) -> (Self::Connection, Next);
    /// What another worker has to know to go on with this connection; `None` while there is more to
    /// it: a request, or part of one, or an answer. By default it is never given to another.
    fn carried(&self, connection: &Self::Connection) -> Option<Carried> {
        let _ = connection;
        None
    }
    /// Bytes came. All of them are consumed: what cannot be used yet is kept inside.
    fn receive(&mut self, connection: &mut Self::Connection, bytes: &[u8], cx: &mut Cx<'_>)
    -> Next;
    /// Go on: all output left, or the turn that `Next::again` asked for has come.
    fn resume(&mut self, connection: &mut Self::Connection, cx: &mut Cx<'_>) -> Next;
    /// The peer will send no more.
    fn eof(&mut self, connection: &mut Self::Connection, cx: &mut Cx<'_>) -> Next;
    /// The deadline of the last `Next` has passed.
    fn timeout(&mut self, connection: &mut Self::Connection, cx: &mut Cx<'_>) -> Next;
    /// The file bytes that `Next::read_file` asked for. An empty buffer: the file ended early. For
    /// machines that never ask, as all these about files.
    fn file(
        &mut self,
        connection: &mut Self::Connection,
        bytes: Result<Vec<u8>, Errno>,
        cx: &mut Cx<'_>,
    ) -> Next {
        let _ = bytes;
        self.resume(connection, cx)
    }
    /// The worker drains: finish what runs, then close; an idle connection closes at once.
    fn drain(&mut self, connection: &mut Self::Connection, cx: &mut Cx<'_>) -> Next;
    /// The connection is over. Gives back the file it still held.
    fn close(&mut self, connection: Self::Connection) -> Option<Fd> {
        let _ = connection;
        None
    }
    /// The file `Next::read_file` means.
    fn file_of(connection: &Self::Connection) -> Option<&Fd> {
        let _ = connection;
        None
    }
    /// Lines for the access log: the worker takes them once a pass. `None`: there is no log.
    fn log(&mut self) -> Option<&mut String> {
        None
    }
    /// A file the machine has finished with since it was last asked; the worker closes it.
    fn finished_file(&mut self, connection: &mut Self::Connection) -> Option<Fd> {
        let _ = connection;
        None
    }
}

/// What a machine is given with every call.
#[derive(Debug)]
pub struct Cx<'a> {
    /// The time of this pass.
    pub now: Instant,
    /// Where answers go.
    pub out: Out<'a>,
    /// The counters of this worker.
    pub stats: &'a crate::ipc::board::Line,
    /// Which connection this is, as long as it is open: whoever wants it resumed names it by this.
    pub token: Token,
    /// The connection's descriptor, only to be handed to `lookup`.
    pub fd: &'a Fd,
    /// Finds the peer's address; a system call, so only when an application asks.
    pub lookup: fn(&Fd) -> Peer,
}

/// What a machine wants after a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// When to call `timeout`, if nothing else happens before.
    pub deadline: Option<Instant>,
    /// The deadline is exact (an application's timer), not a limit that may be 100 ms late.
    pub exact: bool,
    /// Stop reading from the peer until a later `Next` says otherwise.
    pub pause: bool,
    /// There is work left that this turn was not allowed to do: call `resume` in the next pass
    /// (after the output has left).
    pub again: bool,
    /// Call `resume` when all output has left.
    pub flushed: bool,
    /// Read this much of the file at this offset, then call `file`. Repeated in every `Next` until
    /// the bytes are there: one read at a time is enough.
    pub read_file: Option<(u64, u32)>,
    /// Close when all output has left.
    pub close: Option<Close>,
    /// Where the connection stands, for who asks what the worker is at.
    pub stage: Stage,
}

/// How a connection is to be closed, once its output has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// Why; it is counted.
    pub reason: CloseReason,
    /// Whether the peer may still be sending: then read and drop for a bounded time, so that a
    /// reset does not destroy our last answer (RFC 9112 §9.6).
    pub linger: bool,
    /// Do not even wait for the output: the connection is broken.
    pub now: bool,
}

/// Where a machine puts what is to be sent. It is full when a body was put, or when as much output
/// is held as the connection may hold; then nothing more is answered before `resume`.
#[derive(Debug)]
pub struct Out<'a> {
    /// Answers are appended here.
    buffer: &'a mut Vec<u8>,
    /// A large body that follows what is in the buffer, with the offset to start from.
    body: &'a mut Option<Bytes>,
    /// Where this connection's bytes in `buffer` begin.
    start: usize,
    /// Full when so many bytes are held.
    room: usize,
}

impl<'a> Out<'a> {
    /// Bodies up to this size, in bytes, are copied behind their head; larger ones are sent from
    /// where they are (measured: from 4 KiB on the second iovec is cheaper than the copy).
    pub const COPY_MAX: usize = 2048;

    /// `start`: where in `buffer` the bytes of this connection begin; `room`: how many it may add.
    pub fn new(
        buffer: &'a mut Vec<u8>,
        body: &'a mut Option<Bytes>,
        start: usize,
        room: usize,
    ) -> Self {
        Self { buffer, body, start, room }
    }

    /// Where heads and small bodies are written. Only append.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.body.is_none(), "bytes after a body would overtake it");
        self.buffer
    }

    /// A body: copied when small, else sent from where it is and the output is full.
    pub fn body(&mut self, bytes: Bytes) {
        debug_assert!(self.body.is_none(), "one body at a time");
        if bytes.len() <= Self::COPY_MAX {
            self.buffer.extend_from_slice(&bytes);
        } else {
            *self.body = Some(bytes);
        }
    }

    /// Whether to stop answering until `resume`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.body.is_some() || self.buffer.len() - self.start >= self.room
    }

    /// Whether nothing was written since this `Out` was made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_none() && self.buffer.len() == self.start
    }
}
