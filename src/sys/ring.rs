//! [`Io`] over a real io_uring. Owns all memory that the kernel may touch while an operation runs.

use super::buffers::{Buffers, GROUP};
use super::errno::{errno, last};
use super::notify::Notify;
use super::scm::{InMessage, OutMessage};
use super::socket::Name;
use super::{clock, socket};
use crate::io::{
    Batch, Buf, Bytes, Completion, Errno, Fd, Half, Instant, Io, Kind, Op, Owned, Peer, SendNow,
    Token,
};
use io_uring::squeue::Flags;
use io_uring::types::{self, SubmitArgs, Timespec};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// Most bytes of one send: the kernel's own bound of a transfer (MAX_RW_COUNT) is just below 2 GiB.
const SEND_MAX: usize = 1 << 30;

/// Above this the kernel's own default bound of a message is near (net.core.wmem_default): the
/// sender gets EMSGSIZE.
const MESSAGE_MAX: usize = 208 << 10;

/// Sizes of a ring. Its memory counts against RLIMIT_MEMLOCK of the user, so they are small.
#[derive(Clone, Copy, Debug)]
pub struct RingSettings {
    /// Submissions; a power of two. A full queue is passed on early, so this is no limit.
    pub submissions: u32,
    /// Completions; a power of two. More wait in the kernel (IORING_FEAT_NODROP).
    pub completions: u32,
    /// Provided buffers; a power of two.
    pub buffers: u16,
    /// Bytes of each provided buffer.
    pub buffer_bytes: u16,
    /// Bytes of one channel message; a longer one arrives truncated.
    pub message_bytes: usize,
}

impl RingSettings {
    /// For a worker. Measured: larger ones are never better, and 8,192 buffers are 1–9 % worse.
    pub const WORKER: Self = Self {
        submissions: 256,
        completions: 4096,
        buffers: 256,
        buffer_bytes: 4096,
        message_bytes: 1024,
    };
    /// For the master, which reads clients' bytes only to drop them.
    pub const MASTER: Self = Self {
        submissions: 128,
        completions: 2048,
        buffers: 16,
        buffer_bytes: 4096,
        message_bytes: 1024,
    };
    /// For the load generator, one a thread: larger buffers, because what a server sends may be
    /// large and is only looked at.
    pub const CLIENT: Self = Self { buffer_bytes: 16 << 10, ..Self::WORKER };
    const SUBMISSIONS_MIN: u32 = 32;
    /// Submissions and completions of the smallest ring that [`Ring::new`] settles for.
    pub(super) const SMALLEST: (u32, u32) = (Self::SUBMISSIONS_MIN, 16 * Self::SUBMISSIONS_MIN);
}

/// Memory of an operation, for as long as the kernel may touch it.
pub(super) enum Parked {
    Send(Bytes, usize),
    Pass(OutMessage),
    Receive(InMessage),
    Read(Box<[u8]>),
    /// Only kept alive: the kernel reads it.
    Connect {
        _name: Box<Name>,
    },
    Done(Owned),
}

/// A head and a body as one message, alive for one `wait`.
struct TwoParts {
    header: libc::msghdr,
    parts: [libc::iovec; 2],
}

impl TwoParts {
    fn new(head: &[u8], body: &[u8]) -> Self {
        let part = |bytes: &[u8]| libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: all-zero is a valid msghdr: null pointers and zero lengths.
        let header = unsafe { std::mem::zeroed() };
        Self { header, parts: [part(head), part(body)] }
    }

    /// Call when the value has come to rest: the header points into it.
    fn pin(&mut self) -> *const libc::msghdr {
        self.header.msg_iov = self.parts.as_mut_ptr();
        self.header.msg_iovlen = self.parts.len();
        &raw const self.header
    }
}

/// What a process runs to become a worker: it gets the plan and its end of the channel, and
/// returns the exit code.
pub type Launch = Box<dyn FnMut(&crate::io::WorkerPlan<'_>, Fd) -> i32>;

/// Makes one more listener in the group of an address, by index into the pool's addresses.
pub type Listen = Box<dyn FnMut(u16) -> Result<Fd, Errno>>;

/// Becomes the program on disk; gives back why that failed.
pub type Replace = Box<dyn FnMut(&str) -> String>;

/// One io_uring of this process, used by the thread that made it.
pub struct Ring {
    // Dropped by hand, in this order: the halves, the ring, then the memory it used. Memory of
    // operations that still run is leaked: the kernel lets go of it later than we do.
    pub(super) submitter: ManuallyDrop<Submitter<'static>>,
    pub(super) submissions: ManuallyDrop<SubmissionQueue<'static>>,
    completions: ManuallyDrop<CompletionQueue<'static>>,
    ring: NonNull<IoUring>,
    buffers: ManuallyDrop<Buffers>,
    parked: ManuallyDrop<BTreeMap<Token, Parked>>,
    two_parts: Vec<TwoParts>,
    /// Completions that had to be taken out to make room while submitting.
    early: Vec<Completion>,
    now: Cell<Instant>,
    enter_flags: u32,
    message_bytes: usize,
    pub(super) notify: Notify,
    pub(super) launch: Option<Launch>,
    pub(super) listen: Option<Listen>,
    pub(super) replace: Option<Replace>,
    /// The children that were spawned and not yet reaped: pidfd to pid.
    pub(super) children: BTreeMap<i32, u32>,
    /// Whether they write to a pipe of ours, and our ends of those, by pid, until somebody asks.
    pub(super) captures: bool,
    pub(super) stderrs: BTreeMap<u32, Fd>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("parked", &self.parked.len()).finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring for the calling thread; the same thread must use it (SINGLE_ISSUER). When
    /// memory is short it halves the queues down to 32 submissions.
    ///
    /// # Errors
    ///
    /// What io_uring_setup(2) or the registrations refused; `probe` says what it means.
    pub fn new(settings: RingSettings) -> Result<Self, Errno> {
        let (mut submissions, mut completions) = (settings.submissions, settings.completions);
        let ring = loop {
            match build(submissions, completions) {
                Err(Errno::NoBuffers) if submissions > RingSettings::SUBMISSIONS_MIN => {
                    submissions /= 2;
                    completions /= 2;
                }
                result => break result?,
            }
        };
        let enter_flags = ENTER_GETEVENTS
            | ENTER_EXT_ARG
            | if ring.params().is_feature_no_iowait() { ENTER_NO_IOWAIT } else { 0 };
        let ring = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: the box was just leaked; it is taken back only in `drop`, after the halves.
        let (mut submitter, submissions, completions) = unsafe { &mut *ring.as_ptr() }.split();
        // Only a faster way to name the ring: without it the descriptor is used.
        let _ = submitter.register_ring_fd();
        let buffers = Buffers::register(&submitter, settings.buffers, settings.buffer_bytes)?;
        Ok(Self {
            submitter: ManuallyDrop::new(submitter),
            submissions: ManuallyDrop::new(submissions),
            completions: ManuallyDrop::new(completions),
            ring,
            buffers: ManuallyDrop::new(buffers),
            parked: ManuallyDrop::new(BTreeMap::new()),
            two_parts: Vec::new(),
            early: Vec::new(),
            now: Cell::new(clock::monotonic()),
            enter_flags,
            message_bytes: settings.message_bytes.min(MESSAGE_MAX),
            notify: Notify::default(),
            launch: None,
            listen: None,
            replace: None,
            children: BTreeMap::new(),
            captures: false,
            stderrs: BTreeMap::new(),
        })
    }

    /// Lets this ring's process spawn workers: only the master's does.
    pub fn set_launch(&mut self, launch: Launch) {
        self.launch = Some(launch);
    }

    /// Lets this ring's process make listeners while it runs: only the master's does.
    pub fn set_listen(&mut self, listen: Listen) {
        self.listen = Some(listen);
    }

    /// What workers that are spawned from now on write to standard error is for `stderr`.
    pub fn capture(&mut self, captures: bool) {
        self.captures = captures;
    }

    /// Lets this ring's process become another program: only the master's does.
    pub fn set_replace(&mut self, replace: Replace) {
        self.replace = Some(replace);
    }

    pub(super) fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: all that the entry points to is lent for this `wait` (sends), or parked until its
        // last completion; both outlive the operation.
        while unsafe { self.submissions.push(entry) }.is_err() {
            self.enter(0, None);
            if self.submissions.is_full() {
                let mut early = std::mem::take(&mut self.early);
                self.collect(&mut early);
                self.early = early;
            }
        }
    }

    /// Enters the kernel until the submission queue is empty.
    fn enter(&mut self, want: u32, timeout: Option<Timespec>) {
        // Before any receive goes out: else the many that fill the queue early would all starve,
        // and the last ones get the buffers, pass after pass.
        self.buffers.publish();
        let mut want = want;
        loop {
            self.submissions.sync();
            let count = u32::try_from(self.submissions.len()).unwrap_or(u32::MAX);
            let args = match &timeout {
                Some(timespec) => SubmitArgs::new().timespec(timespec),
                None => SubmitArgs::new(),
            };
            // SAFETY: `args` is the struct that EXT_ARG announces, and it lives through the call.
            let entered =
                unsafe { self.submitter.enter(count, want, self.enter_flags, Some(&args)) };
            if let Err(error) = entered {
                match error.raw_os_error() {
                    Some(libc::EINTR | libc::ETIME) => {}
                    // The completion queue is full or memory is short: what is there must be taken
                    // out first. `collect` runs right after; the queue goes out with the next pass.
                    Some(libc::EBUSY | libc::EAGAIN | libc::ENOMEM) => return,
                    other => panic!("io_uring_enter refused our own ring: {other:?}"),
                }
            }
            self.submissions.sync();
            if self.submissions.is_empty() {
                return;
            }
            want = 0;
        }
    }

    fn collect(&mut self, done: &mut Vec<Completion>) {
        self.completions.sync();
        while let Some(entry) = self.completions.next() {
            let Some(token) = Token::decode(entry.user_data()) else {
                debug_assert!(false, "a completion of nobody: {:#x}", entry.user_data());
                continue;
            };
            let (result, flags) = (entry.result(), entry.flags());
            let result = u32::try_from(result).map_err(|_| errno(-result));
            let buf =
                cqueue::buffer_select(flags).map(|id| self.buffers.take(id, result.unwrap_or(0)));
            if token.kind == Kind::Cancel {
                self.notify.on_completion(token, cqueue::more(flags));
                continue;
            }
            if token.kind == Kind::Receive {
                settle_message(&mut self.parked, token, result);
            } else if token.kind == Kind::Connect {
                self.parked.remove(&token);
            }
            done.push(Completion { token, result, buf, more: cqueue::more(flags) });
        }
    }

    pub(super) fn park(&mut self, token: Token, parked: Parked) {
        let before = self.parked.insert(token, parked);
        assert!(before.is_none(), "{token:?} submitted twice");
    }
}

/// A message that arrived is taken out of its raw form at once, so that its descriptors have an
/// owner.
fn settle_message(parked: &mut BTreeMap<Token, Parked>, token: Token, result: Result<u32, Errno>) {
    if let (Some(Parked::Receive(mut message)), Ok(length)) = (parked.remove(&token), result) {
        parked.insert(token, Parked::Done(Owned::Message(message.take(length as usize))));
    }
}

/// The bare ring, with our flags.
pub(super) fn build(submissions: u32, completions: u32) -> Result<IoUring, Errno> {
    let make = |no_sqarray: bool| {
        let mut builder = IoUring::builder();
        builder
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_cqsize(completions);
        if no_sqarray {
            builder.setup_no_sqarray();
        }
        builder.build(submissions)
    };
    // NO_SQARRAY is of Linux 6.6; without it everything works, a little slower.
    make(true)
        .or_else(|_| make(false))
        .map_err(|error| error.raw_os_error().map_or_else(last, errno))
}

impl Io for Ring {
    fn now(&self) -> Instant {
        self.now.set(clock::monotonic());
        self.now.get()
    }

    fn unix_time(&self) -> u64 {
        clock::unix_time()
    }

    fn submit(&mut self, token: Token, op: Op<'_>) {
        let fd = |fd: &Fd| types::Fd(fd.raw());
        let entry = match op {
            Op::Accept(listener) => {
                opcode::AcceptMulti::new(fd(listener)).flags(libc::SOCK_CLOEXEC).build()
            }
            Op::Poll(listener) => {
                opcode::PollAdd::new(fd(listener), libc::POLLIN as u32).multi(true).build()
            }
            Op::Recv(socket) => opcode::RecvMulti::new(fd(socket), GROUP).build(),
            Op::Send(socket, bytes, offset) => {
                let rest = &bytes[offset..];
                let length = rest.len().min(SEND_MAX);
                let flags = libc::MSG_NOSIGNAL;
                let (start, length) = (rest.as_ptr(), u32::try_from(length).unwrap_or(0));
                self.park(token, Parked::Send(bytes, offset));
                opcode::Send::new(fd(socket), start, length).flags(flags).build()
            }
            Op::Pass(channel, batch) => {
                let message = OutMessage::new(batch);
                let header = message.header();
                self.park(token, Parked::Pass(message));
                let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;
                opcode::SendMsg::new(fd(channel), header).flags(flags).build()
            }
            Op::Receive(channel) => {
                let mut message = InMessage::new(self.message_bytes, Batch::FDS_MAX);
                let header = message.header();
                self.park(token, Parked::Receive(message));
                let flags = libc::MSG_CMSG_CLOEXEC as u32;
                opcode::RecvMsg::new(fd(channel), header).flags(flags).build()
            }
            Op::Read(file, mut buffer, offset) => {
                let (start, length) = (buffer.as_mut_ptr(), buffer.len().min(SEND_MAX));
                self.park(token, Parked::Read(buffer));
                let length = u32::try_from(length).unwrap_or(0);
                opcode::Read::new(fd(file), start, length).offset(offset).build()
            }
            Op::Write(file, bytes, offset) => {
                let rest = &bytes[offset..];
                let (start, length) = (rest.as_ptr(), rest.len().min(SEND_MAX));
                let length = u32::try_from(length).unwrap_or(0);
                self.park(token, Parked::Send(bytes, offset));
                opcode::Write::new(fd(file), start, length).offset(u64::MAX).build()
            }
            Op::Cancel(target) => {
                opcode::AsyncCancel::new(target.encode()).build().flags(Flags::SKIP_SUCCESS)
            }
        };
        self.push(&entry.user_data(token.encode()));
    }

    fn wait<'a>(
        &mut self,
        sends: impl ExactSizeIterator<Item = SendNow<'a>>,
        deadline: Option<Instant>,
        done: &mut Vec<Completion>,
    ) {
        self.listen();
        const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let mut two_parts = std::mem::take(&mut self.two_parts);
        two_parts.reserve(sends.len());
        for send in sends {
            let socket = types::Fd(send.fd.raw());
            let entry = if send.body.is_empty() || send.head.is_empty() {
                let bytes = if send.body.is_empty() { send.head } else { send.body };
                let length = u32::try_from(bytes.len().min(SEND_MAX)).unwrap_or(0);
                opcode::Send::new(socket, bytes.as_ptr(), length).flags(FLAGS).build()
            } else {
                // The vector was reserved for all sends, so what is in it does not move.
                two_parts.push(TwoParts::new(send.head, send.body));
                let header = two_parts.last_mut().map_or(std::ptr::null(), TwoParts::pin);
                opcode::SendMsg::new(socket, header).flags(FLAGS as u32).build()
            };
            self.push(&entry.flags(Flags::SKIP_SUCCESS).user_data(send.token.encode()));
        }
        done.append(&mut self.early);
        self.completions.sync();
        let timeout = deadline.map(|deadline| deadline.since(self.now.get()));
        let idle = done.is_empty() && self.completions.is_empty();
        let want = u32::from(idle && timeout.is_none_or(|timeout| !timeout.is_zero()));
        let timespec = timeout
            .filter(|_| want == 1)
            .map(|timeout| Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos()));
        self.enter(want, timespec);
        while !self.submissions.is_empty() {
            // The kernel asked to be relieved of completions first.
            self.collect(done);
            self.enter(0, None);
        }
        self.collect(done);
        two_parts.clear();
        self.two_parts = two_parts;
    }

    fn bytes(&self, buf: &Buf) -> &[u8] {
        self.buffers.bytes(buf)
    }

    fn recycle(&mut self, buf: Buf) {
        self.buffers.recycle(buf.id);
    }

    fn reclaim(&mut self, token: Token) -> Option<Owned> {
        Some(match self.parked.remove(&token)? {
            Parked::Send(bytes, offset) => Owned::Bytes(bytes, offset),
            Parked::Pass(message) => Owned::Batch(message.into_batch()),
            Parked::Read(buffer) => Owned::Buffer(buffer),
            Parked::Done(owned) => owned,
            Parked::Receive(_) | Parked::Connect { .. } => return None,
        })
    }

    fn accept(&mut self, listener: &Fd) -> Result<Fd, Errno> {
        socket::accept(listener)
    }

    fn shutdown(&mut self, fd: &Fd, half: Half) {
        socket::shutdown(fd, half);
    }

    fn close(&mut self, fd: Fd) {
        socket::close(fd);
    }

    fn peer(fd: &Fd) -> Peer {
        socket::peer(fd)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: dropped once, here; nothing uses it afterwards. The same holds for the next four.
        unsafe { ManuallyDrop::drop(&mut self.submissions) };
        // SAFETY: see above.
        unsafe { ManuallyDrop::drop(&mut self.completions) };
        // SAFETY: see above.
        unsafe { ManuallyDrop::drop(&mut self.submitter) };
        // SAFETY: the pointer came from a leaked box in `new`, and its borrowers are gone.
        drop(unsafe { Box::from_raw(self.ring.as_ptr()) });
        if self.parked.is_empty() {
            // SAFETY: see above; the ring that filled the buffers is closed.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
            // SAFETY: see above.
            unsafe { ManuallyDrop::drop(&mut self.parked) };
        }
    }
}
