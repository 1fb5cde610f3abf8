//! The provided-buffer ring: memory that the kernel fills and we give back.
//!
//! Each buffer is the kernel's, or lent out as a [`Buf`], never both: `taken` says which, and a
//! buffer that comes back twice is our own mistake and stops the process before two connections
//! share bytes.

use super::errno::last;
use crate::io::{Buf, Errno};
use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use std::sync::atomic::{AtomicU16, Ordering};

/// The only buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// Most buffers a ring may have.
const COUNT_MAX: u16 = 1 << 12;

/// One mapping: the entries of the ring, padded to a page, then the buffers.
#[derive(Debug)]
pub(super) struct Buffers {
    base: *mut u8,
    mapped: usize,
    data: usize,
    count: u16,
    size: u16,
    tail: u16,
    published: u16,
    taken: Vec<bool>,
}

impl Buffers {
    /// Maps and registers `count` (a power of two) buffers of `size` bytes each.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        count: u16,
        size: u16,
    ) -> Result<Self, Errno> {
        assert!(count.is_power_of_two() && count <= COUNT_MAX, "{count} buffers");
        let data = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(4096);
        let mapped = data + usize::from(count) * usize::from(size);
        // SAFETY: an anonymous mapping of fresh memory; no existing memory is involved.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(last());
        }
        let taken = vec![true; usize::from(count)];
        let mut buffers =
            Self { base: base.cast(), mapped, data, count, size, tail: 0, published: 0, taken };
        // SAFETY: the entries lie at the page-aligned start of the mapping, which lives until this
        // value is dropped; `Ring` drops it after the ring itself is closed.
        let registered =
            unsafe { submitter.register_buf_ring_with_flags(base as u64, count, GROUP, 0) };
        registered.map_err(|error| super::errno::errno(error.raw_os_error().unwrap_or(0)))?;
        for id in 0..count {
            buffers.recycle(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The kernel filled this buffer: it is ours now.
    pub(super) fn take(&mut self, id: u16, len: u32) -> Buf {
        let taken = &mut self.taken[usize::from(id)];
        assert!(!*taken, "buffer {id} was delivered twice");
        *taken = true;
        Buf { id, len: u16::try_from(len).unwrap_or(self.size).min(self.size) }
    }

    /// The received bytes.
    pub(super) fn bytes(&self, buf: &Buf) -> &[u8] {
        let index = usize::from(buf.id);
        assert!(self.taken[index] && buf.len <= self.size, "buffer {index} is not lent out");
        // SAFETY: `index` is below `count` (checked by `taken`), so the address is in the mapping.
        let start = unsafe { self.base.add(self.data + index * usize::from(self.size)) };
        // SAFETY: `len` bytes fit the buffer; while it is taken the kernel does not write to it,
        // and it cannot be recycled while the returned borrow of `self` lives.
        unsafe { std::slice::from_raw_parts(start, usize::from(buf.len)) }
    }

    /// Puts a buffer back; the kernel sees it after [`Buffers::publish`].
    pub(super) fn recycle(&mut self, id: u16) {
        let index = usize::from(id);
        assert!(self.taken[index], "buffer {id} was given back twice");
        self.taken[index] = false;
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`, so the entry lies in the mapping.
        let entry = unsafe { self.base.cast::<BufRingEntry>().add(place) };
        // SAFETY: `index` is below `count` (checked by `taken`), so the buffer lies in the mapping.
        let address = unsafe { self.base.add(self.data + index * usize::from(self.size)) };
        // SAFETY: an entry beyond the published tail is ours to write; nobody else refers to it.
        // The tail field overlaps the reserved field of entry 0, which these setters leave alone.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address as u64);
        entry.set_len(u32::from(self.size));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel all buffers that came back.
    pub(super) fn publish(&mut self) {
        if self.tail == self.published {
            return;
        }
        self.published = self.tail;
        // SAFETY: the base is a valid, initialised first entry of the ring.
        let tail = unsafe { BufRingEntry::tail(self.base.cast()) };
        // SAFETY: the kernel only reads the tail, and reads it as an aligned 16-bit word.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `register`; the ring that used it is closed.
        unsafe { libc::munmap(self.base.cast(), self.mapped) };
    }
}
