//! Shared memory: a sealed memfd, seen as atomic words.

use super::errno::{Failed, last_number, step};
use crate::io::Fd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Memory that several processes see, and the descriptor by which others get at it.
#[derive(Debug)]
pub struct Shared {
    /// Close-on-exec. Keep it for [`open`] in another process, or close it: the memory stays.
    pub fd: Fd,
    /// Zero at first. Never unmapped: it is there until the process ends.
    pub words: &'static [AtomicU64],
}

/// Makes memory of so many words. Its size is sealed (F_ADD_SEALS), so that no process that has the
/// descriptor can shrink it under another, which would be SIGBUS there.
///
/// # Errors
///
/// Out of descriptors or memory.
pub fn create(words: usize) -> Result<Shared, Failed> {
    let too_large = Failed { step: "ftruncate", number: libc::EFBIG };
    let bytes = words.checked_mul(WORD).ok_or(too_large)?;
    let size = libc::off_t::try_from(bytes).map_err(|_| too_large)?;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the string ends in a zero byte.
    let fd = step("memfd_create", unsafe { libc::memfd_create(c"ringfort-board".as_ptr(), flags) });
    let fd = Fd::new(fd?);
    let made = grow(&fd, size).and_then(|()| map(&fd, bytes));
    match made {
        Ok(words) => Ok(Shared { fd, words }),
        Err(failed) => {
            super::socket::close(fd);
            Err(failed)
        }
    }
}

/// The memory behind a descriptor that [`create`] made, perhaps in another process.
///
/// # Errors
///
/// Not such a descriptor: it is not a memfd, can shrink, or is empty.
pub fn open(fd: &Fd) -> Result<&'static [AtomicU64], Failed> {
    // SAFETY: no pointers.
    let seals = step("F_GET_SEALS", unsafe { libc::fcntl(fd.raw(), libc::F_GET_SEALS) })?;
    if seals & SEALS != SEALS {
        return Err(Failed { step: "F_GET_SEALS", number: libc::EPERM });
    }
    // SAFETY: integers, for which zero is a value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fills a local of its type.
    step("fstat", unsafe { libc::fstat(fd.raw(), &raw mut stat) })?;
    let bytes = usize::try_from(stat.st_size).unwrap_or(0);
    map(fd, bytes)
}

fn grow(fd: &Fd, size: libc::off_t) -> Result<(), Failed> {
    // SAFETY: no pointers.
    step("ftruncate", unsafe { libc::ftruncate(fd.raw(), size) })?;
    // SAFETY: no pointers.
    step("F_ADD_SEALS", unsafe { libc::fcntl(fd.raw(), libc::F_ADD_SEALS, SEALS) })?;
    Ok(())
}

/// `bytes` must be the size of the sealed file.
fn map(fd: &Fd, bytes: usize) -> Result<&'static [AtomicU64], Failed> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses touches no other memory.
    let address =
        unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, fd.raw(), 0) };
    if address == libc::MAP_FAILED {
        return Err(Failed { step: "mmap", number: last_number() });
    }
    let start = NonNull::new(address.cast::<AtomicU64>())
        .ok_or(Failed { step: "mmap", number: libc::ENOMEM })?;
    // SAFETY: mapped for reading and writing, page-aligned, never unmapped; its file has this size
    // and can't shrink (sealed), so every word of it is there; and any bits are an AtomicU64. All
    // access is atomic, here and in the other processes.
    Ok(unsafe { std::slice::from_raw_parts(start.as_ptr(), bytes / WORD) })
}

/// Neither smaller nor larger, and these seals for ever.
const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
const WORD: usize = size_of::<AtomicU64>();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::errno::check;
    use crate::sys::socket::{close, duplicate, spare};
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn two_mappings_are_one_memory() {
        let Shared { fd, words } = create(1000).unwrap();
        assert_eq!(words.len(), 1000);
        assert!(words.iter().all(|word| word.load(Relaxed) == 0));
        let copy = duplicate(&fd).unwrap();
        close(fd);
        let again = open(&copy).unwrap();
        close(copy);
        words[999].store(7, Relaxed);
        assert_eq!(again[999].load(Relaxed), 7, "also when no descriptor is left");
        assert_eq!(again.len(), 1000);
    }

    #[test]
    fn nobody_can_shrink_it() {
        let shared = create(1).unwrap();
        // SAFETY: no pointers.
        let answer = check(unsafe { libc::ftruncate(shared.fd.raw(), 0) });
        assert_eq!(answer, Err(crate::io::Errno::Denied));
        close(shared.fd);
    }

    #[test]
    fn a_stranger_is_refused() {
        let stranger = spare().unwrap();
        assert_eq!(open(&stranger).unwrap_err().step, "F_GET_SEALS");
        close(stranger);
        // SAFETY: the string ends in a zero byte.
        let unsealed = Fd::new(unsafe { libc::memfd_create(c"x".as_ptr(), libc::MFD_CLOEXEC) });
        assert!(open(&unsealed).is_err());
        close(unsealed);
        assert_eq!(create(usize::MAX).unwrap_err().step, "ftruncate");
        assert!(create(0).is_err(), "nothing to map");
    }
}
