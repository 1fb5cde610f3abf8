//! The seam: all that master and worker know of the kernel. Imports nothing of the crate.
//!
//! Two sides implement it: `sys` over a real io_uring, `sim` over a seeded kernel that shortens,
//! delays, reorders and fails. The contract, for both:
//!
//! 1. `submit` queues and never blocks. What it takes by value (bytes, batches, buffers) belongs to
//!    the kernel until the last completion of that token; then `reclaim` gives it back.
//! 2. `wait` is the only call that blocks. It passes on what is queued, runs the lent sends, sleeps
//!    until something completes or `deadline` (a deadline in the past: does not sleep), and appends
//!    *all* that is ready to `done`.
//! 3. Sends are lent to `wait` and over when it returns. One that ran whole makes no completion;
//!    one that ran short or failed makes exactly one, of kind `SendNow`, in `done` of that call.
//! 4. `completion.more == false` is the last of its operation. A multishot may end early at any
//!    time; every loop is ready to submit it again.
//! 5. A completion that carries a buffer hands it over: it must be recycled, whoever it was for.
//! 6. A descriptor has one owner. Closing it does not end an operation that uses it: cancel that
//!    first and wait for its last completion ("join, then close").

mod errno;
mod processes;
mod time;
mod token;

pub use errno::{Errno, ErrnoClass};
pub use processes::{Child, Exit, Processes, Purpose, RunState, Signal, Usage, WorkerPlan};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
pub use time::Instant;
pub use token::{Kind, Token};

/// A file descriptor with one owner. Not `Clone`, and no `Drop`: closing is a decision
/// ([`Io::close`]), never an accident.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a descriptor that is dropped is leaked"]
pub struct Fd(i32);

impl Fd {
    /// Takes over a descriptor that nobody else owns.
    pub fn new(raw: i32) -> Self {
        Self(raw)
    }

    /// The number, for the kernel and for logs.
    #[must_use]
    pub fn raw(&self) -> i32 {
        self.0
    }
}

/// A provided buffer with received bytes. It belongs to the kernel, to a connection, or is free.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a buffer that is not recycled is lost to the kernel"]
pub struct Buf {
    /// Which buffer.
    pub id: u16,
    /// How many bytes were received into it.
    pub len: u16,
}

/// One answer of the kernel.
#[derive(Debug)]
pub struct Completion {
    /// Of which operation.
    pub token: Token,
    /// A count of bytes, or an accepted descriptor's number, or what went wrong.
    pub result: Result<u32, Errno>,
    /// The buffer that received bytes came in.
    pub buf: Option<Buf>,
    /// Whether more completions of this operation will follow.
    pub more: bool,
}

/// Bytes to send, owned without a copy where possible.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// Bytes of the program itself.
    Static(&'static [u8]),
    /// Bytes of this one answer.
    Owned(Vec<u8>),
    /// Bytes shared by many answers.
    Shared(Arc<[u8]>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Static(&[])
    }
}

impl From<&'static str> for Bytes {
    fn from(text: &'static str) -> Self {
        Self::Static(text.as_bytes())
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Static(bytes)
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        Self::Owned(text.into_bytes())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::Shared(bytes)
    }
}

/// A message with descriptors, as it leaves: at most [`Batch::FDS_MAX`] of them.
#[derive(Debug, Default)]
pub struct Batch {
    /// The payload; never empty (an empty SEQPACKET message looks like end-of-file).
    pub bytes: Vec<u8>,
    /// The descriptors; the kernel copies them, the batch keeps them.
    pub fds: Vec<Fd>,
}

impl Batch {
    /// Most descriptors in one message. The kernel's limit is 253 (SCM_MAX_FD).
    pub const FDS_MAX: usize = 32;
}

/// A message as it arrived on a channel. Its descriptors are new ones of this process.
#[derive(Debug, Default)]
pub struct Message {
    /// The payload; empty at end-of-file.
    pub bytes: Vec<u8>,
    /// The descriptors.
    pub fds: Vec<Fd>,
    /// The kernel cut bytes or descriptors (MSG_TRUNC, MSG_CTRUNC): the channel is not to be
    /// trusted.
    pub truncated: bool,
}

/// What an operation owned, given back after its last completion.
#[derive(Debug)]
pub enum Owned {
    /// Of a `Send` or a `Write`: the bytes and the offset they were sent from.
    Bytes(Bytes, usize),
    /// Of a `Pass`.
    Batch(Batch),
    /// Of a `Receive` that completed with a message.
    Message(Message),
    /// Of a `Read`: the buffer, filled as far as the result says.
    Buffer(Box<[u8]>),
}

/// Where to listen or connect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix stream socket, by its path.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client over TCP.
    Tcp(SocketAddr),
    /// A client of a Unix socket: on this machine, and without an address.
    Unix,
    /// Nobody any more.
    Gone,
}

impl Peer {
    /// Its address, if it has one.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(address),
            Self::Unix | Self::Gone => None,
        }
    }
}

/// One operation for the kernel.
#[derive(Debug)]
pub enum Op<'a> {
    /// Multishot accept. Result: the descriptor's number. Only for a listener with one reader for
    /// life.
    Accept(&'a Fd),
    /// Multishot poll for readability. Result: ignored; `accept` until `Errno::Again` after it.
    Poll(&'a Fd),
    /// Multishot receive into provided buffers. Result: bytes, 0 at end-of-file.
    Recv(&'a Fd),
    /// Send bytes from the offset on; completes when some are sent, or it failed. The count may be
    /// short: so progress is seen, and a peer that reads slowly is told from one that does not
    /// read.
    Send(&'a Fd, Bytes, usize),
    /// Send one message with descriptors, without blocking. Result: bytes of the payload.
    Pass(&'a Fd, Batch),
    /// Receive one message with descriptors (one-shot, so that a stopped process has swallowed at
    /// most one). Result: bytes of the payload, 0 at end-of-file.
    Receive(&'a Fd),
    /// Read into the buffer at an offset; `u64::MAX`: wherever the descriptor stands.
    Read(&'a Fd, Box<[u8]>, u64),
    /// Write bytes from the offset on, where the descriptor stands (at the end, of a file that was
    /// opened for appending). The count may be short.
    Write(&'a Fd, Bytes, usize),
    /// Cancel the operation of this token. Its own completion is of kind `Cancel` and may be
    /// ignored.
    Cancel(Token),
}

/// One answer to send inside [`Io::wait`]: head, then body, in one piece.
#[derive(Debug)]
pub struct SendNow<'a> {
    /// Of kind `SendNow`.
    pub token: Token,
    /// To whom.
    pub fd: &'a Fd,
    /// The first bytes; never empty together with `body`.
    pub head: &'a [u8],
    /// The bytes that follow; may be empty.
    pub body: &'a [u8],
}

/// Which half of a connection ends (shutdown(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// We send no more: the peer reads end-of-file after the last byte.
    Write,
    /// Nothing is sent or received any more; an armed receive ends.
    Both,
}

/// The kernel, as one process sees it.
pub trait Io {
    /// The monotonic clock. One read a pass is enough.
    fn now(&self) -> Instant;
    /// Wall clock in seconds since 1970, for the Date header (RFC 9110 §6.6.1).
    fn unix_time(&self) -> u64;
    /// Queues an operation. Never blocks; a full queue is passed on inside.
    fn submit(&mut self, token: Token, op: Op<'_>);
    /// Passes on, sends, sleeps and collects; see the contract of this module.
    fn wait<'a>(
        &mut self,
        sends: impl ExactSizeIterator<Item = SendNow<'a>>,
        deadline: Option<Instant>,
        done: &mut Vec<Completion>,
    );
    /// The bytes a completion brought.
    fn bytes(&self, buf: &Buf) -> &[u8];
    /// Gives a buffer back to the kernel.
    fn recycle(&mut self, buf: Buf);
    /// What a finished operation owned. Call once, at its last completion.
    fn reclaim(&mut self, token: Token) -> Option<Owned>;
    /// Takes one arrival from a listener without waiting (accept4). `Errno::Again`: there is none;
    /// `Errno::Gone`: it was shut down, here or in another process, and listens no more.
    fn accept(&mut self, listener: &Fd) -> Result<Fd, Errno>;
    /// Ends one or both halves at once (shutdown(2), directly). A listener listens no more then,
    /// whoever holds it: what is in its queue is reset, and who comes is refused.
    fn shutdown(&mut self, fd: &Fd, half: Half);
    /// Closes a descriptor (close(2), directly).
    fn close(&mut self, fd: Fd);
    /// Who is at the other end. One system call in the real kernel, so only when somebody asks. A
    /// function, not a method: a connection's machine may call it without knowing which kernel it
    /// runs on.
    fn peer(fd: &Fd) -> Peer
    where
        Self: Sized;
}

/// What only the load generator asks of the kernel.
pub trait Connects {
    /// Opens a socket and begins to connect it: one completion of kind `Connect` says how that went
    /// (a `Cancel` of its token ends it early). `from`: the source address, with a port that the
    /// kernel picks; `None`: the kernel picks both.
    ///
    /// # Errors
    ///
    /// There is no socket to be had, or not with this source address. Nothing was begun then.
    fn connect(&mut self, token: Token, to: &Address, from: Option<IpAddr>) -> Result<Fd, Errno>;
}
