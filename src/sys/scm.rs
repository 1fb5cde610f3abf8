//! Messages with descriptors (SCM_RIGHTS, unix(7)): storage that stays in place while the kernel
//! uses it, and the control data inside.

use super::errno::errno;
use super::socket::count_of;
use crate::io::{Batch, Errno, Fd, Message};
use std::fmt;

/// Most descriptors in one message; 254 is `EINVAL` (SCM_MAX_FD).
pub const FDS_MAX: usize = 253;

/// How every message is sent: without waiting, and without a SIGPIPE.
pub const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// How every message is received: what it carries is close-on-exec from the start.
pub const RECEIVE_FLAGS: i32 = libc::MSG_CMSG_CLOEXEC;

/// A message on its way out. It may be moved while the kernel uses it: all that the kernel looks at
/// is on the heap.
pub struct OutMessage {
    parts: Box<Parts>,
    batch: Batch,
}

impl OutMessage {
    /// The batch must have a payload (an empty message looks like end-of-file) and at most
    /// [`FDS_MAX`] descriptors.
    #[must_use]
    pub fn new(mut batch: Batch) -> Self {
        assert!(!batch.bytes.is_empty(), "a message without a payload looks like end-of-file");
        let control = control_of(batch.fds.iter().map(Fd::raw));
        let parts = Parts::new(batch.bytes.as_mut_ptr(), batch.bytes.len(), control);
        Self { parts, batch }
    }

    /// What sendmsg(2) wants. Good until [`OutMessage::into_batch`] or drop.
    #[must_use]
    pub fn header(&self) -> *const libc::msghdr {
        &raw const self.parts.header
    }

    /// The batch back, when the kernel is done with it. It keeps its descriptors: the kernel copied
    /// them.
    #[must_use]
    pub fn into_batch(self) -> Batch {
        self.batch
    }
}

/// Room for one message to arrive in. It may be moved while the kernel uses it, and used again
/// after each [`InMessage::take`].
pub struct InMessage {
    parts: Box<Parts>,
    bytes: Vec<u8>,
}

impl InMessage {
    /// Room for this many bytes and descriptors; what is beyond that the kernel drops, and the
    /// message arrives as truncated.
    #[must_use]
    pub fn new(bytes_max: usize, fds_max: usize) -> Self {
        let mut bytes = vec![0; bytes_max];
        let control = control_of(std::iter::repeat_n(0, fds_max));
        let parts = Parts::new(bytes.as_mut_ptr(), bytes_max, control);
        Self { parts, bytes }
    }

    /// What recvmsg(2) fills. Good until drop.
    #[must_use]
    pub fn header(&mut self) -> *mut libc::msghdr {
        &raw mut self.parts.header
    }

    /// The message that has arrived, with all its descriptors: `length` is what recvmsg(2)
    /// answered. Call it once for each message, else its descriptors are leaked.
    #[must_use]
    pub fn take(&mut self, length: usize) -> Message {
        let header = &mut self.parts.header;
        let cut = header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
        let fds = descriptors(&self.parts.control[..header.msg_controllen.div_ceil(WORD)]);
        // The kernel wrote how much it used of the control data; the next message gets all of it.
        header.msg_controllen = self.parts.control.len() * WORD;
        header.msg_flags = 0;
        Message { bytes: self.bytes[..length.min(self.bytes.len())].to_vec(), fds, truncated: cut }
    }
}

/// Sends one message without waiting; the bytes of its payload. For boot and tests: the loops
/// send through the ring.
///
/// # Errors
///
/// [`Errno::Again`]: no room; [`Errno::PeerGone`]; `EMSGSIZE` or `EINVAL` beyond the limits.
pub fn send_message(channel: &Fd, bytes: &[u8], fds: &[&Fd]) -> Result<usize, Errno> {
    if bytes.is_empty() || fds.len() > FDS_MAX {
        return Err(errno(libc::EINVAL));
    }
    let control = control_of(fds.iter().map(|fd| fd.raw()));
    let parts = Parts::new(bytes.as_ptr().cast_mut(), bytes.len(), control);
    // SAFETY: the parts and what they point to outlive the call, which only reads the payload.
    count_of(unsafe { libc::sendmsg(channel.raw(), &raw const parts.header, SEND_FLAGS) })
}

/// Receives one message without waiting, of at most so many bytes and [`FDS_MAX`] descriptors.
/// For boot and tests: the loops receive through the ring.
///
/// # Errors
///
/// [`Errno::Again`]: there is none.
pub fn receive_message(channel: &Fd, bytes_max: usize) -> Result<Message, Errno> {
    receive_some(channel, bytes_max, FDS_MAX)
}

/// The same, of at most so many descriptors: the kernel closes those beyond, and the message
/// arrives as truncated.
///
/// # Errors
///
/// [`Errno::Again`]: there is none.
pub fn receive_some(channel: &Fd, bytes_max: usize, fds_max: usize) -> Result<Message, Errno> {
    let mut message = InMessage::new(bytes_max, fds_max);
    let flags = RECEIVE_FLAGS | libc::MSG_DONTWAIT;
    // SAFETY: the message and its room outlive the call.
    let count = count_of(unsafe { libc::recvmsg(channel.raw(), message.header(), flags) })?;
    Ok(message.take(count))
}

/// The three things that a message header points to, at addresses that stay.
struct Parts {
    header: libc::msghdr,
    payload: libc::iovec,
    control: Vec<u64>,
}

impl Parts {
    fn new(bytes: *mut u8, length: usize, control: Vec<u64>) -> Box<Self> {
        let mut parts = Box::new(Self {
            // SAFETY: integers and null pointers, for which zero is a value.
            header: unsafe { std::mem::zeroed() },
            payload: libc::iovec { iov_base: bytes.cast(), iov_len: length },
            control,
        });
        parts.header.msg_iov = &raw mut parts.payload;
        parts.header.msg_iovlen = 1;
        if !parts.control.is_empty() {
            parts.header.msg_control = parts.control.as_mut_ptr().cast();
            parts.header.msg_controllen = parts.control.len() * WORD;
        }
        parts
    }
}

/// One SCM_RIGHTS control message as cmsg(3) lays it out on 64-bit: a word with its length, a word
/// with level and type, then the numbers, two a word.
fn control_of(numbers: impl ExactSizeIterator<Item = i32>) -> Vec<u64> {
    let count = numbers.len();
    assert!(count <= FDS_MAX, "{count} descriptors in one message");
    if count == 0 {
        return Vec::new();
    }
    let mut words = Vec::with_capacity(HEAD_WORDS + count.div_ceil(2));
    words.push((HEAD_WORDS * WORD + count * size_of::<i32>()) as u64);
    words.push(pair(libc::SOL_SOCKET, libc::SCM_RIGHTS));
    let mut numbers = numbers;
    while let Some(first) = numbers.next() {
        words.push(pair(first, numbers.next().unwrap_or(0)));
    }
    words
}

/// The descriptors in the control data that the kernel wrote. Anything else in there is skipped,
/// and a length that can't be ends the walk.
fn descriptors(mut words: &[u64]) -> Vec<Fd> {
    let mut found = Vec::new();
    while let [length, kind, data @ ..] = words {
        let Ok(length) = usize::try_from(*length) else { break };
        let Some(length) = length.checked_sub(HEAD_WORDS * WORD) else { break };
        let Some(data) = data.get(..length.div_ceil(WORD)) else { break };
        if *kind == pair(libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            let numbers = data.iter().flat_map(|word| unpair(*word));
            found.extend(numbers.take(length / size_of::<i32>()).map(Fd::new));
        }
        words = &words[HEAD_WORDS + data.len()..];
    }
    found
}

/// Two ints side by side in memory.
fn pair(first: i32, second: i32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn unpair(word: u64) -> [i32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h])]
}

impl fmt::Debug for OutMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutMessage").field("batch", &self.batch).finish_non_exhaustive()
    }
}

impl fmt::Debug for InMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMessage").field("bytes_max", &self.bytes.len()).finish_non_exhaustive()
    }
}

const WORD: usize = size_of::<u64>();
const HEAD_WORDS: usize = 2;
const _: () = assert!(size_of::<libc::cmsghdr>() == HEAD_WORDS * WORD);

#[cfg(test)]
mod tests;
