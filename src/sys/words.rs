//! The pipe that a worker's standard error is, when its master reads it.

use super::errno::{check, last};
use super::{log, process};
use crate::io::{Errno, Fd};
use std::io;
use std::os::fd::AsFd;

/// Both ends, with as much room as we may ask for.
///
/// # Errors
///
/// Out of descriptors.
pub(super) fn pipe() -> Result<(Fd, Fd), Errno> {
    let mut ends = [0; 2];
    // SAFETY: fills a local of its type.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: no pointers. It fails for who may not have so much: then it is 64 KiB.
    let _ = unsafe { libc::fcntl(ends[1], libc::F_SETPIPE_SZ, ROOM) };
    Ok((Fd::new(ends[0]), Fd::new(ends[1])))
}

/// In the worker: this end is its standard error from now on. It keeps the other end too, so that
/// no write of it ever fails for want of a reader.
///
/// # Errors
///
/// None that is known.
pub(super) fn begin(ours: i32, theirs: i32) -> Result<(), Errno> {
    process::keep_too(theirs);
    // SAFETY: no pointers.
    if unsafe { libc::dup2(ours, libc::STDERR_FILENO) } == -1 { Err(last()) } else { Ok(()) }
}

/// To our own standard error, as far as it takes it at once.
pub(super) fn pass_on(bytes: &[u8]) {
    let _ = log::write_now(io::stderr().as_fd(), bytes);
}

/// Bytes that a worker may write while its master does not read.
const ROOM: i32 = 1 << 20;
