//! How a worker goes with its master: it finishes what runs, and is killed if that takes too long,
//! whatever it does. The one place with a signal handler.

use super::errno::{Failed, step};
use super::process;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

/// How long after its parent's death a process is killed that has not ended by then.
pub const GRACE: Duration = Duration::from_millis(850);

/// What the kernel sends when the parent dies: a signal that nothing else on Linux sends.
const DEATH: libc::c_int = libc::SIGSTKFLT;

/// The timer that kills this process.
static TIMER: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Asks the kernel for TERM when the parent dies, and for KILL when [`GRACE`] has passed then;
/// `false` if `parent` is dead already: nothing comes then. What is said at
/// [`process::die_with`] holds here too. A handler that never returns cannot keep TERM from the
/// timer: that is armed by a signal handler, and nobody can block KILL.
///
/// # Errors
///
/// Out of timers.
pub fn drain_with(parent: u32) -> Result<bool, Failed> {
    // SAFETY: integers and pointers, for which zero is a value.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGKILL;
    let mut timer: libc::timer_t = std::ptr::null_mut();
    // SAFETY: reads a local and fills another, of their types.
    let answer =
        unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    step("timer_create", answer)?;
    TIMER.store(timer, Ordering::Release);
    // SAFETY: integers and pointers, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int) = begin_to_end;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: reads a local of its type, whose mask is empty. The handler calls nothing that is not
    // async-signal-safe (signal-safety(7)), touches one atomic, and keeps errno.
    let answer = unsafe { libc::sigaction(DEATH, &raw const action, std::ptr::null_mut()) };
    step("sigaction", answer)?;
    // SAFETY: no pointers.
    step("PR_SET_PDEATHSIG", unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, DEATH) })?;
    Ok(process::parent_id() == parent)
}

extern "C" fn begin_to_end(_: libc::c_int) {
    // SAFETY: no arguments; the place of this thread's own errno, valid while it runs.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as said.
    let errno = unsafe { *place };
    let time = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec { tv_sec: 0, tv_nsec: 850_000_000 },
    };
    const { assert!(GRACE.as_nanos() == 850_000_000, "the same time") };
    let timer = TIMER.load(Ordering::Acquire);
    // SAFETY: a timer of this process: `drain_with` made it before it installed us. In a child of
    // the process there is none by that name: the call fails. Reads a local.
    let armed =
        unsafe { libc::timer_settime(timer, 0, &raw const time, std::ptr::null_mut()) == 0 };
    let signal = if armed { libc::SIGTERM } else { libc::SIGKILL };
    // SAFETY: no pointers.
    unsafe { libc::kill(process::id().cast_signed(), signal) };
    // SAFETY: as said.
    unsafe { *place = errno };
}
