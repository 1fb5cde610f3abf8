//! A process that limits itself: no such system call, and orphans as PID 1 has them.
#![expect(unsafe_code, reason = "a test limits its own process by system calls")]

/// Makes a system call fail with this errno from now on, in this process (seccomp(2)).
pub(crate) fn forbid(call: libc::c_long, errno: i32) {
    let number = u32::try_from(call).expect("a small number");
    let errno = u32::try_from(errno).expect("a small number");
    let load = 0x20; // BPF_LD | BPF_W | BPF_ABS, of the call's number at offset 0
    let jump_equal = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    let answer = 0x06; // BPF_RET | BPF_K
    let filter = [
        libc::sock_filter { code: load, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: jump_equal, jt: 0, jf: 1, k: number },
        libc::sock_filter { code: answer, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | errno },
        libc::sock_filter { code: answer, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_ptr().cast_mut() };
    // SAFETY: no pointers.
    let answer = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(answer, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: reads the program and its filter, which are locals.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(answer, 0);
}

/// Makes orphans below this process its children, as they would be PID 1's (prctl(2)).
pub(crate) fn adopt_orphans() {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
}
