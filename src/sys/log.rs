//! One write that never waits: for log lines on a terminal, pipe, socket or file of somebody else.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// A terminal, opened once more for [`write_now`], non-blocking; `None` if it is none, or belongs
/// to another user. poll(2) calls a terminal writable when there is room for one byte, and a longer
/// write would wait for the rest.
#[must_use]
pub fn own_terminal(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    if !fd.is_terminal() {
        return None;
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    File::options().write(true).custom_flags(flags).open(path).ok().map(OwnedFd::from)
}

/// Writes what the descriptor takes at once, and says how many bytes that were; 0 when it would
/// have to wait, or failed (disk full, reader gone).
///
/// At most 4,096 bytes go whole or not at all into a pipe (PIPE_BUF, pipe(7)). A file on a disk may
/// wait for that disk; no call of Linux prevents it. O_NONBLOCK is not used: it belongs to the open
/// file description, which our shell and our siblings share.
#[must_use]
pub fn write_now(fd: BorrowedFd<'_>, bytes: &[u8]) -> usize {
    let iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: one iovec over bytes that outlive the call and are only read. Offset -1: as write(2).
    let wrote = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const iov, 1, -1, libc::RWF_NOWAIT) };
    if let Ok(wrote) = usize::try_from(wrote) {
        return wrote;
    }
    match io::Error::last_os_error().raw_os_error() {
        // A terminal and some file systems do not know RWF_NOWAIT; others refuse to extend a file
        // with it.
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EAGAIN) if is_writable(fd) => {
            // SAFETY: the bytes outlive the call and are only read.
            let wrote = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
            usize::try_from(wrote).unwrap_or(0)
        }
        _ => 0,
    }
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd that outlives the call; a timeout of 0 does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready == 1 && poll.revents & libc::POLLOUT != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::{AsFd, FromRawFd};
    use std::os::unix::net::UnixStream;

    const LINE: [u8; 100] = [b'x'; 100];

    /// Fills it until it takes no more, which must come soon: nothing here waits.
    fn fill(fd: BorrowedFd<'_>) -> usize {
        (0..100_000).map(|_| write_now(fd, &LINE)).take_while(|&wrote| wrote > 0).sum()
    }

    #[test]
    fn a_stuck_pipe_takes_no_more_and_a_read_one_again() {
        let (mut reader, writer) = io::pipe().unwrap();
        let full = fill(writer.as_fd());
        assert!(full >= 4096, "{full}");
        assert_eq!(full % LINE.len(), 0, "a line goes whole or not at all");
        assert_eq!(write_now(writer.as_fd(), &LINE), 0);
        reader.read_exact(&mut vec![0; full]).unwrap();
        assert_eq!(write_now(writer.as_fd(), &LINE), LINE.len());
        drop(reader);
        assert_eq!(write_now(writer.as_fd(), &LINE), 0, "the reader is gone");
    }

    #[test]
    fn a_stuck_socket_takes_no_more() {
        let (_reader, writer) = UnixStream::pair().unwrap();
        assert!(fill(writer.as_fd()) > 0);
        assert_eq!(write_now(writer.as_fd(), &LINE), 0);
    }

    #[test]
    fn a_stuck_terminal_takes_no_more() {
        let master = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
        let unlock: libc::c_int = 0;
        // SAFETY: this request reads one int, which outlives the call.
        let unlocked =
            unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) };
        assert_eq!(unlocked, 0);
        let flags = libc::O_RDWR | libc::O_NOCTTY;
        // SAFETY: this request takes its argument by value.
        let peer = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
        assert!(peer >= 0);
        // SAFETY: a descriptor that the kernel just made for us.
        let peer = unsafe { OwnedFd::from_raw_fd(peer) };
        let own = own_terminal(peer.as_fd()).unwrap();
        assert!(fill(own.as_fd()) > 0);
        assert_eq!(write_now(own.as_fd(), &LINE), 0);
        // SAFETY: this request takes no argument.
        let flags = unsafe { libc::fcntl(peer.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0, "the one we share stays as it was");
        assert!(own_terminal(io::pipe().unwrap().1.as_fd()).is_none());
    }

    #[test]
    fn a_full_disk_takes_nothing_and_a_file_everything() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(write_now(full.as_fd(), &LINE), 0);
        let path = std::env::temp_dir().join(format!("ringfort-log-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        let wrote = [write_now(file.as_fd(), &LINE), write_now(file.as_fd(), &LINE)];
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((wrote, length), ([LINE.len(); 2], 200));
    }
}
