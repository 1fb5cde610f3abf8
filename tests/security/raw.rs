//! What only these tests need of the kernel.
#![expect(unsafe_code, reason = "a test limits and ends its own processes by system calls")]

/// Limits this process and its children to so many descriptors.
pub(crate) fn limit_descriptors(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: reads a local.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}
