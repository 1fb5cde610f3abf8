//! Descriptors that close themselves, for what applications hold.

use super::errno::{Failed, errno, step};
use crate::io::{Errno, Fd};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Hands a descriptor over to a value that closes it when it is dropped.
#[must_use]
pub fn own(fd: Fd) -> OwnedFd {
    // SAFETY: an `Fd` has one owner, which gives it up here.
    unsafe { OwnedFd::from_raw_fd(fd.raw()) }
}

/// Both ends of a stream between processes: close-on-exec, in blocking mode (a ring waits by
/// itself).
///
/// # Errors
///
/// Out of descriptors or memory.
pub fn stream_pair() -> Result<(Fd, Fd), Errno> {
    let pair = UnixStream::pair();
    let (one, other) = pair.map_err(|error| errno(error.raw_os_error().unwrap_or(0)))?;
    Ok((Fd::new(one.into_raw_fd()), Fd::new(other.into_raw_fd())))
}

/// Whether a socket keeps messages apart and in order (SOCK_SEQPACKET).
///
/// # Errors
///
/// Not a socket.
pub fn is_seqpacket(fd: BorrowedFd<'_>) -> Result<bool, Failed> {
    let mut kind: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&kind)).unwrap_or(0);
    // SAFETY: fills a local of its type, whose size `length` says.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut length,
        )
    };
    step("SO_TYPE", answer)?;
    Ok(kind == libc::SOCK_SEQPACKET)
}
