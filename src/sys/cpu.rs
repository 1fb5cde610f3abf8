//! Which CPUs a thread runs on, and how exactly its timers fire.

use super::errno::{Failed, step};

const WORD: usize = u64::BITS as usize;

/// CPUs by number, as the kernel takes them; room for 8,192.
type Mask = [u64; 128];

/// The CPUs that this thread may run on; empty where that can't be asked.
#[must_use]
pub fn allowed() -> Vec<u32> {
    let mut mask: Mask = [0; 128];
    // SAFETY: fills at most as many bytes as the array has; any multiple of a word is allowed.
    let answer =
        unsafe { libc::sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr().cast()) };
    if answer == -1 {
        return Vec::new();
    }
    (0..).take(mask.len() * WORD).filter(|cpu| has(&mask, *cpu)).collect()
}

fn has(mask: &Mask, cpu: u32) -> bool {
    let at = cpu as usize;
    mask[at / WORD] & (1 << (at % WORD)) != 0
}

/// Puts this thread, and what it starts from now on, on these CPUs.
///
/// # Errors
///
/// None of them exists, or none is allowed.
pub fn pin(cpus: &[u32]) -> Result<(), Failed> {
    let mut mask: Mask = [0; 128];
    for at in cpus.iter().map(|cpu| *cpu as usize) {
        if let Some(word) = mask.get_mut(at / WORD) {
            *word |= 1 << (at % WORD);
        }
    }
    // SAFETY: reads as many bytes as the array has.
    step("sched_setaffinity", unsafe {
        libc::sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast())
    })?;
    Ok(())
}

/// Lets the timers of this thread fire when they are due, not up to 50 µs later, by which the
/// kernel otherwise saves wake-ups (PR_SET_TIMERSLACK).
///
/// # Errors
///
/// A seccomp filter blocks it.
pub fn exact_timers() -> Result<(), Failed> {
    // SAFETY: no pointers.
    step("PR_SET_TIMERSLACK", unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_there_only() {
        // In a thread of its own: the harness's threads stay where they are.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let first = allowed()[0];
                pin(&[first]).unwrap();
                assert_eq!(allowed(), [first]);
                assert_eq!(pin(&[]).unwrap_err().number, libc::EINVAL);
                exact_timers().unwrap();
            });
        });
    }
}
