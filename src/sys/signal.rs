//! Signals: blocked and read from a signalfd, ignored, or left at their default. No handler.

use super::errno::{Failed, last_number, step};
use crate::io::Fd;
use std::fmt;
use std::mem::offset_of;

/// A child has ended, or ten have.
pub const CHLD: i32 = libc::SIGCHLD;
/// Reload.
pub const HUP: i32 = libc::SIGHUP;
/// Ctrl-C.
pub const INT: i32 = libc::SIGINT;
/// Ctrl-\.
pub const QUIT: i32 = libc::SIGQUIT;
/// Finish and leave.
pub const TERM: i32 = libc::SIGTERM;
/// One worker more.
pub const TTIN: i32 = libc::SIGTTIN;
/// One worker less.
pub const TTOU: i32 = libc::SIGTTOU;
/// Reload.
pub const USR1: i32 = libc::SIGUSR1;
/// The application's, or upgrade.
pub const USR2: i32 = libc::SIGUSR2;
/// Drain the workers and keep the master.
pub const WINCH: i32 = libc::SIGWINCH;
/// Somebody wrote where nobody reads.
pub const PIPE: i32 = libc::SIGPIPE;

/// Bytes of one signal as a signalfd is read (signalfd(2)); read a multiple of it.
pub const RECORD_BYTES: usize = size_of::<libc::signalfd_siginfo>();

/// Who sent what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which signal.
    pub signal: i32,
    /// By which process; 0 for the kernel or a terminal. For logs.
    pub sender: u32,
}

/// The signals in what was read from a signalfd. Pure.
///
/// A signal that was sent several times before it was read comes once: after CHLD ask for every
/// child.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Received> + '_ {
    bytes.chunks_exact(RECORD_BYTES).map(|record| {
        let word = |offset| record[offset..].first_chunk().copied().map_or(0, u32::from_ne_bytes);
        Received {
            signal: word(offset_of!(libc::signalfd_siginfo, ssi_signo)).cast_signed(),
            sender: word(offset_of!(libc::signalfd_siginfo, ssi_pid)),
        }
    })
}

/// Which signals a thread had blocked before we changed it.
#[derive(Clone)]
pub struct Mask(libc::sigset_t);

impl Mask {
    /// The numbers of those that were blocked.
    #[must_use]
    pub fn blocked(&self) -> Vec<i32> {
        // SAFETY: reads a local of its type.
        let has = |signal: &i32| unsafe { libc::sigismember(&raw const self.0, *signal) == 1 };
        (1..=SIGNALS).filter(has).collect()
    }

    /// As if these had been blocked.
    ///
    /// # Errors
    ///
    /// A number that is no signal.
    pub fn of(blocked: &[i32]) -> Result<Self, Failed> {
        set_of(blocked).map(Self)
    }

    /// Blocks what was blocked then, and nothing else. What came in between and nobody has read is
    /// delivered now.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub fn restore(&self) -> Result<(), Failed> {
        change_mask(libc::SIG_SETMASK, &self.0).map(drop)
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mask").finish_non_exhaustive()
    }
}

/// Blocks these signals and opens a descriptor that reads them: non-blocking, close-on-exec. They
/// come even where they were ignored: a signal that is ignored never gets to a signalfd, so those
/// get their default back.
///
/// Answers what was blocked before, for the time after the pool.
///
/// # Errors
///
/// A number that is no signal; out of descriptors.
pub fn open(signals: &[i32]) -> Result<(Fd, Mask), Failed> {
    let set = set_of(signals)?;
    for signal in signals {
        if disposition(*signal)? == libc::SIG_IGN {
            set_disposition(*signal, libc::SIG_DFL)?;
        }
    }
    let before = change_mask(libc::SIG_BLOCK, &set)?;
    let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
    // SAFETY: reads a local of its type.
    let fd = step("signalfd", unsafe { libc::signalfd(-1, &raw const set, flags) });
    match fd {
        Ok(fd) => Ok((Fd::new(fd), before)),
        Err(failed) => {
            before.restore()?;
            Err(failed)
        }
    }
}

/// What has come to such a descriptor; never waits.
#[must_use]
pub fn read_now(signals: &Fd) -> Vec<Received> {
    let mut buffer = [0; 8 * RECORD_BYTES];
    // SAFETY: fills at most as many bytes as the array has.
    let count = unsafe { libc::read(signals.raw(), buffer.as_mut_ptr().cast(), buffer.len()) };
    // Less than nothing: there is nothing (EAGAIN).
    parse(&buffer[..usize::try_from(count).unwrap_or(0)]).collect()
}

/// What a worker makes of the signals it inherited: it ignores those that a terminal or an operator
/// sends to the whole group, and obeys its channel. TERM drains it, and USR1 and USR2 go to
/// `signals`: they are read from the descriptor that is answered, but for those that the
/// application has a handler of its own for. Nothing else is blocked: a child that the application
/// starts must not inherit our mask.
///
/// # Errors
///
/// Out of descriptors.
pub fn become_worker() -> Result<Fd, Failed> {
    for signal in [HUP, INT, QUIT, TTIN, TTOU, WINCH, PIPE] {
        set_disposition(signal, libc::SIG_IGN)?;
    }
    let mut read = vec![TERM];
    for signal in [USR1, USR2] {
        if [libc::SIG_DFL, libc::SIG_IGN].contains(&disposition(signal)?) {
            read.push(signal);
        }
    }
    set_disposition(CHLD, libc::SIG_DFL)?;
    // The master has them blocked, so there is no moment in which one of them could kill.
    change_mask(libc::SIG_SETMASK, &set_of(&read)?)?;
    open(&read).map(|(fd, _)| fd)
}

/// Blocks nothing: for a child that becomes another program, which would inherit what we block.
///
/// # Errors
///
/// None that is known.
pub fn unblock_all() -> Result<(), Failed> {
    change_mask(libc::SIG_SETMASK, &set_of(&[])?).map(drop)
}

/// The highest number of a signal.
const SIGNALS: i32 = 64;

fn set_of(signals: &[i32]) -> Result<libc::sigset_t, Failed> {
    // SAFETY: integers, for which zero is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: fills a local of its type.
    step("sigemptyset", unsafe { libc::sigemptyset(&raw mut set) })?;
    for signal in signals {
        // SAFETY: changes a local of its type.
        step("sigaddset", unsafe { libc::sigaddset(&raw mut set, *signal) })?;
    }
    Ok(set)
}

fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> Result<Mask, Failed> {
    // SAFETY: integers, for which zero is a value.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: reads one set and fills a local.
    match unsafe { libc::pthread_sigmask(how, set, &raw mut before) } {
        0 => Ok(Mask(before)),
        number => Err(Failed { step: "pthread_sigmask", number }),
    }
}

fn disposition(signal: i32) -> Result<libc::sighandler_t, Failed> {
    // SAFETY: integers, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: null for "change nothing" is allowed; fills a local.
    step("sigaction", unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) })?;
    Ok(action.sa_sigaction)
}

/// Only to the default or to "ignore".
fn set_disposition(signal: i32, to: libc::sighandler_t) -> Result<(), Failed> {
    assert!(to == libc::SIG_DFL || to == libc::SIG_IGN, "a handler would run code");
    // SAFETY: no handler, as checked, so no code of ours ever runs in one.
    if unsafe { libc::signal(signal, to) } == libc::SIG_ERR {
        return Err(Failed { step: "signal", number: last_number() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(signal: i32, sender: u32) -> [u8; RECORD_BYTES] {
        let mut bytes = [0xee; RECORD_BYTES];
        bytes[..4].copy_from_slice(&signal.to_ne_bytes());
        bytes[12..16].copy_from_slice(&sender.to_ne_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn whole_records_are_read_and_a_rest_is_not(
            sent in prop::collection::vec((1i32..65, any::<u32>()), 0..9),
            rest in 0..RECORD_BYTES,
        ) {
            let mut bytes: Vec<u8> = sent.iter().flat_map(|(s, p)| record(*s, *p)).collect();
            bytes.extend(std::iter::repeat_n(0, rest));
            let got: Vec<_> = parse(&bytes).map(|r| (r.signal, r.sender)).collect();
            prop_assert_eq!(got, sent);
        }
    }
}
