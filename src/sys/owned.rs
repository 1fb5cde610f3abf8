//! Descriptors that close themselves, for what applications hold.

use super::errno::{Failed, step};
use crate::io::Fd;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Hands a descriptor over to a value that closes it when it is dropped.
#[must_use]
pub fn own(fd: Fd) -> OwnedFd {
    // SAFETY: an `Fd` has one owner, which gives it up here.
    unsafe { OwnedFd::from_raw_fd(fd.raw()) }
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
