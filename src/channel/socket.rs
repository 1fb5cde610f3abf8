//! Messages between two processes on a Unix stream socket: four bytes of length, then JSON.

use super::{Message, Received};
use crate::error::{Error, ErrorKind};
use crate::io::Address;
use crate::ipc::frame::{self, Frames};
use crate::sys::owned::own;
use crate::sys::socket::{self, FileId, Options};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One end of a channel. Nothing is lost wherever the kernel cuts: what does not fit now is kept
/// and leaves with the next call, what came in part waits for its rest.
#[derive(Debug)]
pub struct UnixSocketChannel {
    stream: UnixStream,
    message_max: usize,
    frames: Frames,
    unsent: Vec<u8>,
    closed: bool,
}

impl UnixSocketChannel {
    /// Most bytes of a message, unless [`UnixSocketChannel::message_max`] says otherwise: 1 MiB.
    pub const MESSAGE_MAX: usize = 1 << 20;

    /// Listens at a path. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    ///
    /// Somebody listens there, another kind of file is there, or it is not allowed.
    pub fn listen(path: impl Into<PathBuf>) -> Result<ChannelListener, Error> {
        let path = path.into();
        let address = Address::Unix(path.clone());
        let options = Options { backlog: 128, reuse_port: false, defer_accept: Duration::ZERO };
        let fd = socket::listen(&address, options).map_err(|failed| failed.error(&address))?;
        let listener = UnixListener::from(own(fd));
        Ok(ChannelListener { listener, id: FileId::of(&path), path })
    }

    /// Connects to who listens at a path.
    ///
    /// # Errors
    ///
    /// Nobody does, or it is not allowed.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path).map_err(|error| {
            let what = format!("cannot connect to {}: {error}", path.display());
            Error::new(ErrorKind::Ipc, what).with("path", path.display()).because(error)
        })?;
        Self::over(stream)
    }

    /// Both ends of a channel without a path, for a process and one that it forks.
    ///
    /// # Errors
    ///
    /// Out of descriptors.
    pub fn pair() -> Result<(Self, Self), Error> {
        let (one, other) = UnixStream::pair().map_err(|error| failed("make a pair", error))?;
        Ok((Self::over(one)?, Self::over(other)?))
    }

    fn over(stream: UnixStream) -> Result<Self, Error> {
        stream.set_nonblocking(true).map_err(|error| failed("prepare", error))?;
        let frames = Frames::new(Self::MESSAGE_MAX);
        let (message_max, unsent) = (Self::MESSAGE_MAX, Vec::new());
        Ok(Self { stream, message_max, frames, unsent, closed: false })
    }

    /// Most bytes of a message, sent or received; call it before the first of them.
    #[must_use]
    pub fn message_max(mut self, bytes: usize) -> Self {
        self.message_max = bytes;
        self.frames = Frames::new(bytes);
        self
    }

    /// Sends a message: as much of it as fits now, the rest with the next call of anything.
    ///
    /// # Errors
    ///
    /// It is above the limit; the other end is gone; or it has left a whole message unread by now
    /// (then this one is not taken).
    pub fn send(&mut self, message: &Message) -> Result<(), Error> {
        self.flush()?;
        if self.unsent.len() > self.message_max {
            let what = "the other end does not read: the message was not taken";
            return Err(Error::new(ErrorKind::Ipc, what).with("unsent", self.unsent.len()));
        }
        let bytes = message.encode(self.message_max)?;
        frame::encode(&bytes, self.message_max, &mut self.unsent)?;
        self.flush()?;
        Ok(())
    }

    /// Sends what is left; whether all is sent by now.
    ///
    /// # Errors
    ///
    /// The other end is gone.
    pub fn flush(&mut self) -> Result<bool, Error> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("send", error)),
            }
        }
        Ok(true)
    }

    /// The next message, if it is there, without waiting.
    ///
    /// # Errors
    ///
    /// What came is no message, or above the limit, or broke off: the channel is of no use any
    /// more.
    pub fn receive(&mut self) -> Result<Received<Message>, Error> {
        // Whoever answers may wait for the rest of what was asked. Its failure shows in the read.
        let _ = self.flush();
        loop {
            if let Some(payload) = self.frames.next_frame()? {
                return Ok(Received::Message(Message::parse(payload, self.message_max)?));
            }
            if self.closed {
                return self.end();
            }
            let mut buffer = [0; READ_BYTES];
            match self.stream.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(count) => self.frames.push(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if waits(&error) => return Ok(Received::Nothing),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.closed = true,
                Err(error) => return Err(failed("receive", error)),
            }
        }
    }

    /// The next message; waits for it up to `timeout`.
    ///
    /// # Errors
    ///
    /// As [`UnixSocketChannel::receive`].
    pub fn receive_within(&mut self, timeout: Duration) -> Result<Received<Message>, Error> {
        // 0 would be for ever (SO_RCVTIMEO, socket(7)).
        let limit = timeout.max(Duration::from_micros(1));
        let wait = |stream: &UnixStream, wait: bool| {
            stream.set_read_timeout(Some(limit))?;
            stream.set_nonblocking(!wait)
        };
        wait(&self.stream, true).map_err(|error| failed("wait", error))?;
        let received = self.receive();
        wait(&self.stream, false).map_err(|error| failed("wait", error))?;
        received
    }

    fn end(&self) -> Result<Received<Message>, Error> {
        if self.frames.is_partial() {
            return Err(Error::new(ErrorKind::Ipc, "the other end broke off in a message"));
        }
        Ok(Received::Closed)
    }
}

impl AsFd for UnixSocketChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl From<UnixSocketChannel> for OwnedFd {
    fn from(channel: UnixSocketChannel) -> Self {
        channel.stream.into()
    }
}

/// Where channels arrive. Its path is removed when it is dropped, unless it is another's by then.
#[derive(Debug)]
pub struct ChannelListener {
    listener: UnixListener,
    id: Option<FileId>,
    path: PathBuf,
}

impl ChannelListener {
    /// The next channel, if somebody has connected, without waiting.
    ///
    /// # Errors
    ///
    /// Out of descriptors.
    pub fn accept(&self) -> Result<Option<UnixSocketChannel>, Error> {
        match self.listener.accept() {
            Ok((stream, _)) => UnixSocketChannel::over(stream).map(Some),
            Err(error) if waits(&error) => Ok(None),
            Err(error) => Err(failed("accept", error)),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for ChannelListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for ChannelListener {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            socket::unlink_own(&self.path, id);
        }
    }
}

/// Nothing there now: of a socket that does not wait, or one whose time is up.
fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn failed(wanted: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::Ipc, format!("cannot {wanted}: {error}")).because(error)
}

const READ_BYTES: usize = 16 << 10;
