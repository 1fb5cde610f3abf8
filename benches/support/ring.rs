//! The ring that the floor and the load client run on, as bare as it gets.
#![expect(unsafe_code, reason = "the floor talks to the kernel without a layer in between")]

use io_uring::squeue::{Entry, Flags};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, types};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a completion answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Accept,
    Recv,
    Send,
    Receive,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) kind: Kind,
    /// Whatever the operation was submitted with: a descriptor, or an index.
    pub(crate) slot: u32,
    pub(crate) result: i32,
    pub(crate) buffer: Option<u16>,
    pub(crate) more: bool,
}

pub(crate) struct Ring {
    submitter: Submitter<'static>,
    submissions: SubmissionQueue<'static>,
    completions: CompletionQueue<'static>,
    buffers: Buffers,
    enter_flags: u32,
}

impl Ring {
    /// The setup that measured best: small queues, completions run only inside `enter`, the ring's
    /// own descriptor registered, and waiting not counted as waiting for a disk.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_no_sqarray()
            .setup_cqsize(4096)
            .build(256)?;
        let no_iowait = ring.params().is_feature_no_iowait();
        // Leaked: a ring lives as long as its process.
        let (mut submitter, submissions, completions) = Box::leak(Box::new(ring)).split();
        submitter.register_ring_fd()?;
        let buffers = Buffers::register(&submitter)?;
        let enter_flags = ENTER_GETEVENTS | if no_iowait { ENTER_NO_IOWAIT } else { 0 };
        Ok(Self { submitter, submissions, completions, buffers, enter_flags })
    }

    /// Multishot accept.
    pub(crate) fn accept(&mut self, listener: i32) {
        let entry = opcode::AcceptMulti::new(types::Fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: the operation uses no memory of ours.
        unsafe { self.push(entry.user_data(token(Kind::Accept, 0))) }
    }

    /// Multishot receive into the provided buffers.
    pub(crate) fn recv(&mut self, fd: i32, slot: u32) {
        let entry = opcode::RecvMulti::new(types::Fd(fd), 0).build();
        // SAFETY: the buffers it picks from are leaked.
        unsafe { self.push(entry.user_data(token(Kind::Recv, slot))) }
    }

    /// Sends inside the next `enter`, in submission order. Completes only when short or failed.
    pub(crate) fn send(&mut self, fd: i32, slot: u32, bytes: &'static [u8]) {
        let length = u32::try_from(bytes.len()).expect("an answer is small");
        let entry = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), length)
            .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(Flags::SKIP_SUCCESS);
        // SAFETY: static bytes outlive the operation.
        unsafe { self.push(entry.user_data(token(Kind::Send, slot))) }
    }

    /// Receives one message with descriptors.
    ///
    /// # Safety
    ///
    /// `message` and all it points to stay valid and untouched until the completion.
    pub(crate) unsafe fn receive(&mut self, channel: i32, message: *mut libc::msghdr) {
        let flags = libc::MSG_CMSG_CLOEXEC.cast_unsigned();
        let entry = opcode::RecvMsg::new(types::Fd(channel), message).flags(flags).build();
        // SAFETY: passed on to our caller.
        unsafe { self.push(entry.user_data(token(Kind::Receive, 0))) }
    }

    /// # Safety
    ///
    /// What the operation points to stays valid until its completion.
    unsafe fn push(&mut self, entry: Entry) {
        if self.submissions.is_full() {
            self.enter_kernel(0, 0);
        }
        // SAFETY: passed on to our caller.
        unsafe { self.submissions.push(&entry) }.expect("there is room now");
    }

    /// Submits everything, waits for `want` completions (0 or 1), appends all there are to `done`.
    pub(crate) fn enter(&mut self, want: u32, done: &mut Vec<Completion>) {
        self.buffers.publish();
        self.enter_kernel(want, self.enter_flags);
        self.completions.sync();
        done.extend(self.completions.by_ref().map(|entry| {
            let [slot, kind] = halves(entry.user_data());
            Completion {
                kind: [Kind::Accept, Kind::Recv, Kind::Send, Kind::Receive][kind as usize],
                slot,
                result: entry.result(),
                buffer: cqueue::buffer_select(entry.flags()),
                more: cqueue::more(entry.flags()),
            }
        }));
        self.completions.sync();
    }

    fn enter_kernel(&mut self, want: u32, flags: u32) {
        loop {
            self.submissions.sync();
            let length = u32::try_from(self.submissions.len()).expect("at most 256");
            // SAFETY: no argument is passed, and the queues belong to this ring.
            let entered = unsafe { self.submitter.enter::<()>(length, want, flags, None) };
            self.submissions.sync();
            match entered.map_err(|error| (error.raw_os_error(), error)) {
                Err((Some(libc::EINTR), _)) => {}
                // The completion queue overflowed: what is in it must be taken out first.
                Ok(_) | Err((Some(libc::EBUSY), _)) => return,
                Err((_, error)) => panic!("io_uring_enter: {error}"),
            }
        }
    }

    pub(crate) fn bytes(&self, completion: &Completion) -> &[u8] {
        let Some(id) = completion.buffer else { return &[] };
        self.buffers.bytes(id, usize::try_from(completion.result).unwrap_or(0))
    }

    /// Gives the buffer of a completion back; the next `enter` tells the kernel.
    pub(crate) fn recycle(&mut self, completion: &Completion) {
        if let Some(id) = completion.buffer {
            self.buffers.recycle(id);
        }
    }
}

const ENTER_GETEVENTS: u32 = 1;
const ENTER_NO_IOWAIT: u32 = 1 << 7; // Linux 6.15

fn token(kind: Kind, slot: u32) -> u64 {
    u64::from(slot) | u64::from(kind as u8) << 32
}

#[expect(clippy::cast_possible_truncation, reason = "the word is cut in two on purpose")]
fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// One group of provided buffers (`io_uring_provided_buffers(7)`).
struct Buffers {
    bytes: *mut u8,
    /// Per buffer two words: its address, then length 32 bits, id 16 bits; the upper 16 bits of the
    /// very first entry's second word are the tail.
    ring: &'static Page,
    tail: u16,
}

#[repr(C, align(4096))]
struct Page([AtomicU64; 2 * BUFFERS as usize]);

const BUFFERS: u16 = 256;
const BUFFER_BYTES: usize = 4096;
const TAIL_SHIFT: u32 = 48;

impl Buffers {
    fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let bytes = Vec::leak(vec![0_u8; usize::from(BUFFERS) * BUFFER_BYTES]).as_mut_ptr();
        let ring: &Page = Box::leak(Box::new(Page([const { AtomicU64::new(0) }; _])));
        let address = std::ptr::from_ref(ring).addr() as u64;
        // SAFETY: the page is leaked, aligned, and holds as many entries as said.
        unsafe { submitter.register_buf_ring_with_flags(address, BUFFERS, 0, 0) }?;
        let mut buffers = Self { bytes, ring, tail: 0 };
        (0..BUFFERS).for_each(|id| buffers.recycle(id));
        Ok(buffers)
    }

    fn bytes(&self, id: u16, length: usize) -> &[u8] {
        assert!(id < BUFFERS && length <= BUFFER_BYTES, "the kernel returned a foreign buffer");
        // SAFETY: the assert keeps it inside the allocation.
        let start = unsafe { self.bytes.add(usize::from(id) * BUFFER_BYTES) };
        // SAFETY: leaked, initialised, and the kernel's only after `recycle`, which takes `&mut`.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    fn recycle(&mut self, id: u16) {
        let place = usize::from(self.tail % BUFFERS);
        let address = self.bytes.addr() + usize::from(id) * BUFFER_BYTES;
        self.ring.0[2 * place].store(address as u64, Ordering::Relaxed);
        let word = BUFFER_BYTES as u64 | u64::from(id) << 32;
        let keep = if place == 0 { self.ring.0[1].load(Ordering::Relaxed) } else { 0 };
        let tail = keep & (u64::MAX << TAIL_SHIFT);
        self.ring.0[2 * place + 1].store(word | tail, Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        let first = self.ring.0[1].load(Ordering::Relaxed) & (u64::MAX >> (64 - TAIL_SHIFT));
        self.ring.0[1].store(first | u64::from(self.tail) << TAIL_SHIFT, Ordering::Release);
    }
}
