//! What only tests need of the kernel: filters, limits, groups.
#![expect(unsafe_code, reason = "a test limits and watches its own processes by system calls")]

use ringfort::io::Fd;
use std::time::Duration;

/// Sends a signal to this very process.
pub(crate) fn raise(signal: i32) {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// Whether the descriptor becomes readable, or its other end closes, in this time.
pub(crate) fn is_readable(fd: &Fd, within: Duration) -> bool {
    let mut poll = libc::pollfd { fd: fd.raw(), events: libc::POLLIN, revents: 0 };
    let millis = i32::try_from(within.as_millis()).expect("a short time");
    // SAFETY: one entry, which is a local.
    unsafe { libc::poll(&raw mut poll, 1, millis) == 1 }
}

/// Reads what is there.
pub(crate) fn read(fd: &Fd) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    // SAFETY: writes at most as many bytes as there are.
    let count = unsafe { libc::read(fd.raw(), bytes.as_mut_ptr().cast(), bytes.len()) };
    bytes.truncate(usize::try_from(count).unwrap_or(0));
    bytes
}

/// Ignores a signal, or gives it a handler that does nothing.
pub(crate) fn set_handler(signal: i32, ignore: bool) {
    extern "C" fn nothing(_: i32) {}
    let handler = if ignore { libc::SIG_IGN } else { nothing as *const () as libc::sighandler_t };
    // SAFETY: the handler does nothing.
    assert_ne!(unsafe { libc::signal(signal, handler) }, libc::SIG_ERR);
}

/// Sets soft and hard limit of a resource (setrlimit(2)).
pub(crate) fn limit(resource: Resource, soft: u64, hard: u64) {
    let resource = match resource {
        Resource::Descriptors => libc::RLIMIT_NOFILE,
        Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
    };
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: reads a local.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// What can be limited.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource {
    Descriptors,
    LockedMemory,
}

/// Gives up all capabilities: root is then as limited as anybody.
pub(crate) fn drop_capabilities() {
    // Version 3 of capset(2): a header, then two times effective, permitted, inheritable.
    let header = [0x2008_0522_u32, 0];
    let none = [0_u32; 6];
    // SAFETY: reads two locals of the sizes that version 3 says.
    let answer = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(answer, 0);
}

/// Stops this process until somebody lets it go on.
pub(crate) fn stop() {
    raise(libc::SIGSTOP);
}

/// Waits until a child has stopped (waitpid(2), WUNTRACED).
pub(crate) fn wait_until_stopped(pid: u32) {
    let pid = i32::try_from(pid).expect("a process number");
    let mut status = 0;
    // SAFETY: fills a local.
    let answer = unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) };
    assert_eq!(answer, pid);
    assert!(libc::WIFSTOPPED(status), "it ended instead: status {status:#x}");
}

/// The trap itself: a send and a close of the same socket, queued in one submission.
pub(crate) fn send_then_close(socket: Fd, bytes: &[u8]) {
    let mut ring = io_uring::IoUring::new(8).expect("a ring");
    let fd = io_uring::types::Fd(socket.raw());
    let length = u32::try_from(bytes.len()).expect("a short answer");
    let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
    let send = io_uring::opcode::Send::new(fd, bytes.as_ptr(), length).flags(flags).build();
    let close = io_uring::opcode::Close::new(fd).build();
    // SAFETY: the bytes outlive both operations, which are waited for below.
    let pushed = unsafe { ring.submission().push_multiple(&[send, close]) };
    pushed.expect("there is room");
    ring.submit_and_wait(2).expect("both complete");
}
