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

fn number(pid: u32) -> i32 {
    let pid = i32::try_from(pid).expect("a process number");
    assert!(pid > 1, "0, 1 and -1 would be our group, init and everybody");
    pid
}
