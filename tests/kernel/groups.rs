//! The groups of processes that the harness starts.
#![expect(unsafe_code, reason = "the harness ends its own processes by system calls")]

/// Kills all processes of a group that this program started; `false` if there was none.
pub(crate) fn kill_group(leader: u32) -> bool {
    let group = i32::try_from(leader).expect("a process number");
    assert!(group > 1, "kill(-1) would be everybody");
    // SAFETY: no pointers.
    unsafe { libc::kill(-group, libc::SIGKILL) == 0 }
}
