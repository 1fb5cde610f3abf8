//! The limits of another process.
#![expect(unsafe_code, reason = "std cannot limit a process")]

/// So many descriptors may a process have from now on (RLIMIT_NOFILE, soft); what it has stays.
pub(crate) fn limit_descriptors(pid: u32, count: u64) {
    let pid = i32::try_from(pid).expect("a process number");
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let none = std::ptr::null::<libc::rlimit>();
    // SAFETY: fills a local of its type; null for "change nothing" is allowed.
    let asked = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, none, &raw mut limit) };
    limit.rlim_cur = count;
    let none = std::ptr::null_mut::<libc::rlimit>();
    // SAFETY: reads a local of its type; null for "do not tell the old one" is allowed.
    let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, none) };
    assert_eq!((asked, set), (0, 0), "{}", std::io::Error::last_os_error());
}
