//! The system calls that benches need and `std` does not offer.
#![expect(unsafe_code, reason = "system calls that std does not offer")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The CPUs this process may run on.
pub(crate) fn cpus() -> io::Result<Vec<usize>> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: the set is as large as said.
    checked(unsafe { libc::sched_getaffinity(0, size, set.as_mut_ptr()) })?;
    // SAFETY: zeroed is a valid value, and the kernel has filled it.
    let set = unsafe { set.assume_init() };
    // SAFETY: the index is below the size of the set.
    let member = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    Ok((0..8 * size).filter(member).collect())
}

/// Puts this process, and what it starts from now on, on these CPUs.
pub(crate) fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: zeroed is a valid, empty set.
    let set = unsafe { set.assume_init_mut() };
    for cpu in cpus {
        // SAFETY: the index came from `cpus`.
        unsafe { libc::CPU_SET(*cpu, set) };
    }
    // SAFETY: the set is as large as said.
    checked(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) })?;
    Ok(())
}

/// Raises the soft limit of descriptors to the hard one; returns it.
pub(crate) fn raise_descriptors() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is ours.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the limit is ours.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Ends this process by SIGALRM if it still runs then: nothing here may run unbounded.
pub(crate) fn alarm(seconds: u32) {
    // SAFETY: takes a number.
    unsafe { libc::alarm(seconds) };
}

/// Has this process sent SIGTERM when the process that started it ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: takes numbers.
    checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) }).map(drop)
}

/// Orphans of the processes we start become our children, so that we can reap them.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: takes numbers.
    checked(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }).map(drop)
}

/// Ends and reaps a whole process group of ours.
pub(crate) fn kill_group(group: i32) {
    // SAFETY: takes numbers; the group was made by us and has not been reaped yet.
    unsafe { libc::kill(-group, libc::SIGKILL) };
    // SAFETY: a null status is allowed. Fails when no child of the group is left.
    while unsafe { libc::waitpid(-group, std::ptr::null_mut(), 0) } > 0 {}
}

/// SIGKILL to one process of a group of ours.
pub(crate) fn kill(pid: i32) -> io::Result<()> {
    signal(pid, libc::SIGKILL)
}

/// A signal to one process of a group of ours.
pub(crate) fn signal(pid: i32, number: i32) -> io::Result<()> {
    // SAFETY: takes numbers.
    checked(unsafe { libc::kill(pid, number) }).map(drop)
}

/// CPU time of a process, all its threads included, to the nanosecond: user, system, and what
/// the kernel did for others (softirqs) while the process ran.
pub(crate) fn cpu_time(pid: i32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: the clock id is ours.
    let failed = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    clock_time(clock)
}

/// The monotonic clock, in nanoseconds.
pub(crate) fn now() -> u64 {
    let now = clock_time(libc::CLOCK_MONOTONIC).expect("every Linux has it");
    u64::try_from(now.as_nanos()).expect("less than 584 years")
}

fn clock_time(clock: i32) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is ours.
    checked(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec)))
}

pub(crate) fn set_option(socket: i32, level: i32, name: i32, value: i32) -> io::Result<()> {
    let value = (&raw const value).cast();
    // SAFETY: the value is as long as said.
    checked(unsafe { libc::setsockopt(socket, level, name, value, 4) }).map(drop)
}

/// `std` listens with a backlog of 128; a second listen(2) sets another.
pub(crate) fn listen(socket: &impl AsRawFd, backlog: i32) -> io::Result<()> {
    // SAFETY: takes numbers.
    checked(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

/// Ends both directions at once, whoever else holds a copy of the descriptor.
pub(crate) fn shutdown(fd: i32) {
    // SAFETY: takes numbers. Fails when the peer was faster.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

pub(crate) fn close(fd: i32) {
    // SAFETY: the descriptor came from the kernel as a number and has no other owner.
    unsafe { libc::close(fd) };
}

/// An epoll that watches one descriptor, level triggered.
pub(crate) fn epoll(watched: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes a number.
    let epoll = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: it is new and has no other owner.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    let (owner, fd) = (epoll.as_raw_fd(), watched.as_raw_fd());
    // SAFETY: the event is ours.
    checked(unsafe { libc::epoll_ctl(owner, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
    Ok(epoll)
}

/// Sleeps until it is readable.
pub(crate) fn epoll_wait(epoll: &OwnedFd) {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: room for one event. A signal ends it early, which does no harm.
    unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, -1) };
}

/// A pair of sockets that keep the borders of messages.
pub(crate) fn seqpacket() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors.
    checked(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) })?;
    // SAFETY: both are new and have no other owner.
    Ok(pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).into())
}

/// Most descriptors in one message, as in the engine.
pub(crate) const BATCH_MAX: usize = 32;

/// Where a message with descriptors is received, or made (unix(7), cmsg(3)).
pub(crate) struct Letter {
    header: libc::msghdr,
    vector: libc::iovec,
    payload: [u8; 16],
    /// One control message: its header, then descriptors.
    control: Control,
}

#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    fds: [i32; BATCH_MAX],
}

// cmsg(3) puts the data right behind the header, aligned to a word.
const _: () = assert!(std::mem::offset_of!(Control, fds).is_multiple_of(align_of::<usize>()));

impl Letter {
    pub(crate) fn new() -> Box<Self> {
        // SAFETY: all fields are numbers and pointers, for which zero is valid.
        Box::new(unsafe { MaybeUninit::zeroed().assume_init() })
    }

    /// Ready to be received into. The pointers in it are good as long as the box is.
    pub(crate) fn prepare(&mut self) -> *mut libc::msghdr {
        self.vector.iov_base = self.payload.as_mut_ptr().cast();
        self.vector.iov_len = self.payload.len();
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
        self.header.msg_control = (&raw mut self.control).cast();
        self.header.msg_controllen = size_of::<Control>();
        &raw mut self.header
    }

    /// The descriptors that were received; none at end-of-file.
    pub(crate) fn fds(&self) -> Vec<i32> {
        let bytes = match self.header.msg_controllen {
            0 => 0,
            _ => self.control.header.cmsg_len - std::mem::offset_of!(Control, fds),
        };
        self.control.fds[..bytes / size_of::<i32>()].to_vec()
    }

    /// Sends descriptors over a channel, without blocking. They stay ours too.
    pub(crate) fn pass(&mut self, channel: &OwnedFd, fds: &[i32]) -> io::Result<()> {
        let length = std::mem::offset_of!(Control, fds) + size_of_val(fds);
        self.control.fds[..fds.len()].copy_from_slice(fds);
        self.control.header.cmsg_level = libc::SOL_SOCKET;
        self.control.header.cmsg_type = libc::SCM_RIGHTS;
        self.control.header.cmsg_len = length;
        self.prepare();
        self.header.msg_controllen = length.next_multiple_of(align_of::<usize>());
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `prepare` has set all pointers of the header.
        let sent = unsafe { libc::sendmsg(channel.as_raw_fd(), &raw const self.header, flags) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
