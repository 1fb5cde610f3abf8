//! From the kernel's error numbers to ours, and how a failing step at start is named.

use crate::error::{Error, ErrorKind};
use crate::io::Errno;
use std::fmt;
use std::io;

/// The meaning of a number of errno(3).
#[must_use]
pub fn errno(number: i32) -> Errno {
    match number {
        libc::ECANCELED => Errno::Canceled,
        libc::EAGAIN => Errno::Again,
        libc::EINTR => Errno::Interrupted,
        libc::EBUSY => Errno::Busy,
        libc::EMFILE | libc::ENFILE => Errno::NoFds,
        libc::ENOBUFS | libc::ENOMEM => Errno::NoBuffers,
        libc::ECONNRESET
        | libc::EPIPE
        | libc::ENOTCONN
        | libc::ETIMEDOUT
        | libc::EHOSTUNREACH
        | libc::EHOSTDOWN
        | libc::ENETUNREACH
        | libc::ENETDOWN => Errno::PeerGone,
        libc::ECONNABORTED | libc::EPROTO => Errno::Aborted,
        libc::ETOOMANYREFS => Errno::TooManyInFlight,
        libc::ENOENT | libc::EALREADY => Errno::Gone,
        libc::ECONNREFUSED => Errno::Refused,
        libc::EADDRINUSE | libc::EADDRNOTAVAIL => Errno::AddressInUse,
        libc::EACCES | libc::EPERM => Errno::Denied,
        other => Errno::Other(other),
    }
}

/// The number that the last failed call of this thread left.
#[must_use]
pub fn last_number() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// What the last failed call of this thread left.
#[must_use]
pub fn last() -> Errno {
    errno(last_number())
}

/// The answer of a call that returns -1 when it failed.
pub(super) fn check(answer: libc::c_int) -> Result<libc::c_int, Errno> {
    if answer == -1 { Err(last()) } else { Ok(answer) }
}

/// Like [`check`], for calls at start, where the operator reads which of them failed.
pub(super) fn step(name: &'static str, answer: libc::c_int) -> Result<libc::c_int, Failed> {
    if answer == -1 { Err(Failed { step: name, number: last_number() }) } else { Ok(answer) }
}

/// A step at start that failed: which one, and the number of errno(3) as it was. Keeps more than an
/// [`Errno`], because the operator is told more than a loop can decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The system call or what it was for.
    pub step: &'static str,
    /// Of errno(3).
    pub number: i32,
}

impl Failed {
    /// What a loop would make of it.
    #[must_use]
    pub fn errno(self) -> Errno {
        errno(self.number)
    }

    /// Which kind of error it is for the application.
    #[must_use]
    pub fn kind(self) -> ErrorKind {
        match self.number {
            libc::EADDRINUSE => ErrorKind::AddressInUse,
            libc::EADDRNOTAVAIL => ErrorKind::AddressNotAvailable,
            libc::EACCES | libc::EPERM => ErrorKind::PermissionDenied,
            libc::EMFILE | libc::ENFILE => ErrorKind::TooFewDescriptors,
            _ => ErrorKind::System,
        }
    }

    /// With what we wanted to do: `cannot listen on 127.0.0.1:80: bind: Permission denied …`.
    #[must_use]
    pub fn error(self, wanted: impl fmt::Display) -> Error {
        Error::new(self.kind(), format!("cannot {wanted}: {self}"))
            .with("step", self.step)
            .with("errno", self.number)
            .because(self)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, io::Error::from_raw_os_error(self.number))
    }
}

impl std::error::Error for Failed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_decisions() {
        for (number, want) in [
            (libc::EAGAIN, Errno::Again),
            (libc::ENFILE, Errno::NoFds),
            (libc::EPIPE, Errno::PeerGone),
            (libc::ECONNABORTED, Errno::Aborted),
            (libc::EPERM, Errno::Denied),
            (libc::EOPNOTSUPP, Errno::Other(libc::EOPNOTSUPP)),
        ] {
            assert_eq!(errno(number), want, "{number}");
        }
    }

    #[test]
    fn a_failed_step_names_itself_its_number_and_its_kind() {
        // SAFETY: no pointers, and no such descriptor: it can only fail.
        let answer = unsafe { libc::close(-1) };
        assert_eq!(check(answer), Err(Errno::Other(libc::EBADF)));
        let failed = Failed { step: "bind", number: libc::EADDRNOTAVAIL };
        assert_eq!(failed.kind(), ErrorKind::AddressNotAvailable);
        assert_eq!(
            failed.error("listen on 192.0.2.1:80").to_string(),
            "cannot listen on 192.0.2.1:80: bind: Cannot assign requested address (os error 99) \
             [address_not_available]"
        );
    }
}
