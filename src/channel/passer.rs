//! Open descriptors from one process to another, with metadata (SCM_RIGHTS, unix(7)).

use super::{Map, Received, Value};
use crate::error::{Error, ErrorKind};
use crate::io::{Errno, Fd};
use crate::ipc::metadata;
use crate::sys::owned::{is_seqpacket, own};
use crate::sys::{scm, socket};
use crate::system::SystemInfo;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// One end of a channel for descriptors: SOCK_SEQPACKET, so that a message is a message whatever
/// else is on its way. Never blocks.
#[derive(Debug)]
pub struct FdPasser {
    channel: OwnedFd,
    fds_max: usize,
    metadata_max: usize,
}

/// What came in one message. Dropped descriptors are closed.
#[derive(Debug)]
pub struct Passed {
    /// The descriptors, new ones of this process, close-on-exec, in the order they were sent.
    pub fds: Vec<OwnedFd>,
    /// What the sender said of them.
    pub metadata: Map<String, Value>,
}

impl FdPasser {
    /// Most descriptors in one message (SCM_MAX_FD).
    pub const FDS_MAX: usize = scm::FDS_MAX;
    /// Most bytes of metadata, unless [`FdPasser::metadata_max`] says otherwise: 64 KiB.
    pub const METADATA_MAX: usize = 64 << 10;

    /// Whether this machine can do it; [`SystemInfo::features`] says why not.
    #[must_use]
    pub fn is_supported() -> bool {
        SystemInfo::get(1).supports_fd_passing()
    }

    /// Both ends of a new channel.
    ///
    /// # Errors
    ///
    /// Out of descriptors.
    pub fn pair() -> Result<(Self, Self), Error> {
        let ends = socket::seqpacket_pair().map_err(|errno| failed("make a pair", errno))?;
        Ok((Self::over(own(ends.0)), Self::over(own(ends.1))))
    }

    /// An end of a channel that was made elsewhere.
    ///
    /// # Errors
    ///
    /// Not a socket, or one that runs messages together (a stream).
    pub fn new(channel: OwnedFd) -> Result<Self, Error> {
        match is_seqpacket(channel.as_fd()) {
            Ok(true) => Ok(Self::over(channel)),
            Ok(false) => {
                let what = "descriptors need a channel of SOCK_SEQPACKET: a stream has no messages";
                Err(Error::new(ErrorKind::Ipc, what))
            }
            Err(wrong) => Err(Error::new(ErrorKind::Ipc, wrong.to_string()).because(wrong)),
        }
    }

    fn over(channel: OwnedFd) -> Self {
        Self { channel, fds_max: 1, metadata_max: Self::METADATA_MAX }
    }

    /// How many descriptors a message may bring: 1 unless said otherwise, at most
    /// [`FdPasser::FDS_MAX`].
    #[must_use]
    pub fn fds_max(mut self, count: usize) -> Self {
        self.fds_max = count.clamp(1, Self::FDS_MAX);
        self
    }

    /// How many bytes of metadata a message may have, sent or received.
    #[must_use]
    pub fn metadata_max(mut self, bytes: usize) -> Self {
        self.metadata_max = bytes.max(2);
        self
    }

    /// Sends copies of these descriptors, all in one message. The caller's stay open.
    ///
    /// `false`: the channel has no room now, and nothing was sent. Try again when it is writable,
    /// or send elsewhere.
    ///
    /// # Errors
    ///
    /// None or too many descriptors, metadata above the limit, or the other end is gone.
    #[must_use = "what was not sent is still yours to deal with"]
    pub fn send(
        &self,
        fds: &[BorrowedFd<'_>],
        metadata: &Map<String, Value>,
    ) -> Result<bool, Error> {
        if fds.is_empty() || fds.len() > Self::FDS_MAX {
            let what = format!("{} descriptors; 1 to {} may be sent", fds.len(), Self::FDS_MAX);
            return Err(Error::new(ErrorKind::Ipc, what).with("descriptors", fds.len()));
        }
        let bytes = metadata::encode(metadata, self.metadata_max)?;
        // An `Fd` does not close: these are numbers for the call.
        let fds: Vec<Fd> = fds.iter().map(|fd| Fd::new(fd.as_raw_fd())).collect();
        let fds: Vec<&Fd> = fds.iter().collect();
        match scm::send_message(&self.number(), &bytes, &fds) {
            Ok(_) => Ok(true),
            Err(Errno::Again | Errno::Interrupted | Errno::TooManyInFlight) => Ok(false),
            Err(errno) => Err(failed("pass descriptors", errno)),
        }
    }

    /// The next message, if it is there, without waiting.
    ///
    /// # Errors
    ///
    /// It brought no descriptor, more than [`FdPasser::fds_max`], or bytes above the limit; its
    /// metadata are no JSON object; or the table of descriptors is full. Whatever came with it is
    /// closed.
    pub fn receive(&self) -> Result<Received<Passed>, Error> {
        let message = match scm::receive_some(&self.number(), self.metadata_max, self.fds_max) {
            Ok(message) => message,
            Err(Errno::Again | Errno::Interrupted) => return Ok(Received::Nothing),
            Err(Errno::PeerGone) => return Ok(Received::Closed),
            Err(errno) => return Err(failed("receive descriptors", errno)),
        };
        // From here on they close themselves, whatever is wrong.
        let fds: Vec<OwnedFd> = message.fds.into_iter().map(own).collect();
        if message.bytes.is_empty() && fds.is_empty() && !message.truncated {
            return Ok(Received::Closed);
        }
        // The kernel rounds the room for them up to a word, which is two.
        if message.truncated || fds.len() > self.fds_max {
            let what = "a message was cut: more descriptors or metadata than may be, or the table \
                        of descriptors is full";
            return Err(Error::new(ErrorKind::Ipc, what).with("descriptors_max", self.fds_max));
        }
        if fds.is_empty() {
            return Err(Error::new(ErrorKind::Ipc, "a message without a descriptor"));
        }
        let metadata = metadata::parse(&message.bytes)?;
        Ok(Received::Message(Passed { fds, metadata }))
    }

    fn number(&self) -> Fd {
        Fd::new(self.channel.as_raw_fd())
    }
}

impl AsFd for FdPasser {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl From<FdPasser> for OwnedFd {
    fn from(passer: FdPasser) -> Self {
        passer.channel
    }
}

fn failed(wanted: &str, errno: Errno) -> Error {
    Error::new(ErrorKind::Ipc, format!("cannot {wanted}: {errno}"))
}
