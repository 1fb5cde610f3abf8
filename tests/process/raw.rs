//! What a case needs of the kernel and std does not offer: signals, groups, filters, orphans.
#![expect(
    unsafe_code,
    reason = "a case watches, limits and ends its own processes by system calls"
)]

/// Sends a signal to a process that this program started, or to one of its workers.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: no pointers.
    let answer = unsafe { libc::kill(number(pid), signal) };
    assert_eq!(answer, 0, "signal {signal} to {pid}: {}", std::io::Error::last_os_error());
}

/// Reaps this process if it has ended and is our child by now, whoever else waits to be reaped.
pub(crate) fn reap(pid: u32) {
    // SAFETY: no pointer but null, which asks for no status.
    let _ = unsafe { libc::waitpid(number(pid), std::ptr::null_mut(), libc::WNOHANG) };
}

fn number(pid: u32) -> i32 {
    let pid = i32::try_from(pid).expect("a process number");
    assert!(pid > 1, "0, 1 and -1 would be our group, init and everybody");
    pid
}

/// Writes to every Unix stream socket that this process has.
pub(crate) fn write_to_streams(bytes: &[u8]) {
    let is_a = |fd, option, want| {
        let mut value: libc::c_int = 0;
        let mut length = libc::socklen_t::try_from(size_of_val(&value)).expect("a small number");
        let (place, length) = ((&raw mut value).cast(), &raw mut length);
        // SAFETY: fills a local of its type.
        let answer = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, place, length) };
        answer == 0 && value == want
    };
    let is_stream = |fd: &i32| {
        is_a(*fd, libc::SO_DOMAIN, libc::AF_UNIX) && is_a(*fd, libc::SO_TYPE, libc::SOCK_STREAM)
    };
    for fd in (3..64).filter(is_stream) {
        // SAFETY: reads the slice; a write to a socket can hurt no memory.
        unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    }
}
