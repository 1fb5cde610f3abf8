//! Processes: fork from one thread, pidfds, how a child ended, and which descriptors it keeps.

use super::errno::{Failed, check, last_number, step};
use crate::error::{Error, ErrorKind};
use crate::io::{Errno, Exit, Fd, Signal};
use crate::panics::contained;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// A child that was forked: its number for logs, and what it is signalled and reaped by.
#[derive(Debug)]
pub struct Forked {
    /// Its number; never used to signal.
    pub pid: u32,
    /// Close-on-exec; readable once the child has ended (pidfd_open(2)).
    pub pidfd: Fd,
}

/// Why there is no child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// The process has so many threads. A lock that one of them holds would stay locked in the
    /// child for ever.
    Threads(usize),
    /// A system call failed.
    Failed(Failed),
}

impl SpawnError {
    /// What a loop makes of it.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self {
            Self::Threads(_) => Errno::Busy,
            Self::Failed(failed) => failed.errno(),
        }
    }

    /// What the operator reads.
    #[must_use]
    pub fn error(self) -> Error {
        match self {
            Self::Threads(count) => {
                Error::new(ErrorKind::Threads, format!("cannot fork: {count} threads run"))
            }
            Self::Failed(failed) => failed.error("fork"),
        }
    }
}

/// Forks, and runs `child` in the child, which ends with the code it returns, or with
/// [`EXIT_PANIC`]. Neither a return nor a panic of `child` reaches the frames of the caller, and
/// nothing registered with atexit(3) runs.
///
/// # Errors
///
/// More than one thread, or no process, memory or descriptor to be had. Then no child is left.
pub fn spawn(child: impl FnOnce() -> i32) -> Result<Forked, SpawnError> {
    match threads().map_err(SpawnError::Failed)? {
        1 => {}
        count => return Err(SpawnError::Threads(count)),
    }
    // SAFETY: one thread, as checked, so the child may call anything; it never returns from here.
    let answer = unsafe { libc::fork() };
    if answer == 0 {
        let code = contained(child).unwrap_or(EXIT_PANIC);
        exit(code);
    }
    let pid = step("fork", answer).map_err(SpawnError::Failed)?;
    match pidfd_open(pid) {
        Ok(pidfd) => Ok(Forked { pid: pid.unsigned_abs(), pidfd }),
        // While SIGCHLD is ignored the kernel itself reaps, and the number may be a stranger's now.
        Err(failed) if failed.number == libc::ESRCH => Err(SpawnError::Failed(failed)),
        Err(failed) => {
            // It has not been waited for, so the number is still its own.
            kill_and_reap(pid);
            Err(SpawnError::Failed(failed))
        }
    }
}

/// The exit code of a child that panicked; the same that std gives a program.
pub const EXIT_PANIC: i32 = 101;

/// How many threads this process has (proc(5)).
///
/// # Errors
///
/// /proc is not mounted.
pub fn threads() -> Result<usize, Failed> {
    Ok(numbers_in("/proc/self/task")?.len())
}

/// Bytes of memory that a process has resident (proc(5)); `shared_out`: each shared page counts for
/// its share only (PSS), which costs the kernel a walk over all of them.
#[must_use]
pub fn memory(pid: u32, shared_out: bool) -> Option<u64> {
    if !shared_out {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        // SAFETY: no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        return pages.checked_mul(u64::try_from(page).ok()?);
    }
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// All open descriptors of this process, in order.
///
/// # Errors
///
/// /proc is not mounted.
pub fn open_fds() -> Result<Vec<i32>, Failed> {
    let mut fds = numbers_in("/proc/self/fd")?;
    // One of them was the folder itself while it was read; it is closed by now.
    fds.retain(|fd| is_open(*fd));
    fds.sort_unstable();
    Ok(fds)
}

fn numbers_in(folder: &'static str) -> Result<Vec<i32>, Failed> {
    let failed =
        |error: io::Error| Failed { step: folder, number: error.raw_os_error().unwrap_or(0) };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        // Names that are no numbers do not occur there.
        numbers.extend(
            entry.map_err(failed)?.file_name().to_str().and_then(|n| n.parse::<i32>().ok()),
        );
    }
    Ok(numbers)
}

fn is_open(fd: i32) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Closes every descriptor but these: what the application had open before the pool opened anything
/// ([`open_fds`], taken then), and what this process needs of the pool's. So an application's file
/// is never closed behind its back, and no worker holds a listener or a channel of another.
///
/// # Errors
///
/// close_range(2) is blocked by a seccomp filter.
pub fn close_all_but(inherited: &[i32], keep: &[&Fd]) -> Result<(), Failed> {
    let kept = inherited.iter().copied().chain(keep.iter().map(|fd| fd.raw()));
    let kept = kept.chain([KEPT.load(Ordering::Relaxed)]);
    for (first, last) in gaps(kept) {
        // SAFETY: no pointers. Whoever owned these descriptors is a frame of the parent that this
        // process never returns to, or was told.
        let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        if answer == -1 {
            return Err(Failed { step: "close_range", number: last_number() });
        }
    }
    Ok(())
}

/// One more descriptor that [`close_all_but`] leaves open in this process.
pub(super) fn keep_too(fd: i32) {
    KEPT.store(fd, Ordering::Relaxed);
}

static KEPT: AtomicI32 = AtomicI32::new(-1);

/// The ranges between the kept numbers, both ends included.
fn gaps(kept: impl Iterator<Item = i32>) -> Vec<(u32, u32)> {
    let mut kept: Vec<u32> = kept.filter_map(|fd| u32::try_from(fd).ok()).collect();
    kept.sort_unstable();
    kept.dedup();
    let mut gaps = Vec::with_capacity(kept.len() + 1);
    let mut next = 0;
    for fd in kept {
        if next < fd {
            gaps.push((next, fd - 1));
        }
        next = fd + 1;
    }
    gaps.push((next, u32::MAX));
    gaps
}

fn pidfd_open(pid: libc::pid_t) -> Result<Fd, Failed> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    i32::try_from(answer)
        .ok()
        .filter(|fd| *fd >= 0)
        .map(Fd::new)
        .ok_or_else(|| Failed { step: "pidfd_open", number: last_number() })
}

fn kill_and_reap(pid: libc::pid_t) {
    // SAFETY: no pointers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: null for "tell me no status" is allowed.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

/// Sends a signal through the pidfd, so never to a stranger that got the same number.
///
/// # Errors
///
/// The process was reaped, or may not be signalled.
pub fn signal(pidfd: &Fd, signal: Signal) -> Result<(), Errno> {
    signal_number(pidfd, number_of(signal))
}

const fn number_of(signal: Signal) -> i32 {
    match signal {
        Signal::Term => libc::SIGTERM,
        Signal::Abort => libc::SIGABRT,
        Signal::Kill => libc::SIGKILL,
    }
}

/// Like [`signal`], for any signal by its number; 0 only asks whether it could be sent.
///
/// # Errors
///
/// The process was reaped, or may not be signalled.
pub fn signal_number(pidfd: &Fd, number: i32) -> Result<(), Errno> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: null for "as kill(2) would fill it" is allowed.
    let answer =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.raw(), number, none, 0) };
    if answer == -1 { Err(super::errno::last()) } else { Ok(()) }
}

/// Waits until a descriptor is readable (a pidfd: until its process has ended). For processes
/// without a ring.
pub fn await_readable(fd: &Fd) {
    let mut poll = libc::pollfd { fd: fd.raw(), events: libc::POLLIN, revents: 0 };
    // SAFETY: reads and fills one local. An interruption is for the caller's next look.
    unsafe { libc::poll(&raw mut poll, 1, -1) };
}

/// The same, for so long at most; whether it is readable.
#[must_use]
pub fn await_readable_for(fd: &Fd, time: Duration) -> bool {
    let mut poll = libc::pollfd { fd: fd.raw(), events: libc::POLLIN, revents: 0 };
    let time = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: reads and fills one local.
    unsafe { libc::poll(&raw mut poll, 1, time) > 0 }
}

/// A child that an earlier program of this process forked; it is not reaped, so the number is still
/// its own.
///
/// # Errors
///
/// It is no process any more; out of descriptors.
pub fn adopt(pid: u32) -> Result<Fd, Failed> {
    pidfd_open(pid.cast_signed())
}

/// How the child ended, if it has; it is gone from the process table then.
///
/// Answers [`UNKNOWN`] if somebody else has reaped it (an application that waits for any child, or
/// ignores SIGCHLD): it is dead, and nobody knows how.
#[must_use]
pub fn reap(pidfd: &Fd) -> Option<Exit> {
    match wait_id(libc::P_PIDFD, pidfd.raw().unsigned_abs(), libc::WEXITED | libc::WNOHANG) {
        Ok(ended) => ended.map(|(_, exit)| exit),
        Err(_) => Some(UNKNOWN),
    }
}

/// How a child ended that somebody else has reaped.
pub const UNKNOWN: Exit = Exit::Code(-1);

/// Reaps one child that is not `ours`; `false` when none has ended. For PID 1, which inherits the
/// orphans of its container. While one of ours is first in line, none is reaped: reap that first.
pub fn reap_stranger(ours: impl FnOnce(u32) -> bool) -> bool {
    let peek = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    match wait_id(libc::P_ALL, 0, peek) {
        Ok(Some((pid, _))) if !ours(pid) => {
            wait_id(libc::P_PID, pid, libc::WEXITED | libc::WNOHANG).is_ok()
        }
        Ok(_) | Err(_) => false,
    }
}

fn wait_id(
    kind: libc::idtype_t,
    id: libc::id_t,
    flags: libc::c_int,
) -> Result<Option<(u32, Exit)>, Errno> {
    // SAFETY: integers and pointers, for which zero is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: fills a local of its type.
    check(unsafe { libc::waitid(kind, id, &raw mut info, flags) })?;
    // SAFETY: waitid(2) fills these fields, or leaves the zeroes when no child has ended.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let exit = match info.si_code {
        libc::CLD_EXITED => Exit::Code(status),
        libc::CLD_DUMPED => Exit::Signal(status, true),
        _ => Exit::Signal(status, false),
    };
    Ok(Some((pid.unsigned_abs(), exit)))
}

/// Ends this process now: no destructors, no atexit(3), no flush of buffers that belong to the
/// parent's past.
pub fn exit(code: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

/// CPU time of a process, all its threads included, those that have ended too; to the nanosecond.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let mut clock = 0;
    // SAFETY: fills a local of its type.
    let answer = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    if answer != 0 {
        return None;
    }
    // SAFETY: fills a local of its type. It fails when the process has ended meanwhile.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } == -1 {
        return None;
    }
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Some(Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec)))
}

/// Kills a child that leads a group of its own, and the whole group. Only before it was reaped: the
/// number may be a stranger's then.
pub fn kill_group(leader: u32) {
    // SAFETY: no pointers. It fails when the group has ended.
    unsafe { libc::kill(-leader.cast_signed(), libc::SIGKILL) };
}

/// Asks the kernel for this signal when the parent dies; `false` if `parent` is dead already: then
/// no signal comes. TERM drains, and is worth nothing to a process that does not look; KILL ends
/// it. Call it after privileges were dropped: a change of user clears it (prctl(2)). It means
/// the parent's *thread*, so only a parent with one thread gives it a meaning. The channel's
/// end-of-file is the second, independent sign.
///
/// # Errors
///
/// None that is known.
pub fn die_with(parent: u32, signal: Signal) -> Result<bool, Failed> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, number_of(signal)) };
    step("PR_SET_PDEATHSIG", answer)?;
    Ok(parent_id() == parent)
}

/// Leaves the group of processes that a terminal signals together (setpgid(2)).
pub fn own_group() {
    // SAFETY: no pointers. It fails for the leader of a session, which is in a group of its own.
    unsafe { libc::setpgid(0, 0) };
}

/// Of this process.
#[must_use]
pub fn id() -> u32 {
    std::process::id()
}

/// Of its parent now; 1 or a subreaper's after the parent has died, 0 if it lives in another
/// namespace.
#[must_use]
pub fn parent_id() -> u32 {
    std::os::unix::process::parent_id()
}

/// Whether orphans come to this process, as they do to a container's first.
#[must_use]
pub fn is_pid1() -> bool {
    id() == 1
}

/// Raises the limit of open descriptors (RLIMIT_NOFILE) as far as it goes without privilege: soft
/// to hard. Answers both soft limits, before and after. Call it before an accept is armed: the ring
/// remembers the limit of that moment.
///
/// # Errors
///
/// A seccomp filter blocks it.
pub fn raise_nofile() -> Result<(u64, u64), Failed> {
    let mut limit = limit(libc::RLIMIT_NOFILE)?;
    let before = limit.rlim_cur;
    if before < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: reads a local of its type.
        step("setrlimit", unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    }
    Ok((before, limit.rlim_cur))
}

/// How many descriptors this process may come to have open: the hard limit of RLIMIT_NOFILE.
///
/// # Errors
///
/// A seccomp filter blocks it.
pub fn nofile_max() -> Result<u64, Failed> {
    Ok(limit(libc::RLIMIT_NOFILE)?.rlim_max)
}

/// How many CPUs this process may run on (sched_getaffinity(2)); `None` on a machine with more than
/// 8,192, or where a seccomp filter blocks the question.
#[must_use]
pub fn affinity() -> Option<u32> {
    let mut mask = [0_u64; 128];
    // SAFETY: fills at most as many bytes as the array has; any multiple of a word is allowed.
    let answer =
        unsafe { libc::sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr().cast()) };
    (answer == 0).then(|| mask.iter().map(|word| word.count_ones()).sum())
}

fn limit(resource: libc::__rlimit_resource_t) -> Result<libc::rlimit, Failed> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills a local of its type.
    step("getrlimit", unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::{close, spare};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gaps_and_kept_make_up_all_numbers(kept in prop::collection::vec(-3i32..60, 0..20)) {
            let gaps = gaps(kept.iter().copied());
            for number in (0..64).chain([u32::MAX]) {
                let closed = gaps.iter().any(|(first, last)| (*first..=*last).contains(&number));
                let is_kept = kept.iter().any(|fd| u32::try_from(*fd) == Ok(number));
                prop_assert_eq!(closed, !is_kept, "{}", number);
            }
        }
    }

    #[test]
    fn the_test_harness_has_threads_so_nothing_is_forked() {
        let other = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| other.wait());
            let error = spawn(|| 0).unwrap_err();
            other.wait();
            let SpawnError::Threads(count) = error else { panic!("{error:?}") };
            assert!(count >= 2);
            assert_eq!(error.errno(), Errno::Busy);
            assert_eq!(error.error().kind(), ErrorKind::Threads);
        });
    }

    #[test]
    fn open_descriptors_are_listed() {
        let fd = spare().unwrap();
        assert!(open_fds().unwrap().contains(&fd.raw()));
        close(fd);
    }
}
