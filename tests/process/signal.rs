//! Signals to servers and their workers.
#![expect(unsafe_code, reason = "std sends SIGKILL only")]

/// Sends a signal to a process that this program started, or to one of its workers.
pub(crate) fn send(pid: u32, number: i32) {
    let pid = i32::try_from(pid).expect("a process number");
    assert!(pid > 1, "neither everybody nor init");
    // SAFETY: no pointers.
    let answer = unsafe { libc::kill(pid, number) };
    assert_eq!(answer, 0, "signal {number} to {pid}: {}", std::io::Error::last_os_error());
}
