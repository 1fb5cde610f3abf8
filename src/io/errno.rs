//! What the kernel refused, and what follows from it: one decision for each errno. Pure.

use std::fmt;

/// An error number of Linux (errno(3)), as far as our operations can meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// `ECANCELED`: we cancelled it.
    Canceled,
    /// `EAGAIN`: nothing there, or no room.
    Again,
    /// `EINTR`: a signal came between.
    Interrupted,
    /// `EBUSY`: completions must be reaped first.
    Busy,
    /// `EMFILE`, `ENFILE`: out of descriptors, here or on the whole machine.
    NoFds,
    /// `ENOBUFS` or `ENOMEM`: out of provided buffers or of memory.
    NoBuffers,
    /// `ECONNRESET`, `EPIPE`, `ENOTCONN`, `ETIMEDOUT`, `EHOSTUNREACH`: the peer is gone.
    PeerGone,
    /// `ECONNABORTED`, `EPROTO`: this arrival died before we took it.
    Aborted,
    /// `ETOOMANYREFS`: too many descriptors in flight for this user.
    TooManyInFlight,
    /// `ENOENT`, `EALREADY`: what was to be cancelled is over.
    Gone,
    /// `ECONNREFUSED`.
    Refused,
    /// `EADDRINUSE`, `EADDRNOTAVAIL`.
    AddressInUse,
    /// `EACCES`, `EPERM`.
    Denied,
    /// Anything else, by its number.
    Other(i32),
}

/// What a loop does about an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrnoClass {
    /// Nothing wrong: do it again when there is something.
    Retry,
    /// Out of something: wait until some is given back, then go on.
    Pause,
    /// This connection, channel or arrival is over.
    Close,
    /// Not an error at all: the answer to our own cancellation.
    Expected,
}

impl Errno {
    /// The one place where an errno becomes a decision. No `_` arm: a new variant does not compile
    /// until someone decides.
    #[must_use]
    pub fn class(self) -> ErrnoClass {
        match self {
            Self::Canceled | Self::Gone => ErrnoClass::Expected,
            Self::Again | Self::Interrupted | Self::Busy | Self::Aborted => ErrnoClass::Retry,
            Self::NoFds | Self::NoBuffers | Self::TooManyInFlight => ErrnoClass::Pause,
            Self::PeerGone | Self::Refused | Self::AddressInUse | Self::Denied | Self::Other(_) => {
                ErrnoClass::Close
            }
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canceled => f.write_str("cancelled"),
            Self::Again => f.write_str("would block"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Busy => f.write_str("busy"),
            Self::NoFds => f.write_str("out of file descriptors"),
            Self::NoBuffers => f.write_str("out of buffers or memory"),
            Self::PeerGone => f.write_str("the peer is gone"),
            Self::Aborted => f.write_str("the connection was aborted before it was accepted"),
            Self::TooManyInFlight => f.write_str("too many descriptors in flight"),
            Self::Gone => f.write_str("no such operation or file"),
            Self::Refused => f.write_str("connection refused"),
            Self::AddressInUse => f.write_str("address in use or not available"),
            Self::Denied => f.write_str("permission denied"),
            Self::Other(number) => write!(f, "errno {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_pauses_and_never_closes() {
        for errno in [Errno::NoFds, Errno::NoBuffers, Errno::TooManyInFlight] {
            assert_eq!(errno.class(), ErrnoClass::Pause, "{errno}");
        }
    }

    #[test]
    fn the_unknown_ends_what_it_struck() {
        assert_eq!(Errno::Other(95).class(), ErrnoClass::Close);
    }
}
