//! What only these tests need of the kernel.
#![expect(unsafe_code, reason = "a test limits and ends its own processes by system calls")]

/// Kills all processes of a group that this program started; `false` if there was none.
pub(crate) fn kill_group(leader: u32) -> bool {
    let group = i32::try_from(leader).expect("a process number");
    assert!(group > 1, "kill(-1) would be everybody");
    // SAFETY: no pointers.
    unsafe { libc::kill(-group, libc::SIGKILL) == 0 }
}

/// Limits this process and its children to so many descriptors.
pub(crate) fn limit_descriptors(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: reads a local.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}
